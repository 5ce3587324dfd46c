"""The ladder network equals the papers' formulas, and an ensemble equals its members alone."""

import signal
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.sparse import csr_matrix

from clustering_common import cli
from clustering_common.backend import to_numpy
from clustering_common.callbacks import Recorder
from clustering_common.seeds import SeedStream
from clustering_common.stopping import STOP, TerminatedError
from kingdra_cluster import ladder, losses
from kingdra_cluster.ladder import LadderNetwork
from kingdra_cluster.members import (
    LadderTrainer,
    LossSettings,
    MemberSchedule,
    PopulationInference,
    PseudoLabelledSet,
)
from tests.ladders import BATCH, SIZES, TAUGHT, N, X, draws_of, member_weights, shuffled
from tests.reference import naive_encode, naive_ladder_losses, naive_softmax

COSTS = (1000.0, 10.0, 0.1, 0.1)


def settings(base_loss="im"):
    return LossSettings(base_loss, 0.1, 4.0, 1.0, 1.0, COSTS, 0.3)


def ensemble(n_members, last_layer_bn=False):
    return LadderNetwork(n_members, SIZES, last_layer_bn=last_layer_bn, seeds=SeedStream(3))


@pytest.mark.parametrize("base_loss", ["im", "dot"])
@pytest.mark.parametrize("last_layer_bn", [False, True])
def test_losses_equal_the_naive_passes(base_loss, last_layer_bn):
    network = shuffled(ensemble(3, last_layer_bn))
    trainer = LadderTrainer(network, X, settings(base_loss), BATCH, SeedStream(0))
    rng = np.random.default_rng(2)
    rows = rng.integers(0, N, (3, 2, BATCH))
    classes = rng.integers(0, 3, (3, BATCH)).astype(np.int32)
    passes = np.stack([X[rows[:, 0]], X[rows[:, 0]], X[rows[:, 1]]], axis=1)
    seen = []

    def noise(shape):
        seen.append(draws_of(shape, slice(None)))
        return keras.ops.convert_to_tensor(seen[-1])

    parts = trainer.member_losses(keras.ops.convert_to_tensor(passes), classes, noise)
    plain = {
        "base_loss": base_loss,
        "mi_mu_w": 4.0,
        "denoising_cost": COSTS,
        "noise_std": 0.3,
    }
    for member in range(3):
        draws = [[d[member, p].astype(np.float64) for d in seen] for p in (0, 1)]
        expected = naive_ladder_losses(
            member_weights(network, member),
            X[rows[member, 0]].astype(np.float64),
            X[rows[member, 1]].astype(np.float64),
            classes[member],
            plain,
            draws,
            last_layer_bn,
        )
        for name, value in expected.items():
            # single precision through three layers
            assert_allclose(to_numpy(parts[name])[member], value, rtol=2e-4, err_msg=name)


def trained(members, optimizer, n_epochs, taught, base_loss="im"):
    """Train these members of the three as an ensemble of their own; return weights and losses."""
    whole = ensemble(3)
    network = ensemble(len(members))
    for own, all_three in zip(network.weights, whole.weights, strict=True):
        own.assign(to_numpy(all_three)[list(members)])
    trainer = LadderTrainer(network, X, settings(base_loss), BATCH, SeedStream(0))
    # A variable, so that each member alone is the same compiled program.
    chosen = trainer.add_resident(np.array(members, np.int32), "chosen")
    trainer._noise = lambda shape: keras.ops.take(draws_of(shape, slice(None)), chosen, axis=0)
    for kind in ("unlabelled", "labelled"):
        order = SeedStream(0)
        seeds = [order.seed(f"{kind} batches", member) for member in members]
        setattr(trainer, kind, MemberSchedule(len(members), N, BATCH, seeds))
    trainer.prepare(optimizer)
    if taught is not None:
        taught = PseudoLabelledSet(taught.indices, taught.classes[members])
    rows = []

    class Losses(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            rows.append(logs)

    trainer.train_round(n_epochs, taught, [Losses()])
    return [to_numpy(w) for w in network.trainable_variables], rows


@pytest.mark.parametrize("with_labels", [False, True])
@pytest.mark.parametrize("name", ["gradients", "adam"])
@pytest.mark.usefixtures("uncompiled")
def test_a_member_alone_equals_itself_in_the_ensemble(with_labels, name):
    # One SGD epoch moves weights by their gradients; four Adam epochs carry state along.
    labels = TAUGHT if with_labels else None
    n_epochs = 1 if name == "gradients" else 4

    def optimizer():
        if name == "gradients":
            return keras.optimizers.SGD(1e-3)
        return keras.optimizers.Adam(0.002)

    together, rows = trained([0, 1, 2], optimizer(), n_epochs, labels)
    sums = np.zeros(n_epochs)
    for member in range(3):
        alone, own_rows = trained([member], optimizer(), n_epochs, labels)
        sums += [row["loss"] for row in own_rows]
        for ours, theirs in zip(together, alone, strict=True):
            # the same sums in another order of a batched product
            assert_allclose(ours[[member]], theirs, rtol=1e-4, atol=2e-5)
    assert_allclose([row["loss"] for row in rows], sums, rtol=1e-4)


def test_members_start_and_run_differently():
    network = ensemble(3)
    first, second, _ = to_numpy(network.kernels[0])
    assert abs(first - second).max() > 0.1
    # glorot normal, truncated at two deviations: bound by each member's own fan-in
    bound = 2 * np.sqrt(2 / (SIZES[0] + SIZES[1])) / 0.87962566103423978
    assert np.abs(to_numpy(network.kernels[0])).max() <= bound
    assert (to_numpy(LadderNetwork(1, SIZES, last_layer_bn=False, seeds=SeedStream(3)).kernels[0])
            == first).all()  # fmt: skip
    schedule = MemberSchedule(2, N, BATCH, [1, 2]).batches(0, 2)
    assert schedule.shape == (2, 2, BATCH)
    assert (schedule[:, 0] != schedule[:, 1]).any()


@pytest.mark.parametrize("n_members", [10**11, 10**30])
def test_members_that_no_memory_holds_are_refused_before_any_is_drawn(n_members, monkeypatch):
    monkeypatch.setattr(keras.initializers, "GlorotNormal", lambda seed: pytest.fail("was drawn"))
    text = rf"^The members must fit into memory; got {n_members} of layer sizes \[6, 5, .* n_en or"
    with pytest.raises(MemoryError, match=text) as caught:
        ensemble(n_members)
    assert cli.is_out_of_memory(caught.value)


def test_a_signal_is_heard_between_members():
    stream = SeedStream(3)

    def seed(name, member=0):
        if member == 2:
            STOP.handle(signal.SIGTERM)
        assert member < 3
        return SeedStream.seed(stream, name, member)

    seeds = SimpleNamespace(seed=seed)
    with (
        pytest.raises(TerminatedError, match=r"^a checkpoint$"),
        STOP.deferred(lambda: "a checkpoint"),
    ):
        LadderNetwork(5, SIZES, last_layer_bn=False, seeds=seeds)


def test_denoising_starts_as_the_spec_says():
    start = to_numpy(ensemble(2).denoisers[1])
    assert start.shape == (2, 10, SIZES[1])
    assert (start[:, [1, 6]] == 1).all() and (np.delete(start, [1, 6], axis=1) == 0).all()


def test_population_inference_equals_one_batch_with_batch_statistics(monkeypatch):
    network = shuffled(ensemble(2, last_layer_bn=True))
    inference = PopulationInference(network)
    big = np.random.default_rng(7).uniform(size=(1100, SIZES[0])).astype(np.float32)
    inference.refresh(big)
    proba = inference.probabilities(big)
    assert proba.shape == (2, 1100, 3)
    for member in range(2):
        weights = member_weights(network, member)
        zeros = [np.zeros((1100, size)) for size in SIZES]
        _, logits = naive_encode(weights, big.astype(np.float64), 0.0, zeros, True)
        assert_allclose(proba[member], naive_softmax(logits), atol=1e-4)
    # a row's prediction is its own
    assert_allclose(inference.probabilities(big[7:10]), proba[:, 7:10], atol=1e-6)
    sparse = PopulationInference(network)
    sparse.refresh(csr_matrix(big))
    assert_allclose(sparse.probabilities(csr_matrix(big)), proba, atol=1e-6)


def test_information_maximisation_by_hand():
    # two samples, each sure of another class: H(p_i) = 0, H(mean) = log 2
    logits = np.array([[[50.0, 0.0], [0.0, 50.0]]], np.float32)
    loss = to_numpy(losses.information_maximisation(keras.ops.convert_to_tensor(logits), 4.0))
    assert_allclose(loss, [-4 * np.log(2)], rtol=1e-6)
    # both undecided: H(p_i) = log 2 = H(mean)
    loss = to_numpy(losses.information_maximisation(keras.ops.zeros((1, 2, 2)), 4.0))
    assert_allclose(loss, [-3 * np.log(2)], rtol=1e-6)


def test_dot_product_by_hand():
    # orthogonal samples cost nothing; equal ones miss the two off-diagonal zeros: 2 / 4
    apart = np.array([[[90.0, 0.0], [0.0, 90.0]]], np.float32)
    assert_allclose(to_numpy(losses.dot_product(keras.ops.convert_to_tensor(apart))), 0, atol=1e-6)
    assert_allclose(to_numpy(losses.dot_product(keras.ops.zeros((1, 2, 2)))), 0.5, rtol=1e-5)


def test_divergence_and_cross_entropy_by_hand():
    clean = np.log(np.array([[[0.5, 0.5]]], np.float32))
    noisy = np.log(np.array([[[0.25, 0.75]]], np.float32))
    expected = 0.5 * np.log(2) + 0.5 * np.log(2 / 3)
    assert_allclose(to_numpy(losses.noise_divergence(clean, noisy)), [expected], rtol=1e-5)
    classes = np.array([[1]], np.int32)
    assert_allclose(to_numpy(losses.cross_entropy(noisy, classes)), [-np.log(0.75)], rtol=1e-5)


def test_fused_passes_change_nothing(monkeypatch):
    losses_of = []
    for least in (0, 10**9):
        monkeypatch.setattr(ladder, "FUSE_FROM_WEIGHTS", least)
        trainer = LadderTrainer(shuffled(ensemble(3)), X, settings(), BATCH, SeedStream(0))
        trainer.prepare(keras.optimizers.Adam(0.01))
        recorder = Recorder()
        trainer.train_round(3, TAUGHT, [recorder])
        losses_of.append([list(row.values()) for row in recorder.rows])
    # the order of sums in single precision
    assert_allclose(*losses_of, rtol=1e-4)
