import numpy as np
import pytest
from keras import ops

from clustering_common import backend
from clustering_common.aligned import aligned, aligned_empty, n_beside
from clustering_common.backend import to_numpy
from clustering_common.resident import ResidentSamples
from tests.unaligned import address, beside

takes_arrays = pytest.mark.skipif(not backend.takes_arrays(), reason="copies all")


def drawn(shape, n_late, dtype=np.float32):
    """Return random numbers of which an engine can take what comes after so many."""
    return beside(np.random.default_rng(0).integers(0, 99, shape).astype(dtype), n_late)


def test_n_beside():
    for n_late in range(16):
        assert n_beside(drawn((40, 3), n_late)) == n_late
    assert n_beside(drawn((40, 3), 7, np.float64)) == 7
    at_odd_bytes = aligned_empty((13,), np.uint8)[1:].view(np.float32)
    assert n_beside(at_odd_bytes) == 0


@pytest.mark.parametrize("sample_shape", [(1,), (15,), (16,), (5, 4, 3), (0,)])
@pytest.mark.parametrize("n_late", [0, 1, 9, 15])
def test_takes_every_sample(n_late, sample_shape):
    n_samples = 2**18 // max(1, int(np.prod(sample_shape))) + 1  # a megabyte and more
    X = drawn((n_samples, *sample_shape), n_late)
    samples = ResidentSamples(X)
    some = np.random.default_rng(1).permutation(n_samples)[:4000]
    for indices in (np.r_[some, 0, n_samples - 1], [[n_samples - 1, 0, 5], [1, 0, 1]], [3]):
        indices = np.asarray(indices, np.int32)
        taken = to_numpy(samples.take(ops.convert_to_tensor(indices)))
        np.testing.assert_array_equal(taken, X[indices])


@takes_arrays
@pytest.mark.parametrize("n_late", [0, 1, 9, 15])
def test_copies_no_array_of_wide_samples(n_late):
    X = drawn((5_000, 60), n_late)
    held = ResidentSamples(X).variables
    assert address(held[0]) == X.ctypes.data + 4 * n_late
    assert [tuple(variable.shape) for variable in held[1:]] == [(2, 60)] * (n_late > 0)


def test_what_cannot_be_taken_is_copied(tmp_path):
    wide = drawn((5_000, 60), 3)
    np.save(tmp_path / "x.npy", wide)
    odd = aligned_empty((wide.nbytes + 1,), np.uint8)[1:].view(np.float32).reshape(wide.shape)
    odd[...] = wide
    cases = [
        odd,
        np.asfortranarray(wide),
        np.load(tmp_path / "x.npy", mmap_mode="r+")[1:],
        drawn((100_000, 3), 15),  # fewer numbers in a sample than come before
        drawn((1, 300_000), 3),
        wide[:2],
    ]
    for X in cases:
        before = X.copy()
        samples = ResidentSamples(X)
        assert len(samples.variables) == 1
        to_numpy(samples.variables[0])  # JAX copies in the background
        if len(X) > 2:
            X[...] = -1
        rows = to_numpy(samples.take(ops.arange(len(before))))
        np.testing.assert_array_equal(rows, before)


def test_a_part_of_a_larger_array_is_taken_alone():
    """The samples around it are not its own."""
    whole = aligned(np.random.default_rng(0).random((6_000, 50), np.float32))
    part = whole[7:-9]
    samples = ResidentSamples(part)
    rows = to_numpy(samples.take(ops.arange(len(part))))
    np.testing.assert_array_equal(rows, part)
