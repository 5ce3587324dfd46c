"""What a run leaves behind so that it can be understood and repeated: results.json."""

import hashlib
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from clustering_common import backend
from clustering_common.callbacks import scores

ENGINES = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}
PIXEL_INITS = 10


def environment() -> dict[str, Any]:
    """Return versions, device and command: what a figure depends on besides settings and data."""
    names = ["keras", ENGINES[keras.backend.backend()], "scikit-learn", "numpy", "scipy"]
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in ["deep-clustering", *names]},
        },
        "commit": _commit(),
        "device": backend.device_name(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def data_hash(array: Any) -> str:
    """Return the SHA-256 of an array's or a CSR matrix's shape, type and values."""
    if hasattr(array, "indptr"):
        parts = "".join(map(data_hash, (array.data, array.indices, array.indptr)))
        return hashlib.sha256(f"{array.shape}{parts}".encode()).hexdigest()
    array = np.ascontiguousarray(array)
    digest = hashlib.sha256(f"{array.shape}{array.dtype}".encode())
    if array.dtype.kind in "biuf":
        digest.update(array.data)
    else:
        digest.update("\0".join(map(str, array.tolist())).encode())
    return digest.hexdigest()


def file_hash(path: Any) -> str:
    """Return the SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def own_version() -> str | None:
    """Return the version of this library, None where it is not installed."""
    return _version("deep-clustering")


def kmeans_baseline(X: np.ndarray, n_clusters: int, labels_true: Any, seed: int) -> dict[str, Any]:
    """Return the scores of k-means on the raw data (10 initialisations): what any method must beat.

    Deterministic for a seed: one thread.
    """
    with threadpool_limits(1, user_api="openmp"):
        model = KMeans(n_clusters, n_init=PIXEL_INITS, random_state=seed)
        return scores(labels_true, model.fit_predict(X.reshape(len(X), -1)))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit of the checkout that this package runs from, None where it is installed."""
    folder = Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
