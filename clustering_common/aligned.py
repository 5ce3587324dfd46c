"""Arrays that begin where an engine takes them as they are, and no fit copies them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["aligned", "aligned_empty", "is_aligned"]

ALIGNMENT = 64  # bytes: of TensorFlow and JAX on a CPU; NumPy's own arrays lie at 16


def aligned_empty(shape: Sequence[int], dtype: Any = np.float32) -> np.ndarray:
    """Return an array in C order whose values are still to be written.

    Examples
    --------
    >>> is_aligned(aligned_empty((3, 2)))
    True
    """
    dtype = np.dtype(dtype)
    n_bytes = math.prod(shape) * dtype.itemsize
    memory = np.empty(n_bytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + n_bytes].view(dtype).reshape(tuple(shape))


def is_aligned(array: np.ndarray) -> bool:
    """Return whether an engine can take an array as it is: in C order, from an aligned address."""
    return bool(array.flags.c_contiguous and array.ctypes.data % ALIGNMENT == 0)


def n_beside(array: np.ndarray) -> int:
    """Return how many numbers of an array come before the first from which an engine can take it.

    0 where there is none, as numbers do not begin at multiples of their size.
    """
    n_bytes = -array.ctypes.data % ALIGNMENT
    return 0 if n_bytes % array.itemsize else n_bytes // array.itemsize


def aligned(array: np.ndarray, dtype: Any = None, *, copy: bool = False) -> np.ndarray:
    """Return an array itself where it is aligned and of this dtype, else a copy that is.

    Parameters
    ----------
    array : ndarray
    dtype : dtype, optional
        That of the array by default.
    copy : bool, default=False
        Whether a copy is wanted in any case.
    """
    dtype = array.dtype if dtype is None else np.dtype(dtype)
    if array.dtype == dtype and is_aligned(array) and not copy:
        return array
    found = aligned_empty(array.shape, dtype)
    found[...] = array
    return found


def single_precision(X: Any) -> Any:
    """Return an array of numbers that must be copied to be float32 in C order, aligned; else X.

    A fit does not copy it once more.
    """
    if type(X) not in (np.ndarray, np.memmap) or X.dtype.kind not in "biuf":
        return X
    is_right = X.dtype == np.float32 and X.flags.c_contiguous
    return X if is_right else aligned(X, np.float32)
