"""Arrays that do not begin where an engine takes them."""

import keras
import numpy as np

from clustering_common.aligned import ALIGNMENT, aligned_empty


def beside(array, n_late):
    """Return a copy of which an engine can take what comes after so many numbers."""
    before = -n_late % (ALIGNMENT // array.itemsize)
    found = aligned_empty((before + array.size,), array.dtype)[before:].reshape(array.shape)
    found[...] = array
    return found


def address(variable):
    """Return where the numbers of a variable lie."""
    value = variable.value
    if keras.backend.backend() == "jax":
        return value.unsafe_buffer_pointer()
    return np.frombuffer(memoryview(value.read_value()), np.uint8).ctypes.data
