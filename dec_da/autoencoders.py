"""The two autoencoders of DEC-DA: dense and convolutional (SPEC 1.1)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from clustering_common import backend
from clustering_common.seeds import SeedStream


@keras.saving.register_keras_serializable(package="dec_da")
class Dense(keras.layers.Dense):
    """Keras's layer, with products whose gradients come sooner where the engine has such."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the outputs, (..., units)."""
        if len(inputs.shape) != 2 or not self.use_bias:
            return super().call(inputs, training)
        product = backend.matmul(inputs, self.kernel)
        return self.activation(backend.add_bias(product, self.bias))


@dataclass(frozen=True)
class Autoencoder:
    """An encoder to the embedding and its decoder, with the layer names of the classic files.

    Attributes
    ----------
    encoder, decoder : keras.Model
        (batch, *input_shape) to (batch, embedding_dim) and back.
    """

    encoder: keras.Model
    decoder: keras.Model

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """The layers that own weights, input to output."""
        return [
            layer for part in (self.encoder, self.decoder) for layer in part.layers if layer.weights
        ]


def n_products(layer: keras.layers.Layer) -> int:
    """Return the products of one sample's pass through a layer of either autoencoder.

    Each weight of a kernel has one at each position: of a convolution's output, of a transposed
    one's input, whichever are fewer.
    """
    if not hasattr(layer, "kernel"):
        return 0
    positions = min(math.prod(side.shape[1:-1]) for side in (layer.input, layer.output))
    return math.prod(layer.kernel.shape) * positions


def dense_autoencoder(
    n_features: int, layer_sizes: Sequence[int], seeds: SeedStream
) -> Autoencoder:
    """Build the dense autoencoder D-500-500-2000-10 and its mirror.

    ReLU everywhere except the embedding and the output. Kernels: variance scaling, scale 1/3,
    fan-in, uniform, a fresh draw per layer; biases zero (DEC-DA, section 5.2).

    Parameters
    ----------
    n_features : int
        Length D of an input vector.
    layer_sizes : sequence of int
        Units of the encoder's layers; the last is the embedding.
    seeds : SeedStream
        Where each layer's initial weights come from.
    """
    sizes = [n_features, *map(int, layer_sizes)]
    last = len(layer_sizes) - 1

    def dense(units: int, name: str, linear: bool) -> keras.layers.Layer:
        """Return a layer with initial weights of its own."""
        initializer = keras.initializers.VarianceScaling(
            1 / 3, mode="fan_in", distribution="uniform", seed=seeds.seed(name)
        )
        activation = None if linear else "relu"
        return Dense(units, activation, kernel_initializer=initializer, name=name)

    x = keras.Input((n_features,), name="input")
    z = x
    for i in range(last + 1):
        z = dense(sizes[i + 1], f"encoder_{i}", linear=i == last)(z)
    embedding = keras.Input((sizes[-1],), name="embedding_input")
    y = embedding
    for i in range(last, -1, -1):
        y = dense(sizes[i], f"decoder_{i}", linear=i == 0)(y)
    return Autoencoder(keras.Model(x, z, name="encoder"), keras.Model(embedding, y, name="decoder"))


def check_conv_shape(shape: tuple[int, int, int] | None) -> tuple[int, int, int]:
    """Return ``shape``, or raise ValueError unless the network can take (height, width, channels).

    Height and width are multiples of 4 from 8 up, channels 1 or 3.
    """
    if shape is None:
        raise ValueError(
            "X must be images (n, height, width[, channels]) or vectors whose length is a square "
            "or three times a square; got neither. Reshape X, or use the Fc methods for vectors."
        )
    good = all(side >= 8 and side % 4 == 0 for side in shape[:2])
    if not good or shape[2] not in (1, 3):
        sizes = [f"{_below(shape[0], up)}x{_below(shape[1], up)}" for up in (False, True)]
        nearest = " or ".join(dict.fromkeys(sizes))
        raise ValueError(
            f"X must be images whose height and width are multiples of 4 from 8 up, with 1 or 3 "
            f"channels; got {shape[0]}x{shape[1]}x{shape[2]}. Resize or pad to {nearest}."
        )
    return shape


def _below(side: int, up: bool) -> int:
    return max(8, (side + (3 if up else 0)) // 4 * 4)


def conv_autoencoder(
    shape: tuple[int, int, int], filters: Sequence[int], embedding_dim: int, seeds: SeedStream
) -> Autoencoder:
    """Build the convolutional autoencoder: 5x5, 5x5, 3x3, all stride 2, and its mirror.

    Parameters
    ----------
    shape : tuple of int
        (height, width, channels), see `check_conv_shape`.
    filters : sequence of three int
        Channels of conv1, conv2 and conv3 (32, 64, 128).
    embedding_dim : int
        Units of the linear embedding.
    seeds : SeedStream
        Where each layer's initial weights come from.

    Notes
    -----
    The third layer pads "same" along a side that is a multiple of 8 and "valid" along another
    (SPEC 1.1). On an even side "same" with stride 2 and kernel 3 adds one row at the end, so that
    is what is padded, and cropped again on the way back: one rule for each side of the image.
    """
    height, width, channels = shape
    extra = ((0, int(height % 8 == 0)), (0, int(width % 8 == 0)))
    small = (height // 8, width // 8, filters[2])

    def options(name: str, activation: str | None = "relu") -> dict[str, Any]:
        """Return what all layers have."""
        initializer = keras.initializers.GlorotUniform(seed=seeds.seed(name))
        return {"name": name, "activation": activation, "kernel_initializer": initializer}

    conv, transposed = keras.layers.Conv2D, keras.layers.Conv2DTranspose
    encoder = keras.Sequential(
        [
            keras.Input(shape, name="input"),
            conv(filters[0], 5, strides=2, padding="same", **options("conv1")),
            conv(filters[1], 5, strides=2, padding="same", **options("conv2")),
            keras.layers.ZeroPadding2D(extra, name="pad"),
            conv(filters[2], 3, strides=2, padding="valid", **options("conv3")),
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dense(embedding_dim, **options("embedding", None)),
        ],
        name="encoder",
    )
    decoder = keras.Sequential(
        [
            keras.Input((embedding_dim,), name="embedding_input"),
            keras.layers.Dense(small[0] * small[1] * small[2], **options("dense")),
            keras.layers.Reshape(small, name="reshape"),
            transposed(filters[1], 3, strides=2, padding="valid", **options("deconv3")),
            keras.layers.Cropping2D(extra, name="crop"),
            transposed(filters[0], 5, strides=2, padding="same", **options("deconv2")),
            transposed(channels, 5, strides=2, padding="same", **options("deconv1", None)),
        ],
        name="decoder",
    )
    return Autoencoder(encoder, decoder)
