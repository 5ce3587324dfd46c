"""CSR matrices as scipy.sparse.save_npz writes them, checked before SciPy sees them."""

from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from clustering_common.array_files import file_error, read_npz
from clustering_common.checks import check_finite

__all__ = ["SPARSE_NAMES", "read_csr"]

SPARSE_NAMES = {"indices", "indptr", "format", "shape", "data"}
MAX_COLUMNS = 1 << 24  # rows are made dense, some at a time


def read_csr(source: Path) -> csr_matrix:
    """Return the CSR matrix of a .npz file in single precision.

    Raises
    ------
    ValueError
        If it is damaged, of another format, or holds anything but finite numbers.
    """
    names = ("format", "shape", "indptr", "indices", "data")
    kind, shape, indptr, indices, data = read_npz(source, names)
    if kind.shape != () or kind.dtype.kind not in "SU" or str(kind.astype("U")) != "csr":
        way_out = "Save matrix.tocsr()."
        raise file_error(source, "a sparse matrix in CSR format", kind.tolist(), way_out)
    try:
        matrix = _matrix(shape, indptr, indices, data)
    except (ValueError, OverflowError, IndexError) as error:
        raise file_error(source, "an intact CSR matrix of numbers", error) from error
    check_finite(str(source), matrix.data)
    return matrix


def _matrix(
    shape: np.ndarray, indptr: np.ndarray, indices: np.ndarray, data: np.ndarray
) -> csr_matrix:
    """Return the matrix of these parts; ValueError with the reason unless they fit together."""
    if any(part.ndim != 1 for part in (shape, indptr, indices, data)) or len(shape) != 2:
        raise ValueError("parts of other shapes")
    if any(part.dtype.kind not in "iu" for part in (shape, indptr, indices)):
        raise ValueError("indices that are no whole numbers")
    if data.dtype.kind not in "biuf":
        raise ValueError(f"values of type {data.dtype}")
    n_rows, n_columns = map(int, shape)
    if not 1 <= n_columns <= MAX_COLUMNS or n_rows < 1 or len(indptr) != n_rows + 1:
        raise ValueError(f"shape {(n_rows, n_columns)} and {len(indptr) - 1} rows")
    with np.errstate(over="ignore"):  # becomes infinite, which is reported
        parts = (data.astype(np.float32), indices.astype(np.int64), indptr.astype(np.int64))
    matrix = csr_matrix(parts, shape=(n_rows, n_columns))
    matrix.check_format(full_check=True)
    return matrix
