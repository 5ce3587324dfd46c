"""clustering_common.prepare: failed downloads, the files, the command line."""

import http.client
import re
import subprocess
import sys
import tarfile
import urllib.error
from pathlib import Path

import keras
import numpy as np
import pytest
import sklearn.datasets

from clustering_common import cli, datasets, prepare, prepare_fetch, prepare_layout
from clustering_common.datasets import DatasetUnavailableError
from clustering_common.prepare_layout import FOLDERS, keeps, write_pair
from tests.preparing import arrays_in, make_zip, names_in, offline, pair, quiet, raising, two_sets

pytestmark = pytest.mark.usefixtures("caches")
ROOT = Path(__file__).resolve().parent.parent


# Failures


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("no network"),
        urllib.error.HTTPError("http://x", 503, "Service\nUnavailable", None, None),
        TimeoutError("timed out"),
        http.client.IncompleteRead(b""),
        tarfile.ReadError("unexpected end of data"),
        EOFError(),
        Exception("URL fetch failure on http://x: None -- no network"),
    ],
)
def test_every_failure_of_a_download_is_one_line(error):
    with pytest.raises(DatasetUnavailableError) as caught:
        prepare_fetch.fetched("news", raising(error), "Put a into b, from c.")
    text = str(caught.value)
    assert re.fullmatch(r"news can't be downloaded \(.+\)\. Put a into b, from c\.", text)


@pytest.mark.parametrize("error", [KeyError("x"), AttributeError("y"), KeyboardInterrupt()])
def test_what_is_no_failure_of_a_download_passes(error):
    with pytest.raises(type(error)):
        prepare_fetch.fetched("news", raising(error), "")


def test_keras_folder(caches, monkeypatch):
    assert prepare_fetch.keras_folder("models") == caches / "keras" / "models"
    monkeypatch.setattr(prepare_fetch.os, "access", lambda *_: False)
    assert prepare_fetch.keras_folder("models").parts[-2:] == (".keras", "models")
    assert not prepare_fetch.keras_folder("models").is_relative_to(caches)


# The files


def test_write_pair(tmp_path):
    X, Y = pair()
    line = write_pair(tmp_path / "a" / "b", X, Y)
    assert "train_X.npy (6, 3) float32, train_Y.npy (6,) int64, 2 classes" in line
    np.testing.assert_array_equal(np.load(tmp_path / "a" / "b" / "train_X.npy"), X)
    np.testing.assert_array_equal(np.load(tmp_path / "a" / "b" / "train_Y.npy"), Y)
    assert names_in(tmp_path / "a" / "b") == ["train_X.npy", "train_Y.npy"]


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_while_writing_leaves_the_old_files(tmp_path, monkeypatch, failing):
    X, Y = pair()
    write_pair(tmp_path, X, Y)
    before = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    calls = []

    def save(stream, array, allow_pickle):
        calls.append(array)
        stream.write(b"half")
        if len(calls) > failing:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepare_layout.np, "save", save)
    with pytest.raises(OSError, match="No space left"):
        write_pair(tmp_path, X + 1, Y)
    assert names_in(tmp_path) == ["train_X.npy", "train_Y.npy"]
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == before


def test_new_samples_never_stand_beside_old_labels(tmp_path, monkeypatch):
    X, Y = pair()
    write_pair(tmp_path, X, Y)
    replace = Path.replace

    def stopped(self, target):
        replace(self, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_pair(tmp_path, X[:4], Y[:4])
    # Stopped after the first file: labels alone, which the next run takes for nothing.
    assert names_in(tmp_path) == ["train_Y.npy"]
    assert len(np.load(tmp_path / "train_Y.npy")) == 4
    assert not keeps(tmp_path, False, quiet)


def test_keeps(tmp_path):
    said = []
    assert not keeps(tmp_path / "none", False, said.append)
    write_pair(tmp_path, *pair())
    assert keeps(tmp_path, False, said.append)
    assert not keeps(tmp_path, True, said.append)
    assert len(said) == 1
    assert "kept" in said[0]
    assert "--force" in said[0]
    (tmp_path / "train_Y.npy").unlink()
    with pytest.raises(ValueError, match=r"got train_X.npy alone"):
        keeps(tmp_path, False, quiet)
    assert not keeps(tmp_path, True, quiet)


# The command line


def run(*argv):
    return cli.run(prepare.command, [str(arg) for arg in argv])


def test_digits_end_to_end(tmp_path, capsys):
    assert run("digits", "--data-dir", tmp_path / "new") == 0
    X, Y = arrays_in(tmp_path / "new", "digits")
    source = sklearn.datasets.load_digits()
    np.testing.assert_array_equal(X * 16, source.data)
    np.testing.assert_array_equal(Y, source.target)
    assert (X.dtype, Y.dtype) == (np.float32, np.int64)
    assert "train_X.npy (1797, 64) float32" in capsys.readouterr().out


def test_files_are_kept_unless_forced(tmp_path, capsys):
    write_pair(tmp_path / "ens_cluster_datasets" / "digits", *pair())
    assert run("digits", "--data-dir", tmp_path) == 0
    assert "kept" in capsys.readouterr().out
    assert len(arrays_in(tmp_path, "digits")[0]) == 6
    assert run("digits", "--data-dir", tmp_path, "--force") == 0
    assert len(arrays_in(tmp_path, "digits")[0]) == 1797


@pytest.mark.parametrize("name", ["mnist", "fmnist", "usps"])
def test_data_sets_of_load_dataset(tmp_path, monkeypatch, name):
    images = np.random.default_rng(0).random((5, 4, 4))
    monkeypatch.setattr(datasets, "download", lambda _: (images, np.arange(5)))
    assert run(name, "--data-dir", tmp_path) == 0
    X, Y = arrays_in(tmp_path, name)
    np.testing.assert_array_equal(X, images.reshape(5, 16).astype(np.float32))
    assert Y.tolist() == [0, 1, 2, 3, 4]


def test_configs_find_what_was_prepared(tmp_path, monkeypatch):
    from kingdra_cluster.configs import read_config
    from kingdra_cluster.experiment import load_data

    for name in ("mnist", "20news", "reuters", "cifar10", "stl10"):
        config = read_config(ROOT / "configs" / f"kingdra_ladder_im_{name}.json")
        with pytest.raises(
            FileNotFoundError, match=rf"clustering_common.prepare {name} --data-dir"
        ):
            load_data(config, str(tmp_path))
        X, Y = pair()
        if name == "mnist":
            images = X.reshape(6, 3, 1), Y
            monkeypatch.setattr(datasets, "download", lambda _, made=images: made)
        else:
            monkeypatch.setitem(prepare.MAKERS, name, lambda say, made=(X, Y): made)
        assert run(name, "--data-dir", tmp_path) == 0
        got = load_data(config, str(tmp_path))
        np.testing.assert_array_equal(got[0], X)
        np.testing.assert_array_equal(got[1], Y)


@pytest.mark.parametrize("name", sorted(set(FOLDERS) - {"digits"}))
def test_without_a_network_one_line_says_what_to_put_where(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr(sklearn.datasets, "fetch_20newsgroups", offline)
    monkeypatch.setattr(sklearn.datasets, "fetch_rcv1", offline)
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", offline)
    failed = raising(Exception("URL fetch failure on http://x: None -- no network"))
    monkeypatch.setattr(keras.utils, "get_file", failed)
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", failed)
    monkeypatch.setattr(keras.applications, "ResNet50", failed)
    assert run(name, "--data-dir", tmp_path) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no network" in error
    assert re.search(r"\bPut .+ into .+", error)
    assert "http" in error
    assert not (tmp_path / "ens_cluster_datasets").exists()


def test_the_zip_by_either_way(tmp_path, capsys):
    zip_path = make_zip(tmp_path / "ens_cluster_datasets.zip", two_sets())
    assert run(zip_path, "--data-dir", tmp_path / "a") == 0
    assert names_in(tmp_path / "a" / "ens_cluster_datasets") == ["20_news", "mnist"]
    assert run("mnist", "--zip", zip_path, "--data-dir", tmp_path / "b") == 0
    assert names_in(tmp_path / "b" / "ens_cluster_datasets") == ["mnist"]
    assert run("stl10", "--zip", zip_path, "--data-dir", tmp_path / "b") == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["cifar"], "NAME must be one of mnist, 20news, .*, or a .zip file; got 'cifar'"),
        (["a.zip", "--zip", "b.zip"], "--zip must come with the name of a data set; got 'a.zip'"),
        ([], "the following arguments are required: NAME"),
    ],
)
def test_wrong_arguments(argv, text, capsys):
    with pytest.raises(SystemExit) as caught:
        run(*argv)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert re.search(text, error)
    assert error.count("\n") == 1


def test_a_folder_that_cannot_be_written_to(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run("digits", "--data-dir", tmp_path / "file") == 2
    assert "--data-dir must be a folder that can be written to" in capsys.readouterr().err


def test_an_unknown_name_and_numbers_that_are_none(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="name must be one of mnist, 20news"):
        prepare.prepare("cifar", tmp_path, quiet)
    X, Y = pair()
    X[2, 1] = np.nan
    monkeypatch.setitem(prepare.MAKERS, "20news", lambda say: (X, Y))
    with pytest.raises(ValueError, match="20news must be finite"):
        prepare.prepare("20news", tmp_path, quiet)
    assert not (tmp_path / "ens_cluster_datasets").exists()


def test_as_a_module(tmp_path):
    command = [sys.executable, "-m", "clustering_common.prepare", "no.zip", "--data-dir", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    line = r"prepare.py: error: The zip must be an existing file; got 'no.zip'. Get ens_cluster.*\n"
    assert re.fullmatch(line, done.stderr)
