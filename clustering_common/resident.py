"""The samples of a fit on the device, taken by their indices."""

import math
from typing import Any

import numpy as np
from keras import ops

from clustering_common import backend
from clustering_common.aligned import LARGE_BYTES, n_beside
from clustering_common.mapped import is_mapped


class ResidentSamples:
    """Samples on the device, once for all phases of a fit; on a CPU no copy of them if need be.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...)

    Attributes
    ----------
    variables : list of keras.Variable
        What holds them; not trained.

    Notes
    -----
    An engine takes memory as it is from a multiple of 64 bytes on, where few arrays of NumPy's
    begin. Of those the rows that it takes begin up to 15 numbers late: each sample is the end of
    one such row and the beginning of the next. A step of FcDEC, the quickest one, takes some 1 %
    longer for it.
    """

    def __init__(self, X: np.ndarray):
        self.sample_shape = X.shape[1:]
        self.n_late = _n_late(X)
        if not self.n_late:
            self.variables = [backend.held(X, "data")]
            return
        n_rows, width = len(X) - 1, math.prod(self.sample_shape)
        rows = X.reshape(-1)[self.n_late : self.n_late + n_rows * width].reshape(n_rows, width)
        # Rows that begin late lack the beginning of the first sample, and the end of the last.
        ends = X.reshape(len(X), width)[[0, -1]]
        self.variables = [backend.held(rows, "data"), backend.held(ends, "ends")]

    def take(self, indices: Any) -> Any:
        """Return samples, (*indices.shape, *sample_shape).

        Parameters
        ----------
        indices : int tensor of any shape
        """
        if not self.n_late:
            return ops.take(self.variables[0], indices, axis=0)
        rows, ends = self.variables
        n_rows, width = rows.shape
        before, after = ops.maximum(indices - 1, 0), ops.minimum(indices, n_rows - 1)
        pairs = ops.take(rows, ops.stack([before, after], axis=-1), axis=0)
        pairs = ops.reshape(pairs, (*indices.shape, 2 * width))
        first = width - self.n_late
        samples = pairs[..., first : first + width]
        is_first, is_last = indices == 0, indices == n_rows

        def completed() -> Any:
            """Return the samples, the first and the last put right."""
            begun = ops.where(ops.expand_dims(is_first, -1), ends[0], samples)
            return ops.where(ops.expand_dims(is_last, -1), ends[1], begun)

        has_end = ops.any(ops.logical_or(is_first, is_last))
        samples = ops.cond(has_end, completed, lambda: samples)
        return ops.reshape(samples, (*indices.shape, *self.sample_shape))


def _n_late(X: np.ndarray) -> int:
    """Return how many numbers come before the first that the engine takes where it lies.

    0 also where `backend.held` is to decide, as the engine takes nothing, or X suits in no case.
    """
    is_suited = X.flags.c_contiguous and X[1:].nbytes >= LARGE_BYTES and not is_mapped(X)
    if not is_suited or not backend.takes_arrays():
        return 0
    n_late = n_beside(X)
    return n_late if n_late <= math.prod(X.shape[1:]) else 0
