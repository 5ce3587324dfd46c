"""The benchmarks measure what they say."""

import numpy as np
import pytest

from benchmarks import agreement_graph, inference, rows, training_step
from clustering_common.metrics import accuracy
from dec_da import presets
from kingdra_cluster.agreement_graph import agreement_buckets
from tests.reference import reference_buckets


@pytest.mark.parametrize("method", ["FcIDEC", "FcDCN"])
def test_a_clustering_step_is_the_method_s_own(method):
    settings = presets.CLASSES[method].settings
    model = training_step.clustering_model(method, False, n_samples=8)
    assert model.reconstruction_weight == settings.reconstruction_weight
    assert hasattr(model, "decoder") == bool(settings.reconstruction_weight)
    assert model.clustering_weight == settings.clustering_weight
    assert type(model.optimizer).__name__.lower() == settings.optimizer


@pytest.mark.parametrize("kind", agreement_graph.VOTES)
@pytest.mark.parametrize(("low_th", "high_th"), [(0, 3), (1, 2), (2, 1)])
def test_the_pairwise_yardstick_finds_the_same_buckets(kind, low_th, high_th):
    votes, sure = agreement_graph.VOTES[kind](61, 4, np.random.default_rng(0))
    found = agreement_graph.pairwise_buckets(votes, sure, 10, low_th, high_th, block=8)
    wanted = reference_buckets(votes, sure, 10, low_th, high_th)
    assert [bucket.tolist() for bucket in found] == wanted
    ours = agreement_buckets(votes, sure, n_class=10, low_th=low_th, high_th=high_th)
    agreement_graph.check_equal(ours, found)
    with pytest.raises(RuntimeError, match="differ in their buckets"):
        agreement_graph.check_equal(ours[1:], found)


def test_every_case_of_the_agreement_graph_has_a_yardstick(monkeypatch):
    ran = []

    def measure(case, repeats):
        ran.append(case)
        n_samples = case[1]
        return {"seconds": [n_samples / 1000], "peak_mb": [9], "before_mb": [8],
                "pairwise_seconds": 64.0}  # fmt: skip

    monkeypatch.setattr(agreement_graph, "measure", measure)
    found = agreement_graph.rows(quick=True)
    assert ran == agreement_graph.QUICK
    assert (found[0].yardstick_value, found[0].ratio) == (64.0, [4.0])
    for case, row in zip(ran[1:], found[1:], strict=True):
        assert (row.yardstick_value, row.ratio) == (case[1] / 1000, [1.0])
    lines = rows.as_table(found).splitlines()
    assert lines[0].endswith("peak MB (before)") and lines[1].endswith("9 (8)")
    assert found[0].as_dict()["peak_mb"] == 9 and "peak" not in found[0].yardstick


def test_the_plain_accuracy_is_the_accuracy():
    labels = np.random.default_rng(0).integers(0, 4, (2, 50))
    assert inference.plain_accuracy(*labels.tolist()) == accuracy(*labels)
    row = inference.accuracy_row(1, n_samples=50)
    assert row.name == "accuracy, 50 labels" and row.ratio and row.yardstick_value
