"""Embeddings of another model to clusters: a network that knows 0 to 4 embeds 5 to 9."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from clustering_common.metrics import accuracy
from kingdra_cluster import KingdraCluster

digits = load_digits()
X, y = digits.data / 16, digits.target
known = y < 5
other = MLPClassifier((200,), max_iter=500, random_state=0).fit(X[known], y[known])

new, truth = X[~known], y[~known]
features = np.maximum(new @ other.coefs_[0] + other.intercepts_[0], 0)  # its hidden layer

model = KingdraCluster(
    n_class=5,
    n_en=5,
    high_th=4,
    n_iter=5,
    thresh=0,
    fc_layer_sizes=(200, 200, 5),
    random_state=0,
    verbose=1,
)
labels = model.fit_predict(features)
print(f"accuracy on classes that nobody named: {accuracy(truth, labels):.3f}")
print(f"the members agree on {model.history_[-1]['member_agreement']:.1%}")
