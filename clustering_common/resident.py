"""The samples of a fit on the device, taken by their indices."""

import math
from typing import Any

import numpy as np
from keras import ops

from clustering_common import backend
from clustering_common.aligned import n_beside
from clustering_common.mapped import is_mapped

MANY_BYTES, WIDE = 2**24, 2**6  # of all samples, and numbers of each, from which a copy counts


class ResidentSamples:
    """Samples on the device, once for all phases of a fit; on a CPU the array itself if need be.

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
    one such row and the beginning of the next. A step of FcDEC, with the paper's network the
    quickest one, takes 2 to 4 % longer for it; one of a small network takes up to twice as long, as
    the gather is most of it. Samples of 16 MB or less, or narrow ones, are copied instead, and all
    under JAX, as XLA rearranges by rounding what comes after.
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
        indices : int tensor of a known shape
            0 to n_samples - 1.
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
        # In every batch: with a condition TensorFlow would rearrange what comes after by rounding.
        for index, end in ((0, 0), (n_rows, 1)):
            samples = ops.where(ops.expand_dims(indices == index, -1), ends[end], samples)
        return ops.reshape(samples, (*indices.shape, *self.sample_shape))


def _n_late(X: np.ndarray) -> int:
    """Return how many numbers come before the first that the engine takes where it lies.

    0 also where X is left to `backend.held`: that takes an aligned array, and copies others.
    """
    is_large = X.nbytes > MANY_BYTES and math.prod(X.shape[1:]) >= WIDE and len(X) > 1
    is_suited = is_large and X.flags.c_contiguous and not is_mapped(X)
    return n_beside(X) if is_suited and backend.joins_rows() else 0
