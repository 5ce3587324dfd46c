"""samples.csv: where samples are files, the cluster of each and its probability."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clustering_common import files

__all__ = ["SAMPLES_FILE", "write_samples"]

SAMPLES_FILE = "samples.csv"
COLUMNS = ("file", "cluster", "probability")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for one begins so


def write_samples(
    folder: Path, names: Sequence[str], proba: np.ndarray, labels: np.ndarray
) -> Path:
    """Write a line for each file and return the path.

    A name that a spreadsheet would take for a formula, such as "=1.png", gets "./" before it: the
    same file by another path. All others stay as they are.

    Parameters
    ----------
    folder : Path
    names : sequence of str
        Of the files.
    proba : ndarray of shape (n_samples, n_clusters)
    labels : ndarray of shape (n_samples,)
    """
    found = zip(names, labels, proba, strict=True)
    rows = [{"file": _no_formula(name), "cluster": k, "probability": q[k]} for name, k, q in found]
    files.write_csv(folder / SAMPLES_FILE, COLUMNS, rows)
    return folder / SAMPLES_FILE


def _no_formula(name: str) -> str:
    return f"./{name}" if name.startswith(FORMULA) else name
