"""The report's page: its numbers are those of the files, and it needs nothing but itself."""

import base64
import io
import json
import re
import sys
import types

import numpy as np
import pytest
from PIL import Image

from clustering_common import cli, files, report, report_data, report_page
from clustering_common.metrics import accuracy
from clustering_common.run_folder import RunFolder
from tests.reporting import HOSTILE, RECORD, Reader, make_fitted, make_run, make_samples


@pytest.fixture
def samples():
    return make_samples()


def test_the_page_stands_alone(tmp_path, samples):
    names = [f"{i}{HOSTILE}" for i in range(30)]
    classes = np.array([HOSTILE, "b", "c"])[samples[1]]
    page = make_run(tmp_path, samples, classes, names, dataset=HOSTILE, device=HOSTILE)
    found = Reader(page)
    assert len(set(found.ids)) == len(found.ids)
    for address in found.addresses:
        assert address.startswith("data:") or address[1:] in found.ids, address
    assert HOSTILE not in page and "<script" not in page and "http:" not in page
    assert found.text.count(HOSTILE) > 2 and "url(" not in page and "@import" not in page
    for part in (
        '<meta name="viewport" content="width=device-width', "@media print",
        "prefers-color-scheme: dark", "default-src 'none'",
    ):  # fmt: skip
        assert part in page


def test_its_numbers_are_those_of_the_files(tmp_path, samples):
    page = make_run(tmp_path, samples, samples[1])
    text = Reader(page).text
    for figure in ("0.8765", "0.7654", "0.6543", "0.5123", "1 min 15 s", "FcDEC-DA on photos"):
        assert figure in text, figure
    assert "ACC 0.8765" in text and "seed 4" in text and "stopped by max_iter" in text
    assert re.search(r"Cluster 2 10 33\.3 % 0\.\d\d", text) and "layer_sizes 8, 2" in text
    assert "Warnings" not in text
    tiles = dict(re.findall(r"<dt>([A-Z]+)</dt><dd>([\d.]+)</dd>", page))
    assert tiles == {"ACC": "0.8765", "NMI": "0.7654", "ARI": "0.6543"}
    record = json.loads((tmp_path / "results.json").read_text())
    closing = cli.score_line(record["metrics"]["final"])
    assert closing == "acc={ACC}, nmi={NMI}, ari={ARI}".format(**tiles)


def test_the_surest_and_the_least_sure_samples(tmp_path, samples):
    X, _ = samples
    page = make_run(tmp_path, samples)
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)" alt="sample (\d+), cluster 1', page)
    # Of cluster 1 are 1, 4, ..., 28; the later, the surer. Ten make five of each kind.
    assert [int(i) for _, i in pictures] == [28, 25, 22, 19, 16, 1, 4, 7, 10, 13]
    for content, i in pictures:
        with Image.open(io.BytesIO(base64.b64decode(content))) as image:
            np.testing.assert_array_equal(np.asarray(image), np.rint(X[int(i)] * 255))
    assert f"sample 28, cluster 1, {0.5 + 28 / 120:.2f}" in page


def test_vectors_have_a_list_and_no_pictures(tmp_path, samples):
    # As long as an image, from 0 to 1: still a table.
    X, labels = samples
    X = X.reshape(30, 64)
    fitted = make_fitted(X, labels, proba=lambda rows: np.full((len(rows), 3), 1 / 3))
    page = make_run(tmp_path, (X, labels), fitted=fitted)
    assert "<img" not in page and "sample 1</span><span>0.33" in page


def test_images_kept_as_vectors_are_shown_in_their_own_shape(samples):
    # As many pixels as a square of 24 x 24 has: only their shape tells.
    labels = samples[1]
    X = np.random.default_rng(0).uniform(size=(30, 12, 48)).astype(np.float32)
    X[:, 0, 1] = labels / 2
    fitted = make_fitted(X, labels, reconstruct=lambda rows: rows)
    found = report_data.collected(X.reshape(30, -1), fitted, image_shape=(12, 48))
    np.testing.assert_array_equal(found["shown_image"], np.rint(X[found["shown"]] * 255))
    assert found["pair_made"].shape == (12, 12, 48)


def test_reconstructions(tmp_path, samples):
    X, labels = samples
    fitted = make_fitted(X, labels, reconstruct=lambda rows: 1 - rows, reconstructed_by="a mirror")
    page = make_run(tmp_path, samples, fitted=fitted)
    assert "below what a mirror makes of it" in page
    with np.load(tmp_path / "report.npz") as arrays:
        total = arrays["pair_image"].astype(int) + arrays["pair_made"]
        assert len(total) == 12 and abs(total - 255).max() <= 1


def test_the_confusion_matrix_shows_the_accuracy():
    counts = report_data.confusion(
        np.array(["a", "b"]), np.array([0, 0, 0, 1, 1, 0]), np.array([2, 2, 0, 1, 1, 1]), 3
    )
    # a: two in cluster 2, one in 0, one in 1; b: two in 1.
    assert counts["confusion_cluster"].tolist() == [2, 1, 0]
    assert counts["confusion"].tolist() == [[2, 1, 1], [0, 2, 0]]
    rng = np.random.default_rng(1)
    for n_classes, n_clusters in ((4, 4), (3, 6), (6, 3), (1, 2)):
        ids, labels = rng.integers(n_classes, size=90), rng.integers(n_clusters, size=90)
        classes, ids = np.unique(ids, return_inverse=True)
        found = report_data.confusion(classes.astype(str), ids, labels, n_clusters)["confusion"]
        assert found.sum() == 90 and np.trace(found) / 90 == pytest.approx(accuracy(ids, labels))


def test_only_some_rows_of_large_data_are_read(monkeypatch, samples):
    monkeypatch.setattr(report_data, "N_LOOKED_AT", 12)
    monkeypatch.setattr(report_data, "N_MAPPED", 7)
    X, labels = samples
    read = []

    class Rows:
        """Tells which rows were asked for."""

        shape, ndim = X.shape, X.ndim

        def __getitem__(self, rows):
            read.extend(np.atleast_1d(rows).tolist())
            return X[rows]

        def __array__(self, *args, **kwargs):
            raise AssertionError("all rows are read")

    one, two = (report_data.collected(Rows(), make_fitted(X, labels)) for _ in range(2))
    assert len(set(read)) == 12 and int(one["n_looked_at"]) == 12 and len(one["map_pca"]) == 7
    assert set(one["shown"]) == set(read)
    assert all(np.array_equal(one[name], two[name]) for name in one)
    monkeypatch.setattr(report_data, "N_BYTES", 4 * 64 * 5)
    assert int(report_data.collected(Rows(), make_fitted(X, labels))["n_looked_at"]) == 5


def test_large_images_are_made_small():
    X = np.zeros((4, 100, 200, 3), np.float32)
    X[:, :, :100, 0] = 1
    fitted = report.Fitted(
        np.zeros(4, int), 1, lambda r: np.ones((len(r), 1)), lambda r: r[:, 0, 0], "space"
    )
    image = report_data.collected(X, fitted, image_shape=(100, 200, 3))["shown_image"]
    assert image.shape == (4, 32, 64, 3) and image.dtype == np.uint8
    assert image[0, 16, 5].tolist() == [255, 0, 0] and not image[0, 16, 60].any()


def test_umap_where_it_is_installed(monkeypatch, tmp_path, samples):
    class UMAP:
        def __init__(self, n_neighbors, random_state):
            assert (n_neighbors, random_state) == (15, 0)

        def fit_transform(self, space):
            return -space[:, :2]

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=UMAP))
    page = make_run(tmp_path, samples, samples[1])
    assert "UMAP, by cluster" in page and "PCA, by class" in page
    monkeypatch.setitem(sys.modules, "umap", None)
    assert "UMAP" not in make_run(tmp_path, samples)


@pytest.mark.parametrize("n_samples", [1, 2])
def test_next_to_no_samples(tmp_path, samples, n_samples):
    X, labels = samples[0][:n_samples], samples[1][:n_samples]
    sizes = np.bincount(labels, minlength=3).tolist()
    page = make_run(tmp_path, (X, labels), labels, cluster_sizes=sizes)
    assert Reader(page).text.count("empty") >= 3 - n_samples


def test_warnings_stand_on_top():
    def warnings(history=(), **changes):
        return report_page.warnings({**RECORD, **changes}, history)

    assert not warnings()
    empty = {"empty_clusters": "1 of 3 clusters are empty", "cluster_sizes": [20, 0, 10]}
    assert warnings(**empty)[0] == "1 of 3 clusters are empty (number 1)."
    assert warnings(cluster_sizes=[25, 4, 1])[0] == "Cluster 0 holds 83 % of all samples."
    found = warnings(cluster_sizes=[100, 90, 2, 100])
    assert found == ["Cluster 2 holds 2 samples, less than a twentieth of an even share."]
    found = warnings(settings={"batch_size": 16})
    assert "In batches of 16, an epoch of 30 samples is 1 training step" in found[0]
    better = {"final": {"acc": 0.25}, "kmeans": {"acc": 0.5}}
    assert "has an ACC of 0.5000, more than this run's 0.2500" in warnings(metrics=better)[0]
    settings = {"use_pseudo_labels": True}
    assert "No round found" in warnings([{"iter": 0, "coverage": 0.0}], settings=settings)[0]
    assert not warnings([{"coverage": 0.0}, {"coverage": 0.5}], settings=settings)


def test_rounds_that_found_no_buckets(tmp_path):
    changes = {"config": "small", "model": "KingdraCluster", "cluster_sizes": [30, 0, 0]}
    history = [{"iter": i, "loss": 1.0, "coverage": 0.0, "bucket_sizes": []} for i in range(2)]
    RunFolder(tmp_path).finish({**RECORD, **changes, "settings": {"use_pseudo_labels": True}})
    files.write_json(tmp_path / "history.json", history)
    text = Reader(report.write_report(tmp_path).read_text()).text
    assert "KingdraCluster, small" in text and "No round found pseudo-labels" in text
    assert "Pseudo-label coverage" in text
