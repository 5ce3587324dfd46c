"""The bare matrix products and convolutions of a network, without which no training step is.

The step of a linear network: each layer's product of what the layer below gave, and from a given
gradient of the last one each layer's gradient of its kernel and (but for the first) of its input;
no bias, no activation, no loss, no optimiser, no data. So products come in a step's own order and
find in the caches what they find there in training; of arrays of their own, in memory, they take
some 5 % longer for FcDEC and 15 % for ConvIDEC on a CPU.

Matrix products are Keras's, with the engine's own gradients: what anybody gets. Or they are ours
(`clustering_common.backend.matmul`), with which the dense networks train: under TensorFlow on a CPU
they are sooner, so that a step comes nearer to Keras's than it is to the least that we know.

A kernel's gradient may run beside that of its layer's input. In turns, as in training
under TensorFlow, FcDEC's by Keras took from 2 % less to 1 % more time in seven comparisons on two
cores, and by ours 2 % more in one.

Under TensorFlow many steps are one dispatch, as in training. Under JAX each is one, all queued at
once, which on a GPU may leave gaps that ours don't have.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from clustering_common import backend

Linear = Callable[[Any, Any], Any]


class BareLayers:
    """A step of the linear maps of some layers, compiled.

    Parameters
    ----------
    models : sequence of keras.Model
        In the order in which a step runs through them.
    batch_size : int
    matmul : callable, default=keras.ops.matmul
        Of a dense layer: input and kernel to output.
    """

    def __init__(
        self, models: Sequence[keras.Model], batch_size: int, matmul: Linear = keras.ops.matmul
    ):
        rng = np.random.default_rng(0)
        layers = [layer for model in models for layer in model.layers]
        weighted = [layer for layer in layers if layer.weights]
        ends = models[0].inputs[0].shape, models[-1].outputs[0].shape
        self.x, self.gradient = (_drawn(rng, (batch_size, *shape[1:]), 1.0) for shape in ends)
        self.kernels = [
            # Scaled so that values keep their size through all layers.
            _drawn(rng, layer.kernel.shape, math.prod(layer.kernel.shape[:-1]) ** -0.5)
            for layer in weighted
        ]
        self._steps = _compiled(_linear_maps(layers, matmul))

    def run(self, n_steps: int) -> None:
        """Do the products of so many steps, at least one, and wait for their end."""
        results = self.results(n_steps)
        keras.ops.convert_to_numpy(results[0][0])  # of a call that returns all at once

    def results(self, n_steps: int) -> list[Any]:
        """Return the last step's output and gradients of all kernels, the last layer's first."""
        with backend.products_in("float32"):
            return self._steps(self.x, self.kernels, self.gradient, np.int32(n_steps))


def _drawn(rng: np.random.Generator, shape: Sequence[int], std: float) -> Any:
    return keras.ops.convert_to_tensor(rng.normal(0, std, tuple(shape)).astype(np.float32))


def _linear_maps(layers: Sequence[Any], matmul: Linear = keras.ops.matmul) -> list[Linear]:
    """Return the map of each layer with a kernel, after the reshaping, padding or cropping below.

    None of our networks has such a layer above its last kernel.
    """
    maps, below = [], []
    for layer in layers:
        if layer.weights:
            maps.append(functools.partial(_mapped, tuple(below), _linear(layer, matmul)))
            below = []
        elif not isinstance(layer, keras.layers.InputLayer):
            below.append(layer)
    return maps


def _mapped(below: Sequence[Any], linear: Linear, x: Any, kernel: Any) -> Any:
    """Return a layer's output."""
    for layer in below:
        x = layer(x)
    return linear(x, kernel)


def _linear(layer: Any, matmul: Linear) -> Linear:
    """Return the map of a layer without bias and activation, a function of input and kernel."""
    if isinstance(layer, keras.layers.Dense):
        return matmul
    options = {"strides": layer.strides, "padding": layer.padding, "data_format": "channels_last"}
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return lambda x, kernel: keras.ops.conv_transpose(x, kernel, **options)
    return lambda x, kernel: keras.ops.conv(x, kernel, **options)


def _compiled(maps: Sequence[Linear]) -> Callable[..., Any]:
    """Return so many steps as a call that returns the last one's output and gradients."""
    if keras.backend.backend() == "jax":
        import jax

        step = jax.jit(lambda *arrays: _jax_products(maps, *arrays))

        def queued(x: Any, kernels: Any, gradient: Any, n_steps: int) -> Any:
            """Queue every step: the device goes from one to the next without us.

            In a loop XLA would do the products once, and take the kernels' gradients of
            convolutions from slow code on a CPU.
            """
            found: Any = None
            for _ in range(n_steps):
                found = step(x, kernels, gradient)
            return found

        return queued
    import tensorflow as tf

    def looped(x: Any, kernels: Any, gradient: Any, n_steps: Any) -> Any:
        """Do the products of so many steps, each after the former, and keep the last ones."""

        def body(index: Any, *former: Any) -> Any:
            """Do every product once."""
            with tf.control_dependencies(former):
                rows = tf.identity(x)
            return index + 1, *_tensorflow_products(maps, rows, kernels, gradient)

        first = 0, *(tf.zeros(each.shape) for each in (gradient, *reversed(kernels)))
        return tf.while_loop(lambda i, *_: i < n_steps, body, first, parallel_iterations=1)[1:]

    return tf.function(looped, autograph=False)


def _jax_products(maps: Sequence[Linear], x: Any, kernels: Any, gradient: Any) -> list[Any]:
    import jax

    pull_backs = []
    for linear, kernel in zip(maps, kernels, strict=True):
        x, pull_back = jax.vjp(linear, x, kernel)
        pull_backs.append(pull_back)
    found = [x]  # else nobody needs the last product
    for pull_back in reversed(pull_backs):
        gradient, kernel_gradient = pull_back(gradient)
        found.append(kernel_gradient)
    return found


def _tensorflow_products(maps: Sequence[Linear], x: Any, kernels: Any, gradient: Any) -> list[Any]:
    import tensorflow as tf

    tapes = []
    for linear, kernel in zip(maps, kernels, strict=True):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = linear(x, kernel)
        tapes.append((tape, x, kernel, y))
        x = y
    # A step has its loss before any gradient.
    with tf.control_dependencies([x]):
        gradient = tf.identity(gradient)
    found = [x]  # else nobody needs the last product
    for tape, x, kernel, y in reversed(tapes):
        # Nobody asks for the gradient of the first layer's input: TensorFlow leaves it out.
        gradient, kernel_gradient = tape.gradient(y, [x, kernel], output_gradients=gradient)
        found.append(kernel_gradient)
    return found
