import keras
import numpy as np
import pytest

from clustering_common import backend, backend_defaults
from dec_da.autoencoders import Dense

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="others have one way alone"
)


@pytest.fixture(autouse=True)
def set_limits(monkeypatch):
    """Let all batches be large, and return what sets other limits."""
    from clustering_common import backend_tensorflow_products

    def set_limits(multiply_adds, outputs):
        monkeypatch.setattr(backend_tensorflow_products, "MULTIPLY_ADDS", multiply_adds)
        monkeypatch.setattr(backend_tensorflow_products, "OUTPUTS", outputs)

    set_limits(0, 0)
    return set_limits


def arrays(n_rows=6, n_in=4, n_out=3):
    """Return rows, a kernel, a bias and the gradient of the outputs."""
    rng = np.random.default_rng(0)
    shapes = [(n_rows, n_in), (n_in, n_out), (n_out,), (n_rows, n_out)]
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize(
    ("n_rows", "run_eagerly"), [(6, False), (1, False), (0, False), (None, False), (6, True)]
)
def test_outputs_and_gradients_are_those_of_the_formula(n_rows, run_eagerly):
    import tensorflow as tf

    x, kernel, bias, upstream = arrays(6 if n_rows is None else n_rows)
    variables = [keras.Variable(each) for each in (kernel, bias)]

    def taken(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = backend.add_bias(backend.matmul(x, variables[0]), variables[1])
        sources = [x, *(each.value for each in variables)]
        return outputs, *tape.gradient(outputs, sources, output_gradients=tf.constant(upstream))

    if not run_eagerly:
        taken = tf.function(taken, input_signature=[tf.TensorSpec((n_rows, 4))], autograph=False)
    wanted = x @ kernel + bias, upstream @ kernel.T, x.T @ upstream, upstream.sum(axis=0)
    for found, right in zip(taken(tf.constant(x)), wanted, strict=True):
        # Sums of up to six terms of about 1, in another order.
        np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-6)


def test_gradients_have_gradients():
    import tensorflow as tf

    x, kernel, bias, _ = map(tf.constant, arrays())

    def second(ways):
        with tf.GradientTape() as outer:
            outer.watch([x, kernel, bias])
            with tf.GradientTape() as inner:
                inner.watch([x, kernel, bias])
                loss = tf.reduce_sum(tf.tanh(ways.add_bias(ways.matmul(x, kernel), bias)))
            first = inner.gradient(loss, [x, kernel, bias])
            slope = tf.add_n([tf.reduce_sum(each**2) for each in first])
        return outer.gradient(slope, [x, kernel, bias])

    for mine, theirs in zip(second(backend), second(backend_defaults), strict=True):
        # Sums of some twenty terms of about 1, in another order.
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("on_cpu", "n_rows", "limits", "wanted"),
    [
        (True, 6, (72, 18), {"BatchMatMulV2"}),
        (True, 6, (73, 18), set()),
        (True, 6, (72, 19), {"BatchMatMulV2", "BiasAddGrad"}),
        (True, None, (72, 18), {"BiasAddGrad"}),
        (False, 6, (72, 18), {"BiasAddGrad"}),
    ],
)
def test_only_large_batches_on_a_cpu_have_other_gradients(
    on_cpu, n_rows, limits, wanted, set_limits, monkeypatch
):
    import tensorflow as tf

    monkeypatch.setattr(backend, "is_cpu", lambda: on_cpu)
    set_limits(*limits)
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, (n_rows, 4))
        sources = [x, *map(tf.constant, arrays()[1:3])]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            outputs = backend.add_bias(backend.matmul(*sources[:2]), sources[2])
        tape.gradient(outputs, sources)
    assert {op.type for op in graph.get_operations()} & {"BatchMatMulV2", "BiasAddGrad"} == wanted


@pytest.mark.parametrize("shape", [(6, 4), (2, 5, 4)])
@pytest.mark.parametrize("options", [{}, {"activation": "relu"}, {"use_bias": False}])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "float64"])
def test_a_layer_is_keras_s(shape, options, policy):
    ours, plain = (
        layer(3, **options, dtype=policy, name="one") for layer in (Dense, keras.layers.Dense)
    )
    X, y = np.random.default_rng(0).normal(size=shape), np.ones((*shape[:-1], 3))
    models = [keras.Sequential([keras.Input(shape[1:]), layer]) for layer in (ours, plain)]
    plain.set_weights(ours.get_weights())
    for model in models:
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
        model.fit(X, y, epochs=2, verbose=0)
    assert ours.get_config() == plain.get_config()
    for mine, theirs in zip(ours.weights, plain.weights, strict=True):
        assert mine.dtype == theirs.dtype
        # A number of bfloat16 has eight binary digits.
        near = {"rtol": 0, "atol": 0.01} if "bfloat16" in policy else {"rtol": 1e-5, "atol": 1e-6}
        np.testing.assert_allclose(backend.to_numpy(mine), backend.to_numpy(theirs), **near)


def test_product_bias_and_relu_are_one_kernel_on_a_cpu():
    import tensorflow as tf

    v1 = tf.compat.v1
    fed = arrays(64, 32, 16)[:3]
    with tf.Graph().as_default(), v1.Session() as session:
        places = [v1.placeholder(tf.float32, each.shape) for each in fed]
        outputs = tf.nn.relu(backend.add_bias(backend.matmul(*places[:2]), places[2]))
        both = tf.ones_like(outputs) + outputs
        options, metadata = v1.RunOptions(trace_level=v1.RunOptions.FULL_TRACE), v1.RunMetadata()
        session.run(both, dict(zip(places, fed, strict=True)), options, metadata)
    nodes = [node for device in metadata.step_stats.dev_stats for node in device.node_stats]
    labels = " ".join(node.timeline_label for node in nodes)
    assert "FusedMatMul(" in labels and "BiasAdd(" not in labels and " Relu(" not in labels


def test_a_model_of_such_layers_is_saved_and_loaded(tmp_path):
    model = keras.Sequential([keras.Input((4,)), Dense(3, "relu")])
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    x = arrays()[0]
    np.testing.assert_array_equal(model.predict(x, verbose=0), again.predict(x, verbose=0))
