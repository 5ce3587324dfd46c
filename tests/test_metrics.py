import time
import warnings

import numpy as np
import pytest

from clustering_common import metrics
from clustering_common.metrics import accuracy, ari, match_labels, nmi
from tests.reference import naive_accuracy

SCORES = (accuracy, nmi, ari)


def test_accuracy_worked_by_hand():
    # Cluster 0 holds a a b, cluster 1 holds b b c: a and b matched, 2 + 2 of 6.
    assert accuracy(list("aabbbc"), [0, 0, 0, 1, 1, 1]) == pytest.approx(4 / 6)
    assert accuracy([0, 0, 1, 1], [1, 1, 0, 0]) == 1.0
    # The greedy match (5 + 0 of 12) loses against 4 + 3.
    labels_true = [0] * 5 + [1] * 4 + [0] * 3
    labels_pred = [0] * 5 + [0] * 4 + [1] * 3
    assert accuracy(labels_true, labels_pred) == pytest.approx(7 / 12)


def test_nmi_and_ari_worked_by_hand():
    # H(t) = ln 2, p constant: no information. Then t = (0 0 1 1), p = (0 0 1 2):
    # I = ln 2, H(p) = 1.5 ln 2, so NMI = 1 / 1.25 = 0.8.
    assert nmi([0, 0, 1, 1], [5, 5, 5, 5]) == 0.0
    assert nmi([0, 0, 1, 1], [0, 0, 1, 2]) == pytest.approx(0.8)
    # Pairs together: in both 1, in t 2, in p 1, of 6. Expected 2*1/6, mean 1.5:
    # (1 - 1/3) / (1.5 - 1/3) = 4/7.
    assert ari([0, 0, 1, 1], [0, 0, 1, 2]) == pytest.approx(4 / 7)
    assert ari([0, 1, 0, 1], [0, 0, 1, 1]) == pytest.approx(-0.5)


@pytest.mark.parametrize("seed", range(30))
def test_accuracy_equals_brute_force_over_maps(seed):
    rng = np.random.default_rng(seed)
    n_classes, n_clusters = rng.integers(1, 6, size=2)
    labels_true = rng.integers(n_classes, size=25)
    labels_pred = rng.integers(n_clusters, size=25) * 7 - 3
    expected = naive_accuracy(labels_true, labels_pred)
    assert accuracy(labels_true, labels_pred) == pytest.approx(expected, abs=1e-15)
    assert accuracy(labels_pred, labels_true) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("score", SCORES)
def test_renaming_and_reordering_change_nothing(score):
    rng = np.random.default_rng(0)
    labels_true, labels_pred = rng.integers(5, size=(2, 200))
    value = score(labels_true, labels_pred)
    names = np.array(["d", "a", "e", "b", "c"])
    order = rng.permutation(200)
    assert score(labels_true, rng.permutation(5)[labels_pred]) == pytest.approx(value)
    assert score(names[labels_true], labels_pred) == pytest.approx(value)
    assert score(labels_true[order], labels_pred[order]) == pytest.approx(value)
    assert isinstance(value, float)


IDS = {
    "int8 at its ends": np.array([-128, 127, -128, 5], dtype=np.int8),
    "uint64 at its end": np.array([2**64 - 1, 2**64 - 2, 2**64 - 1, 2**64 - 3], dtype=np.uint64),
    "far apart": [-(2**62), 2**62, -(2**62), 0],
    "beyond 64 bits": [2**70, 1, 2**70, 0],
    "bool and int": [True, 0, True, 2],
    "floats": [0.5, np.inf, 0.5, -1.0],
    "strings": ["x", "y", "x", "z"],
    "tuples": [(0, 1), (1, 0), (0, 1), (2, 2)],
    "a number and its name": [1, "1", 1, None],
    "objects": np.array([1, "1", 1, None], dtype=object),
    "dates": np.array(["2020-01", "2020-02", "2020-01", "2021-01"], dtype="M8[M]"),
}


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS.keys())
def test_any_hashable_ids(ids):
    assert accuracy([0, 1, 0, 2], ids) == 1.0
    assert accuracy(ids, [0, 1, 0, 0]) == 0.75
    assert nmi(ids, [0, 1, 0, 2]) == pytest.approx(1.0)
    assert ari(ids, [0, 1, 0, 2]) == 1.0
    assert match_labels([7, 8, 7, 9], ids).tolist() == [7, 8, 7, 9]
    expected = ids.tolist() if isinstance(ids, np.ndarray) else ids
    assert match_labels(ids, [7, 8, 7, 9]).tolist() == expected


def test_limits():
    assert accuracy([3], ["a"]) == 1.0
    assert accuracy(np.arange(1000), np.zeros(1000)) == 1 / 1000
    assert accuracy([0] * 10, range(10)) == 0.1


def test_a_million_labels_are_quick():
    rng = np.random.default_rng(0)
    labels_true, labels_pred = rng.integers(10, size=(2, 1_000_000))
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        accuracy(labels_true, labels_pred)
        seconds.append(time.perf_counter() - start)
    # 0.03 s on two cores; the bound leaves room for a busy machine.
    assert min(seconds) < 0.3


def test_match_labels_names_by_the_best_match():
    # 5 is mostly 0, 3 is 1, 9 has no partner left.
    matched = match_labels([0, 0, 0, 1, 1, 1], [5, 5, 3, 3, 3, 9])
    assert matched.tolist() == [0, 0, 1, 1, 1, 2]
    assert matched.dtype == np.int64
    # Fresh ids follow the largest of the reference, and never clash.
    assert match_labels([-4, 9], [1, 2]).tolist() == [-4, 9]
    assert match_labels([9, 9, 9], [0, 0, 9]).tolist() == [9, 9, 10]
    assert match_labels([127, 127], np.array([1, 2], dtype=np.int8)).tolist()[1] == 128
    # Equally many ids stay equally many, even if two share no sample.
    assert match_labels([0, 0, 0, 0, 1], [0, 1, 1, 1, 1]).tolist() == [1, 0, 0, 0, 0]


def test_match_labels_of_names():
    assert match_labels(["a", "a", "b"], [1, 1, 0]).tolist() == ["a", "a", "b"]
    matched = match_labels(["unmatched_0"] * 3, [1, 1, 0])
    assert matched.tolist() == ["unmatched_0", "unmatched_0", "unmatched_1"]
    assert match_labels([np.inf, np.inf], [0, 1]).tolist() == [np.inf, "unmatched_0"]


@pytest.mark.parametrize("seed", range(10))
def test_match_labels_is_the_match_of_accuracy(seed):
    rng = np.random.default_rng(seed)
    reference = rng.integers(4, size=60)
    labels = rng.integers(rng.integers(1, 8), size=60)
    matched = match_labels(reference, labels)
    assert np.mean(matched == reference) == pytest.approx(accuracy(reference, labels))
    # The partition is the same: one new id for each old one.
    pairs = set(zip(labels.tolist(), matched.tolist(), strict=True))
    assert len(pairs) == len(np.unique(labels)) == len(np.unique(matched))


ERRORS = {
    "length": (
        [0, 1],
        [0],
        r"^labels_pred must be as long as labels_true \(2 samples\); got 1\. Pass one label",
    ),
    "empty": ([], [], r"^labels_true must be non-empty; got \[\]\. Pass at least one label\.$"),
    "one-hot": (
        [0, 1],
        np.eye(2),
        r"^labels_pred must be one-dimensional; got shape \(2, 2\)\. .* argmax\(axis=1\)\.$",
    ),
    "ragged": ([[0], [1, 2]], [0, 1], r"^labels_true must be one-dimensional; got shape \(2, 0\)"),
    "scalar": (3, [0], r"^labels_true must be one-dimensional; got shape \(\)"),
    "nan": (
        [0, 1, 2],
        [0, np.nan, np.nan],
        r"^labels_pred must be free of NaN; got 2 of them, the first at position 1\. Drop",
    ),
    "nan object": (["a", float("nan")], [0, 1], r"^labels_true must be free of NaN; got 1 "),
}


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(("labels_true", "labels_pred", "text"), ERRORS.values(), ids=ERRORS)
def test_errors(score, labels_true, labels_pred, text):
    with pytest.raises(ValueError, match=text):
        score(labels_true, labels_pred)


def test_errors_of_match_labels_name_its_own_arguments():
    with pytest.raises(ValueError, match=r"^labels must be as long as reference \(2 samples\)"):
        match_labels([0, 1], [0, 1, 2])
    with pytest.raises(ValueError, match=r"^reference must be non-empty"):
        match_labels([], [])


def test_unhashable_ids():
    with pytest.raises(TypeError, match=r"^labels must be hashable ids; got .*dict.* Use integers"):
        accuracy([{}, {}], [0, 1])


def test_measurements_are_no_labels(monkeypatch):
    monkeypatch.setattr(metrics, "MAX_TABLE_CELLS", 99)
    values = np.linspace(0, 1, 10)
    with pytest.raises(ValueError, match=r"at most 99 pairs of them; got 10 x 10 distinct ids\. "):
        accuracy(values, values)


def test_no_warning_for_float_labels():
    # scikit-learn warns on floats; ours are codes by then.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert nmi([0.5, 1.5], [1.0, 2.0]) == 1.0
