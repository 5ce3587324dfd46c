"""Arrays that stay in their files: np.memmap, read a few rows at a time."""

import mmap
from pathlib import Path
from typing import Any

import numpy as np

from clustering_common.array_files import believable_header, file_error

LARGE_BYTES = 1 << 30  # as float32; smaller arrays are read whole, those of joblib's workers too
GAP_PAGES = 4  # between two rows: read too, rather than asked for one by one
BLOCK_BYTES = 32 * 2**20  # of rows that are read, or fed to the device, at a time


def mapped_base(X: Any) -> Any:
    """Return the ``np.memmap`` that an array is, or is a view of; None for others."""
    while isinstance(X, np.ndarray):
        if isinstance(X, np.memmap) and X._mmap is not None:  # type: ignore[attr-defined]
            return X
        X = X.base
    return None


def is_mapped(X: Any) -> bool:
    """Return whether an array is, or is a view of, an ``np.memmap``."""
    return mapped_base(X) is not None


def stays_in_file(X: Any) -> bool:
    """Return whether an array is read from its file block by block: those of a gigabyte and more.

    Raises
    ------
    ValueError
        If its rows do not lie one after the other.
    """
    if not is_mapped(X) or 4 * X.size < LARGE_BYTES:
        return False
    if not X.flags.c_contiguous:
        raise ValueError(
            "X must lie row by row in its file to be read from there; got columns or a part of "
            "each row. Write it anew in C order, block by block."
        )
    return True


def map_npy(path: Path) -> np.ndarray:
    """Return the array of a .npy file as it lies on the disk, an np.memmap to be read from.

    Raises
    ------
    ValueError
        As `array_files.read_npy`, but for its size.
    """
    with path.open("rb") as stream:
        try:
            believable_header(stream, path.stat().st_size)
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, OverflowError) as error:
            raise file_error(path, "a .npy file", error) from error


def rows_of(X: Any, indices: np.ndarray) -> np.ndarray:
    """Return rows of an array or a CSR matrix as float32, in the shape of the indices.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n_samples, ...)
    indices : int ndarray of any shape

    Returns
    -------
    ndarray of shape (*indices.shape, ...)
    """
    flat = indices.ravel()
    if hasattr(X, "toarray"):
        rows = X[flat].toarray().astype(np.float32, copy=False)
    else:
        # In the order of the file, which a disk reads sooner.
        order = np.argsort(flat, kind="stable")
        _fetch(X, flat[order])
        rows = np.empty((len(flat), *X.shape[1:]), np.float32)
        rows[order] = X[flat[order]]
    return rows.reshape(*indices.shape, *X.shape[1:])


def _fetch(X: np.ndarray, rows: np.ndarray) -> None:
    """Ask the system for rows of a file, in ascending order, all at once.

    Row by row, it would wait for each and read 128 kB around it: of a file that is larger than
    memory, many times what is needed.
    """
    base = mapped_base(X)
    if base is None or not hasattr(mmap, "MADV_WILLNEED") or not len(rows):
        return
    for start, end in page_ranges(X, base._mmap, rows):
        n_bytes = (end - start + 1) * mmap.PAGESIZE
        base._mmap.madvise(mmap.MADV_WILLNEED, start * mmap.PAGESIZE, n_bytes)


def page_ranges(X: np.ndarray, file: mmap.mmap, rows: np.ndarray) -> list[tuple[int, int]]:
    """Return first and last page of each run of pages that ascending rows of X lie on."""
    begin = X.__array_interface__["data"][0] - np.frombuffer(file, np.uint8).ctypes.data
    starts = begin + rows.astype(np.int64) * X.strides[0]
    firsts, lasts = starts // mmap.PAGESIZE, (starts + X.strides[0] - 1) // mmap.PAGESIZE
    new = np.flatnonzero(firsts[1:] > lasts[:-1] + GAP_PAGES) + 1
    runs = firsts[np.r_[0, new]], lasts[np.r_[new - 1, len(rows) - 1]]
    return list(zip(*(pages.tolist() for pages in runs), strict=True))
