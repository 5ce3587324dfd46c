"""Checkpoints in odd hands: damaged, another's, signals at awkward moments, folders with more."""

import json
import logging
import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from clustering_common import checkpoints, run_state, training
from clustering_common.callbacks import LabelsMonitor, TrainingDivergedError
from clustering_common.checkpoints import (
    Checkpoint,
    CheckpointError,
    CheckpointFolder,
    read_checkpoint,
    write_checkpoint,
)
from clustering_common.run_folder import RunFolder
from clustering_common.run_lock import locked
from clustering_common.stopping import STOP, TerminatedError
from dec_da import FcDEC, experiment, grid, grid_table
from dec_da.models import SoftAssignmentModel
from kingdra_cluster import KingdraCluster
from tests.marks import LEARNS_LITTLE

pytestmark = [*LEARNS_LITTLE, pytest.mark.usefixtures("uncompiled")]


def make(**params):
    settings = {
        "n_clusters": 3, "layer_sizes": (8, 3), "pretrain_epochs": 3, "max_iter": 8, "tol": 0,
        "update_interval": 2, "batch_size": 15, "pretrain_optimizer": "adam", "random_state": 0,
    }  # fmt: skip
    return FcDEC(**{**settings, **params})


class At(keras.callbacks.Callback):
    """Do something after an epoch, and keep which epochs were seen."""

    def __init__(self, epoch=None, action=None):
        super().__init__()
        self.epoch, self.action, self.seen = epoch, action, []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(epoch)
        if epoch == self.epoch:
            self.action()


class AtBegin(At):
    """Do something before a phase trains."""

    def on_train_begin(self, logs=None):
        self.action()


class Killed(BaseException):
    pass


def kill():
    raise Killed


@pytest.fixture
def stopped(blobs, tmp_path):
    """A folder with the checkpoints of a run that was killed in its clustering phase."""
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        make().fit(blobs, callbacks=[At(2, kill)], checkpoint_dir=folder, checkpoint_every=0)
    assert len(CheckpointFolder(folder).paths()) == 2
    return folder


def test_a_resumed_run_does_not_begin_anew(stopped, blobs, caplog):
    pretraining, clustering = At(), At()
    with caplog.at_level(logging.INFO, "clustering_common"):
        model = make(verbose=1).fit(
            blobs,
            callbacks=[clustering],
            pretrain_callbacks=[pretraining],
            checkpoint_dir=stopped,
        )
    assert (pretraining.seen, clustering.seen) == ([], [2, 3])
    assert len(model.history_["pretrain"]) == 3
    assert [row["iter"] for row in model.history_["cluster"]] == [0, 2, 4, 6, 8]
    assert "going on from" in caplog.text


def test_a_resumed_phase_begins_with_the_targets_it_had(stopped, blobs, monkeypatch):
    updates, update = [], SoftAssignmentModel.update
    monkeypatch.setattr(
        SoftAssignmentModel, "update", lambda self: updates.append(1) or update(self)
    )
    make().fit(blobs, checkpoint_dir=stopped)
    assert len(updates) == 2  # of two rounds; none of the weights before they were restored


def test_pretraining_that_a_callback_ended_stays_ended(blobs, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    whole = make(pretrain_epochs=6).fit(blobs, pretrain_callbacks=[Stop()])
    assert len(whole.history_["pretrain"]) == 2
    with pytest.raises(Killed):
        make(pretrain_epochs=6).fit(
            blobs, callbacks=[At(0, kill)], pretrain_callbacks=[Stop()], checkpoint_dir=tmp_path
        )
    resumed = make(pretrain_epochs=6).fit(
        blobs, pretrain_callbacks=[Stop()], checkpoint_dir=tmp_path
    )
    assert resumed.history_ == whole.history_
    assert np.array_equal(resumed.labels_, whole.labels_)


def test_weights_that_a_callback_restored_last_are_kept(blobs, tmp_path):
    def stop():
        """Stop after three epochs, and put the first one's weights back."""
        return keras.callbacks.EarlyStopping("loss", 1e9, patience=2, restore_best_weights=True)

    whole = make(pretrain_epochs=6).fit(blobs, pretrain_callbacks=[stop()], callbacks=[stop()])
    assert len(whole.history_["pretrain"]) == len(whole.history_["cluster"]) - 1 == 3
    with pytest.raises(Killed):
        make(pretrain_epochs=6).fit(
            blobs, pretrain_callbacks=[stop()], callbacks=[AtBegin(None, kill)],
            checkpoint_dir=tmp_path, checkpoint_every=0,
        )  # fmt: skip
    for _ in range(2):  # the second time, nothing is left to train
        resumed = make(pretrain_epochs=6).fit(
            blobs, pretrain_callbacks=[stop()], callbacks=[stop()], checkpoint_dir=tmp_path
        )
        assert resumed.history_ == whole.history_
        assert np.array_equal(resumed.predict_proba(blobs), whole.predict_proba(blobs))


def test_a_stop_between_two_updates_is_resumed(blobs, tmp_path, monkeypatch):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = (self.epoch, batch) == (1, 0)

    monkeypatch.setattr(training, "BLOCK_STEPS", 1)
    whole = make().fit(blobs, callbacks=[Stop()])
    assert [row["iter"] for row in whole.history_["cluster"]] == [0, 2, 3]
    with pytest.raises(Killed):
        make().fit(
            blobs, callbacks=[Stop(), At(1, kill)], checkpoint_dir=tmp_path, checkpoint_every=0
        )
    resumed = make().fit(blobs, callbacks=[Stop()], checkpoint_dir=tmp_path)
    assert resumed.history_ == whole.history_
    assert (resumed.n_iter_, resumed.termination_condition_) == (3, "callback")
    assert np.array_equal(resumed.predict_proba(blobs), whole.predict_proba(blobs))


def test_a_signal_is_heard_where_no_checkpoint_can_be_written(blobs, tmp_path, caplog):
    pretraining = At()

    class Spoil(At):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch)
            bias = pretraining.model.decoder.weights[1]  # which clustering does not use
            bias.assign(np.full(bias.shape, np.nan if epoch else 0))

    clustering = Spoil(3, lambda: STOP.handle(signal.SIGTERM))
    with pytest.raises(TerminatedError, match="checkpoint in "):
        make(max_iter=16).fit(
            blobs, callbacks=[clustering], pretrain_callbacks=[pretraining],
            checkpoint_dir=tmp_path, checkpoint_every=0,
        )  # fmt: skip
    assert clustering.seen == [0, 1, 2, 3]
    assert caplog.text.count("cluster phase are not finite: no checkpoint is written") == 1
    assert CheckpointFolder(tmp_path).newest().values["step"] == 2


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def test_the_checkpoint_before_a_damaged_one_is_used(stopped, blobs, caplog):
    truncate(CheckpointFolder(stopped).paths()[-1])
    seen = At()
    with caplog.at_level(logging.WARNING, "clustering_common"):
        resumed = make().fit(blobs, callbacks=[seen], checkpoint_dir=stopped)
    assert "is damaged" in caplog.text and seen.seen
    assert np.array_equal(resumed.predict_proba(blobs), make().fit(blobs).predict_proba(blobs))


def refused(kind, text, X, folder, **params):
    """A fit is refused in one line, and the checkpoints stay."""
    before = [path.read_bytes() for path in CheckpointFolder(folder).paths()]
    model = make(**params)
    with pytest.raises(kind, match=text) as found:
        model.fit(X, checkpoint_dir=folder)
    assert len(str(found.value).splitlines()) == 1
    assert [path.read_bytes() for path in CheckpointFolder(folder).paths()] == before
    assert not hasattr(model, "labels_")


def test_all_damaged_is_told_and_nothing_is_lost(stopped, blobs):
    for path in CheckpointFolder(stopped).paths():
        truncate(path)
    refused(
        CheckpointError, "^checkpoint_dir must hold a whole .* all 2 are damaged", blobs, stopped
    )


def test_another_version_s_checkpoint_is_told(stopped, blobs, monkeypatch):
    monkeypatch.setattr(checkpoints, "FORMAT", 2)
    refused(CheckpointError, "has format 1, this version reads 2.* Use the version", blobs, stopped)


def test_a_passing_fault_of_the_disk_costs_nothing(stopped, blobs, monkeypatch):
    def fail(path):
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(checkpoints, "read_checkpoint", fail)
    refused(OSError, "Input/output error", blobs, stopped)


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"max_iter": 10}, "whose run has max_iter 8 where this one has 10"),
        ({"random_state": 1}, "whose run has random_state 0 where this one has 1"),
    ],
)
def test_another_run_s_checkpoints_are_refused(params, text, stopped, blobs):
    refused(
        ValueError, f"^checkpoint_dir must be this run's own .*{text}", blobs, stopped, **params
    )


def test_other_data_or_labels_are_refused(stopped, blobs):
    refused(ValueError, "whose run has X ", blobs[::-1], stopped)
    with pytest.raises(ValueError, match="whose run has labels_true None"):
        make().fit(blobs, callbacks=[LabelsMonitor(np.arange(45))], checkpoint_dir=stopped)


def test_another_content_of_the_weight_file_is_another_run(blobs, tmp_path):
    path, folder = tmp_path / "weights.h5", tmp_path / "run"
    make().fit(blobs).save(path)
    params = {"pretrained_weights": path, "pretrain_epochs": 0}
    with pytest.raises(Killed):
        make(**params).fit(
            blobs, callbacks=[At(1, kill)], checkpoint_dir=folder, checkpoint_every=0
        )
    make(random_state=1).fit(blobs).save(path)
    refused(ValueError, "whose run has pretrained_weights ", blobs, folder, **params)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda values, arrays: arrays.pop("variable 3"), "got one without 'variable 3'"),
        (lambda values, arrays: values.pop("rows"), "got one without 'rows'"),
        (lambda values, arrays: values.pop("identity"), "got one without 'identity'"),
        (
            lambda values, arrays: arrays.update({"variable 0": np.zeros((2, 2), np.float32)}),
            r"has shape \(2, 2\), not ",
        ),
    ],
)
def test_checkpoints_of_another_structure(change, text, stopped, blobs):
    path = CheckpointFolder(stopped).paths()[-1]
    found = read_checkpoint(path)
    values, arrays = dict(found.values), dict(found.arrays)
    change(values, arrays)
    write_checkpoint(path, Checkpoint(values, arrays))
    refused(CheckpointError, text, blobs, stopped)


@pytest.mark.parametrize(
    "header", [b"[" * 100_000, b"3", b'{"format": 1, "names": 5, "values": 1}']
)
def test_headers_that_are_none(header, tmp_path):
    path = tmp_path / "checkpoint-000001.state"
    write_checkpoint(path, Checkpoint({}, {}))
    body = len(header).to_bytes(8, "little") + header
    digest = checkpoints.hashlib.sha256(body).digest()
    path.write_bytes(checkpoints.MAGIC + digest + body)
    with pytest.raises(CheckpointError, match=r"^checkpoint_dir must hold checkpoints of this"):
        read_checkpoint(path)


@pytest.mark.parametrize("every", [-1, float("nan"), "60", None])
def test_seconds_between_checkpoints_are_checked(every, blobs, tmp_path):
    with pytest.raises((ValueError, TypeError), match=r"^checkpoint_every must be a number >= 0"):
        make().fit(blobs, checkpoint_dir=tmp_path, checkpoint_every=every)


def test_a_file_is_no_folder_for_checkpoints(blobs, tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=r"^checkpoint_dir must be a folder that can be"):
            make().fit(blobs, checkpoint_dir=path)


# Signals.


@pytest.mark.parametrize(
    ("callbacks", "steps"),
    [("pretrain_callbacks", [("pretrain", 6)]), ("callbacks", [("pretrain", 9), ("cluster", 4)])],
)
def test_a_signal_causes_a_checkpoint(callbacks, steps, blobs, tmp_path, handlers):
    """At the default interval none is due in so short a run but at the end of pretraining."""
    whole = make().fit(blobs)
    STOP.listen()
    terminate = At(1, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(TerminatedError, match=r"^checkpoint in "):
        make().fit(blobs, **{callbacks: [terminate]}, checkpoint_dir=tmp_path)
    found = [read_checkpoint(path).values for path in CheckpointFolder(tmp_path).paths()]
    assert [(values["phase"], values["step"]) for values in found] == steps
    resumed = make().fit(blobs, checkpoint_dir=tmp_path)
    assert resumed.history_ == whole.history_
    assert np.array_equal(resumed.predict_proba(blobs), whole.predict_proba(blobs))


@pytest.mark.parametrize("cls", [FcDEC, KingdraCluster])
def test_a_signal_after_training_leaves_a_checkpoint(cls, blobs, tmp_path, monkeypatch):
    """It comes while the final labels are taken: only they are left to do."""
    if cls is FcDEC:
        model, asked = make(), "_set_network"
    else:
        model = KingdraCluster(
            3, n_en=3, high_th=2, thresh=0, n_iter=1, n_epochs_per_iter0=1, batch_size=15,
            fc_layer_sizes=(8, 3), denoising_cost=(1, 1, 1), random_state=0,
        )  # fmt: skip
        asked = "_set_network"
    whole = model.fit(blobs).labels_
    set_network = getattr(cls, asked)

    def signalled(self, network):
        STOP.handle(signal.SIGTERM)
        set_network(self, network)

    with monkeypatch.context() as patch:
        patch.setattr(cls, asked, signalled)
        with pytest.raises(TerminatedError, match="checkpoint in "):
            model.fit(blobs, checkpoint_dir=tmp_path)
    found = read_checkpoint(CheckpointFolder(tmp_path).paths()[-1])
    assert found.values["step"] == (8 if cls is FcDEC else 3)
    seen = At()
    assert np.array_equal(
        model.fit(blobs, callbacks=[seen], checkpoint_dir=tmp_path).labels_, whole
    )
    assert cls is KingdraCluster or seen.seen == []


def test_a_signal_counts_more_than_an_error():
    with pytest.raises(TerminatedError) as found, STOP.deferred():
        STOP.handle(signal.SIGTERM)
        raise TrainingDivergedError("the loss became nan")
    assert isinstance(found.value.__cause__, TrainingDivergedError)
    with STOP.deferred():
        pass


def test_the_second_signal_stops_at_once():
    with pytest.raises(KeyboardInterrupt), STOP.deferred():
        STOP.handle(signal.SIGINT)
        STOP.handle(signal.SIGINT)
        pytest.fail("it went on")


def test_a_signal_in_scoring_names_the_checkpoint(blobs, tmp_path):
    place = RunFolder(tmp_path)
    with pytest.raises(Killed), place.held():
        make().fit(blobs, callbacks=[At(2, kill)], checkpoint_dir=place.checkpoints)
    place = RunFolder(tmp_path, resume=True)
    with pytest.raises(TerminatedError, match=r"^checkpoint in "), place.held():
        raise TerminatedError


# The folder of a run.


def train(folder, X, *, resume=False, labels=None, **params):
    place = RunFolder(folder, resume=resume, needed=experiment.NEEDED)
    task = experiment.Task("blobs", X, labels)
    return experiment.train(make(**params), task, place, method="FcDEC", seed=0)


def test_results_are_on_the_disk_before_the_checkpoints_go(blobs, tmp_path, monkeypatch):
    done, fsync = [], os.fsync
    clear = CheckpointFolder.clear
    monkeypatch.setattr(os, "fsync", lambda file: done.append(os.fstat(file).st_ino) or fsync(file))
    monkeypatch.setattr(CheckpointFolder, "clear", lambda self: done.append("clear") or clear(self))
    train(tmp_path, blobs)
    *first, record, folder = done[: done.index("clear")]
    assert {(tmp_path / name).stat().st_ino for name in experiment.NEEDED} <= set(first)
    assert record == (tmp_path / "results.json").stat().st_ino
    assert folder == tmp_path.stat().st_ino


def test_only_our_own_files_are_removed(blobs, tmp_path):
    ours = tmp_path / "checkpoints"
    (ours / "sub").mkdir(parents=True)
    theirs = [ours / "model.pt", ours / "sub" / "file", tmp_path / ".mine.part"]
    for path in theirs:
        path.write_text("x")
    write_checkpoint(ours / "checkpoint-000001.state", Checkpoint({}))
    train(tmp_path, blobs)
    assert all(path.read_text() == "x" for path in theirs)
    assert not list(ours.glob("checkpoint-*"))


def test_a_finished_run_is_finished_whatever_else_is_there(blobs, tmp_path):
    first = train(tmp_path, blobs)
    left = tmp_path / "checkpoints"
    left.mkdir()
    write_checkpoint(left / "checkpoint-000003.state", Checkpoint({}))
    (left / ".lock").touch()
    (tmp_path / ".lock").touch()
    assert train(tmp_path, blobs, resume=True) == first
    assert not left.exists() and not list(tmp_path.glob(".*"))


def test_a_finished_run_without_its_files_runs_again(blobs, tmp_path):
    train(tmp_path, blobs)
    (tmp_path / "model_final.h5").unlink()
    train(tmp_path, blobs, resume=True)
    assert (tmp_path / "model_final.h5").exists()


def test_finished_with_other_labels_is_another_run(blobs, tmp_path):
    train(tmp_path, blobs)
    with pytest.raises(ValueError, match=r"^--save-dir must be .* whose run has labels_true None"):
        train(tmp_path, blobs, resume=True, labels=np.arange(45) % 3)


@pytest.mark.parametrize(
    "damage", [lambda text: text.replace("n_iter", "n_itar"), lambda text: "[" * 100_000]
)
def test_damaged_results_are_told(damage, blobs, tmp_path):
    train(tmp_path, blobs)
    path = tmp_path / "results.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(ValueError, match=r"^results\.json must be whole"):
        train(tmp_path, blobs, resume=True)


def test_results_of_an_older_version_are_told(blobs, tmp_path):
    train(tmp_path, blobs)
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"method": "FcDEC"}))
    with pytest.raises(ValueError, match=r"^--save-dir must hold results of this version"):
        train(tmp_path, blobs, resume=True)


def test_the_second_run_in_a_folder_is_refused(tmp_path):
    with locked("--save-dir", tmp_path):
        text = (
            rf"^--save-dir must be a folder that no other run .* process {os.getpid()} uses since"
        )
        with pytest.raises(ValueError, match=text), locked("--save-dir", tmp_path):
            pytest.fail("two at once")
    with locked("--save-dir", tmp_path):
        pass


def test_a_dead_process_s_lock_is_taken_over(tmp_path):
    code = (
        "import os, sys; from clustering_common.run_lock import locked\n"
        "with locked('x', sys.argv[1]): os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert done.returncode == -signal.SIGKILL and (tmp_path / ".lock").exists()
    with locked("--save-dir", tmp_path):
        pass
    assert not (tmp_path / ".lock").exists()


def test_seconds_go_on_where_they_were(tmp_path):
    run = run_state.RunState(tmp_path, {"a": 1})
    with run.going_on():
        run.seeds(0)
        time.sleep(0.05)
        run.write({"phase": "x"}, {})
    again = run_state.RunState(tmp_path, {"a": 1})
    with again.going_on():
        assert again.seconds >= 0.05


# A grid.


def run_grid(folder, **params):
    settings = {"n_trials": 1, "data_dir": "data", "pretrain_epochs": 1, "max_iter": 2}
    return grid.run_grid(["FcDEC", "FcIDEC"], ["digits"], folder, **{**settings, **params})


@pytest.fixture
def fast_grid(monkeypatch):
    monkeypatch.setattr(grid.presets, "DENSE_DIGITS", {"layer_sizes": (8, 10)})
    calls = []
    baseline = grid.results.kmeans_baseline
    monkeypatch.setattr(
        grid.results, "kmeans_baseline", lambda *args: calls.append(args) or baseline(*args)
    )
    return calls


def test_a_grid_is_checked_before_any_cell_runs(fast_grid, tmp_path, monkeypatch):
    rows = run_grid(tmp_path)
    assert len(fast_grid) == 1
    cell = tmp_path / "digits" / "FcDEC" / "trial0"
    (cell / ".lock").touch()
    assert run_grid(tmp_path, resume=True) == rows and len(fast_grid) == 1
    assert not list(tmp_path.rglob(".*"))
    (cell / "results.json").unlink()
    monkeypatch.setattr(experiment, "train", lambda *args, **kwargs: pytest.fail("a cell ran"))
    with pytest.raises(ValueError, match="whose run has max_iter 2 where this one has 3"):
        run_grid(tmp_path, resume=True, max_iter=3)


def test_a_grid_tells_of_empty_clusters(fast_grid, tmp_path, monkeypatch):
    train = experiment.train

    def collapsed(*args, **kwargs):
        return {**train(*args, **kwargs), "empty_clusters": "3 of 10 clusters are empty"}

    monkeypatch.setattr(experiment, "train", collapsed)
    lines = grid_table.summary(run_grid(tmp_path, max_iter=0)).splitlines()
    assert lines[-2:] == [
        f"Warning: {method} on digits, trial 0: 3 of 10 clusters are empty"
        for method in ("FcDEC", "FcIDEC")
    ]
