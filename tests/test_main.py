import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import main
from benchmarks import results_page
from clustering_common import cli, datasets
from clustering_common.callbacks import TrainingDivergedError
from clustering_common.run_folder import RunFolder
from clustering_common.seeds import SeedStream
from clustering_common.weights import write_weights
from dec_da import experiment, presets
from dec_da.assignment import ClusteringLayer
from dec_da.autoencoders import dense_autoencoder
from tests.commands import outcome
from tests.run_outputs import arrays_of, read_csv

ROOT = Path(__file__).resolve().parent.parent
TINY = ["--dataset", "digits", "--pretrain-epochs", "1", "--maxiter", "4", "-i", "2", "--tol", "0"]
CLOSING = re.compile(r"acc=\d\.\d{4}, nmi=\d\.\d{4}, ari=-?\d\.\d{4}")
SIZES = {"layer_sizes": (8, 5)}
CONV_SIZES = {"filters": (2, 3, 4), "embedding_dim": 5}


@pytest.fixture(autouse=True)
def tiny_networks(monkeypatch, handlers):
    """Make all networks tiny: the command line has no layer sizes."""
    original = presets.make_estimator

    def make_estimator(method, dataset, **params):
        estimator = original(method, dataset, **params)
        return estimator.set_params(**(CONV_SIZES if method.startswith("Conv") else SIZES))

    monkeypatch.setattr(presets, "make_estimator", make_estimator)


@pytest.fixture
def run(capsys):
    """Run main.py in this process; return exit code, standard output, standard error."""

    def run(*argv):
        return outcome(main, argv, capsys)

    return run


def snapshot(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# --- training and testing ---

QUICK = ("FcDEC-DA", "ConvIDEC")
NAMES = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in presets.METHODS
]


@pytest.mark.parametrize("method", NAMES)
def test_train_then_test(method, run, tmp_path):
    folder = tmp_path / "deep" / "run"
    code, out, err = run("--method", method, *TINY, "-d", folder, "-v", 0, "--seed", 3)
    assert code == 0, err
    closing = out.splitlines()[-1]
    assert CLOSING.fullmatch(closing)
    assert sorted(os.listdir(folder)) == [
        "ae_weights.h5", "labels.npy", "log.csv", "model_final.h5", "pretrain_log.csv",
        "results.json",
    ]  # fmt: skip
    # Files: columns, rows, and the same figures everywhere.
    log = read_csv(folder / "log.csv")
    assert list(log[0]) == ["iter", "acc", "nmi", "ari", "loss"]
    assert [row["iter"] for row in log] == ["0", "2", "4"]
    assert [row["loss"] == "" for row in log] == [True, False, False]
    pretrain = read_csv(folder / "pretrain_log.csv")
    assert [list(row) for row in pretrain] == [["epoch", "loss"]]
    assert pretrain[0]["epoch"] == "1"
    record = json.loads((folder / "results.json").read_text())
    final = record["metrics"]["final"]
    assert cli.score_line(final) == closing
    assert {name: float(log[-1][name]) for name in final} == final
    labels = np.load(folder / "labels.npy")
    assert labels.shape == (1797,)
    assert record["cluster_sizes"] == np.bincount(labels, minlength=10).tolist()
    check_record(record, method)
    # Testing reads the weights and ends with the same line.
    args = ["--method", method, "--dataset", "digits", "-t", "-w", folder / "model_final.h5"]
    before = snapshot(tmp_path)
    code, out, err = run(*args, "-v", 0)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == closing
    assert snapshot(tmp_path) == before


def check_record(record, method):
    base, augmented = presets.split_method(method)
    assert record["method"] == method
    assert record["dataset"] == "digits" and record["data"]["path"] is None
    assert (record["seed"], record["n_iter"]) == (3, 4)
    assert record["termination_condition"] == "max_iter"
    settings = record["settings"]
    assert settings["aug_pretrain"] is settings["aug_cluster"] is augmented
    assert (settings["max_iter"], settings["update_interval"], settings["tol"]) == (4, 2, 0)
    own = presets.CLASSES[base].settings
    assert (settings["optimizer"], settings["learning_rate"]) == (own.optimizer, own.learning_rate)
    assert settings["random_state"] == 3
    assert set(record["metrics"]) == {"final", "kmeans_pixels", "kmeans_embedding"}
    for figures in record["metrics"].values():
        assert set(figures) == {"acc", "nmi", "ari"}
    # k-means on the digits' pixels is right for four in five.
    assert 0.7 < record["metrics"]["kmeans_pixels"]["acc"] < 0.9
    assert record["data"]["shape"][0] == 1797
    assert re.fullmatch("[0-9a-f]{64}", record["data"]["sha256"])
    assert {"pretrain", "kmeans", "cluster", "total"} <= set(record["seconds"])
    assert {"python", "keras", "numpy", "scipy", "scikit-learn"} <= set(record["versions"])
    assert record["device"]
    assert record["command"]


@pytest.fixture
def digits_file(tmp_path):
    """120 digits as .npy, and their labels."""
    X, y = load_digits(return_X_y=True)
    np.save(tmp_path / "X.npy", (X[:120] / 16).astype(np.float32))
    np.save(tmp_path / "y.npy", y[:120])
    return tmp_path / "X.npy"


OWN = ["--n-clusters", "10", "--pretrain-epochs", "2", "--maxiter", "4", "-i", "2", "-v", "0"]


def test_pretrained_weights_skip_pretraining(run, digits_file, tmp_path):
    args = ["--data", digits_file, "--labels", tmp_path / "y.npy", *OWN]
    first, second = tmp_path / "first", tmp_path / "second"
    assert run(*args, "-d", first)[0] == 0
    weights = first / "ae_weights.h5"
    code, out, err = run(*args, "-d", second, "--pretrained-weights", weights)
    assert code == 0, err
    assert CLOSING.fullmatch(out.splitlines()[-1])
    assert read_csv(second / "log.csv") == read_csv(first / "log.csv")
    record = json.loads((second / "results.json").read_text())
    assert record["settings"]["pretrained_weights"] == str(weights)
    assert (second / "pretrain_log.csv").read_text().splitlines() == ["epoch,loss"]
    assert arrays_of(second / "ae_weights.h5") == arrays_of(weights)


def test_loaded_weights_leave_nothing_stale(tmp_path):
    """Beside this run's files none of an earlier run's may pass for one of this run's."""
    X = np.random.default_rng(0).random((20, 64)).astype(np.float32)
    task = experiment.Task("x", X, None)

    def train(folder, seed, **params):
        folder.mkdir(exist_ok=True)
        estimator = presets.make_estimator(
            "FcDEC", None, n_clusters=2, max_iter=0, random_state=seed, **params
        )
        experiment.train(estimator, task, RunFolder(folder), method="FcDEC", seed=0)

    run, other = tmp_path / "run", tmp_path / "other"
    train(run, 0, pretrain_epochs=1)
    train(other, 1, pretrain_epochs=1)
    old, new = arrays_of(run / "ae_weights.h5"), arrays_of(other / "ae_weights.h5")
    assert old != new
    log = (run / "pretrain_log.csv").read_text()
    assert len(log.splitlines()) == 2
    # The folder's own autoencoder: the log beside it is still its log.
    train(run, 0, pretrained_weights=run / "ae_weights.h5")
    assert (run / "pretrain_log.csv").read_text() == log
    assert arrays_of(run / "ae_weights.h5") == old
    # A whole model: its autoencoder alone.
    train(run, 0, pretrained_weights=other / "model_final.h5")
    assert (run / "pretrain_log.csv").read_text().splitlines() == ["epoch,loss"]
    assert arrays_of(run / "ae_weights.h5") == new


@pytest.mark.parametrize("own", [False, True])
def test_an_interrupted_run_leaves_no_earlier_model(own, tmp_path):
    X = np.random.default_rng(0).random((20, 64)).astype(np.float32)
    params = {"n_clusters": 2, "pretrain_epochs": 0, "max_iter": 0}
    estimator = presets.make_estimator("FcDEC", None, **params)
    experiment.train(
        estimator, experiment.Task("x", X, None), RunFolder(tmp_path), method="FcDEC", seed=0
    )
    loaded = tmp_path / ("model_final.h5" if own else "given.h5")
    (tmp_path / "given.h5").write_bytes((tmp_path / "model_final.h5").read_bytes())
    experiment.LoadedAutoencoderWriter(tmp_path, loaded).on_train_begin()
    # What the run starts from is the user's, also where it is in the way.
    kept = {"model_final.h5"} if own else set()
    wanted = {"ae_weights.h5", "pretrain_log.csv", "given.h5"} | kept
    assert set(os.listdir(tmp_path)) == wanted


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_a_diverged_autoencoder_is_not_written(value, old_run):
    """1e30 is finite, but what the layers make of it is not."""
    X = np.random.default_rng(0).random((20, 64)).astype(np.float32)
    estimator = presets.make_estimator("FcDEC", None, n_clusters=2, pretrain_epochs=0)
    original = experiment.AutoencoderWriter.on_train_end
    before = snapshot(old_run)

    def on_train_end(self, logs=None):
        for weight in self.model.encoder.weights:
            weight.assign(np.full(weight.shape, value, np.float32))
        original(self, logs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment.AutoencoderWriter, "on_train_end", on_train_end)
        task = experiment.Task("x", X, None)
        with pytest.raises(TrainingDivergedError, match=r"^The autoencoder became nan .*Scale X"):
            experiment.train(estimator, task, RunFolder(old_run), method="FcDEC", seed=0)
    assert snapshot(old_run) == before


def test_own_data_without_labels(run, digits_file, tmp_path):
    code, out, err = run("--data", digits_file, *OWN, "-d", tmp_path / "out")
    assert code == 0, err
    assert "acc=" not in out
    rows = [line.split() for line in out.splitlines()[-10:]]
    assert [int(row[0]) for row in rows] == list(range(10))
    assert sum(int(row[1]) for row in rows) == 120
    assert json.loads((tmp_path / "out/results.json").read_text())["metrics"] == {}
    log = read_csv(tmp_path / "out/log.csv")
    assert list(log[0]) == ["iter", "acc", "nmi", "ari", "loss"]
    assert [row["acc"] for row in log] == [""] * len(log)
    args = ["--data", digits_file, "--n-clusters", 10, "-t", "-w", tmp_path / "out/model_final.h5"]
    code, tested, err = run(*args)
    assert (code, err) == (0, "")
    assert tested.splitlines()[-10:] == out.splitlines()[-10:]


def test_own_csv_with_labels(run, digits_file, tmp_path):
    X, y = np.load(digits_file), np.load(tmp_path / "y.npy")
    path = tmp_path / "X.csv"
    header = ",".join([*(f"p{i}" for i in range(64)), "label"])
    np.savetxt(path, np.column_stack([X, y]), "%.6g", ",", header=header, comments="")
    code, out, err = run("--data", path, *OWN, "-d", tmp_path / "out", "--aug-cluster")
    assert code == 0, err
    assert CLOSING.fullmatch(out.splitlines()[-1])
    record = json.loads((tmp_path / "out/results.json").read_text())
    assert record["dataset"] == str(path)
    assert (record["settings"]["aug_pretrain"], record["settings"]["aug_cluster"]) == (False, True)


def test_own_data_called_like_a_data_set_is_not_it(run, digits_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "usps").mkdir()
    for i, pixels in enumerate(np.load(digits_file)[:40]):
        image = Image.fromarray((pixels.reshape(8, 8) * 255).astype(np.uint8))
        image.save(tmp_path / f"usps/{i:02}.png")
    np.save("y.npy", np.load("y.npy")[:40])
    code, out, err = run("--data", "usps", *OWN, "--labels", "y.npy", "-d", "out")
    assert code == 0, err
    assert CLOSING.fullmatch(out.splitlines()[-1]) and "paper" not in out
    record = json.loads((tmp_path / "out/results.json").read_text())
    assert record["paper"] == {} and record["data"]["path"] == record["dataset"] == "usps"
    assert results_page.is_own_data(record)


def test_flags_reach_the_estimator(monkeypatch):
    seen = {}
    monkeypatch.setattr(presets, "make_estimator", lambda *args, **params: seen.update(params))
    flags = ["--optimizer", "adam", "--lr", "0.5", "--batch-size", "7", "--alpha", "2"]
    flags += ["--tol", "0.25", "--maxiter", "9", "-i", "3", "--pretrain-optimizer", "rmsprop"]
    flags += ["--pretrain-lr", "0.125", "--pretrain-epochs", "5", "--seed", "11", "-v", "0"]
    flags += ["--precision", "tf32"]
    main.make_estimator(main.parse([*flags, "--aug-pretrain"]))
    assert {name: value for name, value in seen.items() if value is not None} == {
        "optimizer": "adam", "learning_rate": 0.5, "batch_size": 7, "alpha": 2.0, "tol": 0.25,
        "max_iter": 9, "update_interval": 3, "pretrain_optimizer": "rmsprop",
        "pretrain_learning_rate": 0.125, "pretrain_epochs": 5, "random_state": 11, "verbose": 0,
        "aug_pretrain": True, "precision": "tf32",
    }  # fmt: skip


def test_settings_of_the_data_sets():
    for name, interval in (("mnist", 140), ("fmnist", 140), ("mnist-test", 30), ("usps", 30)):
        estimator = presets.make_estimator("FcIDEC-DA", name)
        assert estimator.update_interval == interval
        assert (estimator.max_iter, estimator.pretrain_epochs) == (20000, 500)
        assert estimator.aug_pretrain is estimator.aug_cluster is True
    assert presets.make_estimator("FcDEC", "usps", update_interval=5).update_interval == 5
    assert presets.make_estimator("FcDEC", None).aug_cluster is False
    assert main.METHODS == tuple(presets.CLASSES)


def test_all_files_are_there_when_nothing_is_trained(tmp_path):
    """DESIGN lists the files of save-dir; a phase of length 0 is no exception."""
    X = np.random.default_rng(0).random((20, 64)).astype(np.float32)
    estimator = presets.make_estimator("FcDEC", None, n_clusters=2, pretrain_epochs=0, max_iter=0)
    task = experiment.Task("x", X, np.arange(20) % 2)
    experiment.train(estimator, task, RunFolder(tmp_path), method="FcDEC", seed=0)
    wanted = {"ae_weights.h5", "model_final.h5", "pretrain_log.csv", "log.csv", "results.json"}
    assert wanted - set(os.listdir(tmp_path)) == set()


# --- bad input: exit code 2, one line, nothing written ---


def refused(run, *argv, flag, folder=None):
    """Check that a run is refused in one line that holds ``flag``, and writes nothing."""
    before = snapshot(folder) if folder else None
    code, out, err = run(*argv)
    assert code == 2, (out, err)
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert re.search(flag, err), err
    assert "Traceback" not in err
    if folder:
        assert snapshot(folder) == before


@pytest.mark.parametrize(
    ("argv", "flag"),
    [
        (["--method", "FcXYZ"], r"--method.*'FcXYZ'"),
        (["--dataset", "cifar"], r"--dataset.*'cifar'"),
        (["-t"], r"-t/--testing must come with -w/--weights FILE; got none"),
        (["-w", "x.h5"], r"-w/--weights must come with -t/--testing; got 'x\.h5' alone"),
        (["--data", "x.npy"], r"--data must come with --n-clusters K; got none"),
        (["--labels", "y.npy"], r"--labels must come with --data FILE; got 'y\.npy' alone"),
        (["--alpha", "0"], r"--alpha: must be a number > 0; got '0'"),
        (["--tol", "-1"], r"--tol: must be a number >= 0; got '-1'"),
        (["--tol", "nan"], r"--tol: must be a number >= 0; got 'nan'"),
        (["--batch-size", "0"], r"--batch-size: must be an integer >= 1 and .*; got '0'"),
        (["--batch-size", "2.5"], r"--batch-size: must be an integer >= 1 and .*; got '2\.5'"),
        (["--lr", "0"], r"--lr: must be a number > 0; got '0'"),
        (["--lr", "inf"], r"--lr: must be a number > 0; got 'inf'"),
        (["--pretrain-epochs", "-1"], r"--pretrain-epochs: must be an integer >= 0 .*; got '-1'"),
        (["--maxiter", "x"], r"--maxiter: must be an integer >= 0 and .*; got 'x'"),
        (["-i", "0"], r"-i/--update-interval: must be an integer >= 1 and .*; got '0'"),
        (["--n-clusters", "0"], r"--n-clusters: must be an integer >= 1 and <= 1e\+09; got '0'"),
        (["--n-clusters", "9" * 12], r"--n-clusters: must be an integer .* <= 1e\+09; got '9{12}'"),
        (["--optimizer", "lion"], r"--optimizer.*'lion'"),
        (["--seed", "-1"], r"--seed: must be an integer >= 0 and <= .*; got '-1'"),
        (["--nonsense"], r"--nonsense"),
    ],
)
def test_bad_flags(argv, flag, run, tmp_path):
    refused(run, *argv, "-d", tmp_path / "out", flag=flag, folder=tmp_path)
    assert not (tmp_path / "out").exists()


def test_missing_files(run, tmp_path):
    none = tmp_path / "none.h5"
    args = ["--dataset", "digits", "-d", tmp_path / "out"]
    refused(run, *args, "-t", "-w", none, flag=r"--weights must be an existing .*none\.h5'")
    refused(
        run, *args, "--pretrained-weights", none, flag=r"--pretrained-weights must be an existing"
    )
    data = tmp_path / "none.npy"
    refused(
        run, "--data", data, *OWN, "-d", tmp_path / "out", flag=r"must be an existing.*none\.npy"
    )
    assert os.listdir(tmp_path) == []


@pytest.fixture
def old_run(tmp_path):
    """A save-dir that holds an earlier run."""
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("ae_weights.h5", "model_final.h5", "log.csv", "results.json"):
        (folder / name).write_text("old")
    return folder


def test_bad_data(run, digits_file, old_run, tmp_path):
    X = np.load(digits_file)

    def check(name, flag, *argv):
        args = ["--data", tmp_path / name, *OWN, "-d", old_run, *argv]
        refused(run, *args, flag=flag, folder=tmp_path)

    bad = X.copy()
    bad[5, 3] = np.nan
    np.save(tmp_path / "nan.npy", bad)
    check(
        "nan.npy",
        r"--data '.*nan\.npy' must be finite; got NaN or infinity in 1 of 120 rows.* row 5\.",
    )
    np.save(tmp_path / "few.npy", X[:4])
    check("few.npy", r"error: --n-clusters must be at most n_samples=4; got 10\.")
    (tmp_path / "empty.npy").write_bytes(b"")
    check("empty.npy", r"error: --data '.*empty\.npy' must be non-empty; got 0 bytes")
    np.save(tmp_path / "size.npy", np.zeros((20, 10, 10), np.float32))
    text = r"--data '.*size\.npy' must be images .* got 10x10x1\. Resize or pad to 8x8 or 12x12"
    check("size.npy", text, "--method", "ConvDEC")
    np.save(tmp_path / "vector.npy", np.zeros((20, 50), np.float32))
    text = r"error: the augmentation of --method FcDEC-DA must be False .*\(50,\)"
    check("vector.npy", text, "--method", "FcDEC-DA")
    check("vector.npy", r"error: --aug-cluster must be False .*\(50,\)", "--aug-cluster")
    (tmp_path / "text.csv").write_text("a,b\n1,x\n")
    check("text.csv", r"error: --data '.*text\.csv' must be .*'x' in line 2, column 2")
    np.save(tmp_path / "short.npy", np.zeros(3))
    text = r"error: --labels '.*short\.npy' must be a file of 120 labels"
    check("X.npy", text, "--labels", tmp_path / "short.npy")
    text = r"error: --labels must be an existing file; got '.*none\.npy'"
    check("X.npy", text, "--labels", tmp_path / "none.npy")


def test_labels_of_another_length_are_refused_before_training(run, old_run, monkeypatch):
    dataset = datasets.load_dataset("digits", "data")
    short = dataclasses.replace(dataset, labels=dataset.labels[:-1])
    monkeypatch.setattr(datasets, "load_dataset", lambda *args: short)
    text = r"error: the labels of --dataset digits must be 1797 labels, one a sample; got 1796\."
    refused(run, *TINY, "-d", old_run, flag=text, folder=old_run)


def test_a_bad_scale_names_the_data(run, digits_file, old_run, tmp_path):
    np.save(tmp_path / "huge.npy", np.load(digits_file) * 1e30)
    text = r"(became|nan|inf).* Scale --data '.*huge\.npy' to about \[0, 1\]"
    path = tmp_path / "huge.npy"
    refused(run, "--data", path, *OWN, "-d", old_run, flag=text, folder=tmp_path)


def test_bad_weights(run, digits_file, old_run, tmp_path):
    other = dense_autoencoder(64, (7, 5), SeedStream(0))
    clustering = ClusteringLayer(10, name="clustering")
    clustering.build((1, 5))
    write_weights(tmp_path / "other.h5", [*other.layers, clustering])
    (tmp_path / "corrupt.h5").write_bytes((tmp_path / "other.h5").read_bytes()[:700])
    good = dense_autoencoder(64, (8, 5), SeedStream(0))
    write_weights(tmp_path / "ae.h5", good.layers)
    texts = {
        "other.h5": r"fit .*other\.h5': layer 'encoder_0' has shapes 64x7, 7 where .* 64x8, 8",
        "corrupt.h5": r"be a whole HDF5 file of Keras weights; got .*corrupt\.h5'",
    }
    args = ["--data", digits_file, *OWN, "-d", old_run]
    for name, text in texts.items():
        path = tmp_path / name
        flag = rf"error: --pretrained-weights must {text}"
        refused(run, *args, "--pretrained-weights", path, flag=flag, folder=tmp_path)
        flag = rf"error: --weights must {text}"
        refused(run, *args, "-t", "-w", path, flag=flag, folder=tmp_path)
    missing = r"it has no layer that fits 'clustering' with shapes 10x5"
    refused(run, *args, "-t", "-w", tmp_path / "ae.h5", flag=missing, folder=tmp_path)


def test_a_folder_that_cannot_be_written(run, digits_file, tmp_path):
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "out"
    text = r"--save-dir must be a folder that can be written to; got .*file/out'"
    refused(run, "--data", digits_file, *OWN, "-d", path, flag=text, folder=tmp_path)
    text = r"--save-dir must be a folder that can be written to; got .*file'"
    refused(run, "--data", digits_file, *OWN, "-d", tmp_path / "file", flag=text, folder=tmp_path)


def test_help(run):
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    for flag in ("--method", "--dataset", "--save-dir", "--weights", "--pretrained-weights"):
        assert flag in out


# --- as a process ---


def process(*argv, timeout=240):
    command = [sys.executable, str(ROOT / "main.py"), *map(str, argv)]
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout
    )


@pytest.mark.slow
def test_one_line_as_a_process(digits_file, tmp_path):
    """The engine has started by then; its chatter must not reach standard error."""
    np.save(tmp_path / "few.npy", np.load(digits_file)[:4])
    done = process("--data", tmp_path / "few.npy", *OWN, "-d", tmp_path / "out")
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("main.py: error: --n-clusters must be at most n_samples=4; got 10.")


@pytest.mark.slow
@pytest.mark.parametrize("verbose", [0, 1])
def test_a_whole_run_as_a_process(verbose, tmp_path):
    done = process("--method", "FcDEC-DA", *TINY, "-d", tmp_path, "-v", verbose)
    assert done.returncode == 0, done.stderr
    assert CLOSING.fullmatch(done.stdout.splitlines()[-1])
    assert "WARNING" not in done.stderr
    if not verbose:
        assert done.stderr == ""
    tested = process(
        "--method", "FcDEC-DA", "--dataset", "digits", "-t", "-w", tmp_path / "model_final.h5"
    )
    assert tested.stdout.splitlines()[-1] == done.stdout.splitlines()[-1]


# --- the parts of the command line ---


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ValueError("x must be\n y"), 2, "error: x must be y"),
        (FileNotFoundError("gone"), 2, "error: gone"),
        (MemoryError(), 2, f"error: ran out of memory. {cli.MEMORY_HINT}"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (cli.TerminatedError(), 143, "terminated"),
    ],
)
def test_exit_codes(error, code, text, capsys):
    def command(argv):
        raise error

    assert cli.run(command, []) == code
    assert capsys.readouterr().err.endswith(f": {text}\n")


class ResourceExhaustedError(Exception):
    """As TensorFlow's, which is imported by nobody here."""


@pytest.mark.parametrize(
    ("error", "amount"),
    [
        (
            ResourceExhaustedError(
                "{{function_node x}} OOM when allocating tensor with shape[9,10] and type float on "
                "/job:localhost [Op:Fill]\n\nHint: if you want ..."
            ),
            " (OOM when allocating tensor with shape[9,10])",
        ),
        (ResourceExhaustedError("\nno numbers"), ""),
        (
            RuntimeError("Exception when calling\n\nRESOURCE_EXHAUSTED: Out of memory allocating "
                         "400 bytes.\n"),
            " (Out of memory allocating 400 bytes)",
        ),
        (RuntimeError("InternalError: Dst tensor is not initialized."), ""),
        (
            MemoryError("Unable to allocate 3 GiB for an array with shape (9,)"),
            " (Unable to allocate 3 GiB for an array with shape (9,))",
        ),
    ],
)  # fmt: skip
def test_too_little_memory_is_one_line(error, amount, capsys):
    def command(argv):
        raise error

    assert cli.run(command, [], memory_hint="Lower --batch-size.") == 2
    line = f": error: ran out of memory{amount}. Lower --batch-size.\n"
    assert capsys.readouterr().err.endswith(line)


def test_what_an_engine_raises_is_known_as_too_little_memory():
    with pytest.raises(Exception) as caught:  # each engine has its own
        keras.ops.zeros((10**11, 10))
    assert cli.is_out_of_memory(caught.value)
    assert not cli.is_out_of_memory(RuntimeError("out of luck"))


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("tol must be > 0; got 'tol'.", "--tol must be > 0; got 'tol'."),
        ("Choose another tol.", "Choose another tol."),
        ("each of max_iter must be 1. See X.", "each of --maxiter must be 1. See --data."),
        ("max_iter must be 1; got 'max_iter'.", "--maxiter must be 1; got 'max_iter'."),
        ('X must be "X"; got /a/X.npy, X.npy.', '--data must be "X"; got /a/X.npy, X.npy.'),
        ("'/a b/X.npy' must be X.", "FILE must be --data."),
        ("a user's X is no person's X", "a user's --data is no person's --data"),
    ],
)  # fmt: skip
def test_messages_name_what_was_typed(message, text):
    names = {"tol": "--tol", "max_iter": "--maxiter", "X": "--data", "'/a b/X.npy'": "FILE"}
    assert cli.renamed(message, names) == text
    error = FileNotFoundError(message)
    with pytest.raises(FileNotFoundError) as caught, cli.naming(names):
        raise error
    assert caught.value is error
    assert str(error) == text


def test_an_error_of_the_system_stays_as_it_is():
    with pytest.raises(OSError, match=r"\[Errno 28\] X must go: 'X'"), cli.naming({"X": "--data"}):
        raise OSError(28, "X must go", "X")


def test_every_setting_has_a_flag_and_is_a_parameter():
    flags = main.build_parser().flags
    assert flags["n_clusters"] == "--n-clusters"
    assert flags["save_dir"] == "--save-dir"
    for cls in presets.CLASSES.values():
        params = set(cls().get_params()) | {"layer_sizes"}
        assert set(main.SETTINGS) <= params & set(flags)


def test_a_bug_keeps_its_traceback():
    def command(argv):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cli.run(command, [])


def test_sigterm_ends_a_run(capsys):
    assert cli.run(lambda argv: os.kill(os.getpid(), signal.SIGTERM), []) == 143
    assert capsys.readouterr().err.endswith(": terminated\n")
