"""Rounds of Kingdra: each member's own stream, what is carried on, who is taught which names."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from clustering_common.backend import to_numpy
from clustering_common.callbacks import Recorder
from clustering_common.checkpoints import Checkpoint
from clustering_common.seeds import SeedStream
from kingdra_cluster import KingdraCluster, LadderIM, outer_loop
from kingdra_cluster.ladder import LadderNetwork
from kingdra_cluster.members import (
    LadderTrainer,
    LossSettings,
    PopulationInference,
    PseudoLabelledSet,
)
from tests.ladders import BATCH, SIZES, TAUGHT, N, X, draws_of, shuffled

# Weights that differ, of one size: no part hides another's rounding.
SETTINGS = LossSettings("im", 0.7, 4.0, 3.0, 0.2, (2.0, 1.0, 0.5, 0.3), 0.3)


def make_trainer(n_members=3, base_loss="im"):
    network = LadderNetwork(n_members, SIZES, last_layer_bn=False, seeds=SeedStream(3))
    settings = LossSettings(**{**vars(SETTINGS), "base_loss": base_loss})
    return LadderTrainer(shuffled(network), X, settings, BATCH, SeedStream(0))


def all_differ(arrays):
    return len({np.asarray(array).tobytes() for array in arrays}) == len(arrays)


def test_every_member_has_batches_of_its_own():
    trainer = make_trainer()
    # Class 100 e + i of member e stands at place i, which holds sample i.
    taught = PseudoLabelledSet(np.arange(N), np.arange(N) + 100 * np.arange(3)[:, None])
    batches = trainer._batches(0, 4, taught)
    unlabelled, labelled = batches["unlabelled"], batches["labelled"]
    assert unlabelled.shape == labelled.shape == (4, 3, BATCH)
    orders = [*unlabelled.swapaxes(0, 1), *labelled.swapaxes(0, 1)]
    assert all_differ([order.copy() for order in orders])
    for order in orders:  # a pass is two batches, in which no sample comes twice
        for one_pass in order.reshape(2, 2 * BATCH):
            assert len(set(one_pass.tolist())) == 2 * BATCH
    assert_array_equal(batches["classes"], labelled + 100 * np.arange(3)[:, None])


def test_every_member_has_noise_of_its_own():
    trainer = make_trainer()
    draws = [to_numpy(trainer._noise((3, 2, 500, 10))) for _ in range(2)]
    assert all_differ([one.copy() for draw in draws for member in draw for one in member])
    many = draws[0].reshape(3, -1)
    assert_allclose(many.mean(axis=1), 0, atol=0.05)  # five deviations of 10,000 draws
    assert_allclose(many.std(axis=1), 1, atol=0.05)
    assert abs(np.corrcoef(many) - np.eye(3)).max() < 0.05


@pytest.mark.usefixtures("uncompiled")
def test_noise_alone_parts_equal_members():
    trainer = make_trainer()
    for variable in trainer.network.weights:  # all members become the first
        variable.assign(np.broadcast_to(to_numpy(variable)[:1], variable.shape))
    for schedule in (trainer.unlabelled, trainer.labelled):
        schedule.members = schedule.members[:1] * 3
    trainer.prepare(keras.optimizers.Adam(0.01))
    trainer.train_round(1, PseudoLabelledSet(TAUGHT.indices, TAUGHT.classes[[0, 0, 0]]))
    for kernel in map(to_numpy, trainer.network.kernels):
        for one, other in ((0, 1), (0, 2), (1, 2)):
            # two steps of 0.01; of shared noise, rounding apart, nothing would differ
            assert np.mean(abs(kernel[one] - kernel[other])) > 1e-4


@pytest.mark.parametrize("with_labels", [False, True])
@pytest.mark.usefixtures("uncompiled")
def test_two_rounds_go_on_as_one(with_labels):
    # Weights, Adam's moments and count, batches and noise: a round begins where the last ended.
    ends = []
    for rounds in ([2], [1, 1]):
        trainer = make_trainer()
        trainer.prepare(keras.optimizers.Adam(0.01))
        for n_epochs in rounds:
            trainer.train_round(n_epochs, TAUGHT if with_labels else None)
        assert int(to_numpy(trainer.optimizer.iterations)) == 4  # two steps an epoch
        ends.append(
            [to_numpy(v) for v in trainer.trainable_variables + trainer.optimizer.variables]
        )
    for one, two in zip(*ends, strict=True):
        # the same operations: rounding at most, where a step of Adam is 0.01
        assert_allclose(two, one, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("uncompiled")
def test_the_outer_loop_keeps_the_optimiser(blobs):
    def fit(n_iter, n_epochs):
        return LadderIM(
            3, n_iter=n_iter, n_epochs_per_iter=n_epochs, batch_size=22, fc_layer_sizes=(8, 3),
            denoising_cost=(10, 1, 0.1), lr=0.02, random_state=0,
        ).fit(blobs)  # fmt: skip

    one, two = fit(1, 2), fit(2, 1)
    # rounding through two layers
    assert_allclose(two.predict_proba(blobs), one.predict_proba(blobs), atol=1e-4)
    assert two.history_[-1]["loss"] == pytest.approx(one.history_[-1]["loss"], rel=1e-4)


def losses_and_gradients(trainer, *data):
    """Return each member's losses, and the gradient of their weighted sum by every weight."""
    variables = trainer.network.trainable_variables

    def loss(passes, classes, draws):
        def noise(shape):
            assert tuple(shape) == tuple(draws[shape[-1]].shape)
            return draws[shape[-1]]

        parts = trainer.member_losses(passes, classes, noise)
        return trainer.compute_loss(y_pred=parts), parts

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value, parts = loss(*keras.tree.map_structure(keras.ops.convert_to_tensor, data))
        found = tape.gradient(value, [variable.value for variable in variables])
    elif keras.backend.backend() == "jax":
        import jax

        def stateless(values, data):
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return loss(*data)

        slopes = jax.jit(jax.grad(stateless, has_aux=True))
        found, parts = slopes([variable.value for variable in variables], data)
    else:
        pytest.skip("gradients of TensorFlow and of JAX")
    return {name: to_numpy(p) for name, p in parts.items()}, [to_numpy(one) for one in found]


@pytest.mark.parametrize("base_loss", ["im", "dot"])
def test_losses_and_gradients_of_an_ensemble_are_its_members_own(base_loss):
    rng = np.random.default_rng(2)
    passes = X[rng.integers(0, N, (3, 3, BATCH))]
    passes[:, 1] = passes[:, 0]
    classes = rng.integers(0, 3, (3, BATCH)).astype(np.int32)

    def of(trainer, members):
        draws = {size: draws_of((3, 2, BATCH, size), members) for size in SIZES}
        return losses_and_gradients(trainer, passes[members], classes[members], draws)

    whole = make_trainer(base_loss=base_loss)
    losses, slopes = of(whole, [0, 1, 2])
    assert set(losses) == {"base_loss", "noise_kl", "ladder_loss", "sup_loss"}
    for name, values in losses.items():
        assert values.shape == (3,) and abs(np.diff(values)).min() > 1e-4, name
    for member in range(3):
        trainer = make_trainer(1, base_loss)
        weights = zip(trainer.network.weights, whole.network.weights, strict=True)
        for own, all_three in weights:
            own.assign(to_numpy(all_three)[[member]])
        own_losses, own_slopes = of(trainer, [member])
        for name, values in own_losses.items():
            assert_allclose(losses[name][[member]], values, rtol=1e-5, err_msg=name)
        for variable, ours, alone in zip(
            trainer.network.trainable_variables, slopes, own_slopes, strict=True
        ):
            mine = ours[[member]]
            assert abs(alone).max() > 0, variable.name
            # sums of single precision in another order, some of which cancel
            least = 1e-5 * abs(alone).max()
            assert_allclose(mine, alone, rtol=1e-4, atol=least, err_msg=variable.name)


def sharp(labels, n_class=3, confidence=1.0):
    """Return probabilities of members that give each sample its label, this surely."""
    rest = (1 - confidence) / n_class
    return (confidence * np.eye(n_class)[np.asarray(labels)] + rest).astype(np.float32)


@pytest.mark.parametrize("kind", [KingdraCluster, LadderIM])
def test_epochs_of_each_round(kind, blobs, monkeypatch):
    seen = []

    def train_round(self, n_epochs, pseudo_labelled, callbacks=(), first_step=0):
        seen.append((n_epochs, pseudo_labelled is not None))
        for callback in callbacks:
            if isinstance(callback, Recorder):
                callback.on_epoch_end(0, {"loss": 1.0})

    def probabilities(self, X):
        # nobody is sure after the first two rounds, and then again after the fourth
        confidence = 1.0 if len(seen) in (3, 5) else 0.5
        return sharp(np.tile(np.arange(45) % 3, (self.network.n_members, 1)), 3, confidence)

    monkeypatch.setattr(LadderTrainer, "train_round", train_round)
    monkeypatch.setattr(PopulationInference, "probabilities", probabilities)
    monkeypatch.setattr(PopulationInference, "refresh", lambda self, X: None)
    sizes = {"fc_layer_sizes": (8, 3), "denoising_cost": (10, 1, 0.1), "n_class": 3}
    own = {"n_en": 3, "high_th": 2, "n_epochs_per_iter0": 7} if kind is KingdraCluster else {}
    kind(**sizes, **own, n_iter=5, n_epochs_per_iter=2, random_state=0).fit(blobs)
    if kind is KingdraCluster:
        assert seen == [(7, False), (7, False), (7, False), (2, True), (2, True)]
    else:
        assert seen == [(2, False)] * 5


def make_loop(**changes):
    settings = {
        "n_class": 3, "n_iter": 3, "n_epochs_per_iter0": 1, "n_epochs_per_iter": 1, "low_th": 0,
        "high_th": 2, "thresh": 0.75, "ens_common_mapping": True, "mi_loss_w_it2": None,
        "use_pseudo_labels": True,
    }  # fmt: skip
    trainer = SimpleNamespace(network=SimpleNamespace(n_members=3))
    settings = outer_loop.LoopSettings(**{**settings, **changes})
    return outer_loop.OuterLoop(trainer, None, None, settings, SeedStream(0))


@pytest.mark.parametrize("doubtful", [0, 1, 2])
def test_a_sample_is_sure_where_every_member_exceeds_the_threshold(doubtful):
    loop = make_loop(n_class=2)
    proba = np.tile(sharp([0, 0, 0, 0, 1, 1, 1], 2, 0.9), (3, 1, 1))
    # One member only just fails. The first bucket takes unsure samples too, so the second shows it.
    proba[doubtful, 6] = [0.25, 0.75]
    record = loop._teach(proba, 0)
    assert record["bucket_sizes"] == [4, 2]
    assert record["coverage"] == pytest.approx(6 / 7)
    assert [bucket.tolist() for bucket in loop.state.buckets] == [[0, 1, 2, 3], [4, 5]]
    proba[doubtful, 6] = [0.24, 0.76]
    assert loop._teach(proba, 1)["bucket_sizes"] == [4, 3]


TRUTH = np.array([0, 0, 1, 0, 1, 2, 1, 2, 0])
NAMES = np.array([[0, 1, 2], [1, 2, 0], [2, 0, 1]])  # of the three clusters, member by member


@pytest.mark.parametrize("common", [True, False])
def test_buckets_take_the_last_members_names_and_members_theirs_or_these(common):
    loop = make_loop(ens_common_mapping=common)
    labels = NAMES[:, TRUTH]

    def assert_taught(labels):
        state = loop.state
        for name, bucket in enumerate(state.buckets):
            assert_array_equal(bucket, np.flatnonzero(labels[-1] == name))
        taught = state.taught
        wanted = labels[[2, 2, 2]] if common else labels
        assert_array_equal(taught.classes, wanted[:, taught.indices])
        assert_array_equal(np.bincount(taught.classes[0]), [3, 3, 3])
        # three places a class, so one of the four samples of cluster 0 has none
        assert set(taught.indices.tolist()) == set(range(8))

    record = loop._teach(sharp(labels), 0)
    assert record["bucket_sizes"] == [4, 3, 2] and not record["reused_buckets"]
    assert_taught(labels)
    # Nobody is sure: the buckets are reused, under the names that the members have by now.
    renamed = NAMES[[1, 2, 0]][:, TRUTH]
    record = loop._teach(sharp(renamed, confidence=0.5), 1)
    assert record["bucket_sizes"] == [0, 0, 0] and record["reused_buckets"]
    assert_taught(renamed)


@pytest.mark.parametrize("common", [True, False])
def test_pseudo_labels_have_the_names_of_the_labels(common):
    def loop_on(n_samples):
        loop = make_loop(ens_common_mapping=common)
        loop.X = np.empty((n_samples, 1))
        return loop

    loop, proba = loop_on(len(TRUTH)), sharp(NAMES[:, TRUTH])
    proba[1, 0] = sharp([NAMES[1, 1]])[0]  # the members disagree about the first sample
    loop._publish_pseudo_labels()
    assert not hasattr(loop.trainer, "pseudo_labels")  # there are none as yet
    loop._teach(proba, 0)
    loop._publish_pseudo_labels()
    names = NAMES[-1 if common else 0]
    wanted = np.where(np.arange(len(TRUTH)) == 0, -1, names[TRUTH])
    assert_array_equal(loop.trainer.pseudo_labels, wanted)
    # A run that goes on shows the same before it has predicted anything.
    again = loop_on(len(TRUTH))
    values, arrays = loop.state.collected()
    kept = Checkpoint({**values, "iteration": 1, "n_steps": 2}, arrays)
    again.run_state = SimpleNamespace(checkpoint=kept)
    again._go_on()
    assert_array_equal(again.trainer.pseudo_labels, wanted)
