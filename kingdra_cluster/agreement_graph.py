"""The agreement graph of an ensemble: samples linked by the votes they share.

Two samples agree in a member that gives both the same label. High agreement proposes
groups of samples, low agreement keeps the groups apart. Only the tuple of a sample's labels
and its sureness matter, so equal tuples are one weighted node.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kingdra_cluster.shared_votes import (
    IntArray,
    compact_labels,
    linked_weight,
    shared_votes,
    tuple_ids,
)


def agreement_buckets(
    member_labels: ArrayLike, sure: ArrayLike, *, n_class: int, low_th: float, high_th: float
) -> list[IntArray]:
    """Return ``n_class`` groups of samples that the members put together, largest first.

    With agree(i, j) the number of members that give i and j the same label, the high
    neighbours of a sure sample are H(i) = {j : agree(i, j) > high_th}, those of any other
    sample are empty, and the low neighbours are W(i) = {j : agree(i, j) > low_th}. The
    largest H (that of the smallest i on a tie) is the next bucket; every low neighbour of
    its samples loses its own H and leaves all others [1]_.

    Parameters
    ----------
    member_labels : int array of shape (n_members, n_samples)
        Label of each sample in each member. Only equality within a member counts.
    sure : bool array of shape (n_samples,)
        Whether every member's largest probability for the sample exceeds the threshold.
    n_class : int
        Number of buckets, at least 1.
    low_th, high_th : float
        Votes that low and high neighbours share more than. See `check_thresholds`, which
        the caller runs once; any number is accepted here.

    Returns
    -------
    list of int64 arrays
        Indices in ascending order. Where no sample has high neighbours left, the remaining
        buckets are empty. The first bucket may hold samples that are not sure: they leave
        the graph with its first removal, so later ones can't.

    Raises
    ------
    TypeError
        If ``member_labels`` is not of integers or ``sure`` not of booleans.
    ValueError
        If the shapes do not fit or ``n_class`` is below 1.

    Notes
    -----
    Exactly the pairwise definition, computed on the U distinct tuples of labels in memory
    that grows with n_members * (n_samples + U). Time: the sizes of H at the start, then for
    each bucket one comparison of its B tuples with the U_b tuples left, and of the few
    tuples whose size is measured again. With d = high_th + 1 the start costs the cheaper of
    U * U comparisons of tuples and sum_{m >= d - 1} C(n_members, m) groupings of those tuples that
    share m - 1 votes at all. At worst, for unrelated members (U near n_samples) and a high_th
    that they exceed by chance, the start repeats for every bucket.

    References
    ----------
    .. [1] Gupta et al., ICLR 2020, Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> labels = np.array([[0, 0, 1, 1, 1], [2, 2, 0, 0, 1]])
    >>> agreement_buckets(labels, np.ones(5, dtype=bool), n_class=2, low_th=0, high_th=1)
    [array([0, 1]), array([2, 3])]
    """
    labels, is_sure = _check_votes(member_labels, sure, n_class)
    graph = AgreementGraph(labels, is_sure, low_th, high_th)
    buckets: list[IntArray] = []
    while len(buckets) < n_class and graph.has_next:
        buckets.append(graph.take_bucket())
    buckets += [np.empty(0, dtype=np.int64) for _ in range(n_class - len(buckets))]
    return buckets


def check_thresholds(n_members: int, low_th: float, high_th: float) -> None:
    """Raise unless both comparisons "agreement > threshold" can hold and can fail.

    Parameters
    ----------
    n_members : int
        Number of members, at least 1: two samples agree in 0 to ``n_members`` of them.
    low_th, high_th : float
        Thresholds of the low and the high neighbours.

    Raises
    ------
    ValueError
        If a threshold is below 0 (every pair would be neighbours) or not below
        ``n_members`` (no pair would).

    Examples
    --------
    >>> check_thresholds(10, low_th=1, high_th=9)
    """
    for name, value in (("low_th", low_th), ("high_th", high_th)):
        if not 0 <= value < n_members:
            effect = "always holds" if value < 0 else "can never hold"
            raise ValueError(
                f"{name} must be in the range 0 to {n_members - 1} for n_en={n_members} "
                f"members; got {value!r}. 'agreement > {name}' {effect}: set {name} to the "
                f"number of members that must be exceeded, {n_members - 1} meaning that all "
                "agree, or change n_en."
            )


def _check_votes(
    member_labels: ArrayLike, sure: ArrayLike, n_class: int
) -> tuple[NDArray[np.integer], NDArray[np.bool_]]:
    """Return both as arrays, or raise where type, shape or ``n_class`` do not fit."""
    labels, is_sure = np.asarray(member_labels), np.asarray(sure)
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(
            f"member_labels must be integers; got {labels.dtype.name!r}. "
            "Pass the argmax of each member's outputs."
        )
    if labels.ndim != 2 or not labels.size:
        raise ValueError(
            "member_labels must be a non-empty array of shape (n_members, n_samples); got "
            f"{labels.shape!r} as shape. Stack the members' labels, one row each."
        )
    if is_sure.dtype != np.bool_:
        raise TypeError(
            f"sure must be booleans; got {is_sure.dtype.name!r}. "
            "Compare the members' smallest top probability with the threshold."
        )
    if is_sure.shape != labels.shape[1:]:
        raise ValueError(
            f"sure must be of shape {labels.shape[1:]!r}; got {is_sure.shape!r}. "
            "Pass one value for each sample of member_labels."
        )
    if n_class < 1:
        raise ValueError(
            f"n_class must be at least 1; got {n_class!r}. Set it to the number of clusters."
        )
    return labels, is_sure


class AgreementGraph:
    """Samples linked by shared votes, from which buckets are taken one after the other.

    One node stands for all samples with the same tuple of labels. Nodes are numbered by
    their first sure sample, so the smallest node is the smallest sample on a tie; nodes
    without a sure sample come last.

    Parameters
    ----------
    member_labels : int array of shape (n_members, n_samples)
        Label of each sample in each member.
    sure : bool array of shape (n_samples,)
        Whether every member is sure of the sample; only sure samples have high neighbours.
    low_th, high_th : float
        Votes that low and high neighbours share more than.

    Attributes
    ----------
    has_next : bool
        Whether any sample still has high neighbours.
    """

    def __init__(
        self,
        member_labels: NDArray[np.integer],
        sure: NDArray[np.bool_],
        low_th: float,
        high_th: float,
    ) -> None:
        self._low_th, self._high_th = low_th, high_th
        self._sure = sure
        votes = compact_labels(member_labels)
        _, example, node = np.unique(tuple_ids(votes), return_index=True, return_inverse=True)
        first_sure = np.full(len(example), len(sure))
        np.minimum.at(first_sure, node[sure], np.flatnonzero(sure))
        order = np.argsort(first_sure, kind="stable")
        self._votes = votes[:, example[order]]
        self._node_of = np.argsort(order)[node]
        # samples that some H may hold: all at first, later those whose own H is not empty
        self._open = np.ones(len(sure), dtype=bool)
        self._weight = np.bincount(self._node_of)
        # nodes whose sure samples have a non-empty H, and |H|: exact or an upper bound
        self._alive = first_sure[order] < len(sure)
        self._size = np.zeros(len(order), dtype=np.int64)
        self._exact = np.zeros(len(order), dtype=bool)
        self._measure(np.flatnonzero(self._alive))
        self._alive &= self._size > 0

    @property
    def has_next(self) -> bool:
        """Return whether any sample still has high neighbours."""
        return bool(self._alive.any())

    def take_bucket(self) -> IntArray:
        """Return the largest set of high neighbours, ascending, and remove all near it."""
        centre = self._largest()
        shared = shared_votes(self._votes[:, [centre]], self._votes)[0]
        in_bucket = (shared > self._high_th) & (self._weight > 0)
        bucket = np.flatnonzero(self._open & in_bucket[self._node_of])
        # H(j) becomes empty for every j with a low neighbour in the bucket ...
        alive = np.flatnonzero(self._alive)
        near = linked_weight(self._votes, alive, in_bucket.astype(np.int64), self._low_th) > 0
        self._alive[alive[near]] = False
        self._size[alive[near]] = 0
        # ... and every other H drops those j
        self._drop_closed()
        return bucket

    def _drop_closed(self) -> None:
        """Remove the samples whose own H is empty from every H."""
        loses_unsure = bool(np.any(self._open & ~self._sure))
        self._open = self._sure & self._alive[self._node_of]
        self._weight = np.bincount(self._node_of[self._open], minlength=len(self._alive))
        self._exact[:] = False
        if loses_unsure:
            # after the first bucket the sizes that counted unsure samples are poor bounds
            self._measure(np.flatnonzero(self._alive))

    def _largest(self) -> int:
        """Return the node with the largest H, the smallest node on a tie.

        Sizes only shrink, so an old size bounds the new one: nodes are measured again from
        the largest bound on, in batches that double, until the best one is exact.
        """
        n_batch = 1
        while True:
            best = int(np.argmax(self._size))
            if self._exact[best]:
                return best
            stale = np.flatnonzero(self._alive & ~self._exact)
            ranked = stale[np.argsort(-self._size[stale], kind="stable")]
            self._measure(ranked[:n_batch])
            n_batch *= 2

    def _measure(self, nodes: IntArray) -> None:
        """Set the exact size of H of these nodes."""
        self._size[nodes] = linked_weight(self._votes, nodes, self._weight, self._high_th)
        self._exact[nodes] = True
