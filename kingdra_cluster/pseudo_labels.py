"""Pseudo-labels of an ensemble: buckets of samples that its members agree on.

The steps between two rounds of training [1]_: buckets from the agreement graph, their
order aligned to the outputs of a member, and a balanced training set drawn from them.

References
----------
.. [1] Gupta, Ramjee, Kwatra, Sivathanu, "Unsupervised Clustering using Pseudo-semi-supervised
   Learning", ICLR 2020.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from kingdra_cluster.agreement_graph import agreement_buckets, check_thresholds
from kingdra_cluster.shared_votes import IntArray

__all__ = [
    "BucketRecord",
    "agreement_buckets",
    "align_buckets",
    "balanced_pseudo_labels",
    "check_thresholds",
    "pseudo_labels_from_buckets",
]


def align_buckets(
    buckets: Sequence[IntArray], member_labels: ArrayLike, n_class: int
) -> list[IntArray]:
    """Return the buckets in the order of one member's output classes.

    The buckets are matched one to one with the classes so that as many of their samples as
    possible get the class that the member itself gives them (Hungarian method).

    Parameters
    ----------
    buckets : sequence of n_class int arrays
        Indices of samples; may be empty.
    member_labels : int array of shape (n_samples,)
        Labels of one member, 0 to ``n_class - 1``.
    n_class : int
        Number of outputs of the member.

    Returns
    -------
    list of int64 arrays
        Position c holds the bucket that stands for the member's output c.

    Raises
    ------
    ValueError
        If there are not ``n_class`` buckets or a label is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> align_buckets([np.array([0, 1]), np.array([2])], np.array([1, 1, 0]), 2)
    [array([2]), array([0, 1])]
    """
    labels = np.asarray(member_labels)
    if len(buckets) != n_class:
        raise ValueError(
            f"buckets must be n_class={n_class} arrays; got {len(buckets)!r}. "
            "Pass one bucket for each output of the member, empty ones included."
        )
    if labels.size and not 0 <= labels.min() <= labels.max() < n_class:
        raise ValueError(
            f"member_labels must be in the range 0 to {n_class - 1}; got "
            f"{(int(labels.min()), int(labels.max()))!r} as smallest and largest. "
            "Pass the argmax of the member's n_class outputs."
        )
    table = [np.bincount(labels[bucket], minlength=n_class) for bucket in buckets]
    bucket_ids, classes = linear_sum_assignment(np.array(table), maximize=True)
    return [buckets[bucket_ids[position]] for position in np.argsort(classes)]


def balanced_pseudo_labels(
    buckets: Sequence[IntArray], n_samples: int, rng: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Return a balanced, shuffled training set drawn from the buckets.

    The buckets are visited round robin, one sample of each class in turn, each bucket
    cycled, until there are ``n_samples``; their order is then shuffled.

    Parameters
    ----------
    buckets : sequence of int arrays
        Indices of samples; bucket c belongs to class c. None may be empty.
    n_samples : int
        Length of the training set: that of the unlabelled data it is paired with.
    rng : numpy.random.Generator
        Source of the shuffle.

    Returns
    -------
    indices, classes : int64 arrays of shape (n_samples,)
        Sample and pseudo-label at each place. Classes differ by one place at most.

    Raises
    ------
    ValueError
        If there is no bucket or one is empty.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> indices, classes = balanced_pseudo_labels([np.array([4, 7]), np.array([1])], 4, rng)
    >>> sorted(zip(classes.tolist(), indices.tolist()))
    [(0, 4), (0, 7), (1, 1), (1, 1)]
    """
    sizes = np.array([len(bucket) for bucket in buckets], dtype=np.int64)
    if not len(sizes) or not sizes.all():
        raise ValueError(
            f"buckets must be non-empty arrays; got {sizes.tolist()!r} as sizes. "
            "Keep the buckets of an earlier iteration while one of the new ones is empty."
        )
    # shuffled places: place p belongs to class p mod n_class and to its round p div n_class
    rounds, classes = np.divmod(rng.permutation(n_samples), len(sizes))
    starts = np.cumsum(sizes) - sizes
    indices = np.concatenate(buckets)[starts[classes] + rounds % sizes[classes]]
    return indices.astype(np.int64), classes.astype(np.int64)


def pseudo_labels_from_buckets(buckets: Sequence[IntArray], n_samples: int) -> IntArray:
    """Return each sample's pseudo-label, the position of its bucket, or -1 for none.

    Parameters
    ----------
    buckets : sequence of int arrays
        Indices of samples, 0 to ``n_samples - 1``.
    n_samples : int
        Number of all samples.

    Returns
    -------
    int64 array of shape (n_samples,)

    Examples
    --------
    >>> import numpy as np
    >>> pseudo_labels_from_buckets([np.array([3]), np.array([0, 1])], 4)
    array([ 1,  1, -1,  0])
    """
    pseudo_labels = np.full(n_samples, -1, dtype=np.int64)
    # Buckets of one call can't overlap while low_th < n_members: a sample t of a bucket is
    # its own low neighbour, so H(t) becomes empty and every other H drops t. For buckets
    # from elsewhere, the last writer is the first bucket.
    for position in range(len(buckets) - 1, -1, -1):
        pseudo_labels[buckets[position]] = position
    return pseudo_labels


@dataclass(frozen=True)
class BucketRecord:
    """What one iteration's buckets were like.

    Attributes
    ----------
    sizes : tuple of int
        Number of samples in each bucket.
    coverage : float
        Share of samples that stand in any bucket, in [0, 1].
    smallest : int
        Size of the smallest bucket; 0 means that a class has no pseudo-labels.
    """

    sizes: tuple[int, ...]
    coverage: float
    smallest: int

    @classmethod
    def from_buckets(cls, buckets: Sequence[IntArray], n_samples: int) -> "BucketRecord":
        """Return the record of these buckets of ``n_samples`` samples."""
        sizes = tuple(len(bucket) for bucket in buckets)
        covered = np.count_nonzero(pseudo_labels_from_buckets(buckets, n_samples) >= 0)
        return cls(sizes=sizes, coverage=covered / n_samples, smallest=min(sizes))
