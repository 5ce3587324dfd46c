import keras
import numpy as np
import pytest

from clustering_common import backend
from clustering_common.backend import to_numpy

ROWS, COLUMNS = 3_000, 100  # more than a megabyte
ALIGNMENT = 64  # bytes, with which TensorFlow takes an array as it is


def aligned(array):
    memory = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    found = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    found[...] = array
    return found


def arrays():
    rng = np.random.default_rng(0)
    x = rng.random((ROWS, COLUMNS), np.float32)
    fixed = x.copy()
    fixed.flags.writeable = False
    return {
        "C": x,
        "F": np.asfortranarray(x),
        "every second row": np.repeat(x, 2, axis=0)[::2],
        "read-only": fixed,
        "aligned": aligned(x),
        "integers": rng.integers(0, 9, 300_000).astype(np.int32),
        "small": x[:2],
        "images": x.reshape(ROWS, 10, 10, 1),
    }


@pytest.mark.parametrize("kind", arrays())
def test_held_is_a_variable_of_the_array(kind):
    array = arrays()[kind]
    variable = backend.held(array, "data")
    assert isinstance(variable, keras.Variable)
    assert (variable.name, variable.trainable) == ("data", False)
    assert tuple(variable.shape) == array.shape
    np.testing.assert_array_equal(to_numpy(variable), array)
    assert to_numpy(variable).dtype == array.dtype
    variable.assign(array[::-1])
    np.testing.assert_array_equal(to_numpy(variable), array[::-1])


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="a CPU's arrays are JAX's")
@pytest.mark.parametrize("kind", ["C", "aligned", "small"])
def test_held_does_not_change_with_the_array(kind):
    array = arrays()[kind]
    variable, before = backend.held(array, "data"), array.copy()
    array[...] = -1
    np.testing.assert_array_equal(to_numpy(variable), before)
