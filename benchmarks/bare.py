"""The bare matrix products and convolutions of a network: the least a training step can take.

For every layer with a kernel its forward product and, from a given gradient of its output, the
gradients of its kernel and (but for the first layer) of its input; no activation, no loss, no
optimiser, no data. Under TensorFlow they run in the order of a step, layer after layer and back,
and many steps in one dispatch, as in training. Under JAX a step is a dispatch, all queued at once,
which on a GPU may leave gaps that ours don't have; on a CPU XLA may do products of a step beside
each other, which ours cannot.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from clustering_common import backend

Linear = Callable[[Any, Any], Any]


class BareLayers:
    """The linear maps of some layers, compiled as one function of fixed arrays.

    Parameters
    ----------
    models : sequence of keras.Model
        In the order in which a step runs through them.
    batch_size : int
    """

    def __init__(self, models: Sequence[keras.Model], batch_size: int):
        rng = np.random.default_rng(0)
        self.maps: list[Linear] = []
        self.arrays: list[tuple[Any, Any, Any]] = []
        layers = [layer for model in models for layer in model.layers if layer.weights]
        for layer in layers:
            shapes = [
                (batch_size, *layer.input.shape[1:]),
                tuple(layer.kernel.shape),
                (batch_size, *layer.output.shape[1:]),
            ]
            draws = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
            x, kernel, gradient = (keras.ops.convert_to_tensor(draw) for draw in draws)
            self.maps.append(_linear(layer))
            self.arrays.append((x, kernel, gradient))
        self._steps = _compiled(self.maps)

    def run(self, n_steps: int) -> None:
        """Do the products of so many steps, at least one, and wait for their end."""
        with backend.products_in("float32"):
            outputs = self._steps(self.arrays, np.int32(n_steps))
        keras.ops.convert_to_numpy(outputs[-1][0])  # of a call that returns all at once


def _linear(layer: Any) -> Linear:
    """Return the map of a layer without bias and activation, a function of input and kernel."""
    if isinstance(layer, keras.layers.Dense):
        return keras.ops.matmul
    options = {"strides": layer.strides, "padding": layer.padding, "data_format": "channels_last"}
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return lambda x, kernel: keras.ops.conv_transpose(x, kernel, **options)
    return lambda x, kernel: keras.ops.conv(x, kernel, **options)


def _compiled(maps: Sequence[Linear]) -> Callable[..., Any]:
    """Return all products and their gradients, so many times, as a call that returns the last."""
    if keras.backend.backend() == "jax":
        import jax

        step = jax.jit(lambda arrays: _jax_products(maps, arrays))

        def queued(arrays: Any, n_steps: int) -> Any:
            """Queue every step: the device goes from one to the next without us.

            In a loop XLA would do the products once, and take the kernels' gradients of
            convolutions from slow code on a CPU.
            """
            outputs: Any = None
            for _ in range(n_steps):
                outputs = step(arrays)
            return outputs

        return queued
    import tensorflow as tf

    def looped(arrays: Any, n_steps: Any) -> Any:
        """Do the products of so many steps, each after the former, and keep the last ones."""

        def body(index: Any, *former: Any) -> Any:
            """Do every product once."""
            return index + 1, *_tensorflow_products(maps, arrays, former)

        first = 0, *(tf.zeros(shape) for shape in _output_shapes(arrays))
        return tf.while_loop(lambda i, *_: i < n_steps, body, first, parallel_iterations=1)[1:]

    return tf.function(looped, autograph=False)


def _output_shapes(arrays: Any) -> list[Any]:
    """Return the shapes of a step's products, in their order."""
    outputs = [gradient.shape for _, _, gradient in arrays]
    gradients = [shape for x, kernel, _ in arrays[:0:-1] for shape in (x.shape, kernel.shape)]
    return [*outputs, *gradients, arrays[0][1].shape]


def _jax_products(maps: Sequence[Linear], arrays: Any) -> list[Any]:
    import jax

    outputs: list[Any] = []
    gradients: list[Any] = []
    for position, (linear, (x, kernel, gradient)) in enumerate(zip(maps, arrays, strict=True)):
        output, pull_back = jax.vjp(linear, x, kernel)
        outputs.append(output)
        gradients[:0] = pull_back(gradient)[0 if position else 1 :]
    return outputs + gradients


def _tensorflow_products(maps: Sequence[Linear], arrays: Any, former: Sequence[Any]) -> list[Any]:
    """Return a step's products: no layer before the one below, no gradient before that above.

    The values need no such order, but those of training do. Left free, products that are too small
    for all cores run beside each other, which no training step can do.
    """
    import tensorflow as tf

    outputs: list[Any] = []
    gradients: list[Any] = []
    pull_backs, before = [], list(former)
    for linear, (x, kernel, _) in zip(maps, arrays, strict=True):
        with tf.control_dependencies(before):
            x = tf.identity(x)
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            output = linear(x, kernel)
        pull_backs.append((tape, output, [x, kernel]))
        outputs.append(output)
        before = [output]
    for position in reversed(range(len(arrays))):
        tape, output, sources = pull_backs[position]
        with tf.control_dependencies(before):
            upstream = tf.identity(arrays[position][2])
        found = tape.gradient(output, sources[0 if position else 1 :], output_gradients=upstream)
        gradients += found
        before = found[:1]
    return outputs + gradients
