import functools
import gzip
import hashlib
import io
import re
import socket
import struct
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import _openml, load_digits

from clustering_common import array_files, dataset_files, datasets, keras_files
from clustering_common.dataset_files import npz_names, read_idx, read_jf, read_npy, read_npz
from clustering_common.datasets import (
    DatasetUnavailableError,
    dataset_names,
    download,
    load_dataset,
)
from tests.preparing import offline

FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")


def idx_bytes(array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def digits_like(n_samples, seed=0, side=4):
    rng = np.random.default_rng(seed)
    images = rng.integers(256, size=(n_samples, side, side), dtype=np.uint8)
    return images, (np.arange(n_samples) % 10).astype(np.uint8)


def write_idx(folder, seed=0, packed=True, parts=("train", "t10k"), stem="{}-{}-idx{}-ubyte"):
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for part, n_samples in zip(parts, (6, 3), strict=False):
        arrays = digits_like(n_samples, seed)
        for kind, array in zip(("images", "labels"), arrays, strict=True):
            content = idx_bytes(array)
            name = stem.format(part, kind, array.ndim) + (".gz" if packed else "")
            (folder / name).write_bytes(gzip.compress(content) if packed else content)
        written.append(arrays)
    return [np.concatenate(arrays) for arrays in zip(*written, strict=True)]


def jf_text(values, labels):
    lines = [
        f"{k} " + " ".join(f"{v:g}" for v in row) for k, row in zip(labels, values, strict=True)
    ]
    return "\n".join(["10 256", *lines, "-1"]) + "\n"


def write_jf(folder, packed=False):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    values, labels = rng.integers(0, 9, size=(5, 256)) / 4, np.array([6, 0, 9, 1, 2])
    for name, rows in (("usps_train.jf", slice(3)), ("usps_test.jf", slice(3, 5))):
        content = jf_text(values[rows], labels[rows]).encode()
        path = folder / (name + (".gz" if packed else ""))
        path.write_bytes(gzip.compress(content) if packed else content)
    return values, labels


def no_network(name):
    raise DatasetUnavailableError("no network")


@pytest.fixture(autouse=True)
def no_system_folders(monkeypatch):
    monkeypatch.setattr(datasets, "SYSTEM_FOLDERS", {})


# What load_dataset gives


def test_names():
    assert dataset_names() == ("mnist", "mnist-test", "fmnist", "usps", "digits")


def test_digits():
    digits = load_dataset("digits")
    source = load_digits()
    assert digits.images.shape == (1797, 8, 8, 1)
    assert digits.name == "digits"
    np.testing.assert_array_equal(digits.images[..., 0] * 16, source.images)
    np.testing.assert_array_equal(digits.labels, source.target)
    assert digits.images.max() == 1.0
    # Worked by hand: the third pixel of the first image is 5.
    assert digits.vectors[0, 2] == 5 / 16


def check_types(dataset):
    assert dataset.images.dtype == np.float32
    assert dataset.labels.dtype == np.int64
    assert dataset.images.shape[-1] == 1
    assert dataset.images.shape[0] == len(dataset.labels)
    assert np.shares_memory(dataset.vectors, dataset.images)
    assert dataset.vectors.shape == (len(dataset.images), dataset.images[0].size)
    assert 0 <= dataset.images.min() <= dataset.images.max() <= 1


@pytest.mark.parametrize("name", ["mnist", "mnist-test", "fmnist", "usps", "digits"])
def test_types_and_shapes(name, tmp_path):
    write_idx(tmp_path / "mnist")
    write_idx(tmp_path / "fmnist")
    write_jf(tmp_path / "usps")
    check_types(load_dataset(name, tmp_path, fetch=no_network))


@pytest.mark.parametrize("stem", ["{}-{}-idx{}-ubyte", "{}-{}.idx{}-ubyte"])
@pytest.mark.parametrize("packed", [True, False])
def test_mnist_from_idx_files(tmp_path, packed, stem):
    images, labels = write_idx(tmp_path / "mnist", packed=packed, stem=stem)
    mnist = load_dataset("mnist", str(tmp_path), fetch=no_network)
    np.testing.assert_array_equal(mnist.images[..., 0], (images / 255).astype(np.float32))
    np.testing.assert_array_equal(mnist.labels, labels)
    test = load_dataset("mnist-test", tmp_path, fetch=no_network)
    np.testing.assert_array_equal(test.images, mnist.images[6:])
    np.testing.assert_array_equal(test.labels, labels[6:])
    assert test.name == "mnist-test"


def write_mnist_npz(folder, **replaced):
    folder.mkdir(parents=True, exist_ok=True)
    (x_train, y_train), (x_test, y_test) = digits_like(6, 1), digits_like(3, 2)
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    np.savez_compressed(folder / "mnist.npz", **(arrays | replaced))
    return arrays


@pytest.mark.parametrize("folder", ["mnist", "."])
def test_mnist_from_npz(tmp_path, folder):
    arrays = write_mnist_npz(tmp_path / folder)
    mnist = load_dataset("mnist", tmp_path, fetch=no_network)
    expected = np.concatenate([arrays["x_train"], arrays["x_test"]]) / np.float32(255)
    np.testing.assert_array_equal(mnist.images[..., 0], expected)
    test = load_dataset("mnist-test", tmp_path, fetch=no_network)
    np.testing.assert_array_equal(test.images[..., 0], expected[6:])
    np.testing.assert_array_equal(test.labels, arrays["y_test"])
    with pytest.raises(DatasetUnavailableError):
        load_dataset("fmnist", tmp_path, fetch=no_network)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("folder", ["usps", "."])
def test_usps(tmp_path, folder, packed):
    values, labels = write_jf(tmp_path / folder, packed)
    usps = load_dataset("usps", tmp_path, fetch=no_network)
    assert usps.images.shape == (5, 16, 16, 1)
    np.testing.assert_array_equal(usps.vectors, (values / 2).astype(np.float32))
    np.testing.assert_array_equal(usps.labels, labels)


# Which files are taken


@pytest.mark.parametrize("folder", ["fmnist", "fashion-mnist", "fashion_mnist"])
def test_same_file_names_are_told_apart_by_their_folder(tmp_path, folder):
    loose, _ = write_idx(tmp_path, seed=1)
    fashion, _ = write_idx(tmp_path / folder, seed=2)
    found = load_dataset("fmnist", tmp_path, fetch=no_network)
    np.testing.assert_array_equal(found.images[..., 0], fashion / np.float32(255))
    # Loose files are MNIST's, until it has a folder of its own.
    found = load_dataset("mnist", tmp_path, fetch=no_network)
    np.testing.assert_array_equal(found.images[..., 0], loose / np.float32(255))
    own, _ = write_idx(tmp_path / "mnist", seed=3)
    found = load_dataset("mnist", tmp_path, fetch=no_network)
    np.testing.assert_array_equal(found.images[..., 0], own / np.float32(255))


def test_loose_files_are_never_fashion(tmp_path):
    write_idx(tmp_path)
    with pytest.raises(DatasetUnavailableError):
        load_dataset("fmnist", tmp_path, fetch=no_network)


def test_a_folder_named_after_fashion_holds_no_mnist(tmp_path):
    folder = tmp_path / "fashion-mnist"
    write_idx(folder)
    assert len(load_dataset("fmnist", folder, fetch=no_network).labels) == 9
    with pytest.raises(DatasetUnavailableError):
        load_dataset("mnist", folder, fetch=no_network)


def test_system_folder_of_fashion(tmp_path, monkeypatch):
    write_idx(tmp_path / "system")
    monkeypatch.setattr(datasets, "SYSTEM_FOLDERS", {"fmnist": (tmp_path / "system",)})
    assert len(load_dataset("fmnist", tmp_path / "none", fetch=no_network).labels) == 9


def test_an_incomplete_folder_is_passed_over(tmp_path):
    write_idx(tmp_path / "mnist")
    (tmp_path / "mnist" / "train-labels-idx1-ubyte.gz").unlink()
    assert len(load_dataset("mnist-test", tmp_path, fetch=no_network).labels) == 3
    with pytest.raises(DatasetUnavailableError):
        load_dataset("mnist", tmp_path, fetch=no_network)
    write_jf(tmp_path)
    (tmp_path / "usps_test.jf").unlink()
    with pytest.raises(DatasetUnavailableError):
        load_dataset("usps", tmp_path, fetch=no_network)


# Downloads


def test_fetch_is_called_only_without_files(tmp_path):
    calls = []

    def fetch(name):
        calls.append(name)
        return np.full((2, 4, 4), 0.5), np.array([3, 4])

    fetched = load_dataset("mnist", tmp_path, fetch=fetch)
    check_types(fetched)
    assert calls == ["mnist"]
    write_idx(tmp_path / "mnist")
    load_dataset("mnist", tmp_path, fetch=fetch)
    assert calls == ["mnist"]


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("mnist", "train-images-idx3-ubyte.gz, .* or mnist.npz .from https://.*/mnist"),
        ("mnist-test", "train-images-idx3-ubyte.gz, .* or mnist.npz .from https://.*/mnist"),
        ("fmnist", "train-images-idx3-ubyte.gz, .* .from https://.*/fmnist"),
        ("usps", "usps_train.jf and usps_test.jf .from https://.*/usps"),
    ],
)
def test_no_files_and_no_network_is_one_line(tmp_path, name, files, monkeypatch):
    monkeypatch.setattr(datasets, "download", no_network)
    with pytest.raises(FileNotFoundError) as caught:
        load_dataset(name, tmp_path)
    text = str(caught.value)
    assert isinstance(caught.value, DatasetUnavailableError)
    assert "\n" not in text
    assert text.startswith("name must be a data set on disk or one that can be downloaded; got ")
    assert f"{name!r}, which is not in {tmp_path}" in text
    assert "(no network). Put " in text
    assert re.search(files + r"\.$", text)


@pytest.fixture
def keras_server(server, caches, monkeypatch):
    """Keras's own downloader, asking a server on this computer for what that holds when asked."""
    folder, base = server
    monkeypatch.setattr(keras_files, "URL", base)

    def publish():
        for files in keras_files.SHA256.values():
            for name in files:
                if (folder / name).exists():
                    checksum = hashlib.sha256((folder / name).read_bytes()).hexdigest()
                    monkeypatch.setitem(files, name, checksum)

    return folder, publish


def test_mnist_comes_through_keras(keras_server, tmp_path, caches):
    folder, publish = keras_server
    arrays = write_mnist_npz(folder)
    publish()
    mnist = load_dataset("mnist", tmp_path / "data")
    check_types(mnist)
    expected = np.concatenate([arrays["x_train"], arrays["x_test"]]) / np.float32(255)
    np.testing.assert_array_equal(mnist.images[..., 0], expected)
    assert len(load_dataset("mnist-test", tmp_path / "data").labels) == 3
    # Where keras.datasets.mnist looks for it too.
    assert (caches / "keras" / "datasets" / "mnist.npz").is_file()


def test_fashion_comes_through_keras(keras_server, tmp_path, caches):
    folder, publish = keras_server
    images, labels = write_idx(folder)
    publish()
    fashion = load_dataset("fmnist", tmp_path / "data")
    np.testing.assert_array_equal(fashion.images[..., 0], images / np.float32(255))
    np.testing.assert_array_equal(fashion.labels, labels)
    kept = sorted(path.name for path in (caches / "keras/datasets/fashion-mnist").iterdir())
    assert kept == sorted(keras_files.SHA256["fmnist"])


KEPT = {"mnist": "mnist.npz", "fmnist": "fashion-mnist/train-labels-idx1-ubyte.gz"}
# A deflate stream that is none, a file cut off, and intact images of something else.
DAMAGED = {
    "no deflate": lambda content: content[:-30] + b"\xff" * 30,
    "cut off": lambda content: content[: len(content) // 2],
    "altered": lambda content: gzip.compress(idx_bytes(np.ones(6, np.uint8))),
}


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_download_is_fetched_anew(keras_server, tmp_path, caches, name, damage):
    folder, publish = keras_server
    write_mnist_npz(folder)
    write_idx(folder)
    publish()
    expected = load_dataset(name, tmp_path / "data")
    kept = caches / "keras" / "datasets" / KEPT[name]
    content = kept.read_bytes()
    kept.write_bytes(damage(content))
    again = load_dataset(name, tmp_path / "data")
    np.testing.assert_array_equal(again.images, expected.images)
    np.testing.assert_array_equal(again.labels, expected.labels)
    assert kept.read_bytes() == content
    # And with the same damage on the server: one line, each time, until the server has mended it.
    for path in (kept, folder / kept.name):
        path.write_bytes(damage(content))
    for _ in range(2):
        with pytest.raises(DatasetUnavailableError, match=f"failed .'{kept}': Incompl.* Put ") as e:
            load_dataset(name, tmp_path / "data")
        assert "\n" not in str(e.value)
    (folder / kept.name).write_bytes(content)
    assert len(load_dataset(name, tmp_path / "data").labels) == 9


@pytest.mark.parametrize("name", KEPT)
def test_failure_of_keras_is_one_line(keras_server, monkeypatch, tmp_path, caches, name):
    kept = caches / "keras" / "datasets" / KEPT[name]
    kept.parent.mkdir(parents=True)
    with socket.socket() as free:  # a port that nobody listens on
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(keras_files, "URL", f"http://127.0.0.1:{free.getsockname()[1]}/")
        # With nothing kept, and with a file that is not the published one.
        for n_kept in range(2):
            for file_name in keras_files.SHA256[name] if n_kept else ():
                (kept.parent / file_name).write_bytes(b"damaged")
            with pytest.raises(
                DatasetUnavailableError, match=rf"'{kept.parent}/.*': URL fetch failure on http"
            ) as caught:
                load_dataset(name, tmp_path / "data")
            assert "refused" in str(caught.value)
            assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.skipif(not FASHION_FOLDER.is_dir(), reason=f"needs {FASHION_FOLDER}")
def test_checksums_are_those_of_the_published_files():
    """Debian packs Fashion-MNIST anew, without name and time; with both, they are the originals."""
    published = {  # MD5s of github.com/zalandoresearch/fashion-mnist
        "train-images-idx3-ubyte": (1504176606, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        "train-labels-idx1-ubyte": (1504176606, "25c81989df183df01b3e8a0aad5dffbe"),
        "t10k-images-idx3-ubyte": (1504176627, "bef4ecab320f06d8554ea6380940ec79"),
        "t10k-labels-idx1-ubyte": (1504176627, "bb300cfdad3c16e7a12a480ee83cd310"),
    }
    for name, (seconds, md5) in published.items():
        packed = (FASHION_FOLDER / f"{name}.gz").read_bytes()
        header = b"\x1f\x8b\x08\x08" + struct.pack("<I", seconds) + b"\0\x03"
        original = header + name.encode() + b"\0" + packed[10:]
        assert hashlib.md5(original).hexdigest() == md5
        checksum = keras_files.SHA256["fmnist"][f"{name}.gz"]
        assert hashlib.sha256(original).hexdigest() == checksum


def fake_keras(monkeypatch, error):
    def get_file(*args, **kwargs):
        raise error

    keras = types.ModuleType("keras")
    keras.utils = types.SimpleNamespace(get_file=get_file)
    monkeypatch.setitem(sys.modules, "keras", keras)


def test_a_bug_is_not_taken_for_a_missing_network(monkeypatch):
    fake_keras(monkeypatch, AttributeError("a bug"))
    with pytest.raises(AttributeError, match="a bug"):
        download("mnist")
    fake_keras(monkeypatch, OSError("No space\nleft"))
    with pytest.raises(DatasetUnavailableError, match=r"^'.*/mnist.npz': No space left$"):
        download("mnist")


def test_usps_of_openml_agrees_with_the_files(tmp_path, monkeypatch):
    values, labels = write_jf(tmp_path / "usps")

    def fetch_openml(*, data_id, **kwargs):
        assert data_id == 41082
        return values - 1, (labels + 1).astype(str)

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch_openml)
    from_files = load_dataset("usps", tmp_path)
    from_openml = load_dataset("usps", tmp_path / "none")
    np.testing.assert_array_equal(from_openml.images, from_files.images)
    np.testing.assert_array_equal(from_openml.labels, from_files.labels)
    check_types(from_openml)


def test_failure_of_openml_is_one_line(tmp_path, monkeypatch, caches):
    def fetch_openml(**kwargs):
        raise OSError("<urlopen error [Errno -2]>")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch_openml)
    line = rf"\('{caches}/sklearn/openml': <urlopen error \[Errno -2\]>\)\. Put "
    with pytest.raises(DatasetUnavailableError, match=line):
        load_dataset("usps", tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"damaged", "<urlopen error no network>"),  # is removed and asked for again
        (gzip.compress(b"{}" * 99)[:-9], "<urlopen error no network>"),
        (gzip.compress(b"{}"), r"'.*' must be OpenML's own files; got KeyError.* Delete it\."),
    ],
    ids=["no gzip", "cut off", "another"],  # the bytes hold the time, which differs among workers
)
def test_damage_to_what_openml_sent_is_one_line(tmp_path, monkeypatch, caches, content, reason):
    kept = caches / "sklearn/openml/openml.org/api/v1/json/data/41082.gz"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(content)
    monkeypatch.setattr(_openml, "urlopen", offline)
    monkeypatch.setattr(_openml.time, "sleep", lambda seconds: None)
    with pytest.raises(DatasetUnavailableError, match=reason) as caught:
        load_dataset("usps", tmp_path)
    assert f"'{caches}/sklearn/openml'" in str(caught.value)
    assert "\n" not in str(caught.value)


# Errors


def test_unknown_name():
    names = "mnist, mnist-test, fmnist, usps, digits"
    with pytest.raises(ValueError, match=f"^name must be one of {names}; got 'cifar'. Choose"):
        load_dataset("cifar")


def raises_line(text, call, *args):
    with pytest.raises(ValueError, match=text) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    assert re.search(r" must be .*; got .*\. [A-Z].*\.$", str(caught.value))


def written(tmp_path, content, name="file"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


GOOD_IDX = idx_bytes(digits_like(3)[0])
BAD_IDX = {
    "empty": (b"", "must be an idx file of bytes with 3 axes .*; got a header of no bytes"),
    "html": (b"<html>404</html>", "magic 00 00 08 03.; got a header 3c 68 74 6d"),
    "labels": (idx_bytes(digits_like(30)[1]), "got a header 00 00 08 01"),
    "short header": (GOOD_IDX[:9], "got a header 00 00 08 03"),
    "no images": (idx_bytes(np.zeros((0, 4, 4), np.uint8)), "got the sizes 0 x 4 x 4"),
    "cut off": (GOOD_IDX[:-20], "declares 1 to 44 bytes; got the sizes 3 x 4 x 4"),
    "short": (GOOD_IDX[:-3], "of the 48 bytes that it declares; got 45 bytes"),
    "left-overs": (GOOD_IDX + b"x", "of the 48 bytes that it declares; got more"),
    "absurd": (GOOD_IDX[:4] + b"\xff" * 12 + b"x" * 99, r"got the sizes 4294967295 x 4294967295"),
    "packed, short": (gzip.compress(GOOD_IDX[:-3]), "that it declares; got 45 bytes"),
    "packed, left-overs": (gzip.compress(GOOD_IDX + b"x"), "that it declares; got more"),
    "packed, absurd": (gzip.compress(GOOD_IDX[:4] + b"\x00\xff\xff\xff" * 3), "declares 1 to "),
    "packed, cut off": (gzip.compress(GOOD_IDX)[:-9], "must be an intact .gz file; got "),
    "packed, damaged": (gzip.compress(GOOD_IDX)[:-8] + b"\0" * 8, "intact .gz file; got CRC check"),
    "packed, no deflate": (b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + b"\xff" * 30, "intact .gz file; got "),
}


@pytest.mark.parametrize(("content", "text"), BAD_IDX.values(), ids=BAD_IDX)
def test_bad_idx(tmp_path, content, text):
    raises_line(f"^'{tmp_path}/file' .*{text}", read_idx, written(tmp_path, content), 3)


def test_a_bomb_stops_at_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_files, "MAX_BYTES", 1000)
    bomb = gzip.compress(idx_bytes(np.zeros((100, 10, 10), np.uint8)))
    raises_line("declares 1 to 1000 bytes", read_idx, written(tmp_path, bomb), 3)
    # A line without an end, and lines without end.
    monkeypatch.setattr(dataset_files, "MAX_LINE_BYTES", 1000)
    bomb = gzip.compress(b"1" * 9999)
    raises_line("of at most 1000 bytes a line; got more", read_jf, written(tmp_path, bomb))
    monkeypatch.undo()
    monkeypatch.setattr(dataset_files, "MAX_JF_SAMPLES", 3)
    path = written(tmp_path, gzip.compress(jf_text(np.ones((3, 256)), [1, 2, 3]).encode()))
    assert read_jf(path)[1].tolist() == [1, 2, 3]
    bomb = gzip.compress(jf_text(np.ones((4, 256)), [1, 2, 3, 4]).encode())
    raises_line("of at most 3 samples; got more", read_jf, written(tmp_path, bomb))


def flipped(content, rng):
    damaged = bytearray(content)
    for position in rng.integers(len(content), size=rng.integers(1, 4)):
        damaged[position] = rng.integers(256)
    return bytes(damaged[: rng.integers(1, len(content) + 1)] if rng.random() < 0.3 else damaged)


@pytest.mark.parametrize("kind", ["idx", "idx.gz", "jf", "npy", "npz"])
def test_random_damage_is_an_error_or_nothing(tmp_path, kind):
    rng = np.random.default_rng(0)
    array = digits_like(3)[0]
    np.save(tmp_path / "x.npy", array)
    np.savez_compressed(tmp_path / "x.npz", x=array)
    cases = {
        "idx": (GOOD_IDX[:24], lambda path: read_idx(path, 3)),
        "idx.gz": (gzip.compress(GOOD_IDX), lambda path: read_idx(path, 3)),
        "jf": (jf_text(np.ones((2, 256)), [1, 2]).encode(), read_jf),
        "npy": ((tmp_path / "x.npy").read_bytes()[:150], read_npy),
        "npz": ((tmp_path / "x.npz").read_bytes(), lambda path: read_npz(path, npz_names(path))),
    }
    content, read = cases[kind]
    path, n_errors = tmp_path / "damaged", 0
    for _ in range(300):
        path.write_bytes(flipped(content, rng))
        try:
            read(path)
        except ValueError as error:
            n_errors += 1
            assert re.fullmatch(
                r"'.*damaged' must be .*; got .*\. (Replace|Write) .*\.", str(error)
            )
    assert n_errors > 50


LINE = "7 " + " ".join(["0.5"] * 256)
BAD_JF = {
    "empty": ("", "closing line; got 0 lines, the first ''"),
    "html": ("<html>\n404\n<p>\n</html>\n", "of 257 numbers in each sample line; got 1 in line 2"),
    "no header": (
        f"{LINE}\n{LINE}\n-1\n",
        "must be a .jf file of a header line, .* got 2 lines or more, the first '7 0.5",
    ),
    "cut off between lines": (f"10 256\n{LINE}\n{LINE}\n", "a sample in its last line 3"),
    "cut off in a line": (f"10 256\n{LINE}\n{LINE[:40]}", "a sample in its last line 3"),
    "cut off in a label": (f"10 256\n{LINE}\n7", "a sample in its last line 3"),
    "short line": (f"10 256\n{LINE}\n{LINE[:-4]}\n-1\n", "got 256 in line 3"),
    "blank line": (f"10 256\n{LINE}\n\n{LINE}\n-1\n", "got 0 in line 3"),
    "a word": (
        f"10 256\n{LINE[:-3]}x\n-1\n",
        "numbers; got could not convert string to float: 'x' in line 2",
    ),
    "nan": (f"10 256\n{LINE}\n{LINE[:-3]}nan\n-1\n", "values 0..2; got something else in line 3"),
    "range": (f"10 256\n{LINE[:-3]}2.5\n-1\n", "values 0..2; got something else in line 2"),
    "label": (f"10 256\n1{LINE}\n-1\n", "labels 0..9 and .* in line 2"),
    "half label": (f"10 256\n0.5{LINE[1:]}\n-1\n", "labels 0..9 and .* in line 2"),
}


@pytest.mark.parametrize(("text", "message"), BAD_JF.values(), ids=BAD_JF)
def test_bad_jf(tmp_path, text, message):
    raises_line(message, read_jf, written(tmp_path, text.encode()))


def test_jf_with_windows_line_ends_and_blank_closing_line(tmp_path):
    images, labels = read_jf(written(tmp_path, f"10 256\r\n{LINE}\r\n\r\n".encode()))
    assert labels.tolist() == [7]
    assert images.shape == (1, 16, 16)
    assert (images == 0.5).all()


def npy_bytes(tmp_path, array, **kwargs):
    np.save(tmp_path / "array.npy", array, **kwargs)
    return (tmp_path / "array.npy").read_bytes()


def test_bad_npy(tmp_path):
    good = npy_bytes(tmp_path, np.zeros((3, 40)))
    np.testing.assert_array_equal(read_npy(written(tmp_path, good)), np.zeros((3, 40)))
    absurd = good.replace(b"(3, 40), }         ", b"(3000000000, 40), }")
    cases = {
        "must be a .npy file; got EOF": b"",
        "the magic string is not correct": b"<html>404</html>",
        "960 bytes declared and 959 there": good[:-1],
        "960000000000 bytes declared and 9.. there": absurd,
        "got format version": good[:6] + b"\x07" + good[7:],
        "got pickled objects": npy_bytes(tmp_path, np.array([{}]), allow_pickle=True),
        r"got shape \(3, -4\)": good.replace(b"(3, 40)", b"(3, -4)"),
        r"got shape \(9,\) of <U0": npy_bytes(tmp_path, np.zeros(3, "U1"))
        .replace(b"<U1", b"<U0")
        .replace(b"(3,)", b"(9,)"),
    }
    for text, content in cases.items():
        raises_line(text, read_npy, written(tmp_path, content))


def npy_header(text, version=1):
    size = len(text).to_bytes({1: 2, 2: 4}[version], "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + text.encode()


HEADER = "{{'descr': {}, 'fortran_order': False, 'shape': {}, }}\n"
BAD_HEADERS = {
    "too long an axis": (HEADER.format("'<f4'", "(0, 2**70)".replace("2**70", str(2**70))), "1180"),
    "too long a product": (HEADER.format("'<f4'", f"(0, {2**62}, {2**62})"), "got shape"),
    "many minus signs": ("-" * 9000 + "1\n", "got "),
    "many brackets": ("[" * 9000, "got "),
    "many sums": ("+".join("1" * 4000), "got "),
    "half a dtype": (HEADER.format("('V',)", "(3,)"), "got "),
    "a structure": (HEADER.format("[('a', '<f4')]", "(3,)"), "got shape"),
    "no dtype": (HEADER.format("{'a': 1}", "(3,)"), "got "),
    "an unknown dtype": (HEADER.format("'<Z9'", "(3,)"), "got "),
    "many digits": (
        HEADER.format("'<f4'", f"({'9' * 4000}, {'9' * 4000})"),
        r"got shape \(9+\.\.\.",
    ),
    "too many digits": (HEADER.format("'<f4'", f"({'9' * 9000},)"), "got "),
    "a bad escape": (HEADER.format("'\\d'", "(3,)"), "got "),
    "too long": ("{" + " " * 10_000 + "}", "got a header of 10002 bytes"),
}


@pytest.mark.parametrize(("text", "message"), BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_bad_headers_of_npy(tmp_path, text, message):
    raises_line(message, read_npy, written(tmp_path, npy_header(text) + bytes(12)))
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", npy_header(text, 2) + bytes(12))
    raises_line(message, read_npz, path, ["a"])


def test_a_long_header_is_not_read(tmp_path):
    # Version 2 may declare a header of 4 GB.
    content = b"\x93NUMPY\2\0" + b"\xff" * 4
    raises_line("a header of 4294967295 bytes", read_npy, written(tmp_path, content))


def test_only_deflate_is_unpacked(tmp_path):
    # bzip2 unpacks 80 MB at a time, asked for or not.
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.npy", npy_bytes(tmp_path, np.zeros(9)))
    raises_line("packed by deflate or not at all; got method 12", read_npz, tmp_path / "x.npz", "a")


def test_left_overs_in_an_npz(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", npy_bytes(tmp_path, np.zeros(9)) + b"x")
    raises_line("'a' intact; got more bytes than declared", read_npz, tmp_path / "x.npz", ["a"])


def test_arrays_one_after_the_other(tmp_path):
    arrays = [np.arange(6).reshape(2, 3), np.array(3.5), np.array(["a", "bc"]), np.zeros((0, 4))]
    content = b"".join(npy_bytes(tmp_path, array) for array in arrays)
    stream = io.BytesIO(content)
    for array in arrays:
        read = array_files.read_array(stream, len(content) - stream.tell())
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)
    assert stream.tell() == len(content)


def test_too_many_images(tmp_path, monkeypatch):
    write_idx(tmp_path)
    monkeypatch.setattr(datasets, "MAX_IMAGES", 5)
    raises_line("a file of at most 5 images; got 6", load_dataset, "mnist", tmp_path)


def test_npy_in_fortran_order_and_big_endian(tmp_path):
    array = np.arange(12, dtype=">f4").reshape(3, 4)
    path = written(tmp_path, npy_bytes(tmp_path, np.asfortranarray(array)))
    np.testing.assert_array_equal(read_npy(path), array)


def test_bad_npz(tmp_path):
    path = tmp_path / "file.npz"
    np.savez(path, a=np.arange(3), b=np.array([{}]))
    assert npz_names(path) == ["a", "b"]
    assert read_npz(path, ["a"])[0].tolist() == [0, 1, 2]
    raises_line("with an array 'x'; got the names a, b", read_npz, path, ["x"])
    raises_line("array 'b' intact; got pickled objects", read_npz, path, ["b"])
    content = path.read_bytes()
    raises_line(
        "an intact .npz file; got File is not a zip", npz_names, written(tmp_path, b"x" * 99)
    )
    raises_line("an intact .npz file; got ", npz_names, written(tmp_path, content[:-30]))
    position = content.index(np.arange(3).tobytes()) + 8
    damaged = content[:position] + b"\7" + content[position + 1 :]
    raises_line("intact .npz file; got Bad CRC", read_npz, written(tmp_path, damaged), ["a"])


def test_npz_of_unbelievable_size(tmp_path, monkeypatch):
    path = tmp_path / "file.npz"
    np.savez_compressed(path, a=np.zeros(100_000))
    monkeypatch.setattr(array_files, "SMALL_BYTES", 10_000)
    raises_line("800128 bytes declared for array 'a'. Write it with", read_npz, path, ["a"])
    assert len(read_npz(path, ["a"][:0])) == 0
    # What it becomes as float32 counts too.
    np.savez_compressed(path, a=np.zeros(9_000, np.uint8))
    raises_line("got 36000 bytes of memory needed, more than", read_npz, path, ["a"])
    np.savez(path, a=np.zeros(9_000, np.uint8))
    assert read_npz(path, ["a"])[0].shape == (9_000,)
    np.savez(tmp_path / "large.npz", a=np.zeros(2_000))
    known = functools.partial(read_npz, max_bytes=10)
    raises_line("arrays of at most 10 bytes; got 16128", known, tmp_path / "large.npz", ["a"])
    monkeypatch.setattr(array_files, "memory_bytes", lambda: 30_000)
    raises_line("got 36000 bytes of memory needed", read_npz, path, ["a"])


def test_encrypted_npz(tmp_path):
    path = tmp_path / "file.npz"
    np.savez(path, a=np.arange(3))
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flag in the local header and in the directory
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    raises_line("intact .npz file; got File .* is encrypted", read_npz, path, ["a"])


def test_bad_mnist_folder(tmp_path):
    folder = tmp_path / "mnist"
    write_idx(folder)
    labels = folder / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(idx_bytes(np.zeros(4, np.uint8))))
    raises_line(
        r"t10k-labels-idx1-ubyte.gz' must be a file of 3 labels, .* got labels of shape \(4,\)",
        functools.partial(load_dataset, "mnist", tmp_path),
    )
    labels.write_bytes(gzip.compress(idx_bytes(np.array([1, 2, 77], np.uint8))))
    raises_line(
        "file of integer labels 0..9; got uint8 labels such as 77",
        functools.partial(load_dataset, "mnist", tmp_path),
    )
    images = folder / "t10k-images-idx3-ubyte.gz"
    images.write_bytes(gzip.compress(idx_bytes(np.zeros((3, 5, 4), np.uint8))))
    labels.write_bytes(gzip.compress(idx_bytes(np.zeros(3, np.uint8))))
    raises_line(
        r"train and test must be of one size; got \[\(4, 4\), \(5, 4\)\]",
        functools.partial(load_dataset, "mnist", tmp_path),
    )


def test_bad_mnist_npz(tmp_path):
    load = functools.partial(load_dataset, "mnist-test", tmp_path)
    write_mnist_npz(tmp_path, x_test=np.zeros((3, 4, 4)))
    raises_line(r"mnist.npz' must be a file of uint8 images .* got float64 of shape \(3, 4", load)
    write_mnist_npz(tmp_path, x_test=np.zeros((3, 16), np.uint8))
    raises_line(r"must be a file of uint8 images .* got uint8 of shape \(3, 16\)", load)
    write_mnist_npz(tmp_path, y_test=np.array(["a", "b", "c"]))
    raises_line("must be a file of integer labels 0..9; got <U1 labels such as c", load)
    np.savez(tmp_path / "mnist.npz", x=np.zeros(3))
    raises_line("with an array 'x_test'; got the names x", load)


@pytest.mark.slow
@pytest.mark.skipif(not FASHION_FOLDER.is_dir(), reason=f"needs {FASHION_FOLDER}")
def test_the_real_fashion_mnist(monkeypatch, tmp_path):
    monkeypatch.undo()  # look into the system's folder after all
    fashion = load_dataset("fmnist", tmp_path, fetch=no_network)
    check_types(fashion)
    assert fashion.images.shape == (70000, 28, 28, 1)
    assert np.bincount(fashion.labels).tolist() == [7000] * 10
    # The constant that everyone normalises it by: mean pixel of the training images 0.2860.
    assert fashion.images[:60000].mean(dtype=np.float64) == pytest.approx(0.2860, abs=5e-5)
    # Ankle boot, T-shirt, T-shirt, dress, T-shirt; the order of the files is kept.
    assert fashion.labels[:5].tolist() == [9, 0, 0, 3, 0]
    assert fashion.labels[60000:60005].tolist() == [9, 2, 1, 1, 6]
