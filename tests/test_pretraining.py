"""Trials of a grid that share a pretraining end as if each had done its own."""

import json

import numpy as np
import pytest

from clustering_common import files
from clustering_common.checkpoints import CheckpointFolder
from dec_da import FcDCN, FcDEC, FcIDEC, experiment, grid, pretraining
from dec_da.base import DeepClusterer
from tests.marks import LEARNS_LITTLE
from tests.run_outputs import arrays_of, read_csv

pytestmark = LEARNS_LITTLE
METHODS = ["FcDEC", "FcIDEC", "FcDCN"]


@pytest.fixture
def pretrained(monkeypatch):
    """The estimators that pretrained themselves, in their order."""
    monkeypatch.setattr(grid.presets, "DENSE_DIGITS", {"layer_sizes": (8, 10)})
    found, original = [], DeepClusterer._pretrain

    def pretrain(self, *args):
        if self._known_pretraining is None:
            found.append((type(self).__name__, self.random_state))
        return original(self, *args)

    monkeypatch.setattr(DeepClusterer, "_pretrain", pretrain)
    return found


def run_grid(folder, methods=METHODS, **params):
    settings = {"n_trials": 1, "pretrain_epochs": 2, "max_iter": 4, "update_interval": 2, "tol": 0}
    return grid.run_grid(methods, ["digits"], folder, **{**settings, **params})


def weights_among(arrays):
    """Return the arrays of an estimator's file that are weights, without its seconds."""
    found = {name: values for name, values in arrays.items() if not name.startswith("estimator/")}
    assert found
    return found


def test_shared_pretraining_changes_nothing_but_the_time(pretrained, tmp_path, monkeypatch):
    run_grid(tmp_path / "shared")
    assert pretrained == [("FcDEC", 0)]
    monkeypatch.setattr(grid, "pretraining_key", lambda *_: None)
    run_grid(tmp_path / "alone")
    assert len(pretrained) == 1 + 3
    for alone in sorted((tmp_path / "alone").glob("digits/*/trial*")):
        shared = tmp_path / "shared" / alone.relative_to(tmp_path / "alone")
        np.testing.assert_array_equal(np.load(shared / "labels.npy"), np.load(alone / "labels.npy"))
        for name in ("log.csv", "pretrain_log.csv"):
            assert read_csv(shared / name) == read_csv(alone / name), (shared, name)
        assert arrays_of(shared / "ae_weights.h5") == arrays_of(alone / "ae_weights.h5")
        learned = [arrays_of(each / "model_final.h5") for each in (shared, alone)]
        assert weights_among(learned[0]) == weights_among(learned[1])
        records = [json.loads((each / "results.json").read_text()) for each in (shared, alone)]
        for name in ("identity", "settings", "metrics", "n_iter"):
            assert records[0][name] == records[1][name]
        assert records[1]["pretraining_of"] is None
        assert set(records[0]["seconds"]) == set(records[1]["seconds"])
    seconds = [
        json.loads((tmp_path / f"shared/digits/{method}/trial0/results.json").read_text())[
            "seconds"
        ]
        for method in METHODS
    ]
    assert all(each["pretrain"] >= seconds[0]["pretrain"] for each in seconds)
    assert all(each["total"] == pytest.approx(sum(each.values()) / 2) for each in seconds)
    assert all(each["cluster"] > 0 for each in seconds)


def test_a_resumed_grid_shares_what_is_finished(pretrained, tmp_path):
    run_grid(tmp_path, ["FcIDEC"])
    run_grid(tmp_path, resume=True)
    assert pretrained == [("FcIDEC", 0)]
    # Without --resume all is done anew, once.
    run_grid(tmp_path)
    assert pretrained[1:] == [("FcDEC", 0)]


def test_a_resumed_trial_names_whose_pretraining_it_has(pretrained, tmp_path, monkeypatch):
    methods, trial = ["FcDEC", "FcIDEC"], "digits/FcIDEC/trial0"
    finish = grid.RunFolder.finish

    def stop(self, record):
        if self.path == tmp_path / trial:
            raise KeyboardInterrupt
        return finish(self, record)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(grid.RunFolder, "finish", stop)
        run_grid(tmp_path, methods)
    assert CheckpointFolder(tmp_path / trial / "checkpoints").paths()
    run_grid(tmp_path, methods, resume=True)
    record = json.loads((tmp_path / trial / "results.json").read_text())
    assert record["pretraining_of"] == str(tmp_path / "digits/FcDEC/trial0")
    assert pretrained == [("FcDEC", 0)]


def test_what_a_diverged_trial_left_is_not_shared(pretrained, tmp_path, monkeypatch):
    run_grid(tmp_path, pretrain_epochs=1)  # an earlier run, of other settings
    del pretrained[:]
    original = experiment._fit

    def fit(estimator, *args):
        if isinstance(estimator, FcDEC):
            raise grid.TrainingDivergedError("The loss became nan.")
        original(estimator, *args)

    monkeypatch.setattr(experiment, "_fit", fit)
    run_grid(tmp_path)
    assert pretrained == [("FcIDEC", 0)]
    assert len(read_csv(tmp_path / "digits/FcDCN/trial0/pretrain_log.csv")) == 2


def test_a_damaged_autoencoder_is_not_shared(pretrained, tmp_path):
    run_grid(tmp_path, ["FcDEC"])
    path = tmp_path / "digits/FcDEC/trial0/ae_weights.h5"
    path.write_bytes(path.read_bytes()[:-100])
    run_grid(tmp_path, ["FcDEC", "FcIDEC"], resume=True)
    assert pretrained == [("FcDEC", 0), ("FcIDEC", 0)]


def test_a_run_that_has_begun_goes_on_by_itself(pretrained, tmp_path, monkeypatch):
    monkeypatch.setattr(grid.RunFolder, "has_begun", True)
    run_grid(tmp_path, ["FcDEC", "FcIDEC"])
    assert pretrained == [("FcDEC", 0), ("FcIDEC", 0)]
    record = json.loads((tmp_path / "digits/FcIDEC/trial0/results.json").read_text())
    assert record["pretraining_of"] is None


def test_who_waits_for_whom(tmp_path):
    shared = pretraining.SharedPretrainings()
    assert shared.waiting(["a", "b", "a", None, None, "b", "a"]) == {2, 5, 6}
    shared._known["a"] = pretraining.Pretraining(tmp_path, [], 0.0)
    assert shared.waiting(["a", "b", "a", None, None, "b", "a"]) == {5}


def test_what_makes_pretrainings_differ():
    key = pretraining.pretraining_key
    base = {"random_state": 0}
    first = key(FcDEC(**base), "digits")
    for same in (
        FcIDEC(**base),
        FcDCN(**base),
        FcDEC(**base, max_iter=1, aug_cluster=True, tol=0.1),
    ):
        assert key(same, "digits") == first
    assert key(FcDEC(**base), "fmnist") != first
    for name, value in (
        ("aug_pretrain", True), ("batch_size", 8), ("layer_sizes", (5, 3)), ("pretrain_epochs", 3),
        ("pretrain_learning_rate", 0.5), ("pretrain_optimizer", "adam"), ("precision", "tf32"),
        ("random_state", 1),
    ):  # fmt: skip
        assert key(FcDEC(**{**base, name: value}), "digits") != first, name
    assert key(FcDEC(), "digits") is None  # another seed each time
    assert key(FcDEC(**base, pretrained_weights="ae.h5"), "digits") is None


def test_a_folder_that_tells_of_no_pretraining(tmp_path):
    assert pretraining.of_run(tmp_path) is None
    for text in ('{"seconds": {"pretrain": "long"}}', "[" * 100_000, "9" * 400):
        (tmp_path / "results.json").write_text(text)
        assert pretraining.of_run(tmp_path) is None
    files.write_json(tmp_path / "results.json", {"seconds": {"pretrain": 10**400}})
    assert pretraining.of_run(tmp_path) is None
