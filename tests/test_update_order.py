import keras
import numpy as np
import pytest
from keras.optimizers import SGD, Adam

from clustering_common import backend
from dec_da.autoencoders import Dense
from tests.graphs import before

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="others copy no weight"
)


def traced_step(network, optimizer, prepare=backend.prepare_optimizer):
    """Return the graph of a training step, once it has run and changed every weight."""
    import tensorflow as tf

    optimizer.build(network.trainable_variables)
    prepare(optimizer)

    @tf.function(autograph=False, input_signature=[tf.TensorSpec((8, 4))])
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(network(x)))
        values = [variable.value for variable in network.trainable_variables]
        optimizer.apply(tape.gradient(loss, values), network.trainable_variables)
        return loss

    concrete = step.get_concrete_function()
    old_weights = network.get_weights()
    concrete(tf.constant(np.random.default_rng(0).normal(size=(8, 4)), tf.float32))
    for old, new in zip(old_weights, network.get_weights(), strict=True):
        assert (old != new).any()
    return concrete.graph


def dense(*sizes, layer=keras.layers.Dense):
    """Return a linear network of four inputs."""
    return keras.Sequential([keras.Input((4,)), *map(layer, sizes)])


def unordered(optimizer):
    """Prepare an optimiser, but for the order."""
    backend.prepare_optimizer(optimizer)
    optimizer._all_reduce_sum_gradients = list


def turns(graph):
    """Return of each update of a kernel how many products with it come before its gradient's."""
    found = []
    for update in graph.get_operations():
        if not update.type.startswith("ResourceApply"):
            continue
        gradients = [tensor.op for tensor in update.inputs if tensor.op.type == "MatMul"]
        reads = [op for op in update.inputs[0].consumers() if op.type == "ReadVariableOp"]
        products = {op for read in reads for op in readers(read) if "MatMul" in op.type}
        found += [len(products & before(gradient)) for gradient in gradients]
    return found


def readers(read):
    """Return what reads a variable's value, through what passes it on as it is."""
    for op in read.outputs[0].consumers():
        if op.type in ("Identity", "Cast"):
            yield from readers(op)
        yield op


@pytest.mark.parametrize("make", [lambda: SGD(0.1, momentum=0.9), lambda: Adam(0.1)])
@pytest.mark.parametrize("layer", [keras.layers.Dense, Dense])
def test_kernels_gradients_come_after_all_products_with_the_kernel(make, layer, monkeypatch):
    from clustering_common import backend_tensorflow_products

    for limit in ("MULTIPLY_ADDS", "OUTPUTS"):
        monkeypatch.setattr(backend_tensorflow_products, limit, 0)
    # Of the first layer nobody asks for the input's gradient; the others have two products each.
    graph = traced_step(dense(5, 6, 3, layer=layer), make())
    assert turns(graph) == [1, 2, 2]
    updates = [op for op in graph.get_operations() if op.type.startswith("ResourceApply")]
    taken = set().union(*map(before, updates))
    # Three forward, three and two gradients of kernels and inputs; of ours each bias's too.
    products = [op.type for op in taken if "MatMul" in op.type]
    assert len(products) == 8 + 3 * (layer is Dense)
    assert products.count("BatchMatMulV2") == 2 * (layer is Dense)
    waiting = [op for op in taken if op.type == "MatMul" and op.control_inputs]
    assert [len(op.control_inputs) for op in waiting] == [1, 1]
    assert turns(traced_step(dense(5, 6, 3, layer=layer), make(), unordered)) == [1, 1, 1]


def test_products_that_share_a_gradient_make_no_circle():
    x = keras.Input((4,))
    h, beside = keras.layers.Dense(5)(x), keras.layers.Dense(6)(x)
    both = keras.layers.Add()([keras.layers.Dense(6)(h), beside])
    graph = traced_step(keras.Model(x, keras.layers.Dense(3)(both)), SGD(0.1, momentum=0.9))
    assert sorted(turns(graph)) == [1, 1, 2, 2]


def test_two_optimizers_of_one_step_make_no_circle():
    import tensorflow as tf

    x = keras.Input((4,))
    layers = [keras.layers.Dense(5), keras.layers.Dense(5)]
    network = keras.Model(x, keras.layers.Add()([layer(x) for layer in layers]))
    optimizers = [SGD(0.1, momentum=0.9), Adam(0.1)]
    for optimizer, layer in zip(optimizers, layers, strict=True):
        optimizer.build(layer.trainable_variables)
        backend.prepare_optimizer(optimizer)

    @tf.function(autograph=False, input_signature=[tf.TensorSpec((8, 4))])
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(network(x)))
        values = [[weight.value for weight in layer.trainable_variables] for layer in layers]
        gradients = tape.gradient(loss, values)
        for optimizer, layer, own in zip(optimizers, layers, gradients, strict=True):
            optimizer.apply(own, layer.trainable_variables)
        return loss

    x = tf.constant(np.random.default_rng(0).normal(size=(8, 4)), tf.float32)
    assert float(step(x)) > float(step(x))


@pytest.mark.parametrize("options", [{"clipnorm": 1.0}, {"global_clipnorm": 1.0}])
def test_gradients_that_are_no_products_are_left_as_they_are(options):
    graph = traced_step(dense(5, 3), SGD(0.1, momentum=0.9, **options))
    assert not any(op.control_inputs for op in graph.get_operations() if op.type == "MatMul")


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_the_order_changes_no_bit(run_eagerly):
    trained = []
    for prepare in (unordered, backend.prepare_optimizer):
        network, rng = dense(5, 3), np.random.default_rng(0)
        network.set_weights([rng.normal(size=w.shape) for w in network.get_weights()])
        optimizer = SGD(0.1, momentum=0.9)
        optimizer.build(network.trainable_variables)
        prepare(optimizer)
        network.compile(optimizer, "mse", jit_compile=False, run_eagerly=run_eagerly)
        X, y = rng.normal(size=(64, 4)), rng.normal(size=(64, 3))
        network.fit(X, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
        trained.append(network.get_weights())
    for plain, ordered in zip(*trained, strict=True):
        np.testing.assert_array_equal(plain, ordered)
