"""The bare matrix products and convolutions of a network: the least a training step can take.

For every layer with a kernel its forward product and, from a given gradient of its output, the
gradients of its kernel and (but for the first layer) of its input; no activation, no loss, no
optimiser, no data. The device goes from step to step without waiting for the host.
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
        """Do the products of so many steps, and wait for their end."""
        with backend.products_in("float32"):
            outputs = self._steps(self.arrays, np.int32(n_steps))
        keras.ops.convert_to_numpy(outputs[0])


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
            """Queue every step: the device goes from one to the next without us."""
            outputs: Any = None
            for _ in range(n_steps):
                outputs = step(arrays)
            return outputs

        return queued
    import tensorflow as tf

    def looped(arrays: Any, n_steps: Any) -> Any:
        """Do the products, then do them again and let go of the former ones."""

        def body(index: Any, *_: Any) -> Any:
            """Do every product once."""
            return index + 1, *_tensorflow_products(maps, arrays)

        first = 1, *_tensorflow_products(maps, arrays)
        # One step at a time, as in training: more would fill each other's gaps.
        return tf.while_loop(lambda i, *_: i < n_steps, body, first, parallel_iterations=1)[1:]

    return tf.function(looped, autograph=False)


def _jax_products(maps: Sequence[Linear], arrays: Any) -> list[Any]:
    import jax

    products: list[Any] = []
    for position, (linear, (x, kernel, gradient)) in enumerate(zip(maps, arrays, strict=True)):
        output, pull_back = jax.vjp(linear, x, kernel)
        gradients = pull_back(gradient)
        products += [output, *(gradients if position else gradients[1:])]
    return products


def _tensorflow_products(maps: Sequence[Linear], arrays: Any) -> list[Any]:
    import tensorflow as tf

    products: list[Any] = []
    for position, (linear, (x, kernel, gradient)) in enumerate(zip(maps, arrays, strict=True)):
        with tf.GradientTape() as tape:
            sources = [x, kernel] if position else [kernel]
            tape.watch(sources)
            output = linear(x, kernel)
        products += [output, *tape.gradient(output, sources, output_gradients=gradient)]
    return products
