import keras
import numpy as np
import pytest

from clustering_common import backend, resident
from clustering_common.aligned import ALIGNMENT, aligned
from clustering_common.backend import to_numpy
from clustering_common.training import SteppedModel
from dec_da import ConvDEC, FcIDEC
from kingdra_cluster import KingdraCluster
from tests.unaligned import address, beside

ROWS, COLUMNS = 3_000, 100  # more than a megabyte
takes_arrays = pytest.mark.skipif(
    keras.backend.backend() == "torch" or not backend.is_cpu(), reason="copies all"
)


def unaligned(array):
    """Return a copy that lies a number beside."""
    return beside(array, ALIGNMENT // array.itemsize - 1)


def arrays():
    rng = np.random.default_rng(0)
    x = rng.random((ROWS, COLUMNS), np.float32)
    fixed = x.copy()
    fixed.flags.writeable = False
    return {
        "C": unaligned(x),
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


@pytest.mark.parametrize("kind", ["C", "F", "every second row"])
def test_held_does_not_change_with_an_array_that_is_copied(kind):
    array = arrays()[kind]
    variable, before = backend.held(array, "data"), array.copy()
    to_numpy(variable)  # JAX copies in the background
    array[...] = -1
    np.testing.assert_array_equal(to_numpy(variable), before)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX takes it if aligned")
def test_held_does_not_change_with_a_small_array():
    array = arrays()["small"]
    variable, before = backend.held(array, "data"), array.copy()
    array[...] = -1
    np.testing.assert_array_equal(to_numpy(variable), before)


def test_held_does_not_change_with_a_file(tmp_path):
    before = arrays()["C"]
    np.save(tmp_path / "x.npy", before)
    variable = backend.held(np.load(tmp_path / "x.npy", mmap_mode="r"), "data")
    np.load(tmp_path / "x.npy", mmap_mode="r+")[...] = -1
    np.testing.assert_array_equal(to_numpy(variable), before)


@takes_arrays
def test_held_takes_an_aligned_array_as_it_is_and_never_writes_to_it():
    array = arrays()["aligned"]
    variable, before = backend.held(array, "data"), array.copy()
    assert address(variable) == array.ctypes.data
    # TensorFlow's own update is in place where it may be.
    in_place = keras.backend.backend() == "tensorflow"
    (variable.value.assign_add if in_place else variable.assign)(array[::-1])
    np.testing.assert_array_equal(array, before)


@takes_arrays
@pytest.mark.parametrize(
    ("dtype", "n_late"),
    [
        (np.float32, 0),
        (np.float64, 0),
        *((np.float32, n_late) for n_late in (1, 15) if backend.joins_rows()),
    ],
)
@pytest.mark.parametrize(
    ("make", "width"),
    [
        (lambda: FcIDEC(3, layer_sizes=(4, 2), pretrain_epochs=2, max_iter=4), 64),
        (lambda: ConvDEC(3, filters=(2, 2, 2), pretrain_epochs=1, max_iter=2, batch_size=9), 64),
        (
            lambda: KingdraCluster(
                3, n_en=2, n_iter=2, n_epochs_per_iter0=1, n_epochs_per_iter=1, low_th=0,
                high_th=1, thresh=0, fc_layer_sizes=(4, 3), denoising_cost=(1, 1, 1),
            ),
            3_000,
        ),
    ],
    ids=["FcIDEC", "ConvDEC", "KingdraCluster"],
)  # fmt: skip
def test_a_fit_copies_no_array(make, width, dtype, n_late, monkeypatch):
    """Nor one of other numbers, once it is float32 and aligned."""
    places, samples = [], []
    fit_steps, held = SteppedModel.fit_steps, backend.held

    def watched_steps(self, *args, **kwargs):
        fit_steps(self, *args, **kwargs)
        places.append(address(self.samples.variables[0]))

    def watched_held(array, name):
        if name == "data":
            samples.append(array)
        return held(array, name)

    monkeypatch.setattr(SteppedModel, "fit_steps", watched_steps)
    monkeypatch.setattr(backend, "held", watched_held)
    monkeypatch.setattr(resident, "MANY_BYTES", 0)
    n_samples = 2 + 2**18 // width  # a megabyte and more, without the first too
    X = beside(np.random.default_rng(0).random((n_samples, width)).astype(dtype), n_late)
    before = X.copy()
    make().set_params(random_state=0).fit(X)
    (data,) = samples
    assert len(places) == 2
    assert set(places) == {data.ctypes.data}
    assert (data.ctypes.data == X.ctypes.data + 4 * n_late) == (dtype == np.float32)
    memory = data
    while isinstance(memory.base, np.ndarray):
        memory = memory.base
    assert memory.dtype == np.uint8  # of `aligned_empty`: NumPy's may be aligned by chance
    np.testing.assert_array_equal(X, before)
