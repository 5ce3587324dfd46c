"""Raw documents to clusters: what functions of scientific libraries say of themselves."""

import importlib
import inspect

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from kingdra_cluster import KingdraCluster

MODULES = (
    "scipy.signal", "scipy.stats", "scipy.spatial.distance", "scipy.linalg", "sklearn.metrics",
    "sklearn.linear_model",
)  # fmt: skip


def documents():
    """Return the docstrings of these modules' functions and classes, and the module of each."""
    found = {}
    for name in MODULES:
        for thing in vars(importlib.import_module(name)).values():
            text = inspect.getdoc(thing) if callable(thing) else None
            if text and len(text.split()) > 50:
                found[text] = name
    return list(found), np.array(list(found.values()))


texts, modules = documents()
X = TfidfVectorizer(max_features=1000, stop_words="english", sublinear_tf=True).fit_transform(texts)
X = X * np.sqrt(X.shape[1])  # the ladder's noise is made for numbers of this size
print(f"{len(texts)} documents, {X.shape[1]} words, sparse")

model = KingdraCluster(
    n_class=6,
    n_en=4,
    high_th=3,
    n_iter=4,
    n_epochs_per_iter0=20,
    n_epochs_per_iter=20,
    thresh=0,
    fc_layer_sizes=(100, 100, 6),
    batch_size=32,
    random_state=0,
    verbose=1,
)
labels = model.fit_predict(X)  # never made dense as a whole

for cluster in range(6):
    members = np.flatnonzero(labels == cluster)
    names, counts = np.unique(modules[members], return_counts=True)
    common = ", ".join(f"{names[i]} {counts[i]}" for i in np.argsort(-counts)[:3])
    print(f"cluster {cluster}: {len(members)} documents; {common}")
