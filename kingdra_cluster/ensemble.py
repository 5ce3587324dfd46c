"""The members as one: a common naming of their clusters, and the mean of what they say."""

import numpy as np
from scipy.optimize import linear_sum_assignment


def align_members(member_proba: np.ndarray) -> np.ndarray:
    """Return, for each member, the renaming of its outputs that agrees most with the last's.

    Parameters
    ----------
    member_proba : ndarray of shape (n_members, n_samples, n_clusters)

    Returns
    -------
    ndarray of shape (n_members, n_clusters)
        ``mapping[e, k]`` is the last member's name of member e's cluster k (Hungarian matching).
    """
    n_clusters = member_proba.shape[2]
    labels = member_proba.argmax(axis=2)
    mapping = np.empty((len(labels), n_clusters), np.int64)
    for member, row in enumerate(labels):
        table = np.zeros((n_clusters, n_clusters), np.int64)
        np.add.at(table, (row, labels[-1]), 1)
        rows, columns = linear_sum_assignment(table, maximize=True)
        mapping[member, rows] = columns
    return mapping


def mean_proba(member_proba: np.ndarray, mapping: np.ndarray) -> np.ndarray:
    """Return the mean of the members' probabilities, each renamed by its mapping."""
    inverse = np.argsort(mapping, axis=1)
    renamed = np.take_along_axis(member_proba, inverse[:, None, :], axis=2)
    return renamed.mean(axis=0)


def combine(member_proba: np.ndarray, mapping: np.ndarray, common: bool) -> np.ndarray:
    """Return the labels: of the members' mean, without a common mapping of the first member."""
    proba = mean_proba(member_proba, mapping) if common else member_proba[0]
    return proba.argmax(axis=1)


def member_agreement(member_proba: np.ndarray, mapping: np.ndarray) -> float:
    """Return the mean share of samples that a member and the majority's mean put alike."""
    majority = mean_proba(member_proba, mapping).argmax(axis=1)
    labels = member_proba.argmax(axis=2)
    return float(
        np.mean([(m[row] == majority).mean() for m, row in zip(mapping, labels, strict=True)])
    )
