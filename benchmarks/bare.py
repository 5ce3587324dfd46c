"""The bare matrix products and convolutions of a network: the least a training step can take.

For every layer with a kernel its forward product and, from a given gradient of its output, the
gradients of its kernel and (but for the first layer) of its input; no activation, no loss, no
optimiser, no data.
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
        self._step = _compiled(self.maps)

    def run(self, n_steps: int) -> None:
        """Do the products of so many steps."""
        outputs: Any = None
        with backend.products_in("float32"):
            for _ in range(n_steps):
                outputs = self._step(self.arrays)
        keras.ops.convert_to_numpy(keras.tree.flatten(outputs)[0])


def _linear(layer: Any) -> Linear:
    """Return the map of a layer without bias and activation, a function of input and kernel."""
    if isinstance(layer, keras.layers.Dense):
        return keras.ops.matmul
    options = {"strides": layer.strides, "padding": layer.padding, "data_format": "channels_last"}
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return lambda x, kernel: keras.ops.conv_transpose(x, kernel, **options)
    return lambda x, kernel: keras.ops.conv(x, kernel, **options)


def _compiled(maps: Sequence[Linear]) -> Callable[..., Any]:
    """Return all products and their gradients as one compiled call that returns every one."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(lambda arrays: _jax_products(maps, arrays))
    import tensorflow as tf

    return tf.function(lambda arrays: _tensorflow_products(maps, arrays))


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
