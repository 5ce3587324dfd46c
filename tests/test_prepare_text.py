"""20 newsgroups and Reuters as clustering_common.prepare makes them."""

import math
import re
import types
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from sklearn.datasets import _base as sklearn_base
from sklearn.datasets import _rcv1, _twenty_newsgroups
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from clustering_common.datasets import DatasetUnavailableError
from clustering_common.prepare_text import newsgroups, reuters
from tests.preparing import answers_404, offline, quiet, tar_gz

pytestmark = pytest.mark.usefixtures("caches")


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
