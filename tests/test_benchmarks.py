"""The benchmarks measure what they say."""

import os
import re
import threading

import keras
import numpy as np
import pytest

from benchmarks import agreement_graph, bare, cores, inference, plain_keras, rows, training_step
from benchmarks.bare import BareLayers
from clustering_common import backend
from clustering_common.metrics import accuracy
from clustering_common.seeds import SeedStream
from clustering_common.training import BatchSchedule
from dec_da import presets
from dec_da.autoencoders import conv_autoencoder, dense_autoencoder
from kingdra_cluster.agreement_graph import agreement_buckets
from tests.graphs import before
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


def to_arrays(tensors):
    """Return tensors as arrays."""
    return [keras.ops.convert_to_numpy(each) for each in tensors]


@pytest.fixture
def all_products_are_large(monkeypatch):
    """Let our products differ from Keras's whatever their size."""
    if keras.backend.backend() == "tensorflow":
        from clustering_common import backend_tensorflow_products

        monkeypatch.setattr(backend_tensorflow_products, "MULTIPLY_ADDS", 0)


@pytest.mark.usefixtures("all_products_are_large")
@pytest.mark.parametrize("matmul", [keras.ops.matmul, backend.matmul])
def test_bare_products_are_those_of_a_linear_network(matmul):
    autoencoder = dense_autoencoder(6, (5, 3), SeedStream(0))
    products = BareLayers([autoencoder.encoder, autoencoder.decoder], 4, matmul)
    products.run(2)
    x, gradient, *kernels = to_arrays([products.x, products.gradient, *products.kernels])
    assert [kernel.shape for kernel in kernels] == [(6, 5), (5, 3), (3, 5), (5, 6)]
    inputs = [x]
    for kernel in kernels[:-1]:
        inputs.append(inputs[-1] @ kernel)
    output, *gradients = to_arrays(products.results(3))
    np.testing.assert_allclose(output, inputs[-1] @ kernels[-1], rtol=1e-4, atol=1e-5)
    for found in gradients:
        kernel = kernels.pop()
        np.testing.assert_allclose(found, inputs.pop().T @ gradient, rtol=1e-4, atol=1e-5)
        gradient = gradient @ kernel.T
    assert not kernels


@pytest.mark.parametrize("shape", [(8, 8, 1), (12, 12, 3)])  # padded and cropped inside, or not
def test_bare_convolutions_are_those_of_a_linear_network(shape):
    autoencoder = conv_autoencoder(shape, (2, 3, 4), 2, SeedStream(0))
    parts = [autoencoder.encoder, autoencoder.decoder]
    products = BareLayers(parts, batch_size=4)
    products.run(1)
    for layer, kernel in zip(autoencoder.layers, products.kernels, strict=True):
        layer.kernel.assign(kernel)
        layer.activation = keras.activations.linear
    y = autoencoder.decoder(autoencoder.encoder(products.x))
    # The output is linear in each kernel: its product with any gradient, seen from each of them.
    value = np.vdot(*to_arrays([products.gradient, y]))
    output, *found = to_arrays(products.results(1))
    np.testing.assert_allclose(output, keras.ops.convert_to_numpy(y), rtol=1e-4, atol=1e-5)
    for kernel, kernel_gradient in zip(to_arrays(products.kernels), found[::-1], strict=True):
        assert kernel_gradient.shape == kernel.shape
        assert np.vdot(kernel_gradient, kernel) == pytest.approx(value, rel=1e-3)


def executed(maps, x, kernels, gradient, n_steps):
    """Return how many products so many bare steps take when they run."""
    if keras.backend.backend() == "jax":
        import jax

        step = jax.jit(lambda *arrays: bare._jax_products(maps, *arrays))
        text = step.lower(x, kernels, gradient).compile().as_text()
        return n_steps * len(re.findall(r"= \S+ (?:dot|convolution|custom-call)\(", text))
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        arrays = x, *kernels, gradient
        places = [v1.placeholder(tf.float32, each.shape) for each in arrays]
        outputs = bare._compiled(maps)(places[0], places[1:-1], places[-1], tf.constant(n_steps))
        options, metadata = v1.RunOptions(trace_level=v1.RunOptions.FULL_TRACE), v1.RunMetadata()
        session.run(outputs, dict(zip(places, arrays, strict=True)), options, metadata)
    nodes = [node for device in metadata.step_stats.dev_stats for node in device.node_stats]
    return sum(bool(re.search(r"= \w*(MatMul|Conv2D)\w*\(", each.timeline_label)) for each in nodes)


@pytest.mark.usefixtures("all_products_are_large")
@pytest.mark.parametrize(
    ("method", "matmul"),
    [("FcIDEC", keras.ops.matmul), ("FcIDEC", backend.matmul), ("ConvIDEC", keras.ops.matmul)],
)
def test_every_bare_product_is_taken_in_every_step(method, matmul):
    network = training_step.make_network(method).autoencoder
    parts = [network.encoder, network.decoder]
    products = BareLayers(parts, 3, matmul)
    arrays = [
        keras.tree.map_structure(keras.ops.convert_to_numpy, each)
        for each in (products.x, products.kernels, products.gradient)
    ]
    maps = bare._linear_maps([layer for part in parts for layer in part.layers], matmul)
    for n_steps in (1, 3):
        assert executed(maps, *arrays, n_steps) == n_steps * (3 * len(maps) - 1)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="others have no loop")
def test_a_bare_step_has_its_output_before_any_gradient():
    import tensorflow as tf

    outputs = []

    def product(x, kernel):
        outputs.append(tf.matmul(x, kernel))
        return outputs[-1]

    with tf.Graph().as_default():
        ones = tf.ones((3, 3))
        found = bare._tensorflow_products([product] * 3, ones, [ones] * 3, ones)
        assert len(outputs) == 3 and found[0] is outputs[-1]
        assert all(outputs[-1].op in before(gradient.op) for gradient in found[1:])


def test_bare_prediction_is_the_encoder_s_products(monkeypatch):
    taken = []
    compiled = backend.compiled

    def counted(function, variables):
        call = compiled(function, variables)
        return lambda rows: taken.append(call(rows)) or taken[-1]

    monkeypatch.setattr(inference.backend, "compiled", counted)
    model = inference.fitted()
    taken.clear()
    inference.bare_forward(model)(2 * inference.BATCH)
    wanted = training_step.make_data("FcDEC", inference.BATCH)
    for layer in model._network.autoencoder.encoder.layers[1:]:
        wanted = wanted @ keras.ops.convert_to_numpy(layer.kernel)
    assert len(taken) == 2
    np.testing.assert_allclose(to_arrays(taken)[1], wanted, rtol=1e-3, atol=1e-4)


def test_rows_of_a_phase_compare_what_they_name(monkeypatch):
    seconds = {"plain": 0.010, "bare": 0.009, "augmented": 0.012, "own": 0.001, "turns": 0.003}
    seconds["bare by ours"] = 0.008

    def paired(arms, *effort):
        assert (list(arms), *effort) == (list(seconds), 2, 0, 3, 7)
        return {name: np.full(effort[0], each) for name, each in seconds.items()}

    monkeypatch.setattr(training_step, "paired", paired)
    made = []

    def make(is_augmented):
        made.append(is_augmented)
        return training_step.clustering_model("FcDEC", is_augmented, n_samples=8)

    beside = {"own": int, "turns": int}
    found = training_step.phase_rows("FcDEC", make, 2, 3, 7, has_ours=True, beside=beside)
    assert made == [False, True]
    assert [(row.name, row.yardstick) for row in found] == [
        ("FcDEC", "bare products"),
        ("FcDEC, augmented", "bare products"),
        ("FcDEC", "bare products by ours"),
        ("FcDEC, augmented", "bare products by ours"),
        ("FcDEC, augmented", "without augmentation"),
        ("13 MB, two CPUs in turns", "each its own"),
    ]
    ratios = [row.ratio[0] for row in found]
    np.testing.assert_allclose(ratios, [0.9, 0.75, 0.8, 2 / 3, 1.2, 3])
    np.testing.assert_allclose([row.value for row in found], [10, 12, 10, 12, 12, 3])
    np.testing.assert_allclose([row.yardstick_value for row in found], [9, 9, 8, 8, 10, 1])


@pytest.fixture
def two_cpus(monkeypatch):
    """Let this process have two CPUs, and return to which its threads were tied."""
    tied = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 3}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cpus: tied.append(cpus), raising=False)
    return tied


@pytest.mark.parametrize(("arm", "n_pairs"), [("own", 2), ("turns", 4)])
def test_two_cpus_change_all_numbers(arm, n_pairs, two_cpus, monkeypatch):
    monkeypatch.setattr(cores, "N_NUMBERS", 5)
    made, pairs, add = [], set(), np.add
    ones = np.ones
    monkeypatch.setattr(np, "ones", lambda *args: made.append(ones(*args)) or made[0])

    def noted(half, one, out):
        pairs.add((threading.get_ident(), len(half)))  # of 3 numbers, or of 2
        add(half, one, out=out)

    run = cores.arms()[arm]
    monkeypatch.setattr(np, "add", noted)
    two_cpus.clear()
    run(3)
    np.testing.assert_array_equal(made[0], np.full(5, 4))
    assert len(pairs) == n_pairs
    assert sorted(map(list, two_cpus)) == [[3], [5]]


def test_numbers_are_as_many_as_a_step_changes():
    model = training_step.clustering_model("FcDEC", False, n_samples=8)
    assert cores.N_NUMBERS == 2 * model.count_params()


def test_an_error_on_one_cpu_is_raised(two_cpus, monkeypatch):
    def refused(_, cpus):
        if cpus == {5}:
            raise OSError("not allowed")

    monkeypatch.setattr(os, "sched_setaffinity", refused)
    with pytest.raises((OSError, threading.BrokenBarrierError)):
        cores.arms()["own"](3)


@pytest.mark.parametrize("cpus", [{0}, {0, 1, 2}])
def test_other_machines_than_of_two_cpus_have_no_turns(cpus, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cpus, raising=False)
    assert cores.arms() == {}


def test_no_turns_where_threads_can_t_be_tied(two_cpus, monkeypatch):
    def refused(*_):
        raise OSError("not allowed")

    monkeypatch.setattr(os, "sched_setaffinity", refused)
    assert cores.arms() == {}
    monkeypatch.delattr(os, "sched_setaffinity")
    assert cores.arms() == {}


@pytest.mark.parametrize("method", ["FcDEC", "FcIDEC", "FcDCN"])
def test_blocks_are_as_long_as_a_fit_s(method, monkeypatch):
    monkeypatch.setattr(backend, "is_cpu", lambda: True)
    model = training_step.clustering_model(method, False, n_samples=training_step.BATCH)
    batches = BatchSchedule(training_step.BATCH, training_step.BATCH, seed=0).batches
    plan = model._planned(model.fed(batches), 140, 20_000)  # SPEC 1.5
    assert plan.block_steps == training_step._effort(method, True)[1]


def test_arms_warm_up_before_they_are_timed():
    ran = {"ours": [], "bare": []}
    arms = {name: steps.append for name, steps in ran.items()}
    found = rows.paired(arms, 2, 0, 3, warm_steps=7)
    assert ran == {"ours": [3] * 5, "bare": [3] * 5}
    assert {name: len(seconds) for name, seconds in found.items()} == {"ours": 2, "bare": 2}


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("quick", [True, False])
def test_every_phase_of_every_method_is_measured(quick, on_cpu, monkeypatch):
    named, beside_cpus, by_ours = [], [], []

    def phase_rows(name, make, *effort, has_ours=False, beside=None):
        named.append(name)
        beside_cpus.extend([name] * bool(beside))
        by_ours.extend([name] * has_ours)
        return []

    monkeypatch.setattr(training_step, "phase_rows", phase_rows)
    monkeypatch.setattr(training_step.cores, "arms", lambda: {"own": int, "turns": int})
    monkeypatch.setattr(backend, "is_cpu", lambda: on_cpu)
    monkeypatch.setattr(training_step, "numpys_row", lambda name, *_, **__: named.append(name))
    training_step.rows(quick)
    assert named == [f"{family} pretraining step" for family in ("Fc", "Conv")] + [
        f"{method} clustering step" for method in presets.CLASSES
    ] + ["NumPy's array", "NumPy's array, 10-10"] * (not quick)
    assert beside_cpus == ["FcDEC clustering step"] * on_cpu
    has_ours = on_cpu and keras.backend.backend() == "tensorflow"
    assert by_ours == [name for name in named if name.startswith("Fc")] * has_ours


def test_a_row_compares_arrays_that_begin_elsewhere(monkeypatch):
    models = []

    def paired(arms, *effort):
        assert effort == (2, 0, 3, 7)
        return {name: np.full(2, 0.001 * seconds) for seconds, name in enumerate(arms, 1)}

    monkeypatch.setattr(training_step, "steps_of", models.append)
    monkeypatch.setattr(training_step, "paired", paired)
    row = training_step.numpys_row("small", 2, 3, 7, layer_sizes=(6, 4))
    assert (row.value, row.yardstick_value, row.ratio) == (1, 2, [0.5] * 3)
    late = 12 if backend.joins_rows() else 0
    assert [model.samples.n_late for model in models] == [late, 0]
    assert [model.encoder.outputs[0].shape[1] for model in models] == [4, 4]


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


def test_arrays_are_trained_on_for_whole_epochs():
    with pytest.raises(ValueError, match=r"^n_steps must be a multiple of 39; got 40\.$"):
        plain_keras.from_arrays(None, None)(40)


def test_ours_is_a_whole_fit(monkeypatch):
    monkeypatch.setattr(plain_keras, "N_SAMPLES", 512)
    monkeypatch.setattr(plain_keras, "PASS_STEPS", 2)
    model = training_step.pretraining_model("FcDEC", True, n_samples=512)
    run = plain_keras.fit_of(model)
    run(4)
    run(4)
    assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == 8
