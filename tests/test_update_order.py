import keras
import numpy as np
import pytest
from keras.optimizers import SGD, Adam

from clustering_common import backend
from tests.graphs import before

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="others copy no weight"
)


def traced_step(optimizer, prepare):
    """Return the graph of a training step of three dense layers, and the network's variables."""
    import tensorflow as tf

    network = keras.Sequential([keras.Input((4,)), *(keras.layers.Dense(n) for n in (5, 6, 3))])
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
    # A step runs, and changes every weight.
    old_weights = network.get_weights()
    concrete(tf.ones((8, 4)))
    assert all(
        (old != new).any() for old, new in zip(old_weights, network.get_weights(), strict=True)
    )
    return concrete.graph


def updates_while_read(graph):
    """Return how many updates of the graph may come while a product still reads the weight."""
    updates = [op for op in graph.get_operations() if op.type.startswith("ResourceApply")]
    assert len(updates) == 6
    n_early = 0
    for update in updates:
        reads = [op for op in update.inputs[0].consumers() if op.type == "ReadVariableOp"]
        products = {op for read in reads for op in readers(read) if op.type == "MatMul"}
        n_early += not products <= before(update)
    return n_early


def readers(read):
    """Return what reads a variable's value, through what passes it on as it is."""
    for op in read.outputs[0].consumers():
        if op.type in ("Identity", "Cast"):
            yield from readers(op)
        yield op


@pytest.mark.parametrize("make", [lambda: SGD(0.1, momentum=0.9), lambda: Adam(0.1)])
def test_no_weight_is_changed_while_a_product_reads_it(make):
    assert updates_while_read(traced_step(make(), backend.prepare_optimizer)) == 0

    def unordered(optimizer):
        backend.prepare_optimizer(optimizer)
        optimizer._all_reduce_sum_gradients = list

    # The two layers with one below: their inputs' gradients are products with their kernels.
    assert updates_while_read(traced_step(make(), unordered)) == 2


@pytest.mark.parametrize("run_eagerly", [False, True])
@pytest.mark.parametrize("options", [{"clipnorm": 1.0}, {"global_clipnorm": 1.0}])
def test_gradients_that_are_no_products_are_left_as_they_are(options, run_eagerly):
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5), keras.layers.Dense(3)])
    optimizer = SGD(0.1, momentum=0.9, **options)
    optimizer.build(network.trainable_variables)
    backend.prepare_optimizer(optimizer)
    network.compile(optimizer, "mse", run_eagerly=run_eagerly)
    old_weights = network.get_weights()
    network.fit(np.ones((8, 4)), np.ones((8, 3)), verbose=0)
    for old, new in zip(old_weights, network.get_weights(), strict=True):
        assert (old != new).any()


def test_the_order_changes_no_bit():
    trained = []
    for make in (list, None):
        network = keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(5), keras.layers.Dense(3)]
        )
        rng = np.random.default_rng(0)
        network.set_weights([rng.normal(size=w.shape) for w in network.get_weights()])
        optimizer = SGD(0.1, momentum=0.9)
        optimizer.build(network.trainable_variables)
        backend.prepare_optimizer(optimizer)
        if make:
            optimizer._all_reduce_sum_gradients = make
        network.compile(optimizer, "mse")
        X, y = rng.normal(size=(64, 4)), rng.normal(size=(64, 3))
        network.fit(X, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
        trained.append(network.get_weights())
    for unordered, ordered in zip(*trained, strict=True):
        np.testing.assert_array_equal(unordered, ordered)
