"""What TensorFlow computes sooner on a CPU by other products: gradients, squared distances."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import record

from clustering_common import backend, backend_defaults

MULTIPLY_ADDS = 2**25  # of a product, from which its gradient is taken by another
OUTPUTS = 100_000  # of a batch, from which the bias's gradient is a product
FEW = 2**14  # multiply-adds a point at most, where 0/1 products are sooner than broadcasting


def matmul(x: Any, kernel: Any) -> Any:
    """Return x W, on a CPU with a gradient of x that comes sooner where both are large.

    By TensorFlow's product of stacks of matrices, which is sooner where a factor is transposed, as
    measured with oneDNN, TensorFlow's default on x86: `benchmarks.training_step` has the bare
    products of both ways. They differ by rounding. Smaller products would gain as much of a shorter
    time; they stay as they are, and with them the figures of small batches and networks.
    """
    if not backend.is_cpu() or (x.shape[0] or 0) * math.prod(kernel.shape) < MULTIPLY_ADDS:
        return backend_defaults.matmul(x, kernel)
    x, kernel = tf.convert_to_tensor(x), tf.convert_to_tensor(kernel)

    def gradients(upstream: Any) -> Any:
        """Return those of x and kernel."""
        return (
            tf.raw_ops.BatchMatMulV2(x=upstream, y=kernel, adj_y=True),
            tf.matmul(x, upstream, transpose_a=True),
        )

    return _recorded("MatMul", lambda: tf.matmul(x, kernel), [x, kernel], gradients)


def add_bias(x: Any, bias: Any) -> Any:
    """Return x + b, on a CPU with a gradient of b that comes sooner where x is large.

    As 1^T g, a product, which differs by rounding; smaller sums stay as they are, as in `matmul`.
    """
    if not backend.is_cpu() or math.prod(size or 0 for size in x.shape) < OUTPUTS:
        return backend_defaults.add_bias(x, bias)
    x, bias = tf.convert_to_tensor(x), tf.convert_to_tensor(bias)

    def gradients(upstream: Any) -> Any:
        """Return those of x and bias."""
        ones = tf.ones((1, tf.shape(upstream)[0]), upstream.dtype)
        return upstream, tf.reshape(tf.matmul(ones, upstream), (-1,))

    return _recorded("BiasAdd", lambda: tf.nn.bias_add(x, bias), [x, bias], gradients)


def squared_distances(points: Any, centers: Any) -> Any:
    """Return what `backend_defaults.squared_distances` does, on a CPU sooner where few suffice.

    To the bit, gradients too, for finite numbers. TensorFlow broadcasts numbers one at a time; a
    product with zeros and ones, which is exact on a CPU, repeats points sooner.
    """
    n_centers, n_dims = centers.shape
    if (
        not backend.is_cpu()
        or None in (n_centers, n_dims)
        or n_centers * n_dims * max(n_centers, n_dims) > FEW
    ):
        return backend_defaults.squared_distances(points, centers)
    points, centers = tf.convert_to_tensor(points), tf.convert_to_tensor(centers)
    cube = (-1, n_centers, n_dims)

    def differences() -> Any:
        """Return all differences, a row a point."""
        repeat = tf.constant(np.tile(np.eye(n_dims), (1, n_centers)), points.dtype)
        return tf.matmul(points, repeat) - tf.reshape(centers, (1, -1))

    def gradients(upstream: Any) -> Any:
        """Return those of points and centres, of which a second tape can take gradients."""
        # Anew, as no second tape saw the first ones; a graph merges both.
        each = tf.expand_dims(upstream, 2) * tf.reshape(2 * differences(), cube)
        return tf.reduce_sum(each, axis=1), -tf.reduce_sum(each, axis=0)

    def sums() -> Any:
        """Return the squares of all differences, summed."""
        return tf.reduce_sum(tf.reshape(tf.square(differences()), cube), axis=2)

    return _recorded("SquaredDistances", sums, [points, centers], gradients)


def _recorded(
    name: str,
    function: Callable[[], Any],
    inputs: Sequence[Any],
    gradients: Callable[[Any], Any],
) -> Any:
    """Return the function's result, of which tapes of the same graph take these gradients.

    ``tf.custom_gradient`` would keep the function for ever, and with it the graph.
    """
    with record.stop_recording():
        found = function()
    record.record_operation(name, [found], list(inputs), gradients)
    return found
