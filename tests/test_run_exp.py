"""run_exp.py: the DEC-DA grid and Kingdra's configs."""

import csv
import json
import re
import sys
import threading
from pathlib import Path

import joblib
import numpy as np
import pytest

import run_exp
from clustering_common import checkpoints
from clustering_common.callbacks import TrainingDivergedError
from clustering_common.datasets import Dataset
from dec_da import experiment, grid, presets
from kingdra_cluster import configs
from kingdra_cluster.experiment import report as kingdra_report
from tests.commands import outcome

ROOT = Path(__file__).resolve().parent.parent
PAPER = ("mnist", "stl10", "cifar10", "reuters", "20news")
CLOSING = re.compile(r"acc=\d\.\d{4}, nmi=\d\.\d{4}, ari=-?\d\.\d{4}")


@pytest.fixture
def run(capsys, monkeypatch, tmp_path, handlers):
    """Run run_exp.py in an empty folder; return exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        return outcome(run_exp, argv, capsys)

    return run


@pytest.fixture
def tiny(monkeypatch):
    original = presets.make_estimator

    def make_estimator(method, dataset, **params):
        estimator = original(method, dataset, **params)
        return estimator.set_params(layer_sizes=(8, 5), update_interval=2)

    monkeypatch.setattr(presets, "make_estimator", make_estimator)


GRID = ["--methods", "FcDEC", "FcIDEC-DA", "--datasets", "digits", "--trials", 2, "-v", 0]


def test_grid(run, tiny, tmp_path):
    code, out, _ = run(*GRID, "--pretrain-epochs", 1, "--maxiter", 2)
    assert code == 0
    lines = [re.split(" {2,}", line) for line in out.splitlines()[:3]]
    assert lines[0] == [
        "data set", "method", "acc", "nmi", "ari", "k-means acc", "paper acc", "paper nmi", "time",
    ]  # fmt: skip
    assert [line[:2] for line in lines[1:]] == [["digits", "FcDEC"], ["digits", "FcIDEC-DA"]]
    with open("results/dec_da/results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"trials", "acc", "nmi", "ari", "time"} <= set(rows[0])
    assert [row["trials"] for row in rows] == ["0", "1", "mean", "std"] * 2
    first, second, mean, std = (float(row["acc"]) for row in rows[:4])
    assert mean == pytest.approx((first + second) / 2)
    assert std == pytest.approx(abs(first - second) / 2)
    cell = tmp_path / "results/dec_da/digits/FcDEC/trial1"
    record = json.loads((cell / "results.json").read_text())
    assert record["seed"] == 1 and record["settings"]["random_state"] == 1
    assert record["metrics"]["final"]["acc"] == pytest.approx(second)
    # k-means on the pixels, the mean of both trials, beside each method.
    places = [tmp_path / f"results/dec_da/digits/FcDEC/trial{i}/results.json" for i in range(2)]
    metrics = [json.loads(place.read_text())["metrics"] for place in places]
    kmeans = np.mean([figures["kmeans_pixels"]["acc"] for figures in metrics])
    assert [line[5] for line in lines[1:]] == [f"{kmeans:.3f}"] * 2


def table_rows(folder):
    with open(f"{folder}/results.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("tiny", "uncompiled")
def test_a_grid_in_parts_has_one_table(run):
    command = ["--datasets", "digits", "--trials", 1, "--pretrain-epochs", 1, "-v", 0,
               "-d", "grid", "--maxiter"]  # fmt: skip
    _, first, _ = run(*command, 2, "--methods", "FcDEC")
    of_first = table_rows("grid")
    code, both, _ = run(*command, 2, "--methods", "FcIDEC", "--resume", "--report")
    assert code == 0
    # What this call asked for comes first, then what was there.
    rows = table_rows("grid")
    assert [row["method"] for row in rows] == ["FcIDEC"] * 3 + ["FcDEC"] * 3
    assert rows[3:] == of_first and list(rows[0]) == list(of_first[0])
    words = [line.split() for line in both.splitlines()]
    assert first.splitlines()[1].split() in words and ["digits", "FcIDEC"] in [w[:2] for w in words]
    page = Path("grid/report.html").read_text()
    assert all(f"digits, {name}, trial0" in page for name in ("FcDEC", "FcIDEC"))
    # The table of all at once, with nothing left to run.
    _, whole, _ = run(*command, 2, "--methods", "FcDEC", "FcIDEC", "--resume", "--report")
    assert [row["method"] for row in table_rows("grid")] == ["FcDEC"] * 3 + ["FcIDEC"] * 3
    assert sorted(whole.splitlines()) == sorted(both.splitlines())
    # Of other settings, or without --resume, it has what the call asked for alone.
    for argv in ([4, "--resume"], [2]):
        assert run(*command, *argv, "--methods", "FcDCN")[0] == 0
        assert {row["method"] for row in table_rows("grid")} == {"FcDCN"}


@pytest.mark.slow
def test_trials_at_the_same_time(run, tiny, tmp_path):
    command = [*GRID, "--pretrain-epochs", 1, "--maxiter", 2]
    assert run(*command, "-d", "one")[0] == 0
    code, out, _ = run(*command, "--jobs", 2, "-d", "two")
    assert code == 0 and "FcIDEC-DA" in out
    rows = []
    for folder in ("one", "two"):
        with open(tmp_path / folder / "results.csv", newline="") as file:
            rows.append([list(row.values())[:-1] for row in csv.DictReader(file)])
    assert [row[:3] for row in rows[0]] == [row[:3] for row in rows[1]]
    for one, two in zip(*rows, strict=True):
        # Fewer threads a trial may add up in another order.
        np.testing.assert_allclose(*(np.array(row[3:], float) for row in (one, two)), atol=0.01)
    record = json.loads((tmp_path / "two/digits/FcDEC/trial1/results.json").read_text())
    assert record["command"] == " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    # All are finished: nothing is run again.
    assert run(*command, "--jobs", 2, "-d", "two", "--resume")[1] == out


def test_trials_begin_before_all_baselines_are_known(tmp_path, monkeypatch):
    seen, has_begun = [], threading.Event()

    def baseline(X, n_clusters, labels_true, seed):
        seen.append("k-means")
        assert threading.current_thread() is threading.main_thread()  # the one that hears signals
        assert seed < 2 or has_begun.wait(10)  # two trials at a time
        return dict.fromkeys(("acc", "nmi", "ari"), seed / 10)

    def train(self, pixel_scores, known=None):
        seen.append("trial")
        has_begun.set()
        return grid.diverged_row(self.key, {"pixels": pixel_scores, "seconds": 1, "problem": ""})

    monkeypatch.setattr(grid.results, "kmeans_baseline", baseline)
    monkeypatch.setattr(grid.Cell, "run", train)
    with joblib.parallel_config("threading"):
        rows = grid.run_grid(["FcDEC"], ["digits"], tmp_path, n_trials=9, n_jobs=2, verbose=0)
    assert sorted(seen) == ["k-means"] * 9 + ["trial"] * 9
    assert [row["kmeans_acc"] for row in rows[:9]] == [i / 10 for i in range(9)]


@pytest.mark.slow
def test_trials_on_a_cluster(tiny, tmp_path):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config("dask"),
    ):
        rows = grid.run_grid(
            ["FcDEC"], ["digits"], tmp_path, n_trials=2, data_dir="data", n_jobs=2,
            pretrain_epochs=1, max_iter=2,
        )  # fmt: skip
    assert [row["trials"] for row in rows] == [0, 1, "mean", "std"]
    assert all((tmp_path / f"digits/FcDEC/trial{i}/labels.npy").exists() for i in range(2))


def test_a_diverged_trial_does_not_end_the_grid(run, tiny, monkeypatch):
    original = experiment.train

    def train(estimator, *args, **kwargs):
        if kwargs["method"] == "FcDEC":
            raise TrainingDivergedError("The loss became nan.")
        return original(estimator, *args, **kwargs)

    monkeypatch.setattr(grid.experiment, "train", train)
    code, out, _ = run(*GRID, "--pretrain-epochs", 1, "--maxiter", 2)
    assert code == 0
    cells = re.split(" {2,}", out.splitlines()[1])
    assert cells[2].startswith("nan") and 0.7 < float(cells[5]) < 0.9
    with open("results/dec_da/results.csv", newline="") as file:
        means = {
            row["method"]: row["acc"] for row in csv.DictReader(file) if row["trials"] == "mean"
        }
    assert means["FcDEC"] == "nan" and float(means["FcIDEC-DA"]) > 0


def test_a_diverged_trial_is_not_run_again_by_resume(run, tiny, monkeypatch):
    trained, original = [], experiment.train

    def train(estimator, *args, **kwargs):
        trained.append(kwargs["method"])
        if kwargs["method"] == "FcDEC":
            raise TrainingDivergedError("The loss became nan.")
        return original(estimator, *args, **kwargs)

    monkeypatch.setattr(grid.experiment, "train", train)
    command = [*GRID, "--pretrain-epochs", 1, "--maxiter", 2]
    _, out, _ = run(*command)
    table = Path("results/dec_da/results.csv").read_text()
    assert len(trained) == 4
    # The note is as good as a result.
    assert run(*command, "--resume")[:2] == (0, out)
    assert Path("results/dec_da/results.csv").read_text() == table
    assert len(trained) == 4
    # Without it, or with a broken one, that trial runs again; without --resume all do.
    notes = [Path(f"results/dec_da/digits/FcDEC/trial{i}/diverged.json") for i in range(2)]
    notes[0].unlink()
    notes[1].write_text("{")
    run(*command, "--resume")
    assert trained[4:] == ["FcDEC"] * 2 and all(note.exists() for note in notes)
    # Of other settings it is not; what ends well leaves none.
    monkeypatch.setattr(grid.experiment, "train", original)
    run(*GRID, "--pretrain-epochs", 1, "--maxiter", 4, "-d", "results/dec_da")
    assert not any(note.exists() for note in notes)


@pytest.mark.parametrize(
    "change",
    [
        lambda note: "[" * 100_000,
        lambda note: json.dumps({**note, "seconds": 10**400}),
        lambda note: json.dumps({**note, "pixels": {"acc": "much"}}),
    ],
)
def test_a_damaged_note_of_a_diverged_trial_counts_for_nothing(change, tmp_path):
    data = Dataset(np.random.default_rng(0).random((20, 4, 4, 1)), np.arange(20) % 2, "digits")
    cell = grid.Cell("FcDEC", data, grid.RunFolder(tmp_path, resume=True), 0, 0, {})
    identity = grid.run_identity(cell.estimator, cell.task.X, cell.task.labels)
    note = {"identity": identity, "pixels": {"acc": 0.5}, "seconds": 1.5, "problem": "nan"}
    (tmp_path / "diverged.json").write_text(json.dumps(note))
    assert cell.finished_row()["time"] == 1.5
    (tmp_path / "diverged.json").write_text(change(note))
    assert cell.finished_row() is None


def test_a_stopped_cell_goes_on(run, tiny, monkeypatch):
    command = ["--methods", "FcDEC", "--datasets", "digits", "--trials", 1, "-v", 0,
               "--pretrain-epochs", 2, "--maxiter", 2, "--checkpoint-every", 0]  # fmt: skip
    assert run(*command, "-d", "whole")[0] == 0
    written, write = [], checkpoints.CheckpointFolder.write

    def write_one_and_stop(self, checkpoint):
        write(self, checkpoint)
        written.append(1)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.CheckpointFolder, "write", write_one_and_stop)
        assert run(*command, "-d", "stopped")[0] == 130
    assert len(written) == 1
    assert run(*command, "-d", "stopped", "--resume")[0] == 0
    whole, stopped = (
        np.load(f"{folder}/digits/FcDEC/trial0/labels.npy") for folder in ("whole", "stopped")
    )
    assert np.array_equal(whole, stopped)


def test_help_tells_the_defaults(run):
    """Kept by hand: --help must not wait for an engine to start."""
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    text = " ".join(out.split())
    large, digits = (presets.DATASET_SETTINGS[name] for name in ("mnist", "digits"))
    assert (
        f"the paper's {large['max_iter']}; for digits, which it lacks, {digits['max_iter']}" in text
    )
    assert large["pretrain_epochs"] == digits["pretrain_epochs"]
    assert f"default: {large['pretrain_epochs']}, the paper's" in text


def test_precision_reaches_grid_and_config(run, monkeypatch):
    seen = []

    def stop(*args, **params):
        seen.append(params.get("precision") or args[1].precision)
        raise ValueError("enough")

    monkeypatch.setattr(grid, "run_grid", stop)
    monkeypatch.setattr("kingdra_cluster.experiment.run", stop)
    config = ROOT / "configs/kingdra_ladder_im_digits.json"
    assert run("--precision", "tf32")[0] == run(config, "--precision", "tf32")[0] == 2
    assert seen == ["tf32", "tf32"]


def test_grid_arguments_and_a_config_exclude_each_other(run):
    code, out, err = run("a.json", "--trials", 2)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--trials must come without CONFIG" in err


# --- Kingdra's configs ---


def small_config(folder, **changes):
    rng = np.random.default_rng(0)
    np.save(folder / "X.npy", rng.uniform(size=(60, 6)).astype(np.float32))
    np.save(folder / "Y.npy", np.arange(60) % 3)
    content = {
        "training_path": "X.npy", "ground_truth_path": "Y.npy", "n_class": 3, "n_en": 2,
        "high_th": 1, "n_iter": 2, "n_epochs_per_iter0": 1, "fc_layer_sizes": [4, 3],
        "denoising_cost": [10, 1, 0.1], "batch_size": 20, "low_th": 0, "thresh": 0, "lr": 0.02,
        "mi_loss_w_init": 1, **changes,
    }  # fmt: skip
    path = folder / "small.json"
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return path


@pytest.mark.filterwarnings("ignore:All samples are in one cluster")
def test_a_config_runs_and_leaves_its_files(run, tmp_path):
    code, out, _ = run(small_config(tmp_path), "--seed", 3)
    assert code == 0
    lines = out.splitlines()
    assert sum(line.startswith("iteration ") and "acc" in line for line in lines) == 2
    assert CLOSING.fullmatch(lines[-1])
    assert any(line.startswith("k-means") for line in lines)
    folder = tmp_path / "results/small"
    record = json.loads((folder / "results.json").read_text())
    assert (record["seed"], record["settings"]["n_en"]) == (3, 2)
    assert {"versions", "device", "seconds", "metrics", "data"} <= set(record)
    assert np.load(folder / "labels.npy").shape == (60,)
    assert len(json.loads((folder / "history.json").read_text())) == 2
    assert configs.KingdraCluster.load(folder / "model.h5").n_class == 3


@pytest.mark.parametrize("text", ['{"n_en": 2, "n_en": 3}', '{"a": {"n_en": 1, "n_en": 2}}'])
def test_a_key_that_comes_twice(text, run, tmp_path):
    (tmp_path / "twice.json").write_text(text)
    code, out, err = run("twice.json")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "(the key 'n_en' comes twice)" in err


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"n_ens": 3}, "unknown key 'n_ens' for KingdraCluster; the known ones are"),
        ({"model": "Ladder"}, "model must be one of KingdraCluster, LadderIM; got 'Ladder'"),
        ({"dataset": "digits"}, "training_path must name a file or a folder of images, or"),
        ({"training_path": "none.npy"}, "training_path must be an existing file"),
        (
            {"dataset": "nope", "training_path": None, "ground_truth_path": None},
            "small.json: dataset must be one of mnist",
        ),
        ({"n_class": 99, "fc_layer_sizes": [8, 99]}, "n_class must be at most n_samples=60"),
        ({"n_class": 4}, "n_class must be the last of fc_layer_sizes"),
        ({"high_th": 9}, "high_th must be in the range 0 to 1 for n_en=2"),
    ],
)
def test_a_wrong_config_is_one_line(run, tmp_path, changes, text):
    code, out, err = run(small_config(tmp_path, **changes))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert text in err
    assert not (tmp_path / "results").exists()


def test_labels_of_another_length(run, tmp_path):
    path = small_config(tmp_path)
    np.save(tmp_path / "Y.npy", np.arange(59) % 3)
    code, _, err = run(path)
    assert code == 2 and "60 labels" in err and err.count("\n") == 1


def test_the_closing_table_names_what_predicts():
    scores = {"acc": 0.5, "nmi": 0.25, "ari": 0.125}
    record = {
        "model": "KingdraCluster",
        "settings": {"ens_common_mapping": True},
        "metrics": {"kmeans": scores, "members": [scores, scores], "final": scores},
        "paper": {"acc": 0.75},
    }
    rows = [re.split(" {2,}", line.strip()) for line in kingdra_report(record).splitlines()]
    assert [row[0] for row in rows[1:-1]] == [
        "k-means", "member 1", "member 2", "members' mean", "ensemble", "paper",
    ]  # fmt: skip
    assert rows[-2][1] == "0.7500"
    record["settings"]["ens_common_mapping"] = False
    assert "member 1 predicts" in kingdra_report(record)
    record["metrics"]["members"] = [scores]
    assert "KingdraCluster  0.5000" in kingdra_report(record)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.json")), ids=lambda p: p.stem)
def test_every_config_is_read_and_its_arguments_are_good(path):
    config = configs.read_config(path)
    estimator = config.make_estimator(random_state=0)
    estimator.check()
    if config.paper_row:
        assert 0 < config.paper_figure()["acc"] < 1


def test_the_papers_settings():
    wanted = {  # SPEC 2.6
        "mnist": (10, 50, 5, 5, 0.3, 0.1, None, 1, 0.002, 0.9, 1, 9, False, True),
        "stl10": (10, 30, 6, 6, 1, 0.2, 0, 1, 0.002, 0, 1, 9, True, True),
        "cifar10": (10, 30, 1, 1, 0.3, 1, 0.5, 0, 0.02, 0, 1, 9, True, False),
        "reuters": (4, 10, 5, 6, 3, 0.2, None, 1, 0.002, 0, 2, 8, False, True),
        "20news": (20, 10, 5, 5, 0.3, 0.2, None, 1, 0.002, 0, 1, 9, False, True),
    }
    keys = (
        "n_class n_iter n_epochs_per_iter0 n_epochs_per_iter noise_std mi_loss_w_init "
        "mi_loss_w_it2 noise_kl_w_init lr thresh low_th high_th last_layer_bn ens_common_mapping"
    ).split()
    for name, values in wanted.items():
        config = configs.read_config(ROOT / f"configs/kingdra_ladder_im_{name}.json")
        params = config.make_estimator().get_params()
        assert tuple(params[key] for key in keys) == values, name
        assert list(params["fc_layer_sizes"]) == [1200, 1200, values[0]]


# Two iterations on 300 samples need not find pseudo-labels.
@pytest.mark.filterwarnings("ignore:No round found pseudo-labels")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:All samples are in one cluster")
@pytest.mark.parametrize("name", PAPER)
def test_the_papers_networks_run(name):
    width = {"mnist": 784, "stl10": 2048, "cifar10": 2048, "reuters": 2000, "20news": 2000}[name]
    X = np.random.default_rng(0).uniform(size=(300, width)).astype(np.float32)
    config = configs.read_config(ROOT / f"configs/kingdra_ladder_im_{name}.json")
    model = config.make_estimator(random_state=0, n_iter=2).fit(X)
    assert model.n_iter_ == 2 and model.labels_.shape == (300,)
