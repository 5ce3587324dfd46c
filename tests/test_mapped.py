"""Arrays in files, np.memmap: read block by block, with the results of arrays in memory."""

import mmap

import numpy as np
import pytest

from clustering_common import mapped, results, training, user_data
from clustering_common.mapped import is_mapped, rows_of, stays_in_file
from dec_da import ConvDEC, FcDCN, FcDEC, FcIDEC, models
from kingdra_cluster import KingdraCluster

DEC = {
    "n_clusters": 3, "aug_pretrain": True, "aug_cluster": True, "pretrain_epochs": 2,
    "update_interval": 3, "max_iter": 6, "tol": 0, "batch_size": 10, "random_state": 0,
}  # fmt: skip
KINGDRA = {
    "n_class": 3, "n_en": 2, "high_th": 1, "thresh": 0, "n_iter": 2, "fc_layer_sizes": (5, 3),
    "denoising_cost": (1, 1, 1), "batch_size": 10, "random_state": 0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def large(monkeypatch):
    """Let every array in a file count as large."""
    monkeypatch.setattr(mapped, "LARGE_BYTES", 1)
    monkeypatch.setattr(user_data, "LARGE_BYTES", 1)


def on_disk(path, array):
    np.save(path, array)
    return np.load(path, mmap_mode="r")


def test_views_of_a_file_are_known(tmp_path):
    X = on_disk(tmp_path / "x.npy", np.zeros((4, 6), np.float32))
    assert all(map(is_mapped, (X, np.asarray(X), X[1:], X.reshape(4, 2, 3))))
    assert not any(map(is_mapped, (np.zeros(3), X + 1, X[[0, 1]], X.copy(), [1], None)))


def test_small_files_are_read_whole(tmp_path, monkeypatch):
    # joblib hands arrays of a megabyte to its workers as np.memmap.
    X = on_disk(tmp_path / "x.npy", np.zeros((4, 6), np.float32))
    assert stays_in_file(X)
    monkeypatch.setattr(mapped, "LARGE_BYTES", 97)
    assert not stays_in_file(X)


def test_columns_are_refused(tmp_path):
    X = on_disk(tmp_path / "x.npy", np.asfortranarray(np.zeros((20, 6), np.float32)))
    with pytest.raises(ValueError, match="X must lie row by row in its file"):
        FcDEC(2).fit(X)


def test_kmeans_learns_from_a_part(tmp_path, monkeypatch):
    array = np.repeat(np.eye(3, dtype=np.float32), 50, axis=0)
    monkeypatch.setattr(results, "KMEANS_BYTES", 60 * 12)
    found = results.kmeans_baseline(on_disk(tmp_path / "x.npy", array), 3, np.arange(150) // 50, 0)
    assert found["acc"] == 1


def test_rows_come_in_the_order_asked(tmp_path):
    array = np.arange(24.0).reshape(8, 3)
    X = on_disk(tmp_path / "x.npy", array)
    indices = np.array([[7, 0, 3], [3, 1, 2]])
    rows = rows_of(np.asarray(X), indices)
    assert rows.dtype == np.float32 and rows.shape == (2, 3, 3)
    np.testing.assert_array_equal(rows, array[indices])


@pytest.mark.skipif(not hasattr(mmap, "MADV_WILLNEED"), reason="the system has no such advice")
@pytest.mark.parametrize(("n_rows", "width"), [(40, 3000), (5000, 8)])
def test_rows_are_asked_for_at_once(tmp_path, n_rows, width):
    X = on_disk(tmp_path / "x.npy", np.random.default_rng(0).random((n_rows, width), np.float32))
    view = np.asarray(X)[3:]
    rows = np.array([7, 2, 30, 2])
    np.testing.assert_array_equal(rows_of(view, rows), np.array(X)[3:][rows])
    pages = [page for start, end in mapped.page_ranges(view, X._mmap, np.sort(rows))
             for page in range(start, end + 1)]  # fmt: skip
    bytes_of = [(X.offset + (3 + row) * 4 * width, 4 * width) for row in rows.tolist()]
    wanted = {at // mmap.PAGESIZE for begin, n in bytes_of for at in range(begin, begin + n)}
    assert wanted <= set(pages) and len(pages) == len(set(pages))
    assert len(pages) <= len(wanted) + 3 * mapped.GAP_PAGES


@pytest.mark.filterwarnings("ignore:After fit")
@pytest.mark.parametrize(
    ("family", "params"),
    [
        (FcDEC, {"layer_sizes": (5, 2)}),
        (FcIDEC, {"layer_sizes": (5, 2)}),
        (FcDCN, {"layer_sizes": (5, 2), "move_centers": True}),
        (ConvDEC, {"filters": (2, 2, 2), "embedding_dim": 2}),
    ],
)
def test_a_file_gives_what_an_array_gives(images, tmp_path, monkeypatch, family, params):
    X = on_disk(tmp_path / "x.npy", images)
    inside = family(**DEC, **params).fit(images)
    # Blocks of two steps, chunks of 15 rows.
    monkeypatch.setattr(training, "BLOCK_BYTES", 2 * 10 * (64 * 4 + 4))
    for module in (training, models):
        monkeypatch.setattr(module, "ROWS_PER_CALL", 15)
    fed = family(**DEC, **params).fit(X)
    np.testing.assert_array_equal(fed.labels_, inside.labels_)
    np.testing.assert_allclose(fed.transform(X), inside.transform(images), atol=1e-4)
    losses = [[row["loss"] for row in model.history_["pretrain"]] for model in (fed, inside)]
    np.testing.assert_allclose(*losses, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:No round found")
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_kingdra_too_and_other_numbers(blobs, tmp_path, dtype):
    array = (10 * blobs).astype(dtype)
    X = on_disk(tmp_path / "x.npy", array)
    inside, fed = (KingdraCluster(**KINGDRA).fit(each) for each in (array, X))
    np.testing.assert_array_equal(fed.labels_, inside.labels_)


def test_the_data_is_not_copied_whole(tmp_path, monkeypatch):
    X = on_disk(tmp_path / "x.npy", np.random.default_rng(0).random((5000, 16), np.float32))
    most = []
    original = mapped.rows_of

    def watched(X, indices):
        most.append(indices.size)
        return original(X, indices)

    monkeypatch.setattr("dec_da.models.rows_of", watched)
    monkeypatch.setattr(training, "BLOCK_BYTES", 100 * 16 * 4)
    model = FcDEC(
        3, layer_sizes=(4, 2), pretrain_epochs=1, max_iter=5, update_interval=5, batch_size=50,
        random_state=0,
    ).fit(X)  # fmt: skip
    assert len(model.labels_) == 5000 and max(most) <= 100


def test_values_that_are_not_finite_are_found(tmp_path):
    array = np.zeros((300, 4), np.float32)
    array[277, 2] = np.nan
    X = on_disk(tmp_path / "x.npy", array)
    with pytest.raises(ValueError, match="the first is row 277"):
        FcDEC(2).fit(X)


def test_a_large_file_stays_one(tmp_path, monkeypatch):
    array = np.random.default_rng(0).random((20, 4), np.float32)
    np.save(tmp_path / "x.npy", array)
    X = user_data.load_user_data(tmp_path / "x.npy").X
    assert is_mapped(X)
    np.testing.assert_array_equal(X, array)
    np.save(tmp_path / "x.npy", array.astype(np.float64))  # converted in memory
    assert not is_mapped(user_data.load_user_data(tmp_path / "x.npy").X)
    content = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(content[:-9])
    with pytest.raises(ValueError, match=r"must be a \.npy file; got 640 bytes declared and 631"):
        user_data.load_user_data(tmp_path / "x.npy")
