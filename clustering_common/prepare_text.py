"""The two text collections of Kingdra as rows of 2,000 tf-idf values (SPEC 2.7)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from clustering_common.datasets import Samples
from clustering_common.prepare_fetch import fetched
from clustering_common.prepare_layout import Say

__all__ = ["newsgroups", "reuters"]

N_TERMS = 2000
# Columns in the order of the labels 0..3.
ROOT_CATEGORIES = ("CCAT", "ECAT", "GCAT", "MCAT")
FIGSHARE = "https://ndownloader.figshare.com/files/"
# scikit-learn's files of RCV1 and their numbers on figshare.
RCV1_FILES = {
    "lyrl2004_vectors_train.dat.gz": 5976057,
    "lyrl2004_vectors_test_pt0.dat.gz": 5976069,
    "lyrl2004_vectors_test_pt1.dat.gz": 5976066,
    "lyrl2004_vectors_test_pt2.dat.gz": 5976063,
    "lyrl2004_vectors_test_pt3.dat.gz": 5976060,
    "rcv1v2.topics.qrels.gz": 5976048,
}


def newsgroups(
    say: Say, *, fetch: Callable[..., Any] | None = None, n_terms: int = N_TERMS
) -> Samples:
    """Return the 20 newsgroups: all 18,846 documents and their groups, 0..19.

    `fetch_20newsgroups(subset="all", shuffle=False)`, so train comes before test, then
    `TfidfVectorizer(max_features=2000, stop_words="english", sublinear_tf=True)`. With t the
    number of times that a term is in a document, D documents and d of them with that term, its
    value is (1 + ln t) * (1 + ln((1 + D) / (1 + d))); rows then get the length sqrt(2000).

    Parameters
    ----------
    say : callable
        Takes a line for the user.
    fetch : callable, default=None
        In place of scikit-learn's `fetch_20newsgroups`.
    n_terms : int, default=2000
        The terms kept: the most frequent ones that are no stop words.

    Returns
    -------
    X : ndarray of shape (n_samples, n_terms), float32
    labels : ndarray of shape (n_samples,), int64

    Raises
    ------
    DatasetUnavailableError
        If the download fails.

    Notes
    -----
    Our choices, where the paper only says "tf-idf": English stop words are left out (scikit-learn's
    list), as in the data of IMSAT, on which Kingdra builds; term counts enter by their logarithm,
    as they do in RCV1; documents stay as the fetcher gives them. It keeps subject, sender and
    quotations, which help; the headers that name the group are not in this edition ("by date").

    Rows have the length sqrt(n_terms), so that the mean square of a value is 1, as DEC
    normalises all of its data (Xie et al. 2016, section 4). Noise in the ladder network has one
    standard deviation in each of the 2,000 inputs, 0.3 here and 3 for Reuters: of a row of length
    1 it would leave nothing.
    """
    from sklearn.datasets import fetch_20newsgroups, get_data_home
    from sklearn.feature_extraction.text import TfidfVectorizer

    load = fetch or fetch_20newsgroups
    say("20news: scikit-learn fetches 14 MB, unless it has them.")
    way_out = (
        f"Put 20news-bydate.tar.gz into {get_data_home()}/20news_home, from {FIGSHARE}5975967."
    )
    documents = fetched("20news", lambda: load(subset="all", shuffle=False), way_out)
    vectorizer = TfidfVectorizer(
        max_features=n_terms, stop_words="english", sublinear_tf=True, dtype=np.float32
    )
    X = _scaled_rows(vectorizer.fit_transform(documents.data))
    return X, np.asarray(documents.target, dtype=np.int64)


def reuters(
    say: Say,
    *,
    fetch: Callable[..., Any] | None = None,
    n_samples: int = 10_000,
    n_terms: int = N_TERMS,
    seed: int = 0,
) -> Samples:
    """Return Reuters-10k: news of RCV1 with exactly one root category, its label.

    Of the 804,414 documents of `fetch_rcv1`, those with exactly one of CCAT, ECAT, GCAT and MCAT
    (labels 0, 1, 2, 3); of these, `n_samples` drawn without replacement by
    `numpy.random.default_rng(seed)`, in the order of the collection.

    Parameters
    ----------
    say : callable
        Takes a line for the user.
    fetch : callable, default=None
        In place of scikit-learn's `fetch_rcv1`.
    n_samples : int, default=10,000
    n_terms : int, default=2000
        The terms kept: those in the largest number of documents with one root category, drawn
        or not; the first in the vocabulary on a tie.
    seed : int, default=0
        Decides which documents are drawn.

    Returns
    -------
    X : ndarray of shape (n_samples, n_terms), float32
        A row of zeros if a document has none of the terms.
    labels : ndarray of shape (n_samples,), int64

    Raises
    ------
    DatasetUnavailableError
        If the download fails.
    ValueError
        If there are fewer documents or terms than asked for.

    Notes
    -----
    `fetch_rcv1` gives tf-idf already: stemmed, without stop words, (1 + ln t) * idf, rows of
    length 1 over 47,236 terms (Lewis et al. 2004, "ltc"). We keep its weights, take 2,000 columns
    and scale the rows to the length sqrt(n_terms), for the reason given at `newsgroups`. Counts
    are gone, so "most frequent" means by documents, not by occurrences as in the data of DEC.
    Which 10,000 documents the paper drew is not known. Takes about 3 GB of memory.
    """
    from sklearn.datasets import fetch_rcv1, get_data_home

    load = fetch or fetch_rcv1
    say("reuters: scikit-learn fetches 656 MB of RCV1, unless it has them.")
    sources = ", ".join(f"{name} ({FIGSHARE}{n})" for name, n in RCV1_FILES.items())
    way_out = f"Put these into {get_data_home()}/RCV1, from the address behind each: {sources}."
    rcv1 = fetched("reuters (RCV1)", load, way_out)
    labels = _single_roots(rcv1)
    rows = np.flatnonzero(labels >= 0)
    X = scipy.sparse.csr_array(rcv1.data)
    for name, wanted, n_found in (
        ("n_samples", n_samples, len(rows)),
        ("n_terms", n_terms, X.shape[1]),
    ):
        if wanted > n_found:
            raise ValueError(f"{name} must be <= {n_found}; got {wanted!r}. Choose fewer.")
    n_documents = np.bincount(X[rows].indices, minlength=X.shape[1])
    terms = np.sort(np.argsort(-n_documents, kind="stable")[:n_terms])
    drawn = np.sort(np.random.default_rng(seed).choice(rows, n_samples, replace=False))
    return _scaled_rows(X[drawn][:, terms]), labels[drawn]


def _single_roots(rcv1: Any) -> NDArray[np.int64]:
    """Return the root category of each document, 0..3, and -1 where it has none or several."""
    names = list(rcv1.target_names)
    columns = [names.index(category) for category in ROOT_CATEGORIES]
    roots = scipy.sparse.csc_array(rcv1.target)[:, columns].toarray() != 0
    return np.where(roots.sum(axis=1) == 1, roots.argmax(axis=1), -1).astype(np.int64)


def _scaled_rows(X: Any) -> NDArray[np.float32]:
    """Return dense rows of length sqrt(n_terms); rows of zeros stay."""
    from sklearn.preprocessing import normalize

    dense = normalize(X).astype(np.float32).toarray()
    dense *= np.float32(math.sqrt(dense.shape[1]))
    return dense
