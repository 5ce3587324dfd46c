"""Trials that a grid finished earlier and a call does not name."""

import json

import numpy as np
import pytest

from clustering_common.datasets import Dataset
from clustering_common.run_folder import RunFolder
from clustering_common.run_state import data_identity, run_identity, settings_identity
from dec_da import presets
from dec_da.grid_table import with_means
from dec_da.grid_trials import NEEDED, in_order, kept_rows
from kingdra_cluster import KingdraCluster

DATA = Dataset(np.zeros((20, 8, 8, 1), np.float32), np.arange(20) % 10, "digits")
SCORES = {"acc": 0.5, "nmi": 0.25, "ari": 0.125}
PARAMS = {"max_iter": 7, "tol": None}


def finish(folder, dataset, method, trial, *, seed=0, params=PARAMS, data=DATA):
    """Leave what a finished trial leaves; return its folder."""
    place = RunFolder(folder / dataset / method / f"trial{trial}")
    estimator = presets.make_estimator(method, dataset, random_state=seed + trial, **params)
    place.finish({
        "metrics": {"final": SCORES, "kmeans_pixels": {**SCORES, "acc": 0.75}},
        "seconds": {"total": 9.5}, "empty_clusters": "",
        "identity": run_identity(estimator, data.images, data.labels),
    })  # fmt: skip
    for name in NEEDED:
        (place.path / name).touch()
    return place.path


def found(folder, named=(), loaded=(DATA,), seed=0, params=PARAMS):
    return kept_rows(folder, set(named), loaded, seed, params)


def test_a_row_has_what_the_record_says(tmp_path):
    finish(tmp_path, "digits", "FcIDEC-DA", 3)
    assert found(tmp_path) == {("digits", "FcIDEC-DA", 3): {
        "dataset": "digits", "method": "FcIDEC-DA", "trials": 3, **SCORES, "time": 9.5,
        "kmeans_acc": 0.75, "problem": "",
    }}  # fmt: skip


def test_what_a_call_names_is_its_own(tmp_path):
    for trial in range(3):
        finish(tmp_path, "digits", "FcDEC", trial)
    named = [("digits", "FcDEC", trial) for trial in range(2)]
    assert list(found(tmp_path, named)) == [("digits", "FcDEC", 2)]


def test_only_the_same_settings_data_and_seed_count(tmp_path):
    finish(tmp_path, "digits", "FcDEC", 0)
    finish(tmp_path, "usps", "FcDEC", 0)
    assert len(found(tmp_path)) == 2
    assert not found(tmp_path, seed=1)
    assert not found(tmp_path, params={"max_iter": 8})
    assert not found(tmp_path, params={**PARAMS, "no_such": 1})
    # Data is compared where it is loaded.
    for changed in (
        Dataset(DATA.images + 1, DATA.labels, "digits"),
        Dataset(DATA.images, DATA.labels[::-1], "digits"),
    ):
        assert list(found(tmp_path, loaded=[changed])) == [("usps", "FcDEC", 0)]


@pytest.mark.parametrize("name", [*NEEDED, "results.json"])
def test_what_lacks_a_file_or_is_damaged_is_not_finished(tmp_path, name):
    path = finish(tmp_path, "digits", "FcDEC", 0)
    if name == "results.json":
        (path / name).write_text((path / name).read_text().replace("0.75", "0.95"))
        assert not found(tmp_path)
    (path / name).unlink()
    assert not found(tmp_path)


def test_a_trial_that_diverged_keeps_its_row(tmp_path):
    path = finish(tmp_path, "digits", "FcDEC", 1)
    identity = json.loads((path / "results.json").read_text())["identity"]
    (path / "results.json").unlink()
    note = {"identity": identity, "pixels": SCORES, "seconds": 2.0, "problem": "It diverged."}
    (path / "diverged.json").write_text(json.dumps(note))
    row = found(tmp_path)["digits", "FcDEC", 1]
    assert np.isnan(row["acc"]) and row["time"] == 2 and row["kmeans_acc"] == 0.5
    assert row["problem"] == "FcDEC on digits, trial 1: It diverged."
    for text in ("{", "[]", json.dumps({**note, "pixels": None}), json.dumps({"identity": {}})):
        (path / "diverged.json").write_text(text)
        assert not found(tmp_path)


def test_other_folders_are_no_trials(tmp_path):
    for name in (
        "digits/FcDEC/trial",
        "digits/FcDEC/trial01",
        "digits/Fc/trial0",
        "a/FcDEC/trial0",
    ):
        finish(tmp_path, "digits", "FcDEC", 0).rename(tmp_path / "moved")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "moved").rename(tmp_path / name)
    (tmp_path / "digits/FcDEC/trial2").write_text("a file")
    assert not found(tmp_path)


def test_the_order_is_what_was_asked_for_then_the_papers():
    keys = [(dataset, method, trial) for dataset in ("fmnist", "usps", "mnist")
            for method in ("ConvDEC", "FcDEC-DA", "FcDEC") for trial in (10, 9)]  # fmt: skip
    ordered = in_order(keys, ["usps"], ["FcDEC-DA"])
    assert ordered[:4] == [("usps", "FcDEC-DA", 9), ("usps", "FcDEC-DA", 10),
                           ("usps", "FcDEC", 9), ("usps", "FcDEC", 10)]  # fmt: skip
    assert list(dict.fromkeys(key[0] for key in ordered)) == ["usps", "mnist", "fmnist"]
    assert sorted(ordered) == sorted(keys)


@pytest.mark.parametrize(("trials", "has_mean"), [([0, 1, 4], True), ([0, 4], False)])
def test_a_mean_is_of_all_trials_once_those_asked_for_are_done(tmp_path, trials, has_mean):
    for trial in trials:
        finish(tmp_path, "digits", "FcDEC", trial)
    rows = with_means(list(found(tmp_path).values()), 2)
    assert [row["trials"] for row in rows[len(trials) :]] == ["mean", "std"] * has_mean


def test_an_identity_is_of_settings_and_of_data():
    X, y = np.zeros((4, 2, 3)), np.arange(4)
    estimator = KingdraCluster(random_state=3)
    settings, data = settings_identity(estimator), data_identity(X, y)
    assert set(data) == {"X", "labels_true"} and not set(data) & set(settings)
    assert run_identity(estimator, X, y) == {**settings, **data}
    assert data == data_identity(X.reshape(4, 6), y) != data_identity(X, y + 1)
