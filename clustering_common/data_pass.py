"""One pass over data in a file: its hash and which rows are finite, found together and kept."""

import hashlib
import math
import mmap
import os
import weakref
from typing import Any, NamedTuple

import numpy as np

from clustering_common.mapped import mapped_base

__all__ = ["Found", "bad_rows", "look_through"]

CHUNK = 2**22  # numbers that are looked at together


class Found(NamedTuple):
    """What a pass found.

    Attributes
    ----------
    digest : hashlib object
        SHA-256 of all bytes; to be copied.
    n_bad, first_bad : int
        How many rows hold NaN or infinity, and the first of them.
    """

    digest: Any
    n_bad: int
    first_bad: int


# As long as the map lives, and the file's size and time of change stay.
_KNOWN: "weakref.WeakKeyDictionary[mmap.mmap, dict[Any, Found]]" = weakref.WeakKeyDictionary()


def look_through(X: Any) -> Found | None:
    """Return hash and finiteness of an np.memmap, read once; None where X is none, or may change.

    A fit from the command line asks five times: when the file is opened, for the run's and its
    checkpoints' identity, before training, and for its record.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...)
    """
    base = mapped_base(X)
    name = getattr(base, "filename", None)
    if base is None or name is None or X.flags.writeable or not X.flags.c_contiguous:
        return None
    try:
        state = os.stat(name)
    except OSError:  # removed since
        return None
    known = _KNOWN.setdefault(base._mmap, {})
    address = X.__array_interface__["data"][0]
    key = (address, len(X), X.nbytes, X.dtype.str, state.st_mtime_ns, state.st_size)
    if key not in known:
        known[key] = _pass(X)
    return known[key]


def _pass(X: np.ndarray) -> Found:
    """Read all rows once."""
    digest = hashlib.sha256()
    n_bad, first_bad = 0, len(X)
    for start, block in _blocks(X):
        digest.update(np.ascontiguousarray(block).data)
        bad = ~_finite_rows(block)
        if bad.any():
            n_bad, first_bad = n_bad + int(bad.sum()), min(first_bad, start + int(np.argmax(bad)))
    return Found(digest, n_bad, first_bad)


def bad_rows(X: np.ndarray) -> tuple[int, int]:
    """Return how many rows of an array hold NaN or infinity in single precision, and the first."""
    found = look_through(X)
    if found is not None:
        return found.n_bad, found.first_bad
    bad = [start + np.flatnonzero(~_finite_rows(block)) for start, block in _blocks(X)]
    places = np.concatenate(bad) if bad else np.empty(0, int)
    return len(places), int(places[0]) if len(places) else len(X)


def _blocks(X: np.ndarray) -> Any:
    """Yield the first row of each block of rows, and the block."""
    n_rows = max(1, CHUNK // max(1, math.prod(X.shape[1:])))
    for start in range(0, len(X), n_rows):
        yield start, X[start : start + n_rows]


def _finite_rows(values: np.ndarray) -> np.ndarray:
    """Return whether all of each row is finite, in single precision."""
    with np.errstate(over="ignore", invalid="ignore"):
        single = np.asarray(values, np.float32)
        if np.isfinite(single.sum()):  # no sum with NaN or infinity is
            return np.ones(len(single), bool)
    return np.asarray(np.isfinite(single.reshape(len(single), -1)).all(axis=1))
