import numpy as np
import pytest
from keras import ops

from clustering_common import backend, resident
from clustering_common.aligned import aligned, aligned_empty, n_beside
from clustering_common.backend import to_numpy
from clustering_common.resident import ResidentSamples
from dec_da import ConvIDEC, FcDCN, FcDEC, FcIDEC
from kingdra_cluster import KingdraCluster
from tests.unaligned import address, beside

joins_rows = pytest.mark.skipif(not backend.joins_rows(), reason="copies what isn't aligned")
MIN_SAMPLES, MIN_WIDTH = 2**13, resident.WIDE  # of what is not copied here


@pytest.fixture(autouse=True)
def smaller_arrays(monkeypatch):
    monkeypatch.setattr(resident, "MANY_BYTES", 4 * MIN_SAMPLES * MIN_WIDTH - 1)


def drawn(shape, n_late, dtype=np.float32):
    """Return random numbers of which an engine can take what comes after so many."""
    return beside(np.random.default_rng(0).integers(0, 99, shape).astype(dtype), n_late)


def test_n_beside():
    for n_late in range(16):
        assert n_beside(drawn((40, 3), n_late)) == n_late
    assert n_beside(drawn((40, 3), 7, np.float64)) == 7
    at_odd_bytes = aligned_empty((13,), np.uint8)[1:].view(np.float32)
    assert n_beside(at_odd_bytes) == 0


@pytest.mark.parametrize(
    "sample_shape", [(MIN_WIDTH,), (10, 8, 3), (1000,), (MIN_WIDTH - 1,), (0,)]
)
@pytest.mark.parametrize("n_late", [0, 1, 9, 15])
def test_takes_every_sample(n_late, sample_shape):
    X = drawn((MIN_SAMPLES, *sample_shape), n_late)
    samples = ResidentSamples(X)
    some = np.random.default_rng(1).permutation(MIN_SAMPLES)[:4000]
    last = MIN_SAMPLES - 1
    for indices in (np.r_[some, 0, last], [[last, 0, 5], [1, 0, 1]], [3], [last, 5], [5, 0]):
        indices = np.asarray(indices, np.int32)
        taken = to_numpy(samples.take(ops.convert_to_tensor(indices)))
        np.testing.assert_array_equal(taken, X[indices])


@joins_rows
@pytest.mark.parametrize("n_late", [0, 1, 9, 15])
@pytest.mark.parametrize("shape", [(MIN_SAMPLES, MIN_WIDTH), (MIN_SAMPLES, 101), (2, 500_000)])
def test_a_large_array_is_not_copied(n_late, shape):
    X = drawn(shape, n_late)
    held = ResidentSamples(X).variables
    assert address(held[0]) == X.ctypes.data + 4 * n_late
    assert [tuple(variable.shape) for variable in held[1:]] == [(2, shape[1])] * (n_late > 0)


def test_what_cannot_be_taken_is_copied(tmp_path, monkeypatch):
    large = drawn((MIN_SAMPLES, 80), 3)
    np.save(tmp_path / "x.npy", large)
    odd = aligned_empty((large.nbytes + 1,), np.uint8)[1:].view(np.float32).reshape(large.shape)
    odd[...] = large
    cases = [
        odd,
        beside(large.T, 3).T,  # in Fortran's order
        np.load(tmp_path / "x.npy", mmap_mode="r+")[1:],
        drawn((MIN_SAMPLES, MIN_WIDTH - 1), 3),
        drawn((MIN_SAMPLES - 1, MIN_WIDTH), 3),
        drawn((1, MIN_SAMPLES * MIN_WIDTH), 3),
    ]
    monkeypatch.setattr(backend, "joins_rows", lambda: True)
    for X in cases:
        before = X.copy()
        samples = ResidentSamples(X)
        assert len(samples.variables) == 1
        to_numpy(samples.variables[0])  # JAX copies in the background
        X[...] = -1
        rows = to_numpy(samples.take(ops.arange(len(before))))
        np.testing.assert_array_equal(rows, before)


@joins_rows
def test_one_device_of_a_strategy_has_samples_as_they_are():
    import tensorflow as tf

    X = drawn((MIN_SAMPLES, 80), 3)
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        assert not backend.joins_rows()
        (variable,) = ResidentSamples(X).variables
    assert tuple(variable.shape) == X.shape


def test_a_part_of_a_larger_array_is_taken_alone():
    """The samples around it are not its own."""
    whole = aligned(np.random.default_rng(0).random((MIN_SAMPLES + 20, 70), np.float32))
    part = whole[7:-9]
    samples = ResidentSamples(part)
    rows = to_numpy(samples.take(ops.arange(len(part))))
    np.testing.assert_array_equal(rows, part)


LADDER = {
    "n_en": 3, "n_iter": 3, "n_epochs_per_iter0": 2, "n_epochs_per_iter": 2, "low_th": 0,
    "high_th": 2, "thresh": 0, "fc_layer_sizes": (30, 20, 2), "denoising_cost": (10, 1, 1, 1),
    "batch_size": 64, "lr": 0.02, "mi_loss_w_init": 1,
}  # fmt: skip
DENSE = {"layer_sizes": (20, 4), "pretrain_epochs": 2, "max_iter": 9, "update_interval": 4}
PAPERS = {
    "pretrain_epochs": 2, "max_iter": 30, "update_interval": 10, "aug_pretrain": True,
    "aug_cluster": True, "pretrain_optimizer": "adam", "pretrain_learning_rate": 0.001,
}  # fmt: skip
CONV = {"filters": (4, 4, 4), "pretrain_epochs": 1, "max_iter": 3, "update_interval": 2}
FITS = {
    "FcDEC": (lambda: FcDEC(4, **DENSE), (400, 784)),
    "FcIDEC-DA": (lambda: FcIDEC(4, **DENSE, aug_pretrain=True, aug_cluster=True), (400, 784)),
    "FcDEC-DA, the paper's network": (lambda: FcDEC(4, **PAPERS), (8500, 784)),
    "FcDCN": (lambda: FcDCN(4, **DENSE, move_centers=True), (8000, 33)),
    "ConvIDEC": (lambda: ConvIDEC(4, **CONV), (1000, 8, 12, 3)),
    "KingdraCluster": (lambda: KingdraCluster(2, **LADDER), (700, 784)),
    "KingdraCluster, narrow": (lambda: KingdraCluster(2, **LADDER), (20_000, 16)),
}


@joins_rows
@pytest.mark.filterwarnings("ignore:.*collapse")
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * ("paper" in kind)) for kind in FITS]
)
def test_a_fit_is_the_same_wherever_an_array_begins(kind, monkeypatch):
    """To the bit: TensorFlow rearranges nothing of what comes after."""
    make, (n_samples, *sample_shape) = FITS[kind]
    monkeypatch.setattr(resident, "MANY_BYTES", 0)
    monkeypatch.setattr(resident, "WIDE", 16)
    rng = np.random.default_rng(0)
    centers = rng.random((2, *sample_shape))
    noise = rng.random((n_samples, *sample_shape))
    X = (0.8 * centers[rng.integers(2, size=n_samples)] + 0.2 * noise).astype(np.float32)
    learned = []
    for n_late in (0, 1, 12):
        model = make().set_params(random_state=0).fit(beside(X, n_late))
        learned.append((model.labels_, model.predict_proba(X), model.history_))
    assert len(np.unique(learned[0][1])) >= n_samples
    for other in learned[1:]:
        np.testing.assert_equal(other, learned[0])
