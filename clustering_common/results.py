"""What a run leaves behind so that it can be understood and repeated: results.json."""

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from clustering_common import backend
from clustering_common.callbacks import scores
from clustering_common.identity import version
from clustering_common.mapped import rows_of, stays_in_file

ENGINES = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}
PIXEL_INITS = 10
KMEANS_BYTES = 1 << 28  # of what it learns from, where the data stays in its file


def environment() -> dict[str, Any]:
    """Return versions, device and command: what a figure depends on besides settings and data."""
    names = ["keras", ENGINES[keras.backend.backend()], "scikit-learn", "numpy", "scipy"]
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ["deep-clustering", *names]},
        },
        "commit": _commit(Path(__file__).resolve().parent.parent),
        "device": backend.device_name(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def kmeans_baseline(X: np.ndarray, n_clusters: int, labels_true: Any, seed: int) -> dict[str, Any]:
    """Return the scores of k-means on the raw data (10 initialisations): what any method must beat.

    Deterministic for a seed: one thread. Of data that stays in its file, it learns from a random
    part of 256 MB.
    """
    X = X if X.ndim == 2 else X.reshape(len(X), -1)
    part = X
    if stays_in_file(X):
        n_rows = min(len(X), KMEANS_BYTES // (4 * X.shape[1]))
        part = rows_of(X, np.random.default_rng(seed).permutation(len(X))[:n_rows])
    with threadpool_limits(1, user_api="openmp"):
        model = KMeans(n_clusters, n_init=PIXEL_INITS, random_state=seed).fit(part)
        if part is X:
            return scores(labels_true, model.labels_)
        starts = range(0, len(X), 4096)
        chunks = (np.asarray(X[start : start + 4096], np.float32) for start in starts)
        return scores(labels_true, np.concatenate([model.predict(chunk) for chunk in chunks]))


def _commit(folder: Path) -> str | None:
    """Return the commit of the checkout in ``folder``, None where there is none.

    "+changes" after it tells that files under version control were changed since.
    """
    if not (folder / ".git").exists():
        return None
    # Without locks: a grid's trials ask at a time, and the user may be at work.
    ask = ["git", "--no-optional-locks", "status", "--porcelain=2", "--branch"]
    try:
        done = subprocess.run(
            [*ask, "--untracked-files=no"], cwd=folder, capture_output=True, text=True, timeout=10
        )
    except (OSError, ValueError, subprocess.SubprocessError):  # ValueError: names that are no text
        return None
    lines = done.stdout.splitlines()
    found = [line.split()[-1] for line in lines if line.startswith("# branch.oid")]
    is_changed = any(not line.startswith("#") for line in lines)
    return found[0] + "+changes" * is_changed if found else None
