"""Data in a file is read once for its hash and its check, however often they are asked for."""

import json
import os

import numpy as np
import pytest

import main
from clustering_common import cli, data_pass, mapped, user_data
from clustering_common.checks import check_finite
from clustering_common.identity import data_hash
from dec_da import FcDEC


@pytest.fixture
def passes(monkeypatch):
    """Count the passes over files, in small chunks."""
    seen = []
    original = data_pass._pass
    monkeypatch.setattr(data_pass, "CHUNK", 40)
    monkeypatch.setattr(data_pass, "_pass", lambda X: seen.append(len(X)) or original(X))
    return seen


def on_disk(path, array, mode="r"):
    np.save(path, array)
    return np.load(path, mmap_mode=mode)


def test_one_pass_for_all_questions(tmp_path, passes):
    array = np.random.default_rng(0).random((30, 2, 8), np.float32)
    X = on_disk(tmp_path / "x.npy", array)
    for view in (X, np.asarray(X), X.reshape(30, 16), X.reshape(30, 16).reshape(30, 4, 4)):
        check_finite("X", view)
        assert data_hash(view) == data_hash(array.reshape(view.shape))
    assert data_hash(X) != data_hash(X.reshape(30, 16))
    assert passes == [30]
    assert data_hash(X[10:]) == data_hash(array[10:]) != data_hash(X)
    assert passes == [30, 20]


def test_what_may_change_is_looked_at_each_time(tmp_path, passes):
    array = np.zeros((30, 4), np.float32)
    X = on_disk(tmp_path / "x.npy", array, "r+")
    first = data_hash(X)
    X[3, 1] = np.nan
    assert data_hash(X) != first and not passes
    with pytest.raises(ValueError, match="the first is row 3"):
        check_finite("X", X)
    X = on_disk(tmp_path / "y.npy", array)
    first = data_hash(X)
    with open(tmp_path / "y.npy", "r+b") as file:  # by another process, say
        file.seek(-4, os.SEEK_END)
        file.write(np.float32(7).tobytes())
    os.utime(tmp_path / "y.npy", ns=(1, 1))
    assert data_hash(X) == data_hash(np.array(X)) != first
    assert passes == [30, 30]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_that_are_not_finite_are_counted(tmp_path, passes, dtype):
    array = np.zeros((50, 8), dtype)
    array[[7, 8, 33], [0, 3, 7]] = np.inf, -np.inf, np.nan
    for X in (array, on_disk(tmp_path / f"{dtype.__name__}.npy", array)):
        with pytest.raises(ValueError, match="in 3 of 50 rows, the first is row 7"):
            check_finite("X", X)


def test_large_numbers_are_finite_though_their_sum_is_not():
    check_finite("X", np.full((5, 9), 3e38, np.float32))
    with pytest.raises(ValueError, match="1 of 2 rows, the first is row 1"):
        check_finite("X", np.array([[0.0], [1e39]]))  # in single precision


def test_a_command_reads_the_file_once(tmp_path, passes, monkeypatch, handlers, capsys):
    for module in (mapped, user_data):
        monkeypatch.setattr(module, "LARGE_BYTES", 1)
    array = np.random.default_rng(0).random((30, 6), np.float32)
    np.save(tmp_path / "x.npy", array)
    argv = ["--data", str(tmp_path / "x.npy"), "--n-clusters", "2", "--pretrain-epochs", "1"]
    argv += ["--maxiter", "1", "--layer-sizes", "4", "2", "-v", "0", "-d", str(tmp_path / "out")]
    assert cli.run(main.command, argv) == 0
    assert passes == [30]
    record = json.loads((tmp_path / "out/results.json").read_text())
    assert record["data"]["sha256"] == record["identity"]["X"] == data_hash(array)


def test_a_fit_reads_the_file_once(tmp_path, passes, monkeypatch):
    monkeypatch.setattr(mapped, "LARGE_BYTES", 1)
    X = on_disk(tmp_path / "x.npy", np.random.default_rng(0).random((30, 6), np.float32))
    model = FcDEC(2, layer_sizes=(4, 2), pretrain_epochs=1, max_iter=1, random_state=0)
    model.fit(X, checkpoint_dir=tmp_path / "run").predict_proba(X)
    assert passes == [30]
