"""Votes shared by samples: how many members of an ensemble give two samples one label.

A column of ``votes`` is a node: the tuple of labels that the members give. A node stands
for ``weight`` samples with that tuple, so counts cost the number of distinct tuples.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]

# Time of grouping one node by one subset of members, in units of comparing one label.
# Measured with NumPy 2.4: 20-25 ns against 0.2-0.7 ns.
SUBSET_COST = 100
MOST_GROUPED = 200  # members; the subsets' walk goes as deep
# Groups that are told apart by a table of their sums; more are ranked first.
LARGEST_TABLE = 2**20
# Pairs compared at a time: the counts and their float mask stay within a few MB.
BLOCK_PAIRS = 2**19


def compact_labels(labels: NDArray[np.integer]) -> NDArray[np.unsignedinteger]:
    """Return the labels shifted, or ranked, to start at 0 in the smallest integer type.

    Only equality counts in the agreement graph, so any integers may name the classes.
    """
    low, high = int(labels.min()), int(labels.max())
    if high - low >= 2**16 or high >= 2**63:
        ranks = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
        return ranks.astype(np.min_scalar_type(int(ranks.max())))
    return (labels.astype(np.int64) - low).astype(np.min_scalar_type(high - low))


def tuple_ids(votes: NDArray[np.unsignedinteger]) -> IntArray:
    """Return one number per column of ``votes``, equal exactly where the columns are.

    The labels are the digits of the number. Where the next digit would overflow 64 bits,
    the numbers so far are replaced by their ranks.
    """
    ids = np.zeros(votes.shape[1], dtype=np.int64)
    span = 1
    base = int(votes.max()) + 1
    for row in votes:
        if span * base >= 2**62:
            ranked, ids = np.unique(ids, return_inverse=True)
            span = len(ranked)
        ids = ids * base + row
        span *= base
    return ids


def linked_weight(
    votes: NDArray[np.unsignedinteger], query: IntArray, weight: IntArray, threshold: float
) -> IntArray:
    """Return, for each query node, the weight of the nodes sharing > ``threshold`` votes.

    Parameters
    ----------
    votes : array of shape (n_members, n_nodes)
        Label of each node in each member.
    query : int array of shape (n_query,)
        Nodes to answer for.
    weight : int array of shape (n_nodes,)
        Samples that each node stands for; a node of weight 0 does not count.
    threshold : float
        Votes compared with ">". Any number: below 0 every node is linked,
        from n_members on none is.

    Returns
    -------
    int array of shape (n_query,)

    Notes
    -----
    Exact in both of its ways, and never a dense (n_nodes, n_nodes) array. The cheaper one
    is taken: comparing all pairs in blocks, or grouping the nodes by every subset of
    floor(threshold) + 1 members or more. For the threshold n_members - 1 the only subset is
    the whole tuple.
    """
    n_members = len(votes)
    n_shared = math.floor(threshold) + 1
    reference = np.flatnonzero(weight)
    if n_shared <= 0:
        return np.full(len(query), weight.sum(), dtype=np.int64)
    if n_shared > n_members:
        return np.zeros(len(query), dtype=np.int64)
    # Smaller subsets are passed on the way.
    n_subsets = sum(math.comb(n_members, size) for size in range(n_shared - 1, n_members + 1))
    grouping = n_subsets * SUBSET_COST * (len(query) + len(reference))
    if n_members <= MOST_GROUPED and grouping < len(query) * len(reference) * n_members:
        return _linked_by_subsets(votes, query, weight, n_shared)
    return _linked_by_pairs(votes, query, reference, weight, n_shared)


def _linked_by_subsets(
    votes: NDArray[np.unsignedinteger], query: IntArray, weight: IntArray, n_shared: int
) -> IntArray:
    """Return the linked weights by inclusion and exclusion over subsets of members.

    With N_S(i) the weight of the other nodes that share the votes of i in all members of S, the
    weight of those that share k votes or more is
    sum over S, m = |S| >= k, of (-1)^(m - k) * C(m - 1, k - 1) * N_S(i).
    """
    used = weight > 0
    used[query] = True
    columns = votes if used.all() else votes[:, used]
    own = weight[used].astype(np.float64)  # sums of counts are exact below 2^53
    total = own.astype(np.int64)
    for size, group, nodes in _groups(columns, n_shared, 0, 0, np.zeros(len(own), np.int64)):
        factor = (-1) ** (size - n_shared) * math.comb(size - 1, n_shared - 1)
        others = np.bincount(group, own[nodes])[group] - own[nodes]
        total[nodes] += factor * others.astype(np.int64)
    position = np.cumsum(used) - 1
    return total[position[query]]


def _groups(
    columns: NDArray[np.unsignedinteger],
    n_shared: int,
    first: int,
    size: int,
    group: IntArray,
    nodes: IntArray | None = None,
) -> Iterator[tuple[int, IntArray, IntArray]]:
    """Yield, for each subset of ``n_shared`` members or more, the nodes that are not alone in it.

    A subset grows from ``size`` members by those from ``first`` on, depth first: who is alone with
    its votes is so in all that the subset grows to, and drops out. Yields the subset's size, the
    group of each node that is left, and these nodes.
    """
    nodes = np.arange(len(group)) if nodes is None else nodes
    base = int(columns.max(initial=0)) + 1
    for member in range(first, len(columns) - max(0, n_shared - size - 1)):
        grown = group * base + columns[member][nodes]
        if grown.max(initial=0) >= min(LARGEST_TABLE, 1024 + 64 * len(nodes)):
            grown = np.unique(grown, return_inverse=True)[1]
        is_shared = np.bincount(grown)[grown] > 1
        grown, left = grown[is_shared], nodes[is_shared]
        if len(left):
            if size + 1 >= n_shared:
                yield size + 1, grown, left
            yield from _groups(columns, n_shared, member + 1, size + 1, grown, left)


def _linked_by_pairs(
    votes: NDArray[np.unsignedinteger],
    query: IntArray,
    reference: IntArray,
    weight: IntArray,
    n_shared: int,
) -> IntArray:
    """Return the linked weights by comparing query with reference nodes, block by block."""
    total = np.zeros(len(query))
    asked, given = votes[:, query], votes[:, reference]
    mass = weight[reference].astype(np.float64)
    # the longer side is the contiguous one in a block
    flip = len(query) > len(reference)
    short, long = (given, asked) if flip else (asked, given)
    n_rows = max(1, min(64, short.shape[1]))
    n_columns = BLOCK_PAIRS // n_rows
    for top in range(0, short.shape[1], n_rows):
        rows = slice(top, top + n_rows)
        for left in range(0, long.shape[1], n_columns):
            columns = slice(left, left + n_columns)
            linked = shared_votes(short[:, rows], long[:, columns]) >= n_shared
            if flip:
                total[columns] += mass[rows] @ linked
            else:
                total[rows] += linked @ mass[columns]
    return total.astype(np.int64)


def shared_votes(
    votes: NDArray[np.unsignedinteger], others: NDArray[np.unsignedinteger]
) -> NDArray[np.unsignedinteger]:
    """Return the votes shared by each column of ``votes`` with each column of ``others``."""
    shape = (votes.shape[1], others.shape[1])
    shared = np.zeros(shape, dtype=np.min_scalar_type(len(votes)))
    for row, other in zip(votes, others, strict=True):
        shared += row[:, None] == other
    return shared
