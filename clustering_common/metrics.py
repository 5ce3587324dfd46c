"""Scores of a clustering against known classes: accuracy, NMI, ARI and matched labels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

__all__ = ["accuracy", "ari", "match_labels", "nmi"]

# Cells of the largest contingency table (int64, so 400 MB). More of them means that the ids
# are measurements rather than classes.
MAX_TABLE_CELLS = 50_000_000


def accuracy(labels_true: ArrayLike, labels_pred: ArrayLike) -> float:
    """Return the share of samples that the best one-to-one match of ids gets right.

    With C[i, j] the number of samples of cluster i in class j, the result is

        max over one-to-one maps m of  sum_i C[i, m(i)] / n_samples

    found by one Hungarian match on the contingency table (SPEC: ACC). Renaming the clusters
    changes nothing. A cluster without a class of its own, or a class without a cluster, counts
    as wrong.

    Parameters
    ----------
    labels_true : array-like of shape (n_samples,)
        Class of each sample: integers, strings or any other hashable ids.
    labels_pred : array-like of shape (n_samples,)
        Cluster of each sample; ids need not be those of the classes, nor as many.

    Returns
    -------
    float
        Between 0 and 1; 1 means equal up to the names.

    Raises
    ------
    ValueError
        If the two differ in length, are empty, not one-dimensional, hold NaN, or have so many
        ids that they cannot be classes and clusters.
    TypeError
        If an id is not hashable.

    Examples
    --------
    >>> from clustering_common.metrics import accuracy
    >>> accuracy(["cat", "cat", "dog", "dog"], [1, 1, 0, 1])
    0.75
    """
    (ids_true, codes_true), (ids_pred, codes_pred) = _encode_pair(
        labels_true, labels_pred, ("labels_true", "labels_pred")
    )
    table = _contingency(codes_pred, codes_true, len(ids_pred), len(ids_true))
    clusters, classes = linear_sum_assignment(table, maximize=True)
    return float(table[clusters, classes].sum() / len(codes_true))


def nmi(labels_true: ArrayLike, labels_pred: ArrayLike) -> float:
    """Return the normalised mutual information, I(t; p) / ((H(t) + H(p)) / 2).

    This is scikit-learn's score with the arithmetic mean, after the same checks as `accuracy`.

    Parameters
    ----------
    labels_true, labels_pred : array-like of shape (n_samples,)
        Classes and clusters; any hashable ids.

    Returns
    -------
    float
        Between 0 (independent) and 1 (equal up to the names).

    Raises
    ------
    ValueError, TypeError
        As in `accuracy`.

    Examples
    --------
    >>> from clustering_common.metrics import nmi
    >>> nmi([0, 0, 1, 1], ["b", "b", "a", "a"])
    1.0
    """
    (_, codes_true), (_, codes_pred) = _encode_pair(
        labels_true, labels_pred, ("labels_true", "labels_pred")
    )
    score = normalized_mutual_info_score(codes_true, codes_pred, average_method="arithmetic")
    return float(score)


def ari(labels_true: ArrayLike, labels_pred: ArrayLike) -> float:
    """Return the adjusted Rand index: agreement on pairs of samples, corrected for chance.

    This is scikit-learn's score, after the same checks as `accuracy`.

    Parameters
    ----------
    labels_true, labels_pred : array-like of shape (n_samples,)
        Classes and clusters; any hashable ids.

    Returns
    -------
    float
        1 means equal up to the names, 0 what chance gives; at least -0.5.

    Raises
    ------
    ValueError, TypeError
        As in `accuracy`.

    Examples
    --------
    >>> from clustering_common.metrics import ari
    >>> ari([0, 0, 1, 1], [7, 7, 3, 3])
    1.0
    """
    (_, codes_true), (_, codes_pred) = _encode_pair(
        labels_true, labels_pred, ("labels_true", "labels_pred")
    )
    return float(adjusted_rand_score(codes_true, codes_pred))


def match_labels(reference: ArrayLike, labels: ArrayLike) -> NDArray[Any]:
    """Return `labels` with each id renamed to the id of `reference` that it matches best.

    The match is the one `accuracy` scores: one-to-one, with the most samples in common. Use it
    to compare two clusterings sample by sample, or to show a confusion matrix with a diagonal.

    Parameters
    ----------
    reference : array-like of shape (n_samples,)
        The labels whose ids are kept.
    labels : array-like of shape (n_samples,)
        The labels to rename.

    Returns
    -------
    ndarray of shape (n_samples,)
        The same partition as `labels`. Where `labels` has more ids than `reference`, those left
        over get fresh ids that `reference` does not use: the integers after its largest id if
        its ids are numbers, otherwise "unmatched_0", "unmatched_1" and so on.

    Raises
    ------
    ValueError, TypeError
        As in `accuracy`.

    Notes
    -----
    While ids of `reference` are left, every id of `labels` gets one, even if the two share no
    sample: equally many ids stay equally many.

    Examples
    --------
    >>> from clustering_common.metrics import match_labels
    >>> match_labels([0, 0, 1, 1], [5, 5, 3, 9]).tolist()
    [0, 0, 1, 2]
    """
    (ids_reference, codes_reference), (ids, codes) = _encode_pair(
        reference, labels, ("reference", "labels")
    )
    table = _contingency(codes, codes_reference, len(ids), len(ids_reference))
    rows, columns = linear_sum_assignment(table, maximize=True)
    partner = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    fresh = iter(_fresh_ids(ids_reference, len(ids) - len(partner)))
    names = [
        ids_reference[partner[code]] if code in partner else next(fresh) for code in range(len(ids))
    ]
    return _as_vector(names)[codes]


def _encode_pair(
    first: ArrayLike, second: ArrayLike, names: tuple[str, str]
) -> tuple[tuple[list[Any], NDArray[np.int64]], tuple[list[Any], NDArray[np.int64]]]:
    """Return the distinct ids of each and, for every sample, the position of its id."""
    vector_first, vector_second = _check_labels(first, names[0]), _check_labels(second, names[1])
    if len(vector_first) != len(vector_second):
        raise ValueError(
            f"{names[1]} must be as long as {names[0]} ({len(vector_first)} samples); "
            f"got {len(vector_second)!r}. Pass one label per sample, in the same order, in both."
        )
    return _encode(vector_first), _encode(vector_second)


def _check_labels(labels: Any, name: str) -> NDArray[Any]:
    """Return labels as a vector without NaN; its dtype is object unless ids are numbers."""
    vector = _as_vector(labels)
    if vector.ndim != 1:
        raise ValueError(
            f"{name} must be one-dimensional; got shape {vector.shape!r}. "
            "Pass one id per sample, for example by np.ravel or argmax(axis=1)."
        )
    if not len(vector):
        raise ValueError(
            f"{name} must be non-empty; got {vector.tolist()!r}. Pass at least one label."
        )
    # NaN is the one id that differs from itself.
    missing = vector != vector
    if np.any(missing):
        raise ValueError(
            f"{name} must be free of NaN; got {int(np.sum(missing))!r} of them, the first at "
            f"position {int(np.argmax(missing))}. Drop or label these samples."
        )
    return vector


def _as_vector(labels: Any) -> NDArray[Any]:
    """Return an array, keeping ids such as tuples, or 1 beside "1", apart as objects."""
    if not isinstance(labels, list | tuple):
        return np.asarray(labels)
    try:
        array = np.asarray(labels)
    except ValueError:  # rows of different lengths
        array = np.empty((len(labels), 0), dtype=object)
    if array.dtype.kind in "biuf" and array.ndim == 1:
        return array
    is_nested = any(isinstance(label, list | np.ndarray) for label in labels)
    if is_nested or all(isinstance(label, str) for label in labels):
        return array
    return np.fromiter(labels, dtype=object, count=len(labels))


def _encode(vector: NDArray[Any]) -> tuple[list[Any], NDArray[np.int64]]:
    """Return distinct ids and codes; numbers in ascending order, others as first seen."""
    if vector.dtype.kind in "bi":
        vector = vector.astype(np.int64, copy=False)
    if vector.dtype.kind in "iu":
        low, high = int(vector.min()), int(vector.max())
        # Counting beats sorting as long as the counters are not many more than the samples.
        if high - low <= len(vector) + 65_536:
            shifted = (vector - vector.dtype.type(low)).astype(np.int64, copy=False)
            is_used = np.bincount(shifted) > 0
            codes = (np.cumsum(is_used, dtype=np.int64) - 1)[shifted]
            return [low + step for step in np.flatnonzero(is_used).tolist()], codes
    if vector.dtype.kind in "iuf":
        ids, codes = np.unique(vector, return_inverse=True)
        return ids.tolist(), codes.astype(np.int64, copy=False)
    labels = vector.tolist()
    try:
        positions = {label: code for code, label in enumerate(dict.fromkeys(labels))}
    except TypeError as error:
        raise TypeError(
            f"labels must be hashable ids; got {str(error)!r}. Use integers or strings."
        ) from error
    codes = np.fromiter((positions[label] for label in labels), np.int64, count=len(labels))
    return list(positions), codes


def _contingency(
    rows: NDArray[np.int64], columns: NDArray[np.int64], n_rows: int, n_columns: int
) -> NDArray[np.int64]:
    """Return the number of samples of each pair of codes, shape (n_rows, n_columns)."""
    if n_rows * n_columns > MAX_TABLE_CELLS:
        raise ValueError(
            f"labels must be ids of classes and clusters, at most {MAX_TABLE_CELLS} pairs of "
            f"them; got {n_columns!r} x {n_rows!r} distinct ids. Check that these are labels "
            "and not measurements or sample numbers."
        )
    cells = np.bincount(rows * n_columns + columns, minlength=n_rows * n_columns)
    return cells.reshape(n_rows, n_columns)


def _fresh_ids(ids: list[Any], n_fresh: int) -> list[Any]:
    """Return n_fresh ids of the kind of `ids` that are none of them."""
    if all(isinstance(label, int | float) and abs(label) < math.inf for label in ids):
        first = math.floor(max(ids)) + 1
        return list(range(first, first + n_fresh))
    taken = set(ids)
    candidates = (f"unmatched_{number}" for number in range(n_fresh + len(ids)))
    return [name for name in candidates if name not in taken][:n_fresh]
