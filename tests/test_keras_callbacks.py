"""Keras's own callbacks in every fit: what they see, what they change, how they stop it."""

import csv
import itertools
from numbers import Real

import keras
import numpy as np
import pytest
from keras.callbacks import (
    BackupAndRestore,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TensorBoard,
)
from numpy.testing import assert_allclose

from clustering_common import training
from clustering_common.backend import to_numpy
from clustering_common.callbacks import LabelsMonitor
from dec_da import ConvDEC, FcDEC, FcIDEC
from kingdra_cluster import KingdraCluster, LadderIM
from tests.ladders import member_weights
from tests.marks import LEARNS_LITTLE
from tests.reference import naive_encode, naive_softmax

pytestmark = LEARNS_LITTLE
DEC = {
    "n_clusters": 3, "pretrain_epochs": 3, "pretrain_optimizer": "adam",
    "pretrain_learning_rate": 0.01, "max_iter": 3, "update_interval": 1, "optimizer": "adam",
    "learning_rate": 0.0001, "batch_size": 36, "tol": 0, "random_state": 0,
}  # fmt: skip
LADDER = {
    "n_class": 3, "n_iter": 3, "n_epochs_per_iter": 1, "batch_size": 36, "random_state": 0,
    "fc_layer_sizes": (8, 3), "denoising_cost": (10, 1, 0.1), "mi_loss_w_init": 1, "lr": 0.01,
}  # fmt: skip
N_EPOCHS = 3  # of each of these
END = "on_train_end"


def fc(cls, **params):
    return cls(**{**DEC, "layer_sizes": (16, 3), **params})


MAKERS = {
    "pretraining": lambda: fc(FcDEC),
    "FcDEC": lambda: fc(FcDEC, pretrain_epochs=0),
    "FcIDEC": lambda: fc(FcIDEC, pretrain_epochs=0),
    "ConvDEC": lambda: ConvDEC(**{**DEC, "pretrain_epochs": 0}, filters=(4, 4, 4), embedding_dim=3),
    "KingdraCluster": lambda: KingdraCluster(
        **LADDER, n_en=2, high_th=1, low_th=0, thresh=0, n_epochs_per_iter0=1
    ),
    "LadderIM": lambda: LadderIM(**LADDER),
}
EACH = pytest.mark.parametrize("name", MAKERS)
SOME = pytest.mark.parametrize("name", ["pretraining", "FcIDEC", "KingdraCluster"])


@pytest.fixture
def fit(compiled_fit, uncompiled):
    """Fit as `compiled_fit` does, sooner."""
    return compiled_fit


@pytest.fixture
def compiled_fit(images):
    """Fit an estimator by its name with callbacks, of its last or its only phase."""

    def fit(name, *callbacks, **params):
        estimator = MAKERS[name]().set_params(**params)
        data = images if name == "ConvDEC" else images.reshape(36, 64)
        keyword = "pretrain_callbacks" if name == "pretraining" else "callbacks"
        return estimator.fit(data, **{keyword: list(callbacks)})

    return fit


def rows_of(name, model):
    """Return the history of the phase that was watched, a row an epoch."""
    if name in ("KingdraCluster", "LadderIM"):
        return model.history_
    return model.history_["pretrain"] if name == "pretraining" else model.history_["cluster"][1:]


def at(hook, do):
    """Return a callback that does something with the model at each call of a hook."""
    watcher = LambdaCallback(**{hook: lambda *args, **kwargs: do(watcher.model)})
    return watcher


def trained(model):
    return [to_numpy(weight) for weight in model.trainable_weights]


@EACH
def test_epochs_and_logs(name, fit):
    seen = []
    model = fit(
        name,
        LambdaCallback(
            on_train_begin=lambda logs: seen.append("begin"),
            on_epoch_end=lambda epoch, logs: seen.append((epoch, dict(logs))),
            on_train_end=lambda logs: seen.append("end"),
        ),
    )
    assert seen[0] == "begin" and seen[-1] == "end"
    assert [epoch for epoch, _ in seen[1:-1]] == list(range(N_EPOCHS))
    for (_, logs), row in zip(seen[1:-1], rows_of(name, model), strict=True):
        assert all(isinstance(value, Real) for value in logs.values())
        assert {"loss"} <= set(logs) == set(row) - {"bucket_sizes"}


@SOME
def test_csv_logger(name, fit, tmp_path):
    model = fit(name, CSVLogger(tmp_path / "log.csv"))
    with open(tmp_path / "log.csv", newline="") as file:
        table = list(csv.DictReader(file))
    rows = rows_of(name, model)
    assert [int(row["epoch"]) for row in table] == list(range(N_EPOCHS)) == [*range(len(rows))]
    for line, row in zip(table, rows, strict=True):
        assert float(line["loss"]) == row["loss"]
        # Of Kingdra what comes with the first pseudo-labels has no column.
        assert set(row) - set(line) <= {"sup_loss", "bucket_sizes"}


@EACH
def test_early_stopping_restores_the_best_weights(name, fit, images):
    kept = []
    keepers = [at(hook, lambda m: kept.append(trained(m))) for hook in ("on_epoch_end", END)]
    # Nothing is so much better: the first epoch stays the best.
    stop = EarlyStopping(monitor="loss", min_delta=1e9, patience=1, restore_best_weights=True)
    # Steps so large that another epoch's labels are other labels.
    params = {"lr": 0.5} if name in ("KingdraCluster", "LadderIM") else {}
    labels = []
    see = at("on_epoch_end", lambda m: labels.append(getattr(m, "labels", None)))
    model = fit(name, keepers[0], see, stop, keepers[1], **params)
    assert len(rows_of(name, model)) == 2
    first, second, final = kept
    assert all(np.array_equal(a, b) for a, b in zip(first, final, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    data = images if name == "ConvDEC" else images.reshape(36, 64)
    assert np.array_equal(model.predict(data), model.labels_)
    if params:
        assert np.array_equal(model.labels_, labels[0])
        assert not np.array_equal(*labels)
    if name == "pretraining":
        assert model.termination_condition_ == "max_iter" and model.n_iter_ == 3
    else:
        assert model.termination_condition_ == "callback"
        assert model.n_iter_ == 2


def test_weights_that_a_callback_averaged_predict_with_statistics_of_their_own(fit, images):
    """As one batch of all samples with its own mean and variance does (SPEC 2.5)."""
    kept = []
    keep = at("on_epoch_end", lambda model: kept.append(model.get_weights()))

    def set_mean(model):
        model.set_weights([np.mean(each, axis=0) for each in zip(*kept, strict=True)])

    # Steps so large that the mean of the weights is far from each of them.
    model = fit("KingdraCluster", keep, at(END, set_mean), lr=0.1)
    X = images.reshape(36, 64)
    network = model._network.ladder
    for member, proba in enumerate(model.member_proba(X)):
        weights = member_weights(network, member)
        none = [np.zeros((len(X), size)) for size in network.layer_sizes]
        _, logits = naive_encode(weights, X.astype(np.float64), 0.0, none, False)
        assert_allclose(proba, naive_softmax(logits), atol=1e-4)
    assert np.array_equal(model.predict(X), model.labels_)


@EACH
def test_model_checkpoint_writes_files_that_load(name, fit, images, tmp_path):
    path = tmp_path / "{epoch:02d}.weights.h5"
    model = fit(name, ModelCheckpoint(path, save_weights_only=True))
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == [f"{i:02}.weights.h5" for i in (1, 2, 3)]
    estimator = MAKERS[name]()
    X = images.reshape(36, 64)
    if name == "pretraining":
        again = estimator.set_params(pretrained_weights=str(files[-1])).fit(X)
        assert again.history_["pretrain"] == []
        assert np.array_equal(again.predict_proba(X), model.predict_proba(X))
        return
    if name == "KingdraCluster":
        with pytest.warns(UserWarning, match="one naming is taken for granted"):
            estimator.load_weights(files[-1], (64,))
        assert np.array_equal(estimator.member_proba(X), model.member_proba(X))
        return
    data, shape = (images, (8, 8)) if name == "ConvDEC" else (X, (64,))
    estimator.load_weights(files[-1], shape)
    assert np.array_equal(estimator.predict_proba(data), model.predict_proba(data))


def test_a_checkpoint_between_two_updates(fit, tmp_path, monkeypatch):
    """JAX keeps the weights in its loop then."""
    monkeypatch.setattr(training, "BLOCK_STEPS", 1)
    kept = []

    def save(model):
        model.save_weights(tmp_path / "now.h5")
        kept.append((tmp_path / "now.h5").read_bytes())

    fit("FcDEC", at("on_train_batch_end", save), max_iter=6, update_interval=2)
    assert len(set(kept)) == len(kept) == 6


@pytest.mark.parametrize("name", ["pretraining", "FcIDEC"])
def test_learning_rate_scheduler(name, compiled_fit):
    """The compiled step takes the rate that is set: with none, nothing is learned."""
    kept = []
    rates = [0.001, 0.0, 0.001]
    schedule = LearningRateScheduler(lambda epoch, rate: rates[epoch])
    model = compiled_fit(name, schedule, at("on_epoch_end", lambda m: kept.append(trained(m))))
    learned = [row["learning_rate"] for row in rows_of(name, model)]
    assert learned == pytest.approx(rates)
    moved = [
        any(not np.array_equal(a, b) for a, b in zip(one, two, strict=True))
        for one, two in itertools.pairwise(kept)
    ]
    assert moved == [False, True]


@SOME
def test_reduce_on_plateau(name, fit):
    model = fit(name, ReduceLROnPlateau(monitor="loss", min_delta=1e9, patience=1, factor=0.5))
    first, second, third = (row["learning_rate"] for row in rows_of(name, model))
    assert second == first and third == pytest.approx(first / 2)


@pytest.mark.parametrize("name", ["FcIDEC", "KingdraCluster"])
def test_tensorboard(name, compiled_fit, tmp_path, request):
    """Compiled, as TensorBoard draws the graph of the step; of Kingdra it sees none."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if name == "KingdraCluster":
        request.getfixturevalue("uncompiled")
    compiled_fit(name, TensorBoard(tmp_path, histogram_freq=1))
    events = EventAccumulator(str(tmp_path / "train"))
    events.Reload()
    tags = events.Tags()
    assert {"epoch_loss", "epoch_learning_rate"} <= set(tags["tensors"])
    assert [event.step for event in events.Tensors("epoch_loss")] == list(range(N_EPOCHS))
    assert any(tag.endswith("/histogram") for tag in tags["tensors"])


def test_labels_come_before_what_logs_them(fit, image_labels, tmp_path):
    model = fit("FcDEC", LabelsMonitor(image_labels), CSVLogger(tmp_path / "log.csv"))
    with open(tmp_path / "log.csv", newline="") as file:
        accs = [float(row["acc"]) for row in csv.DictReader(file)]
    assert accs == [row["acc"] for row in model.history_["cluster"][1:]]


@SOME
def test_the_data_is_no_weight(name, fit):
    shapes = []
    fit(name, at(END, lambda model: shapes.extend(weight.shape for weight in model.weights)))
    assert shapes and all(shape[:1] != (36,) for shape in shapes)


# --- stopping ---


def stop_at(hook, call):
    """Return a callback that stops training at the given call of a hook."""
    calls = itertools.count(1)

    def stop(model):
        if next(calls) == call:
            model.stop_training = True

    return at(hook, stop)


@pytest.mark.parametrize("name", ["FcDEC", "KingdraCluster", "LadderIM"])
@pytest.mark.parametrize(("hook", "n_done"), [("on_epoch_begin", 2), ("on_epoch_end", 2)])
def test_stopping_at_an_epoch(name, hook, n_done, fit):
    model = fit(name, stop_at(hook, 2))
    assert model.termination_condition_ == "callback"
    assert len(rows_of(name, model)) == n_done


def test_stopping_between_two_updates_counts_the_steps_that_were_done(fit, monkeypatch):
    monkeypatch.setattr(training, "BLOCK_STEPS", 1)
    model = fit("FcDEC", stop_at("on_train_batch_end", 3), max_iter=6, update_interval=2)
    assert (model.n_iter_, model.termination_condition_) == (3, "callback")
    assert [row["iter"] for row in model.history_["cluster"]] == [0, 2, 3]


def test_stopping_pretraining_goes_on_to_clustering(fit):
    model = fit("pretraining", stop_at("on_epoch_end", 1))
    assert len(model.history_["pretrain"]) == 1
    assert (model.n_iter_, model.termination_condition_) == (3, "max_iter")


def test_nothing_to_train(fit):
    """Callbacks see a beginning and an end."""
    seen = []
    watcher = LambdaCallback(
        on_train_begin=lambda logs: seen.append("begin"),
        on_train_end=lambda logs: seen.append("end"),
        on_epoch_end=lambda epoch, logs: seen.append(epoch),
    )
    assert fit("FcDEC", watcher, max_iter=0).n_iter_ == 0
    assert seen == ["begin", "end"]


# --- what does not go ---


@pytest.mark.parametrize("name", ["pretraining", "FcDEC", "KingdraCluster"])
def test_what_is_refused(name, fit, tmp_path):
    argument = "pretrain_callbacks" if name == "pretraining" else "callbacks"
    text = rf"^{argument} must leave going on after a stop to checkpoint_dir; got BackupAndRestore"
    with pytest.raises(ValueError, match=text):
        fit(name, BackupAndRestore(tmp_path))
    text = rf"^{argument} must be a list of keras.callbacks.Callback; got function\. Give"
    with pytest.raises(TypeError, match=text):
        fit(name, lambda epoch, logs: None)
    with pytest.raises(
        ValueError, match=r"^save_weights_only must be True for a model in training"
    ):
        fit(name, ModelCheckpoint(tmp_path / "a.keras"))


def test_callbacks_that_are_no_list(blobs):
    with pytest.raises(TypeError, match=r"^callbacks must be a list of .*; got EarlyStopping\."):
        fc(FcDEC).fit(blobs, callbacks=EarlyStopping())


def test_pretraining_has_no_labels(fit, image_labels):
    with pytest.raises(ValueError, match=r"^pretrain_callbacks must do without LabelsMonitor"):
        fit("pretraining", LabelsMonitor(image_labels))


def test_terminate_on_nan_leaves_the_clear_error(fit):
    with pytest.raises(ValueError, match=r"Scale X to about \[0, 1\]"):
        fit("FcIDEC", keras.callbacks.TerminateOnNaN(), optimizer="sgd", learning_rate=1e30)
