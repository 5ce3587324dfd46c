"""What a Kingdra config may name as its data: all that main.py takes, and CSR matrices."""

import csv
import json

import h5py
import numpy as np
import pytest
import scipy.sparse
from PIL import Image

import run_exp
from clustering_common import cli, mapped, user_data
from clustering_common.user_data import load_user_data
from kingdra_cluster.configs import read_config
from kingdra_cluster.experiment import load_data

pytestmark = [
    pytest.mark.usefixtures("uncompiled"),
    pytest.mark.filterwarnings("ignore:All samples are in one cluster"),
    pytest.mark.filterwarnings("ignore:No round found pseudo-labels"),
]
SMALL = {
    "n_class": 3, "n_en": 2, "high_th": 1, "n_iter": 1, "n_epochs_per_iter0": 1,
    "fc_layer_sizes": [4, 3], "denoising_cost": [10, 1, 0.1], "batch_size": 20, "low_th": 0,
    "thresh": 0,
}  # fmt: skip
X = np.random.default_rng(0).random((60, 16), np.float32)
Y = np.arange(60) % 3


@pytest.fixture
def run(capsys, monkeypatch, tmp_path, handlers):
    """Write a config, run it in its folder; return exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*argv, **content):
        (tmp_path / "own.json").write_text(json.dumps({**SMALL, **content}))
        code = cli.run(run_exp.command, ["own.json", "-v", "0", *argv])
        return code, *capsys.readouterr()

    return run


def make_npz(folder):
    np.savez(folder / "x.npz", a=X, b=X[:, :8], y=Y)
    return {"training_path": "x.npz", "data_key": "a"}, X, Y


def make_csv(folder):
    lines = [",".join([*map(repr, row), str(y)]) for row, y in zip(X.tolist(), Y, strict=True)]
    header = ",".join([*(f"f{i}" for i in range(16)), "label"])
    (folder / "x.csv").write_text("\n".join([header, *lines]))
    return {"training_path": "x.csv"}, X, Y


def make_parquet(folder):
    pytest.importorskip("pyarrow")
    import pandas

    pandas.DataFrame(X).rename(columns=str).assign(label=Y).to_parquet(folder / "x.parquet")
    return {"training_path": "x.parquet"}, X, Y


def make_h5(folder):
    with h5py.File(folder / "x.h5", "w") as file:
        file["train/x"] = X
    np.save(folder / "y.npy", Y)
    content = {"training_path": "x.h5", "data_key": "train/x", "ground_truth_path": "y.npy"}
    return content, X, Y


def make_csr(folder):
    matrix = scipy.sparse.csr_matrix(X * (X > 0.7))
    scipy.sparse.save_npz(folder / "x.npz", matrix)
    (folder / "y.csv").write_text("\n".join(map(str, Y)))
    return {"training_path": "x.npz", "ground_truth_path": "y.csv"}, matrix, Y


def make_images(folder):
    (folder / "images").mkdir()
    for i, row in enumerate(X):
        pixels = (row.reshape(4, 4) * 255).astype(np.uint8)
        Image.fromarray(pixels).resize((8, 8)).save(folder / f"images/{i:02d}.png")
    content = {"training_path": "images", "image_size": 4, "colour": "grey"}
    return content, load_user_data(folder / "images", image_size=4).X.reshape(60, 16), None


@pytest.mark.parametrize(("size", "colour"), [([12, 48], "grey"), ([20, 30], "rgb")])
def test_images_are_shown_in_their_own_shape(run, tmp_path, size, colour):
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for i in range(30):
        pixels = rng.integers(256, size=(*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/{i:02d}.png")
    content = {"training_path": "images", "image_size": size, "colour": colour}
    code, _, err = run("--report", **content)
    assert code == 0, err
    data = load_data(read_config("own.json"), ".")
    shape = (*size, 3) if colour == "rgb" else tuple(size)
    with np.load(tmp_path / "results/own/report.npz") as arrays:
        assert data.image_shape == shape and data.X.ndim == 2
        wanted = np.rint(data.X[arrays["shown"]] * 255).reshape(-1, *shape)
        np.testing.assert_array_equal(arrays["shown_image"], wanted)


def test_what_is_an_image(run, tmp_path):
    def shape(array, path="x.npy"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / path, np.full(array, 0.5, np.float32))
        config = tmp_path / "own.json"
        config.write_text(json.dumps({"training_path": path, "n_class": 2}))
        return load_data(read_config(config), ".").image_shape

    assert shape((9, 784)) is None and shape((9, 12)) is None
    assert shape((9, 3, 4)) == (3, 4) and shape((9, 3, 4, 1)) == (3, 4)
    assert shape((9, 3, 4, 3)) == (3, 4, 3) and shape((9, 3, 4, 2)) is None
    # The vectors that `prepare` makes are known by their place.
    assert shape((9, 784), "ens_cluster_datasets/mnist/train_X.npy") == (28, 28)
    assert shape((9, 256), "ens_cluster_datasets/mnist/train_X.npy") is None
    assert shape((9, 2048), "ens_cluster_datasets/cifar10/train_X.npy") is None
    assert shape((9, 784), "mnist/train_X.npy") is None
    (tmp_path / "own.json").write_text(json.dumps({"dataset": "digits", "n_class": 10}))
    assert load_data(read_config("own.json"), ".").image_shape == (8, 8)


MAKERS = [make_npz, make_csv, make_parquet, make_h5, make_csr, make_images]


@pytest.mark.parametrize("make", MAKERS)
def test_data_of_every_kind(make, run, tmp_path):
    content, wanted, labels = make(tmp_path)
    code, out, err = run(**content)
    assert code == 0, err
    found = load_data(read_config("own.json"), ".")
    assert found.X.shape == (60, 16) and found.X.dtype == np.float32
    assert abs(found.X - wanted).max() < 1e-6
    assert (found.labels is None) == (labels is None)
    assert ("acc=" in out) == (labels is not None)
    record = json.loads((tmp_path / "results/own/results.json").read_text())
    assert record["data"]["shape"] == [60, 16]
    # Finished: nothing is run again.
    assert run("--resume", **content)[1] == out


def test_labels_may_be_left_out(run, tmp_path):
    np.save(tmp_path / "x.npy", X)
    code, out, err = run(training_path="x.npy")
    assert code == 0, err
    rows = [line.split() for line in out.splitlines()[-3:]]
    assert sum(int(row[1]) for row in rows) == 60 and "acc=" not in out


def test_images_get_their_samples_csv(run, tmp_path):
    content, _, _ = make_images(tmp_path)
    assert run(**content)[0] == 0
    path = tmp_path / "results/own/samples.csv"
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [f"{i:02d}.png" for i in range(60)]
    labels = np.load(tmp_path / "results/own/labels.npy").tolist()
    assert [int(row["cluster"]) for row in rows] == labels
    assert all(1 / 3 <= float(row["probability"]) <= 1 for row in rows)
    path.unlink()
    assert run("--resume", **content)[0] == 0 and path.exists()
    (tmp_path / "images/00.png").rename(tmp_path / "images/000.png")
    code, _, err = run("--resume", **content)
    assert code == 2 and "whose run has names" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"training_path": "x.npy", "imagesize": 8}, "known ones are training_path, ground_truth"),
        ({"training_path": "x.npy", "imagesize": 8}, "dataset, image_size, colour, data_key, "),
        ({"training_path": "x.npy", "image_size": 8}, "image_size must come with a folder"),
        ({"training_path": "x.npy", "colour": "rgb"}, "colour must come with a folder"),
        ({"training_path": "x.npy", "data_key": "x"}, "data_key must come with a .npz or .h5"),
        ({"training_path": "images", "data_key": "x"}, "data_key must come with a .npz or .h5"),
        ({"training_path": "images", "image_size": "8"}, "image_size must be an integer >= 1"),
        ({"training_path": "images", "image_size": [8, 0]}, "image_size must be an integer >= 1"),
        ({"training_path": "images", "image_size": [8, 8, 8]}, "image_size must be one number"),
        ({"training_path": "images", "colour": "blue"}, "colour must be one of auto, grey, rgb"),
        ({"training_path": "images", "colour": 3}, "colour must be text; got 3"),
        ({"dataset": "digits", "image_size": 8}, "image_size must come with training_path"),
        ({"training_path": "x.npy", "ground_truth_path": "images"}, "ground_truth_path must be an"),
        ({"training_path": "no"}, "training_path must be an existing file; got 'no'"),
        ({}, "training_path must name a file or a folder of images, or dataset"),
    ],
)
def test_a_wrong_config_is_one_line(run, tmp_path, content, text):
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "images").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "images/a.png")
    code, out, err = run(**content)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert text in err


def test_a_large_file_is_fed(run, tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", X)
    content = {"training_path": "x.npy", "n_iter": 2}
    assert run(**content)[0] == 0
    inside = np.load(tmp_path / "results/own/labels.npy")
    for module in (mapped, user_data):
        monkeypatch.setattr(module, "LARGE_BYTES", 1)
    asked = []
    original = mapped.rows_of
    monkeypatch.setattr(
        "kingdra_cluster.members.rows_of", lambda X, at: asked.append(at.size) or original(X, at)
    )
    assert run("-d", "fed", **content)[0] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "fed/labels.npy"), inside)
    assert asked
