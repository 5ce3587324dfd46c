"""Buckets equal the pairwise definition; pseudo-labels follow from buckets."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from clustering_common.callbacks import LabelsMonitor
from kingdra_cluster import shared_votes
from kingdra_cluster.pseudo_labels import (
    BucketRecord,
    agreement_buckets,
    align_buckets,
    balanced_pseudo_labels,
    check_thresholds,
    pseudo_labels_from_buckets,
)
from tests.reference import reference_balanced, reference_buckets

WAYS = {"pairs": math.inf, "subsets": -1, "cheaper": shared_votes.SUBSET_COST}


@pytest.fixture(params=sorted(WAYS))
def way(request, monkeypatch):
    monkeypatch.setattr(shared_votes, "SUBSET_COST", WAYS[request.param])
    return request.param


def draw_case(seed):
    """Return random votes: from unrelated members to members that mostly agree."""
    rng = np.random.default_rng(seed)
    n_members, n_labels = int(rng.integers(2, 11)), int(rng.integers(2, 9))
    n_samples = int(rng.integers(1, 61))
    noise = rng.choice([0.02, 0.1, 0.3, 0.6, 1.0])
    truth = rng.integers(0, n_labels, n_samples)
    wrong = rng.random((n_members, n_samples)) < noise
    labels = np.where(wrong, rng.integers(0, n_labels, wrong.shape), truth)
    sure = rng.random(n_samples) < rng.choice([0.0, 0.2, 0.5, 0.9, 1.0])
    return labels, sure, n_labels, rng


def assert_equal_buckets(labels, sure, n_class, low_th, high_th):
    buckets = agreement_buckets(labels, sure, n_class=n_class, low_th=low_th, high_th=high_th)
    expected = reference_buckets(labels, sure, n_class, low_th, high_th)
    assert [bucket.tolist() for bucket in buckets] == expected, (low_th, high_th)
    assert all(bucket.dtype == np.int64 for bucket in buckets)
    return buckets


def as_lists(labels, sure, **parameters):
    return [b.tolist() for b in agreement_buckets(np.array(labels), np.array(sure), **parameters)]


@pytest.mark.parametrize("block", range(20))
def test_buckets_equal_the_pairwise_definition(block, monkeypatch):
    for seed in range(20 * block, 20 * block + 20):
        labels, sure, n_labels, rng = draw_case(seed)
        low_th, high_th = rng.integers(0, len(labels), 2).tolist()
        n_class = int(rng.choice([1, 2, n_labels, n_labels + 3]))
        buckets = assert_equal_buckets(labels, sure, n_class, low_th, high_th)
        joined = np.concatenate(buckets)
        # buckets are disjoint, and later ones hold sure samples only
        assert len(np.unique(joined)) == len(joined)
        assert all(sure[bucket].all() for bucket in buckets[1:])
        for cost in WAYS.values():
            monkeypatch.setattr(shared_votes, "SUBSET_COST", cost)
            again = as_lists(labels, sure, n_class=n_class, low_th=low_th, high_th=high_th)
            assert again == [bucket.tolist() for bucket in buckets], (seed, cost)


@pytest.mark.parametrize("seed", range(1000, 1012))
def test_buckets_at_every_threshold(seed):
    labels, sure, n_labels, _ = draw_case(seed)
    labels, sure = labels[:6, :30], sure[:30]
    for low_th in range(-1, len(labels) + 2):
        for high_th in range(-1, len(labels) + 2):
            assert_equal_buckets(labels, sure, n_labels, low_th, high_th)


@pytest.mark.parametrize("seed", range(2000, 2010))
def test_buckets_with_many_ties(seed, way):
    rng = np.random.default_rng(seed)
    # every tuple of three binary votes, several times, in random order: all sizes tie
    tuples = np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, 8)
    labels = np.repeat(tuples, 4, axis=1)[:, rng.permutation(32)]
    sure = np.ones(32, dtype=bool)
    for low_th in range(3):
        for high_th in range(3):
            assert_equal_buckets(labels, sure, 8, low_th, high_th)
            assert_equal_buckets(labels, rng.random(32) < 0.5, 8, low_th, high_th)


def test_thresholds_need_not_be_integers():
    labels, sure, n_labels, _ = draw_case(3)
    for low_th, high_th in ((0.5, 1.5), (-0.5, 0.2), (1.0, len(labels) - 0.5)):
        assert_equal_buckets(labels, sure, n_labels, low_th, high_th)


def test_sizes_are_measured_again_after_a_removal():
    # the stale size of 5's tuple counts samples that the first bucket took with it
    for seed in range(40):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 2, (7, 60))
        assert_equal_buckets(labels, np.ones(60, dtype=bool), 6, 4, 3)
        assert_equal_buckets(labels, np.ones(60, dtype=bool), 6, 5, 4)


def test_the_larger_bucket_comes_first():
    labels = [[0, 1, 1, 2, 1], [0, 1, 1, 2, 1]]
    assert as_lists(labels, [True] * 5, n_class=3, low_th=0, high_th=1) == [[1, 2, 4], [0], [3]]


def test_a_tie_goes_to_the_smallest_sure_sample():
    # the tuples (1, 1) of samples 0, 3 and (0, 0) of samples 1, 2 weigh the same; sample 0
    # is not sure, so the smallest sample with the largest H is 1
    labels = [[1, 0, 0, 1], [1, 0, 0, 1]]
    sure = [False, True, True, True]
    assert as_lists(labels, sure, n_class=2, low_th=0, high_th=1) == [[1, 2], [3]]
    assert as_lists(labels, [True] * 4, n_class=2, low_th=0, high_th=1) == [[0, 3], [1, 2]]


def test_only_the_first_bucket_holds_unsure_samples():
    labels = [[0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1]]
    sure = [True, False, False, True, True, False]
    # both have |H| = 3 at the start; the unsure sample 5 left before the second bucket
    assert as_lists(labels, sure, n_class=2, low_th=0, high_th=1) == [[0, 1, 2], [3, 4]]


def test_unsure_samples_count_in_the_first_size_only():
    labels = [[0, 1, 1, 1, 2, 2, 3, 3, 3], [0, 1, 1, 1, 2, 2, 3, 3, 3]]
    sure = [True, True, False, False, True, True, True, False, False]
    # first 1 with |H| = 3 (a tie with 6); then 6 alone is smaller than {4, 5}
    found = as_lists(labels, sure, n_class=4, low_th=0, high_th=1)
    assert found == [[1, 2, 3], [4, 5], [0], [6]]


def test_agreement_must_exceed_the_thresholds():
    # samples 0 and 1 agree in exactly two of three members
    labels = [[0, 0], [0, 0], [0, 1]]
    sure = [True, True]
    assert as_lists(labels, sure, n_class=2, low_th=1, high_th=1) == [[0, 1], []]
    assert as_lists(labels, sure, n_class=2, low_th=2, high_th=2) == [[0], [1]]
    assert as_lists(labels, sure, n_class=2, low_th=1, high_th=2) == [[0], []]


def test_an_unsure_sample_of_the_first_bucket_removes_its_low_neighbours():
    # 1 (unsure) agrees with 0 twice and with 2 once; 0 and 2 agree nowhere
    labels = [[0, 0, 1], [0, 0, 1], [0, 2, 2]]
    sure = [True, False, True]
    assert as_lists(labels, sure, n_class=2, low_th=0, high_th=1) == [[0, 1], []]


def test_limits(way):
    one = np.zeros((3, 1), dtype=int)
    assert as_lists(one, [True], n_class=2, low_th=0, high_th=2) == [[0], []]
    assert as_lists(one, [False], n_class=2, low_th=0, high_th=2) == [[], []]
    same = np.full((3, 4), 5)
    assert as_lists(same, [True] * 4, n_class=2, low_th=2, high_th=2) == [[0, 1, 2, 3], []]
    assert as_lists(same, [False] * 4, n_class=1, low_th=2, high_th=2) == [[]]
    assert as_lists(same, [True] * 4, n_class=1, low_th=0, high_th=3) == [[]]


def test_names_of_labels_do_not_matter():
    labels, _, n_labels, rng = draw_case(7)
    sure = np.ones(labels.shape[1], dtype=bool)
    expected = as_lists(labels, sure, n_class=n_labels, low_th=0, high_th=1)
    names = np.array([rng.permutation(n_labels) for _ in labels])
    renamed = np.take_along_axis(names, labels, axis=1)
    assert as_lists(renamed, sure, n_class=n_labels, low_th=0, high_th=1) == expected
    for same in (labels * -3, labels * 10**6, labels * 10**17, labels.astype(np.uint8)):
        assert as_lists(same, sure, n_class=n_labels, low_th=0, high_th=1) == expected


def test_many_members_and_labels_do_not_overflow():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 50, 60)
    labels = np.where(rng.random((40, 60)) < 0.2, rng.integers(0, 50, (40, 60)), truth)
    assert_equal_buckets(labels, rng.random(60) < 0.8, 12, 8, 24)
    assert_equal_buckets(labels[:, :20], np.ones(20, dtype=bool), 12, 8, 39)


def test_the_first_of_many_members_is_not_forgotten():
    # 20 digits of base 16 are 80 bits: in 64 the first member's would be shifted out
    labels = np.full((20, 3), 15)
    labels[0] = [0, 1, 0]
    assert as_lists(labels, [True] * 3, n_class=2, low_th=19, high_th=19) == [[0, 2], [1]]


def test_labels_of_any_size():
    labels = np.array([[2**64 - 1, 2**64 - 1, 2**64 - 2], [5, 5, 5]], np.uint64)
    assert as_lists(labels, [True] * 3, n_class=1, low_th=0, high_th=1) == [[0, 1]]


def test_more_members_than_calls_can_be_nested():
    labels = np.zeros((1500, 3), dtype=int)
    assert as_lists(labels, [True] * 3, n_class=1, low_th=0, high_th=1499) == [[0, 1, 2]]


def test_more_than_255_members():
    labels = np.zeros((300, 3), dtype=int)
    labels[:40, 1] = 1
    # 260 shared votes would be 4 in a byte
    assert as_lists(labels, [True] * 3, n_class=1, low_th=298, high_th=259) == [[0, 1, 2]]


@pytest.mark.parametrize("table", [8, 2**20])
def test_both_ways_of_counting_are_equal(monkeypatch, table):
    monkeypatch.setattr(shared_votes, "LARGEST_TABLE", table)
    rng = np.random.default_rng(4)
    votes = shared_votes.compact_labels(rng.integers(0, 3, (6, 500)))
    weight = rng.integers(0, 4, 500)
    query = rng.integers(0, 500, 300)  # some twice
    agreement = (votes[:, :, None] == votes[:, None, :]).sum(axis=0)
    # small blocks, so that there are several along both sides
    monkeypatch.setattr(shared_votes, "BLOCK_PAIRS", 64 * 50)
    for threshold in range(-1, 7):
        expected = (agreement[query] > threshold) @ weight
        for cost in (math.inf, -1):
            monkeypatch.setattr(shared_votes, "SUBSET_COST", cost)
            found = shared_votes.linked_weight(votes, query, weight, threshold)
            assert_array_equal(found, expected)
            few = shared_votes.linked_weight(votes, query[:5], weight, threshold)
            assert_array_equal(few, expected[:5])


@pytest.mark.parametrize(
    ("labels", "sure", "n_class", "error", "text"),
    [
        ([[0.0, 1.0]], [True, True], 2, TypeError, "member_labels must be integers; got 'float64'"),
        ([0, 1], [True, True], 2, ValueError, r"\(n_members, n_samples\); got \(2,\)"),
        (np.zeros((2, 0), int), [], 2, ValueError, r"non-empty .* got \(2, 0\)"),
        ([[0, 1]], [1, 0], 2, TypeError, "sure must be booleans; got 'int64'"),
        ([[0, 1]], [True], 2, ValueError, r"sure must be of shape \(2,\); got \(1,\)"),
        ([[0, 1]], [True, True], 0, ValueError, "n_class must be at least 1; got 0"),
    ],
)
def test_bad_votes(labels, sure, n_class, error, text):
    with pytest.raises(error, match=text):
        agreement_buckets(labels, sure, n_class=n_class, low_th=0, high_th=0)


def test_thresholds_that_make_sense():
    for n_members in (1, 2, 10):
        for low_th in range(n_members):
            for high_th in range(n_members):
                check_thresholds(n_members, low_th, high_th)


@pytest.mark.parametrize(
    ("low_th", "high_th", "text"),
    [
        (1, 5, "high_th must be in the range 0 to 4 for n_en=5 members; got 5.* can never hold"),
        (1, 9, "high_th must be .*; got 9.* can never hold"),
        (1, -1, "high_th must be .*; got -1.* always holds"),
        (5, 4, "low_th must be .*; got 5.* can never hold"),
        (-1, 4, "low_th must be .*; got -1.* always holds: set low_th"),
        (math.nan, 4, "low_th must be .*; got nan"),
    ],
)
def test_thresholds_that_never_or_always_hold(low_th, high_th, text):
    with pytest.raises(ValueError, match=text):
        check_thresholds(5, low_th, high_th)


def test_buckets_take_the_order_of_the_member():
    buckets = [np.array([0, 1, 2]), np.array([3, 4]), np.array([5, 6])]
    # bucket 0 is mostly output 2, bucket 1 output 0; sample 7 is in no bucket
    aligned = align_buckets(buckets, np.array([2, 2, 0, 0, 0, 1, 2, 1]), 3)
    assert [bucket.tolist() for bucket in aligned] == [[3, 4], [5, 6], [0, 1, 2]]


def test_alignment_is_the_best_over_all_orders():
    # greedy would give bucket 0 its best output 0 (3 right) and end with 3 instead of 4
    buckets = [np.arange(5), np.arange(5, 7)]
    aligned = align_buckets(buckets, np.array([0, 0, 0, 1, 1, 0, 0]), 2)
    assert [len(bucket) for bucket in aligned] == [2, 5]


def test_alignment_undoes_any_permutation():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 6, 200)
    expected = [np.flatnonzero(labels == c) for c in range(6)]
    for _ in range(10):
        aligned = align_buckets([expected[c] for c in rng.permutation(6)], labels, 6)
        for bucket, right in zip(aligned, expected, strict=True):
            assert_array_equal(bucket, right)


def test_an_empty_bucket_gets_the_output_that_is_left():
    aligned = align_buckets([np.array([], dtype=int), np.array([0, 1])], np.array([0, 0]), 2)
    assert [bucket.tolist() for bucket in aligned] == [[0, 1], []]


def test_bad_alignment():
    with pytest.raises(ValueError, match="buckets must be n_class=2 arrays; got 1"):
        align_buckets([np.array([0])], np.array([0]), 2)
    for label in (2, -1):
        with pytest.raises(ValueError, match="member_labels must be in the range 0 to 1; got"):
            align_buckets([np.array([0]), np.array([1])], np.array([0, label]), 2)


@pytest.mark.parametrize("n_samples", [0, 1, 2, 3, 7, 12, 100])
def test_training_set_equals_the_round_robin(n_samples):
    buckets = [np.array([4, 9]), np.array([0]), np.array([3, 5, 8])]
    indices, classes = balanced_pseudo_labels(buckets, n_samples, np.random.default_rng(0))
    found = sorted(zip(indices.tolist(), classes.tolist(), strict=True))
    assert found == sorted(reference_balanced(buckets, n_samples))
    assert indices.shape == classes.shape == (n_samples,)
    assert indices.dtype == classes.dtype == np.int64


def test_training_set_is_balanced_shuffled_and_repeatable():
    buckets = [np.arange(0, 50), np.arange(50, 53), np.arange(53, 100)]
    first = balanced_pseudo_labels(buckets, 301, np.random.default_rng(5))
    again = balanced_pseudo_labels(buckets, 301, np.random.default_rng(5))
    other = balanced_pseudo_labels(buckets, 301, np.random.default_rng(6))
    assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.bincount(first[1]).tolist() == [101, 100, 100]
    # 101 samples of the 50 in bucket 0: each twice, one thrice
    assert sorted(np.bincount(first[0])[:50].tolist()) == [2] * 49 + [3]
    # unshuffled, neighbours would never share a class
    assert np.mean(first[1][1:] == first[1][:-1]) > 0.2


def test_training_set_needs_every_bucket():
    with pytest.raises(ValueError, match=r"non-empty arrays; got \[1, 0\] as sizes"):
        balanced_pseudo_labels([np.array([1]), np.array([])], 3, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"got \[\] as sizes"):
        balanced_pseudo_labels([], 3, np.random.default_rng(0))


def test_pseudo_labels_are_positions_of_buckets():
    buckets = [np.array([1, 4]), np.array([], dtype=int), np.array([0])]
    assert pseudo_labels_from_buckets(buckets, 6).tolist() == [2, 0, -1, -1, 0, -1]
    overlapping = [np.array([0, 1]), np.array([1, 2])]
    assert pseudo_labels_from_buckets(overlapping, 3).tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("pseudo_labels", "pseudo_acc"), [([1, 1, 0, 0, -1, -1], 0.75), ([1, 1, 1, 0, 0, 0], 1.0)]
)
def test_accuracy_counts_given_labels_only(pseudo_labels, pseudo_acc):
    truth = np.array([7, 7, 7, 9, 9, 9])
    monitor = LabelsMonitor(truth)
    model = SimpleNamespace(labels=np.zeros(6, int), pseudo_labels=np.array(pseudo_labels))
    monitor.set_model(model)
    logs = {}
    monitor.on_epoch_end(0, logs)
    assert (logs["pseudo_acc"], logs["acc"]) == (pseudo_acc, 0.5)


def test_record():
    buckets = [np.array([1, 4, 5]), np.array([0])]
    record = BucketRecord.from_buckets(buckets, 8)
    assert record == BucketRecord(sizes=(3, 1), coverage=0.5, smallest=1)
    assert BucketRecord.from_buckets([*buckets, np.array([], dtype=int)], 8).smallest == 0
