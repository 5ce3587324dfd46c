"""STL-10 and CIFAR-10 as clustering_common.prepare makes them."""

import gzip
import pickle
import re
from pathlib import Path

import keras
import numpy as np
import pytest

from clustering_common import prepare_images
from clustering_common.datasets import DatasetUnavailableError
from clustering_common.prepare_images import cifar10, extract, feature_model, read_stl10, stl10
from tests.preparing import answers_404, quiet, raising, tar_gz

pytestmark = pytest.mark.usefixtures("caches")


@pytest.fixture(scope="module")
def mean_model():
    """A stand-in for ResNet-50: the mean of each colour."""
    images = keras.Input((None, None, 3))
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))


def stl_bytes(n_samples, seed=0):
    """Return the two files, written as their authors describe, and what they hold."""
    rng = np.random.default_rng(seed)
    images = rng.integers(256, size=(n_samples, 96, 96, 3), dtype=np.uint8)
    content = bytearray()
    for image in images:
        for colour in range(3):
            for column in range(96):
                content += image[:, column, colour].tobytes()
    labels = (np.arange(n_samples) % 10).astype(np.uint8)
    return bytes(content), bytes(labels + 1), images, labels


def stl_archive(path, **changes):
    train_X, train_y, train_images, train_labels = stl_bytes(4)
    test_X, test_y, test_images, test_labels = stl_bytes(11, seed=1)
    contents = {
        "class_names.txt": b"airplane\n",
        "test_X.bin": test_X,
        "test_y.bin": test_y,
        "train_X.bin": train_X,
        "train_y.bin": train_y,
        "unlabeled_X.bin": b"\0" * 1000,
    }
    for name, content in changes.items():
        contents[name.replace("_bin", ".bin")] = content
    contents = {f"stl10_binary/{k}": v for k, v in contents.items() if v is not None}
    checksum = tar_gz(path, contents)
    images = np.concatenate([train_images, test_images])
    return checksum, images, np.concatenate([train_labels, test_labels])


def test_stl10_is_read_by_columns(tmp_path):
    _, images, labels = stl_archive(tmp_path / "stl.tar.gz")
    got, got_labels = read_stl10(tmp_path / "stl.tar.gz")
    np.testing.assert_array_equal(got, images)
    np.testing.assert_array_equal(got_labels, labels)
    assert (got.dtype, got_labels.dtype) == (np.uint8, np.int64)
    assert [path.name for path in tmp_path.glob("*stl*")] == ["stl.tar.gz"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"test_y_bin": None}, "no test_y.bin"),
        ({"test_X_bin": b"\1" * 100}, r"100 bytes and 11 labels \(test\)"),
        ({"train_X_bin": b"", "train_y_bin": b""}, r"0 bytes and 0 labels \(train\)"),
        ({"train_y_bin": b"\0\1\2\3"}, r"labels 1..10; got 0..3 \(train\)"),
        ({"train_y_bin": b"\1\1\2\13"}, r"labels 1..10; got 1..11 \(train\)"),
    ],
)
def test_stl10_with_wrong_content(tmp_path, changes, text):
    stl_archive(tmp_path / "stl.tar.gz", **changes)
    with pytest.raises(ValueError, match=text):
        read_stl10(tmp_path / "stl.tar.gz")


def test_stl10_cut_off_or_no_archive(tmp_path):
    path = tmp_path / "stl.tar.gz"
    stl_archive(path)
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"no archive", gzip.compress(b"no tar" * 200)):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"must be an intact .tar.gz file"):
            read_stl10(path)


def test_stl10_with_an_absurd_size(tmp_path, monkeypatch):
    stl_archive(tmp_path / "stl.tar.gz")
    monkeypatch.setattr(prepare_images, "STL_MAX_BYTES", 100_000)
    with pytest.raises(ValueError, match=r"at most 100000 bytes; got 304128 in test_X.bin"):
        read_stl10(tmp_path / "stl.tar.gz")


def test_stl10_comes_through_keras(server, monkeypatch, mean_model):
    folder, base = server
    checksum, images, labels = stl_archive(folder / "stl10_binary.tar.gz")
    monkeypatch.setattr(prepare_images, "STL_URL", f"{base}stl10_binary.tar.gz")
    monkeypatch.setattr(prepare_images, "STL_SHA256", checksum)
    X, got_labels = stl10(quiet, model=mean_model)
    # Sums of 9,216 bytes in float32.
    np.testing.assert_allclose(X, images.mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(got_labels, labels)


@answers_404
@pytest.mark.parametrize("is_there", [True, False])
def test_stl10_damaged_or_missing_on_the_server(server, monkeypatch, mean_model, is_there, caches):
    folder, base = server
    if is_there:
        (folder / "stl10_binary.tar.gz").write_bytes(b"something else")
    monkeypatch.setattr(prepare_images, "STL_URL", f"{base}stl10_binary.tar.gz")
    reason = "corrupted" if is_there else "404"
    place = re.escape(f"Put stl10_binary.tar.gz into {caches / 'keras' / 'datasets'}, from ")
    with pytest.raises(DatasetUnavailableError, match=rf"stl10 can't be .*{reason}.*{place}"):
        stl10(quiet, model=mean_model)


def test_stl10_is_found_where_the_error_says(tmp_path, monkeypatch, mean_model):
    checksum = stl_archive(tmp_path / "stl10_binary.tar.gz")[0]
    monkeypatch.setattr(prepare_images, "STL_URL", "http://127.0.0.1:9/")
    monkeypatch.setattr(prepare_images, "STL_SHA256", checksum)
    with pytest.raises(DatasetUnavailableError) as caught:
        stl10(quiet, model=mean_model)
    name, folder = re.search(r"Put (\S+) into (\S+), from http", str(caught.value)).groups()
    (tmp_path / name).rename(Path(folder) / name)
    assert len(stl10(quiet, model=mean_model)[0]) == 15


def cifar_like(n_train=8, n_test=4):
    rng = np.random.default_rng(0)
    return tuple(
        (rng.integers(256, size=(n, 32, 32, 3), dtype=np.uint8), np.arange(n)[:, np.newaxis] % 10)
        for n in (n_train, n_test)
    )


def test_cifar10_joins_train_and_test(mean_model):
    parts = cifar_like()
    X, labels = cifar10(quiet, load=lambda: parts, model=mean_model)
    images = np.concatenate([parts[0][0], parts[1][0]])
    np.testing.assert_allclose(X, images.mean(axis=(1, 2)), rtol=1e-5)  # sums in float32
    np.testing.assert_array_equal(labels, [*range(8), *range(4)])
    assert (X.dtype, labels.dtype) == (np.float32, np.int64)


def test_features_do_not_depend_on_the_batches(mean_model):
    images = cifar_like(7, 0)[0][0]
    said = []
    X = extract(mean_model, images, said.append, batch_size=3)
    np.testing.assert_allclose(X, extract(mean_model, images, quiet, batch_size=7), rtol=1e-6)
    assert [line.split(" images")[0] for line in said] == [
        f"features of {n} of 7" for n in (3, 6, 7)
    ]


def test_progress_is_told_at_most_fifty_times(mean_model):
    said = []
    extract(mean_model, np.zeros((300, 2, 2, 3), np.uint8), said.append, batch_size=2)
    assert 40 <= len(said) <= 51
    assert said[-1] == "features of 300 of 300 images, 0 min left"


def test_images_enter_the_network_resized_as_bgr_less_the_mean(monkeypatch):
    def small_network(*, include_top, pooling, weights, input_shape):
        assert (include_top, pooling, weights, input_shape) == (
            False,
            "avg",
            "imagenet",
            (224, 224, 3),
        )
        images = keras.Input(input_shape)
        return keras.Model(images, keras.layers.GlobalMaxPooling2D()(images))

    monkeypatch.setattr(keras.applications, "ResNet50", small_network)
    model = feature_model(32)
    images = np.empty((2, 32, 32, 3), np.uint8)
    images[:] = [10, 20, 30]
    features = extract(model, images, quiet)
    # ImageNet's mean of red, green and blue: 123.68, 116.779, 103.939.
    expected = [30 - 103.939, 20 - 116.779, 10 - 123.68]
    np.testing.assert_allclose(features, [expected, expected], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "name", "url"),
    [
        (cifar10, "cifar-10-python.tar.gz", prepare_images.CIFAR_URL),
        (stl10, "stl10_binary.tar.gz", prepare_images.STL_URL),
    ],
)
def test_without_the_weights_one_line_names_all_files(monkeypatch, make, name, url, caches):
    monkeypatch.setattr(keras.applications, "ResNet50", raising(Exception("URL fetch failure")))
    with pytest.raises(DatasetUnavailableError) as caught:
        make(quiet)
    text = str(caught.value)
    assert text.startswith("The ImageNet weights of ResNet-50 can't be downloaded (URL fetch")
    assert f"Put {prepare_images.WEIGHTS_NAME} into {caches / 'keras' / 'models'}" in text
    assert name in text
    assert url in text


@pytest.mark.slow
def test_resnet_gives_2048_features():
    model = feature_model(32, weights=None)
    X = extract(model, cifar_like(3, 0)[0][0], quiet, batch_size=2)
    assert X.shape == (3, 2048)
    assert np.isfinite(X).all()
    # Averages after a rectifier.
    assert (X >= 0).all()


@pytest.mark.slow
def test_cifar10_is_found_where_the_error_says(tmp_path, monkeypatch, mean_model):
    from keras.src.datasets import cifar10 as module

    def get_file(fname, origin, file_hash, **kwargs):
        return keras.utils.get_file(fname, "http://127.0.0.1:9/cifar", **kwargs)

    monkeypatch.setattr(module, "get_file", get_file)
    with pytest.raises(DatasetUnavailableError) as caught:
        cifar10(quiet, model=mean_model)
    pattern = r"Put cifar-10-python.tar.gz, renamed to (\S+), into (\S+), from http"
    name, folder = re.search(pattern, str(caught.value)).groups()
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    batch = {b"data": np.zeros((10000, 3072), np.uint8), b"labels": [3] * 10000}
    content = pickle.dumps(batch)
    tar_gz(Path(folder) / name, {f"cifar-10-batches-py/{part}": content for part in names})
    monkeypatch.setattr(prepare_images, "BATCH_SIZE", 1000)
    X, labels = cifar10(quiet, model=mean_model)
    assert X.shape == (60000, 3)
    assert set(labels) == {3}
