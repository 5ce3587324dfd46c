import functools
import gc
import gzip
import hashlib
import http.server
import io
import math
import pickle
import re
import stat
import subprocess
import sys
import tarfile
import threading
import types
import urllib.error
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest
import scipy.sparse
import sklearn.datasets
from sklearn.datasets import _base as sklearn_base
from sklearn.datasets import _rcv1, _twenty_newsgroups
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from clustering_common import (
    cli,
    datasets,
    prepare,
    prepare_fetch,
    prepare_images,
    prepare_layout,
    prepare_zip,
)
from clustering_common.datasets import DatasetUnavailableError
from clustering_common.prepare_images import cifar10, extract, feature_model, read_stl10, stl10
from clustering_common.prepare_layout import FOLDERS, keeps, write_pair
from clustering_common.prepare_text import newsgroups, reuters
from clustering_common.prepare_zip import unpack

ROOT = Path(__file__).resolve().parent.parent


def quiet(line):
    pass


def raising(error):
    def fail(*args, **kwargs):
        raise error

    return fail


def offline(*args, **kwargs):
    raise urllib.error.URLError("no network")


@pytest.fixture(autouse=True)
def caches(tmp_path_factory, monkeypatch):
    """No test reads or writes what the user's downloaders keep."""
    folder = tmp_path_factory.mktemp("caches")
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(folder / "sklearn"))
    monkeypatch.setenv("KERAS_HOME", str(folder / "keras"))
    monkeypatch.setattr(datasets, "SYSTEM_FOLDERS", {})
    monkeypatch.setattr(sklearn_base.time, "sleep", lambda seconds: None)
    get_file = functools.partial(keras.utils.get_file, cache_dir=str(folder / "keras"))
    (folder / "keras").mkdir()
    monkeypatch.setattr(keras.utils, "get_file", get_file)
    return folder


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()


@pytest.fixture
def open_responses():
    """Collect the answers that urllib leaves open in its errors before another test does."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def answers_404(test):
    ignored = pytest.mark.filterwarnings("ignore::ResourceWarning")
    return pytest.mark.usefixtures("open_responses")(ignored(test))


def tar_gz(path, contents):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


# The 20 newsgroups

DOCUMENTS = (
    "The rocket is in orbit. Rocket rocket!",
    "orbit of a moon",
    "the goalie saved the goal",
    "goal goal orbit",
    "and of the",
)


def news_of(documents, target=None):
    target = np.arange(len(documents)) if target is None else target
    return types.SimpleNamespace(data=list(documents), target=target)


def naive_tfidf(documents, n_terms):
    """Return the formula of the docstring, word by word."""
    words = [
        [w for w in re.findall(r"\b\w\w+\b", text.lower()) if w not in ENGLISH_STOP_WORDS]
        for text in documents
    ]
    totals = Counter(word for text in words for word in text)
    terms = sorted(sorted(totals), key=lambda term: -totals[term])[:n_terms]
    X = np.zeros((len(documents), n_terms))
    for i, text in enumerate(words):
        for j, term in enumerate(sorted(terms)):
            d = sum(term in other for other in words)
            if t := text.count(term):
                X[i, j] = (1 + math.log(t)) * (1 + math.log((1 + len(documents)) / (1 + d)))
        if X[i].any():
            X[i] *= math.sqrt(n_terms) / math.sqrt((X[i] ** 2).sum())
    return X


def test_newsgroups_follow_their_formula():
    calls = []

    def fetch(**kwargs):
        calls.append(kwargs)
        return news_of(DOCUMENTS)

    X, labels = newsgroups(quiet, fetch=fetch, n_terms=3)
    assert calls == [{"subset": "all", "shuffle": False}]
    assert (X.dtype, labels.dtype) == (np.float32, np.int64)
    # float32 rounds at 6e-8 of values up to 2.
    np.testing.assert_allclose(X, naive_tfidf(DOCUMENTS, 3), atol=1e-6)
    np.testing.assert_array_equal(labels, np.arange(5))


def test_rows_have_mean_square_one_unless_they_are_empty():
    X, _ = newsgroups(quiet, fetch=lambda **_: news_of(DOCUMENTS), n_terms=4)
    # The last document is all stop words.
    np.testing.assert_allclose((X**2).mean(axis=1), [1, 1, 1, 1, 0], rtol=1e-6)


def news_archive(path, n_documents=40):
    contents = {}
    for i in range(n_documents):
        part = "train" if i % 4 else "test"
        name = f"20news-bydate-{part}/{'rec.sport' if i % 2 else 'sci.space'}/{i:05d}"
        contents[name] = f"Subject: {i}\n\n{DOCUMENTS[i % 2]} word{i} caf\xe9".encode("latin1")
    return tar_gz(path, contents)


def point_newsgroups_to(monkeypatch, base, checksum):
    remote = sklearn_base.RemoteFileMetadata(
        "20news-bydate.tar.gz", f"{base}20news-bydate.tar.gz", checksum
    )
    monkeypatch.setattr(_twenty_newsgroups, "ARCHIVE", remote)


def test_newsgroups_come_through_scikit_learn(server, monkeypatch):
    folder, base = server
    point_newsgroups_to(monkeypatch, base, news_archive(folder / "20news-bydate.tar.gz"))
    X, labels = newsgroups(quiet, n_terms=20)
    assert X.shape == (40, 20)
    # Train before test: of the 30 and 10 documents, 20 and 0 are odd.
    np.testing.assert_array_equal(np.bincount(labels[:30]), [10, 20][::-1])
    assert len(set(labels[30:])) == 1


@answers_404
@pytest.mark.parametrize("is_there", [True, False])
def test_newsgroups_damaged_or_missing_on_the_server(server, monkeypatch, is_there):
    folder, base = server
    if is_there:
        news_archive(folder / "20news-bydate.tar.gz")
    point_newsgroups_to(monkeypatch, base, "0" * 64)
    reason = "SHA256 checksum" if is_there else "404"
    with pytest.raises(DatasetUnavailableError, match=rf"20news can't be downloaded.*{reason}"):
        newsgroups(quiet)


def test_newsgroups_are_found_where_the_error_says(tmp_path, monkeypatch):
    checksum = news_archive(tmp_path / "20news-bydate.tar.gz")
    # Port 9 answers nobody.
    point_newsgroups_to(monkeypatch, "http://127.0.0.1:9/", checksum)
    with pytest.raises(DatasetUnavailableError) as caught:
        newsgroups(quiet)
    name, folder = re.search(r"Put (\S+) into (\S+), from http", str(caught.value)).groups()
    (tmp_path / name).rename(Path(folder) / name)
    assert len(newsgroups(quiet, n_terms=5)[0]) == 40


# Reuters


def rcv1_like(n_documents=60, n_terms=12, seed=0):
    rng = np.random.default_rng(seed)
    names = np.array(["C11", "CCAT", "E11", "ECAT", "GCAT", "GVIO", "MCAT"], dtype=object)
    target = (rng.random((n_documents, len(names))) < 0.3).astype(np.uint8)
    data = rng.random((n_documents, n_terms)) * (rng.random((n_documents, n_terms)) < 0.4)
    return types.SimpleNamespace(
        data=scipy.sparse.csr_matrix(data),
        target=scipy.sparse.csr_matrix(target),
        target_names=names,
    )


def naive_reuters(rcv1, n_samples, n_terms):
    """Return the docstring, document by document."""
    roots = [list(rcv1.target_names).index(name) for name in ("CCAT", "ECAT", "GCAT", "MCAT")]
    target, data = rcv1.target.toarray(), rcv1.data.toarray()
    single = {}
    for i, row in enumerate(target):
        found = [k for k, column in enumerate(roots) if row[column]]
        if len(found) == 1:
            single[i] = found[0]
    counts = [sum(data[i, j] != 0 for i in single) for j in range(data.shape[1])]
    terms = sorted(sorted(range(len(counts)), key=lambda j: -counts[j])[:n_terms])
    drawn = sorted(np.random.default_rng(0).choice(list(single), n_samples, replace=False))
    X = np.array([[data[i, j] for j in terms] for i in drawn])
    norms = np.array([math.sqrt(sum(value**2 for value in row)) for row in X])
    X *= math.sqrt(n_terms) / np.where(norms > 0, norms, 1)[:, np.newaxis]
    return X, [single[i] for i in drawn]


@pytest.mark.parametrize("seed", range(3))
def test_reuters_follows_its_description(seed):
    rcv1 = rcv1_like(seed=seed)
    X, labels = reuters(quiet, fetch=lambda: rcv1, n_samples=15, n_terms=5)
    expected, expected_labels = naive_reuters(rcv1, 15, 5)
    np.testing.assert_allclose(X, expected, rtol=1e-6)  # float32
    np.testing.assert_array_equal(labels, expected_labels)
    assert (X.dtype, labels.dtype) == (np.float32, np.int64)


def test_reuters_root_categories_by_hand():
    names = ["MCAT", "GCAT", "ECAT", "CCAT", "C11"]
    target = [[1, 0, 0, 0, 1], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 1], [1, 1, 0, 0, 0]]
    rcv1 = types.SimpleNamespace(
        data=scipy.sparse.csr_array(np.array([[3, 4], [1, 0], [0, 2], [0, 0], [1, 1.0]])),
        target=scipy.sparse.csr_array(np.array([*target, [0, 0, 0, 0, 1]])[:5]),
        target_names=names,
    )
    X, labels = reuters(quiet, fetch=lambda: rcv1, n_samples=4, n_terms=2)
    np.testing.assert_array_equal(labels, [3, 2, 1, 0])
    root = math.sqrt(2)
    np.testing.assert_allclose(
        X, [[0.6 * root, 0.8 * root], [root, 0], [0, root], [0, 0]], rtol=1e-6
    )


def test_reuters_draws_by_its_seed():
    def draw(seed):
        return reuters(quiet, fetch=rcv1_like, n_samples=15, n_terms=5, seed=seed)[0]

    np.testing.assert_array_equal(draw(1), draw(1))
    assert (draw(1) != draw(2)).any()


def test_reuters_with_too_little():
    with pytest.raises(ValueError, match=r"n_samples must be <= 2\d; got 10000"):
        reuters(quiet, fetch=rcv1_like, n_terms=5)
    with pytest.raises(ValueError, match="n_terms must be <= 12; got 2000"):
        reuters(quiet, fetch=rcv1_like, n_samples=5)


@answers_404
def test_reuters_missing_on_the_server(server, monkeypatch, caches):
    _, base = server
    moved = tuple(part._replace(url=base + part.filename) for part in _rcv1.XY_METADATA)
    monkeypatch.setattr(_rcv1, "XY_METADATA", moved)
    with pytest.raises(DatasetUnavailableError, match=r"reuters \(RCV1\) .*404.*Put") as caught:
        reuters(quiet)
    assert f"into {caches / 'sklearn'}/RCV1" in str(caught.value)


def test_reuters_names_the_files_of_scikit_learn(monkeypatch):
    expected = {part.filename: part.url for part in (*_rcv1.XY_METADATA, _rcv1.TOPICS_METADATA)}
    with pytest.raises(DatasetUnavailableError) as caught:
        reuters(quiet, fetch=offline)
    assert all(f"{name} ({url})" in str(caught.value) for name, url in expected.items())


def test_newsgroups_name_the_file_of_scikit_learn():
    with pytest.raises(DatasetUnavailableError) as caught:
        newsgroups(quiet, fetch=offline)
    assert _twenty_newsgroups.ARCHIVE.url in str(caught.value)


# Images


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


def pair(n_samples=6, n_features=3):
    rng = np.random.default_rng(0)
    return rng.random((n_samples, n_features), dtype=np.float32), np.arange(n_samples) % 2


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


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


# The authors' zip


def npy(array, **kwargs):
    stream = io.BytesIO()
    np.save(stream, array, **kwargs)
    return stream.getvalue()


def make_zip(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def two_sets(top="ens_cluster_datasets/"):
    X, Y = pair()
    return {
        f"{top}mnist/train_X.npy": npy(X),
        f"{top}mnist/train_Y.npy": npy(Y),
        f"{top}20_news/train_X.npy": npy((X * 2).astype(np.float64)),
        f"{top}20_news/train_Y.npy": npy(Y.astype(np.int32)),
    }


@pytest.fixture
def zip_path(tmp_path):
    return tmp_path / "ens_cluster_datasets.zip"


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def arrays_in(out, folder):
    place = out / "ens_cluster_datasets" / folder
    return np.load(place / "train_X.npy"), np.load(place / "train_Y.npy")


@pytest.mark.parametrize("top", ["ens_cluster_datasets/", "", "a/b/"])
def test_the_zip_is_unpacked(zip_path, out, top):
    others = {f"{top}mnist/": "", f"__MACOSX/{top}mnist/._train_X.npy": "x", "README": "x"}
    make_zip(zip_path, {**others, **two_sets(top), f"{top}other/train_X.npy": b""})
    said = []
    unpack(zip_path, out, said.append)
    X, Y = pair()
    np.testing.assert_array_equal(arrays_in(out, "mnist")[0], X)
    np.testing.assert_array_equal(arrays_in(out, "mnist")[1], Y)
    # Arrays keep their own kind.
    assert [a.dtype for a in arrays_in(out, "20_news")] == [np.float64, np.int32]
    assert names_in(out) == ["ens_cluster_datasets"]
    assert names_in(out / "ens_cluster_datasets") == ["20_news", "mnist"]
    assert names_in(out / "ens_cluster_datasets" / "mnist") == ["train_X.npy", "train_Y.npy"]
    assert len(said) == 2


def test_one_data_set_of_the_zip(zip_path, out):
    make_zip(zip_path, two_sets())
    unpack(zip_path, out, quiet, name="20news")
    assert names_in(out / "ens_cluster_datasets") == ["20_news"]
    with pytest.raises(ValueError, match="must be a zip with stl10; got mnist, 20news"):
        unpack(zip_path, out, quiet, name="stl10")


def test_the_zip_writes_over_files_only_when_forced(zip_path, out):
    make_zip(zip_path, two_sets())
    write_pair(out / "ens_cluster_datasets" / "mnist", *pair(4))
    said = []
    unpack(zip_path, out, said.append)
    assert len(arrays_in(out, "mnist")[0]) == 4
    assert len(arrays_in(out, "20_news")[0]) == 6
    assert ["kept" in line for line in said] == [True, False]
    unpack(zip_path, out, quiet, force=True)
    assert len(arrays_in(out, "mnist")[0]) == 6


HOSTILE = (
    "../mnist/train_X.npy",
    "ens_cluster_datasets/../../mnist/train_X.npy",
    "/tmp/mnist/train_X.npy",
    "\\mnist\\train_X.npy",
    "a\\..\\..\\mnist\\train_X.npy",
    "C:\\mnist\\train_X.npy",
    "C:/mnist/train_X.npy",
    "..",
    "x/..",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_leave_the_folder_are_refused(zip_path, out, name):
    make_zip(zip_path, {**two_sets(), name: npy(pair()[0])})
    with pytest.raises(ValueError, match="names that stay inside its folder; got ") as caught:
        unpack(zip_path, out, quiet)
    assert repr(name) in str(caught.value)
    assert names_in(out) == []


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(zip_path, out, kind):
    info = zipfile.ZipInfo("ens_cluster_datasets/mnist/train_X.npy")
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(zip_path, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(ValueError, match="without links and devices; got 'ens_cluster"):
        unpack(zip_path, out, quiet)
    assert names_in(out) == []


def test_a_name_twice_is_refused(zip_path, out):
    members = two_sets()
    make_zip(zip_path, {**members, "other/mnist/train_X.npy": npy(pair()[0])})
    with pytest.raises(ValueError, match=r"one train_X.npy for mnist; got .* and another"):
        unpack(zip_path, out, quiet)
    # Without its suffix, as read_npz looks it up.
    make_zip(zip_path, {**members, "ens_cluster_datasets/mnist/train_X": npy(pair()[0])})
    with pytest.raises(ValueError, match=r"one train_X.npy for mnist; got .* and another"):
        unpack(zip_path, out, quiet)


def test_a_bomb_is_refused_before_it_is_read(zip_path, out, monkeypatch):
    X = np.zeros((1000, 1000), np.float64)
    members = {"mnist/train_X.npy": npy(X), "mnist/train_Y.npy": npy(np.zeros(1000, int))}
    make_zip(zip_path, members)
    monkeypatch.setattr(prepare_zip, "MAX_BYTES", 1_000_000)
    with pytest.raises(ValueError, match="at most 1000000 bytes; got 8000128 bytes declared"):
        unpack(zip_path, out, quiet)
    assert names_in(out) == []


def changed_directory(zip_path, name, **changes):
    """Change what the zip's directory says of a member."""
    offsets = {"compress_size": 20, "file_size": 24}
    content = bytearray(zip_path.read_bytes())
    start = content.index(name.encode(), content.index(b"PK\1\2")) - 46
    for key, value in changes.items():
        place = start + offsets[key]
        content[place : place + 4] = value.to_bytes(4, "little")
    zip_path.write_bytes(content)


def test_a_size_that_deflate_cannot_reach_is_refused(zip_path, out):
    make_zip(zip_path, two_sets())
    changed_directory(zip_path, "ens_cluster_datasets/mnist/train_X.npy", file_size=10**9)
    with pytest.raises(ValueError, match="believable sizes; got 1000000000 bytes"):
        unpack(zip_path, out, quiet)
    assert names_in(out) == []


def test_members_that_share_bytes_are_refused(zip_path, out):
    make_zip(zip_path, two_sets())
    changed_directory(zip_path, "ens_cluster_datasets/mnist/train_X.npy", compress_size=10**6)
    with pytest.raises(ValueError, match="as large as its members"):
        unpack(zip_path, out, quiet)


def test_a_full_disk_is_told_before_writing(zip_path, out, monkeypatch):
    make_zip(zip_path, two_sets())
    usage = types.SimpleNamespace(free=100)
    monkeypatch.setattr(prepare_zip.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ValueError, match="at most 100 bytes, as free"):
        unpack(zip_path, out, quiet)
    # What is kept needs no room.
    write_pair(out / "ens_cluster_datasets" / "mnist", *pair())
    write_pair(out / "ens_cluster_datasets" / "20_news", *pair())
    unpack(zip_path, out, quiet)


X_IN_ZIP = "'ens_cluster_datasets/mnist/train_X'"
Y_IN_ZIP = "'ens_cluster_datasets/mnist/train_Y'"


@pytest.mark.parametrize(
    ("X", "Y", "text"),
    [
        (np.zeros((6, 2, 2)), np.zeros(6), rf"in {X_IN_ZIP}; got float64 of shape \(6, 2, 2\)"),
        (np.zeros((0, 2)), np.zeros(0), rf"in {X_IN_ZIP}; got float64 of shape \(0, 2\)"),
        (np.full((6, 2), "a"), np.zeros(6), rf"in {X_IN_ZIP}; got <U1"),
        (np.zeros((6, 2)), np.zeros(5), rf"6 numbers, one a sample, in {Y_IN_ZIP}; got .*\(5,\)"),
        (np.zeros((6, 2)), np.zeros((6, 2)), rf"in {Y_IN_ZIP}; got float64 of shape \(6, 2\)"),
        (np.full((6, 2), None), np.zeros(6), rf"array {X_IN_ZIP} intact; got pickled objects"),
        (np.zeros((6, 2)), np.full(6, None), rf"array {Y_IN_ZIP} intact; got pickled objects"),
    ],
)
def test_arrays_of_another_kind_are_refused(zip_path, out, X, Y, text):
    top = "ens_cluster_datasets/mnist/train_"
    make_zip(zip_path, {f"{top}X.npy": npy(X), f"{top}Y.npy": npy(Y)})
    with pytest.raises(ValueError, match=text):
        unpack(zip_path, out, quiet)
    assert names_in(out) == []


def test_a_column_of_labels_is_taken(zip_path, out):
    X, Y = pair()
    make_zip(zip_path, {"mnist/train_X.npy": npy(X), "mnist/train_Y.npy": npy(Y[:, np.newaxis])})
    unpack(zip_path, out, quiet)
    assert arrays_in(out, "mnist")[1].shape == (6, 1)


def test_damaged_and_incomplete_zips(zip_path, out):
    members = two_sets()
    content = make_zip(zip_path, members, zipfile.ZIP_STORED).read_bytes()
    for damaged in (b"no zip", b"", content[: len(content) // 2]):
        zip_path.write_bytes(damaged)
        with pytest.raises(ValueError, match="must be an intact zip; got "):
            unpack(zip_path, out, quiet)
    # A bit within the last number of the samples.
    place = content.index(pair()[0].tobytes()) + 71
    zip_path.write_bytes(content[:place] + b"\xaa" + content[place + 1 :])
    with pytest.raises(ValueError, match="Bad CRC-32"):
        unpack(zip_path, out, quiet)
    del members["ens_cluster_datasets/mnist/train_Y.npy"]
    make_zip(zip_path, members)
    with pytest.raises(ValueError, match=r"train_Y.npy for mnist; got only train_X.npy"):
        unpack(zip_path, out, quiet)
    make_zip(zip_path, {"a.txt": "x"})
    with pytest.raises(ValueError, match=r"for NAME of .*; got 'a.txt'"):
        unpack(zip_path, out, quiet)
    make_zip(zip_path, {})
    with pytest.raises(ValueError, match="got an empty one"):
        unpack(zip_path, out, quiet)
    with pytest.raises(FileNotFoundError, match=r"got 'none.zip'"):
        unpack(Path("none.zip"), out, quiet)
    assert names_in(out) == []


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
    for module in ("mnist", "fashion_mnist", "cifar10"):
        monkeypatch.setattr(getattr(keras.datasets, module), "load_data", failed)
    monkeypatch.setattr(keras.applications, "ResNet50", failed)
    assert run(name, "--data-dir", tmp_path) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no network" in error
    assert re.search(r"\bPut .+ into .+", error)
    assert "http" in error
    assert not (tmp_path / "ens_cluster_datasets").exists()


def test_the_zip_by_either_way(tmp_path, zip_path, capsys):
    make_zip(zip_path, two_sets())
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
