"""The fits of one seed of a search for a number of clusters, and what is measured of each."""

import re
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.metrics import davies_bouldin_score, silhouette_score
from sklearn.utils import _safe_indexing  # rows, by position, of arrays, matrices, frames and lists

from clustering_common.divergence import TrainingDivergedError

__all__ = ["OneSeed", "number_name", "with_k"]

SURE = 0.9
NUMBERS = ("n_clusters", "n_class", "n_components")  # how estimators call it


class OneSeed:
    """The fits of one seed: what they share is done once, and only if there is one to do.

    Parameters
    ----------
    before : Pipeline or None
        Steps before the clusterer.
    clusterer : estimator
    X : array-like
    sample : ndarray of int
        Rows that the measures are taken on.
    seed : int
    """

    def __init__(self, before: Any, clusterer: Any, X: Any, sample: np.ndarray, seed: int):
        self.before, self.clusterer, self.X, self.sample = before, clusterer, X, sample
        self.seed, self._folder = seed, tempfile.TemporaryDirectory()
        self._ready: tuple[Any, np.ndarray] | None = None

    def __enter__(self) -> "OneSeed":
        return self

    def __exit__(self, *error: Any) -> None:
        self._folder.cleanup()

    def fitted(self, k: int) -> dict[str, Any]:
        """Return the measures of a fit with so many clusters."""
        if self._ready is None:
            if self.before is not None:
                self.X = _seeded(self.before, self.seed).fit_transform(self.X)
            self._ready = _pretrained(
                self.clusterer, self.X, self.sample, self.seed, Path(self._folder.name)
            )
        ready, space = self._ready
        return _fitted(with_k(ready, k, self.seed), self.X, space, self.sample)


def _seeded(estimator: Any, seed: int) -> Any:
    """Return a clone whose every random step has this seed."""
    names = [name for name in estimator.get_params() if re.search("(^|__)random_state$", name)]
    return clone(estimator).set_params(**dict.fromkeys(names, seed))


def number_name(estimator: Any) -> str:
    """Return what an estimator calls its number of clusters."""
    params = estimator.get_params(deep=False)
    known = NUMBERS if hasattr(estimator, "fit_predict") else ()
    names = [name for name in known if name in params]
    if not names:
        raise ValueError(
            f"estimator must have fit_predict and one of {', '.join(NUMBERS)}; got "
            f"{type(estimator).__name__}. Choose another estimator."
        )
    return names[0]


def with_k(estimator: Any, k: int, seed: int) -> Any:
    """Return a clone for so many clusters."""
    params, number = estimator.get_params(deep=False), number_name(estimator)
    changed: dict[str, Any] = {number: int(k)}
    if number == "n_class" and "fc_layer_sizes" in params:
        changed["fc_layer_sizes"] = (*params["fc_layer_sizes"][:-1], int(k))
    return _seeded(estimator, seed).set_params(**changed)


def _pretrained(
    estimator: Any, X: Any, sample: np.ndarray, seed: int, folder: Path
) -> tuple[Any, np.ndarray]:
    """Return the estimator with its pretraining done, and a sample in the space of all k."""
    params = estimator.get_params(deep=False)
    if not {"pretrained_weights", "max_iter"} <= set(params):
        return estimator, _rows(X, sample)
    first = with_k(estimator, 2, seed).set_params(max_iter=0).fit(X)
    path = folder / f"seed{seed}.h5"
    first.save(path)
    ready = clone(estimator)
    if params["pretrained_weights"] is None:
        ready.set_params(pretrained_weights=str(path))
    return ready, _rows(first.transform(X), sample)


def _rows(X: Any, sample: np.ndarray) -> np.ndarray:
    """Return the sample of any kind of data as vectors."""
    rows = _safe_indexing(X, sample)
    rows = rows.toarray() if hasattr(rows, "toarray") else np.asarray(rows)
    return rows.reshape(len(rows), -1)


def _fitted(estimator: Any, X: Any, space: np.ndarray, sample: np.ndarray) -> dict[str, Any]:
    """Fit, and return the measures of one run and its labels; NaN where it diverged."""
    begin = time.monotonic()
    found = dict.fromkeys(("silhouette", "davies_bouldin", "sure", "coverage"), np.nan)
    try:
        estimator.fit(X)
    except TrainingDivergedError:
        return {**found, "labels": None, "used": 0, "seconds": time.monotonic() - begin}
    seconds = time.monotonic() - begin
    labels = np.asarray(
        estimator.labels_ if hasattr(estimator, "labels_") else estimator.predict(X)
    )
    if 2 <= len(np.unique(labels[sample])) < len(sample):
        found["silhouette"] = silhouette_score(space, labels[sample])
        found["davies_bouldin"] = davies_bouldin_score(space, labels[sample])
    if hasattr(estimator, "predict_proba"):
        found["sure"] = float(np.mean(estimator.predict_proba(X).max(axis=1) > SURE))
    history = getattr(estimator, "history_", None)
    if isinstance(history, list) and history and "coverage" in history[-1]:
        found["coverage"] = float(history[-1]["coverage"])
    return {**found, "labels": labels, "used": len(np.unique(labels)), "seconds": seconds}
