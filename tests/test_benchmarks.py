"""The benchmarks measure what they say."""

import keras
import numpy as np
import pytest

from benchmarks import agreement_graph, inference, plain_keras, rows, training_step
from benchmarks.bare import BareLayers
from clustering_common.metrics import accuracy
from clustering_common.seeds import SeedStream
from dec_da import presets
from dec_da.autoencoders import conv_autoencoder, dense_autoencoder
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


def test_bare_products_are_all_of_a_step():
    autoencoder = dense_autoencoder(6, (5, 3), SeedStream(0))
    bare = BareLayers([autoencoder.encoder, autoencoder.decoder], batch_size=4)
    bare.run(2)
    outputs = [keras.ops.convert_to_numpy(each) for each in bare._steps(bare.arrays, 2)]
    arrays = [[keras.ops.convert_to_numpy(each) for each in layer] for layer in bare.arrays]
    assert [x.shape for x, _, _ in arrays] == [(4, 6), (4, 5), (4, 3), (4, 5)]
    wanted = [x @ kernel for x, kernel, _ in arrays]
    for x, kernel, gradient in arrays[::-1]:
        wanted += [gradient @ kernel.T, x.T @ gradient]
    del wanted[-2]  # nobody asks for the gradient of the data
    for found, product in zip(outputs, wanted, strict=True):
        np.testing.assert_allclose(found, product, rtol=1e-4, atol=1e-5)


def test_bare_convolutions_are_all_of_a_step():
    autoencoder = conv_autoencoder((8, 8, 1), (2, 3, 4), 2, SeedStream(0))
    bare = BareLayers([autoencoder.encoder, autoencoder.decoder], batch_size=4)
    bare.run(1)
    outputs = bare._steps(bare.arrays, 1)
    shapes = [tuple(each.shape) for each in outputs]
    back = [(x.shape, kernel.shape) for x, kernel, _ in bare.arrays[::-1]]
    flat = [tuple(shape) for pair in back for shape in pair]
    del flat[-2]
    assert shapes == [tuple(gradient.shape) for _, _, gradient in bare.arrays] + flat


def test_rows_of_a_phase_compare_what_they_name(monkeypatch):
    seconds = {"plain": 0.010, "augmented": 0.012, "bare": 0.009}

    def paired(arms, rounds, few, many):
        assert (list(arms), rounds, few, many) == (list(seconds), 2, 0, 3)
        return {name: np.full(rounds, each) for name, each in seconds.items()}

    monkeypatch.setattr(training_step, "paired", paired)
    made = []

    def make(is_augmented):
        made.append(is_augmented)
        return training_step.clustering_model("FcDEC", is_augmented, n_samples=8)

    found = training_step.phase_rows("FcDEC", make, 2, 3)
    assert made == [False, True]
    assert [row.name for row in found] == ["FcDEC", "FcDEC, augmented", "FcDEC, augmented"]
    ratios = [row.ratio[0] for row in found]
    np.testing.assert_allclose(ratios, [0.9, 0.75, 1.2])
    np.testing.assert_allclose([row.value for row in found], [10, 12, 12])
    np.testing.assert_allclose([row.yardstick_value for row in found], [9, 9, 10])


@pytest.mark.parametrize("quick", [True, False])
def test_every_phase_of_every_method_is_measured(quick, monkeypatch):
    named = []
    monkeypatch.setattr(
        training_step, "phase_rows", lambda name, make, rounds, n_steps: [named.append(name)]
    )
    training_step.rows(quick)
    assert named == [f"{family} pretraining step" for family in ("Fc", "Conv")] + [
        f"{method} clustering step" for method in presets.CLASSES
    ]


@pytest.mark.parametrize("way", ["from_arrays", "from_generator", "from_tf_data"])
def test_plain_ways_train_on_augmented_images(way, monkeypatch):
    if way == "from_tf_data" and keras.backend.backend() != "tensorflow":
        pytest.skip("tf.data feeds TensorFlow")
    monkeypatch.setattr(plain_keras, "BATCH", 4)
    monkeypatch.setattr(plain_keras, "PASS_STEPS", 2)
    monkeypatch.setattr(plain_keras, "WHOLE_BATCHES", 8)
    monkeypatch.setattr(plain_keras, "N_SAMPLES", 10)
    images = training_step.make_data("FcDEC", 10)
    monkeypatch.setattr(plain_keras, "make_data", lambda method: images)

    class Reads:
        """Takes what Keras would train on."""

        def __init__(self):
            self.pairs, self.steps = [], 0

        def fit(self, x, y=None, *, batch_size=4, steps_per_epoch=None, **options):
            self.steps += steps_per_epoch or len(x) // batch_size
            self.pairs += [(x, y)] if y is not None else [next(iter(x))]

    for targets in (None, np.arange(20, dtype=np.float32).reshape(10, 2)):
        model = Reads()
        getattr(plain_keras, way)(model, targets)(4)
        assert model.steps == 4
        for x, y in model.pairs:
            x, y = np.asarray(x), np.asarray(y)
            assert x.shape[1:] == (784,) and len(x) == len(y)
            assert np.array_equal(x, y) if targets is None else y.shape[1:] == (2,)
            # None of them is an image as it was.
            assert min(np.abs(x[:, None] - images).max(axis=2).min(axis=1)) > 0


def test_rounds_of_plain_ways_count_together():
    row = plain_keras.total_row("a step", np.array([1.0, 1.0]), np.array([2.0, 4.0]), "arrays")
    assert (row.value, row.yardstick_value, row.ratio) == (1000, 3000, [3, 2, 4])
