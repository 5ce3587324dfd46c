"""A table of measurements to clusters, scaled in a scikit-learn pipeline."""

from sklearn.datasets import load_wine
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from clustering_common.metrics import accuracy, ari, nmi
from dec_da import FcDEC

table = load_wine(as_frame=True)
model = make_pipeline(
    StandardScaler(),
    FcDEC(
        n_clusters=3,
        layer_sizes=(50, 50, 5),
        pretrain_optimizer="adam",  # the paper's SGD of rate 1.0 wants values of 0 to 1
        pretrain_epochs=100,
        batch_size=32,
        max_iter=140,
        random_state=0,
    ),
)
labels = model.fit_predict(table.data)

print(table.data.assign(cluster=labels).groupby("cluster").mean().T.round(1))
# The truth, where there is one, is for scores alone; fit has not seen it.
scores = (measure(table.target, labels) for measure in (accuracy, nmi, ari))
print("acc={:.3f}, nmi={:.3f}, ari={:.3f}".format(*scores))
