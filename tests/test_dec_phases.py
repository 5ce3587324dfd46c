import keras
import numpy as np
import pytest

from clustering_common import training
from clustering_common.backend import to_numpy
from clustering_common.callbacks import TrainingDivergedError
from clustering_common.seeds import SeedStream
from clustering_common.training import BatchSchedule
from dec_da import FcDCN, FcDEC, FcIDEC, models, phases
from dec_da.models import ReconstructionModel
from tests.reference import (
    naive_dense,
    naive_kl,
    naive_soft_assignment,
    naive_target,
)

SIZES = (8, 3)
PLAIN = {"image_shape": None, "augment_seed": None}
CENTERS = np.array([[1.5, 0.0, -1.0], [-1.0, 2.0, 0.0]], np.float32)
# A loss is about 0.01 to 1 here: float32 leaves 1e-6 of the sums it comes from.
CLOSE = {"rel": 1e-4, "abs": 1e-6}


def build(cls, X, centers=CENTERS, **params):
    """Return network and clustering model of an estimator, centres set."""
    estimator = cls(len(centers), layer_sizes=SIZES, **params)
    network = estimator._make_network((X.shape[1],), SeedStream(0))
    network.clustering.clusters.assign(centers)
    augmentation = {"image_shape": (8, 8, 1), "augment_seed": 0} if X.shape[1] == 64 else PLAIN
    return network, estimator._clustering_model(network, X, **augmentation)


def cluster(model, learning_rate=0.1, batch_size=4, callbacks=(), **options):
    options = {"update_interval": 1, "max_iter": 1, "tol": 0.0, **options}
    return phases.cluster(
        model,
        keras.optimizers.SGD(learning_rate),
        batch_size=batch_size,
        seeds=SeedStream(7),
        callbacks=list(callbacks),
        **options,
    )


def all_arrays(network):
    """Return copies of all weights."""
    return [np.array(to_numpy(weight)) for layer in network.layers for weight in layer.weights]


def arrays_of(network):
    """Return copies of encoder weights, decoder weights, centres."""
    arrays = all_arrays(network)
    return arrays[:4], arrays[4:8], arrays[8]


def first_rows(n_samples, batch_size=4):
    return BatchSchedule(n_samples, batch_size, SeedStream(7).seed("cluster batches")).batches(0, 1)


class Watcher(keras.callbacks.Callback):
    """Keep targets, labels, weights at every update."""

    def __init__(self, network, stop_at=None):
        super().__init__()
        self.network, self.stop_at = network, stop_at
        self.targets, self.labels, self.weights = [], [], []

    def on_train_begin(self, logs=None):
        self.on_epoch_end(-1, logs)

    def on_epoch_end(self, epoch, logs=None):
        self.targets.append(np.array(to_numpy(self.model.targets)))
        self.labels.append(np.array(self.model.labels))
        self.weights.append(arrays_of(self.network))
        if epoch == self.stop_at:
            self.model.stop_training = True


# --- one step against the formulas ---


@pytest.mark.parametrize(
    ("cls", "clustering_weight", "reconstruction_weight"), [(FcDEC, 1, 0), (FcIDEC, 0.1, 1)]
)
def test_first_step_of_soft_assignment(cls, clustering_weight, reconstruction_weight, blobs):
    network, model = build(cls, blobs)
    encoder, decoder, centers = arrays_of(network)
    rows = first_rows(len(blobs))[0]
    result = cluster(model)

    def loss_of(centers):
        z = naive_dense(encoder, blobs)
        q = naive_soft_assignment(z, centers)
        error = naive_dense(decoder, z[rows]) - blobs[rows]
        kl = naive_kl(target[rows], q[rows])
        return clustering_weight * kl + reconstruction_weight * np.mean(error**2), kl

    target = naive_target(naive_soft_assignment(naive_dense(encoder, blobs), centers))
    loss, kl = loss_of(centers)
    row = result.history[1]
    assert row["loss"] == pytest.approx(loss, **CLOSE)
    assert row["clustering_loss"] == pytest.approx(kl, **CLOSE)
    if reconstruction_weight:
        assert row["reconstruction_loss"] == pytest.approx(loss - 0.1 * kl, **CLOSE)
    # The centres moved down the slope of the loss, p held still.
    moved = (arrays_of(network)[2] - centers) / -0.1
    for index in np.ndindex(centers.shape):
        step = np.zeros(centers.shape)
        step[index] = 1e-5
        slope = (loss_of(centers + step)[0] - loss_of(centers - step)[0]) / 2e-5
        # A float32 difference of two centres, divided by the rate.
        assert moved[index] == pytest.approx(slope, abs=1e-5, rel=1e-3)
    changed = [
        not np.array_equal(a, b) for a, b in zip(arrays_of(network)[1], decoder, strict=True)
    ]
    assert all(changed) if reconstruction_weight else not any(changed)


def test_first_step_of_hard_assignment(blobs):
    network, model = build(FcDCN, blobs)
    encoder, decoder, centers = arrays_of(network)
    rows = first_rows(len(blobs))[0]
    result = cluster(model)
    z = naive_dense(encoder, blobs)
    distances = ((z[:, None] - centers[None]) ** 2).sum(axis=2)
    expected = distances.min(axis=1)[rows].mean()
    assert result.history[1]["loss"] == pytest.approx(expected, **CLOSE)
    after = arrays_of(network)
    assert np.array_equal(after[2], centers)
    assert not np.array_equal(after[0][0], encoder[0])
    for a, b in zip(after[1], decoder, strict=True):
        assert np.array_equal(a, b)


def test_alpha_is_honoured(blobs):
    network, model = build(FcDEC, blobs, alpha=4.0)
    encoder, _, centers = arrays_of(network)
    rows = first_rows(len(blobs))[0]
    loss = cluster(model).history[1]["loss"]
    q = naive_soft_assignment(naive_dense(encoder, blobs), centers, alpha=4.0)
    assert loss == pytest.approx(naive_kl(naive_target(q)[rows], q[rows]), **CLOSE)


# --- updates ---


def test_targets_come_from_all_clean_data_at_every_update(images, monkeypatch):
    monkeypatch.setattr(models, "ROWS_PER_CALL", 16)  # 36 samples: three calls, one padded
    X = images.reshape(36, 64)
    network, model = build(FcDEC, X)
    assert model.augment is not None
    watcher = Watcher(network)
    result = cluster(model, update_interval=3, max_iter=8, callbacks=[watcher])
    assert [row["iter"] for row in result.history] == [0, 3, 6, 8]
    assert result.n_iter == 8
    assert len(watcher.targets) == 4
    for targets, labels, (encoder, _, centers) in zip(
        watcher.targets, watcher.labels, watcher.weights, strict=True
    ):
        q = naive_soft_assignment(naive_dense(encoder, X), centers)
        np.testing.assert_allclose(targets, naive_target(q), atol=1e-5)
        assert np.array_equal(labels, q.argmax(axis=1))
    assert not np.allclose(watcher.targets[0], watcher.targets[1], atol=1e-6)


def test_targets_stay_between_updates(blobs):
    network, model = build(FcDEC, blobs)
    rows = BatchSchedule(45, 4, SeedStream(7).seed("cluster batches")).batches(0, 2)
    encoder, _, centers = arrays_of(network)
    result = cluster(model, learning_rate=1e-12, update_interval=2, max_iter=2)
    q = naive_soft_assignment(naive_dense(encoder, blobs), centers)
    p = naive_target(q)
    expected = np.mean([naive_kl(p[batch], q[batch]) for batch in rows])
    assert result.history[1]["loss"] == pytest.approx(expected, **CLOSE)


class SwapCentres(keras.callbacks.Callback):
    """Swap the first two centres before each epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        clusters = self.model.clustering.clusters
        clusters.assign(to_numpy(clusters)[[1, 0, 2]])


def test_label_change_is_the_share_of_labels_that_changed(blobs):
    network, model = build(FcDEC, blobs, np.eye(3, dtype=np.float32))
    X = blobs[:3]
    network.clustering.clusters.assign(naive_dense(arrays_of(network)[0], X))
    watcher = Watcher(network)
    result = cluster(model, learning_rate=1e-12, max_iter=3, callbacks=[watcher, SwapCentres()])
    first = watcher.labels[0]
    assert np.array_equal(first, np.arange(45) % 3)
    assert np.array_equal(watcher.labels[1], np.array([1, 0, 2])[first])
    changes = [row["label_change"] for row in result.history[1:]]
    assert changes == pytest.approx([2 / 3] * 3)
    assert set(result.history[0]) == {"iter", "n_empty_clusters"}
    assert result.termination_condition == "max_iter"


@pytest.mark.parametrize(
    ("options", "reason", "n_iter"),
    [
        ({"tol": 1.5, "update_interval": 2, "max_iter": 9}, "tol", 2),
        ({"tol": 1e-9, "learning_rate": 1e-12, "update_interval": 2, "max_iter": 9}, "tol", 2),
        ({"tol": 0.0, "learning_rate": 1e-12, "update_interval": 2, "max_iter": 5}, "max_iter", 5),
        ({"tol": 1.5, "update_interval": 9, "max_iter": 2}, "tol", 2),
        ({"max_iter": 0, "update_interval": 2}, "max_iter", 0),
    ],
)
def test_why_clustering_stops(options, reason, n_iter, blobs):
    _, model = build(FcDEC, blobs)
    result = cluster(model, **options)
    assert (result.termination_condition, result.n_iter) == (reason, n_iter)


def test_a_callback_can_stop(blobs):
    network, model = build(FcDEC, blobs)
    watcher = Watcher(network, stop_at=1)
    result = cluster(model, update_interval=2, max_iter=9, callbacks=[watcher])
    assert (result.termination_condition, result.n_iter) == ("callback", 4)
    assert len(result.history) == 3


def test_nothing_but_the_centres_when_max_iter_is_0(blobs):
    network, model = build(FcDEC, blobs)
    before = all_arrays(network)
    cluster(model, max_iter=0)
    for a, b in zip(before, all_arrays(network), strict=True):
        assert np.array_equal(a, b)


# --- FcDCN ---


def test_centres_move_to_class_means_and_an_empty_class_stays(blobs, monkeypatch):
    monkeypatch.setattr(models, "ROWS_PER_CALL", 16)
    centers = np.full((3, 3), 1000, np.float32)
    network, model = build(FcDCN, blobs, centers, move_centers=True)
    z = naive_dense(arrays_of(network)[0], blobs)
    centers[0], centers[2] = z[:10].mean(axis=0), z[10:30].mean(axis=0)
    network.clustering.clusters.assign(centers)
    first = ((z[:, None] - centers[None]) ** 2).sum(axis=2).argmin(axis=1)
    assert set(first.tolist()) == {0, 2}
    model.update()
    expected = np.array([z[first == 0].mean(axis=0), centers[1], z[first == 2].mean(axis=0)])
    np.testing.assert_allclose(network.centers, expected, atol=1e-5)
    nearest = ((z[:, None] - network.centers[None]) ** 2).sum(axis=2).argmin(axis=1)
    assert np.array_equal(model.labels, nearest)
    assert np.array_equal(to_numpy(model.targets), nearest)


def test_centres_stay_by_default(blobs):
    network, model = build(FcDCN, blobs)
    watcher = Watcher(network)
    cluster(model, update_interval=2, max_iter=4, callbacks=[watcher])
    for _, _, centers in watcher.weights:
        assert np.array_equal(centers, CENTERS)
    for labels, (encoder, _, centers) in zip(watcher.labels, watcher.weights, strict=True):
        z = naive_dense(encoder, blobs)
        nearest = ((z[:, None] - centers[None]) ** 2).sum(axis=2).argmin(axis=1)
        assert np.array_equal(labels, nearest)


# --- pretraining and augmentation ---


class Counter(keras.callbacks.Callback):
    def on_train_end(self, logs=None):
        self.n_steps = int(to_numpy(self.model.optimizer.iterations))


def pretrain(model, n_epochs, batch_size, callbacks=()):
    return phases.pretrain(
        model,
        keras.optimizers.SGD(0.1),
        batch_size=batch_size,
        n_epochs=n_epochs,
        seeds=SeedStream(7),
        callbacks=list(callbacks),
    )


@pytest.mark.parametrize(("batch_size", "n_steps"), [(20, 6), (256, 3)])
def test_an_epoch_is_every_full_batch(batch_size, n_steps, blobs):
    network, _ = build(FcDEC, blobs)
    encoder, decoder, _ = arrays_of(network)
    counter = Counter()
    model = ReconstructionModel(network.autoencoder, blobs, **PLAIN)
    rows = pretrain(model, 3, batch_size, [counter])
    assert len(rows) == 3
    assert counter.n_steps == n_steps
    if batch_size == 256:  # one batch of all 45
        error = naive_dense(decoder, naive_dense(encoder, blobs)) - blobs
        assert rows[0]["loss"] == pytest.approx(np.mean(error**2), **CLOSE)
    assert rows[2]["loss"] < rows[0]["loss"]


def test_no_epochs_change_nothing(blobs):
    network, _ = build(FcDEC, blobs)
    before = all_arrays(network)
    assert pretrain(ReconstructionModel(network.autoencoder, blobs, **PLAIN), 0, 20) == []
    for a, b in zip(before, all_arrays(network), strict=True):
        assert np.array_equal(a, b)


def test_the_augmented_image_is_its_own_target(images):
    X = images.reshape(36, 64)
    network, _ = build(FcDEC, X)
    encoder, decoder, _ = arrays_of(network)
    model = ReconstructionModel(network.autoencoder, X, image_shape=(8, 8, 1), augment_seed=0)
    model.augment = lambda batch: 1 - batch
    rows = pretrain(model, 1, 256)
    shown = 1 - X
    error = naive_dense(decoder, naive_dense(encoder, shown)) - shown
    assert rows[0]["loss"] == pytest.approx(np.mean(error**2), **CLOSE)
    denoising = np.mean((naive_dense(decoder, naive_dense(encoder, shown)) - X) ** 2)
    assert abs(denoising - np.mean(error**2)) > 0.01


def test_augmented_batches_are_trained_towards_the_targets_of_their_clean_rows(images):
    X = images.reshape(36, 64)
    network, model = build(FcIDEC, X)
    encoder, decoder, centers = arrays_of(network)
    model.augment = lambda batch: 1 - batch
    rows = first_rows(36)[0]
    row = cluster(model).history[1]
    clean = naive_target(naive_soft_assignment(naive_dense(encoder, X), centers))
    shown = 1 - X[rows]
    z = naive_dense(encoder, shown)
    kl = naive_kl(clean[rows], naive_soft_assignment(z, centers))
    assert row["clustering_loss"] == pytest.approx(kl, **CLOSE)
    error = np.mean((naive_dense(decoder, z) - shown) ** 2)
    assert row["reconstruction_loss"] == pytest.approx(error, **CLOSE)


def test_each_draw_is_augmented_afresh(images):
    X = images.reshape(36, 64)
    network, _ = build(FcDEC, X)
    model = ReconstructionModel(network.autoencoder, X, image_shape=(8, 8, 1), augment_seed=0)
    rows = np.array([0, 0], np.int32)
    first, second = (np.array(to_numpy(model.drawn(rows)[1])) for _ in range(2))
    assert first.shape == (2, 64)
    distinct = [first[0], first[1], second[0], X[0]]
    for i in range(4):
        for j in range(i):
            assert np.abs(distinct[i] - distinct[j]).max() > 1e-3


def test_a_seed_repeats_a_compiled_run_whatever_its_blocks(images, monkeypatch):
    params = {"layer_sizes": SIZES, "pretrain_epochs": 2, "max_iter": 4, "update_interval": 2}
    params.update(aug_pretrain=True, aug_cluster=True, batch_size=8, random_state=3)
    first = FcIDEC(3, learning_rate=0.1, **params).fit(images)
    monkeypatch.setattr(training, "BLOCK_STEPS", 1)
    again = FcIDEC(3, learning_rate=0.1, **params).fit(images)
    assert np.array_equal(first.predict_proba(images), again.predict_proba(images))
    assert np.array_equal(first.labels_, again.labels_)
    assert first.history_ == again.history_


# --- k-means, optimisers, errors ---


def test_operations_of_a_step(images):
    network, model = build(FcDEC, images.reshape(36, 64), np.eye(3, dtype=np.float32))
    pretraining = ReconstructionModel(network.autoencoder, images.reshape(36, 64), **PLAIN)
    n_weights = 64 * 8 + 8 * 3  # of the encoder, and again of the decoder
    for trained, n_parts in ((model, 1), (pretraining, 2)):
        trained.fed(BatchSchedule(36, 9, 0).batches)
        assert trained.step_operations == 6 * 9 * n_parts * n_weights


def test_kmeans_finds_the_groups(blobs):
    centers = phases.kmeans(blobs.astype(np.float64), 3, seed=0)
    means = np.array([blobs[i::3].mean(axis=0) for i in range(3)])
    order = [int(np.argmin(((centers - mean) ** 2).sum(axis=1))) for mean in means]
    np.testing.assert_allclose(centers[order], means, atol=1e-5)


def test_optimizers():
    sgd = phases.make_optimizer("sgd", 0.5)
    assert (sgd.momentum, float(to_numpy(sgd.learning_rate))) == (0.9, 0.5)
    assert type(phases.make_optimizer("adam", 1)).__name__ == "Adam"


@pytest.mark.parametrize("max_iter", [1, 4])
def test_a_diverged_run_says_so(max_iter, blobs):
    _, model = build(FcIDEC, blobs)
    with pytest.raises(TrainingDivergedError, match=r"^The loss became .*clustering\. Scale X"):
        cluster(model, learning_rate=1e30, max_iter=max_iter)


def test_a_diverged_pretraining_says_so(blobs):
    network, _ = build(FcDEC, blobs)
    model = ReconstructionModel(network.autoencoder, blobs, **PLAIN)
    with pytest.raises(TrainingDivergedError, match=r"pretraining\. Scale X"):
        phases.pretrain(
            model, keras.optimizers.SGD(1e30), batch_size=20, n_epochs=3, seeds=SeedStream(0),
            callbacks=[],
        )  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([0, 0, 0], r"^After fit, all samples are in one cluster \(collapse\)\. Choose fewer"),
        ([0, 2, 2], r"^After fit, 1 of 3 clusters are empty\."),
    ],
)
def test_warnings_of_empty_clusters(labels, text):
    with pytest.warns(UserWarning, match=text):
        phases.warn_of_empty_clusters(np.array(labels), 3)


@pytest.mark.parametrize(("labels", "n_clusters"), [([0, 1, 2], 3), ([0, 0], 1), ([0], 1)])
def test_no_warning_where_all_is_well(labels, n_clusters):
    phases.warn_of_empty_clusters(np.array(labels), n_clusters)
