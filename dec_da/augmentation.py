"""Random affine augmentation on the device, inside the compiled training step."""

import math
from typing import Any

import keras
from keras import ops

from clustering_common import backend

MAX_ROTATION = 10.0
MAX_SHIFT = 0.1


def warped(images: Any, angles: Any, shifts: Any) -> Any:
    """Return the images, each rotated and shifted by one affine map, interpolated once (bilinear).

    With c the image centre, an output pixel o reads the input at R (o - c + t) + c, with R the
    rotation and t the shift; outside, the nearest pixel counts (SPEC 1.3). The same as
    `keras.ops.image.affine_transform`; written here because TensorFlow's kernel takes three times
    as long as what XLA makes of these lines.

    Parameters
    ----------
    images : tensor of shape (batch, height, width, channels)
        Of fewer than 2^31 pixels together.
    angles : tensor of shape (batch,)
        Radians; from the row axis towards the column axis.
    shifts : tensor of shape (batch, 2)
        Pixels along height and along width.
    """
    n_images, (height, width, channels) = ops.shape(images)[0], images.shape[1:]
    angles, shifts = angles[:, None, None], shifts[:, :, None, None]
    cos, sin = ops.cos(angles), ops.sin(angles)
    center_y, center_x = (height - 1) / 2, (width - 1) / 2
    y = ops.arange(height, dtype="float32")[:, None] - center_y + shifts[:, 0]
    x = ops.arange(width, dtype="float32") - center_x + shifts[:, 1]
    source_y = ops.clip(cos * y - sin * x + center_y, 0.0, height - 1.0)
    source_x = ops.clip(sin * y + cos * x + center_x, 0.0, width - 1.0)
    top, left = ops.floor(source_y), ops.floor(source_x)
    down, right = (source_y - top)[..., None], (source_x - left)[..., None]
    top, left = ops.cast(top, "int32"), ops.cast(left, "int32")
    below, beside = ops.minimum(top + 1, height - 1), ops.minimum(left + 1, width - 1)
    first = ops.arange(n_images, dtype="int32")[:, None, None] * (height * width)
    pixels = ops.reshape(images, (-1, channels))

    def at(rows: Any, columns: Any) -> Any:
        """Return the pixels at these places."""
        return ops.take(pixels, first + rows * width + columns, axis=0)

    upper = (1.0 - right) * at(top, left) + right * at(top, beside)
    lower = (1.0 - right) * at(below, left) + right * at(below, beside)
    return (1.0 - down) * upper + down * lower


class RandomAffine(keras.layers.Layer):
    """Rotate and shift each image afresh, each time it is drawn.

    Rotation is uniform in +-``max_rotation`` degrees, the shift uniform in +-``max_shift`` of
    height and of width, sub-pixel; both are one affine map, interpolated once (bilinear), with the
    edges extended by the nearest pixel (DEC-DA, section 4.1; SPEC 1.3). The images get no gradient.

    Parameters
    ----------
    max_rotation : float, default=10.0
        Degrees.
    max_shift : float, default=0.1
        Share of the image's height and width.
    seed : int
        Seed of the layer's own random stream.

    References
    ----------
    Guo, Zhu, Liu, Yin. Deep Embedded Clustering with Data Augmentation. ACML 2018.
    """

    def __init__(
        self,
        max_rotation: float = MAX_ROTATION,
        max_shift: float = MAX_SHIFT,
        *,
        seed: int,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.max_rotation = max_rotation
        self.max_shift = max_shift
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, images: Any) -> Any:
        """Return the augmented images, (batch, height, width, channels)."""
        n_images, (height, width) = ops.shape(images)[0], images.shape[1:3]
        draws = backend.draw_rows(
            lambda n: keras.random.uniform((n, 3), -1.0, 1.0, seed=self.seed_generator), n_images
        )
        angles = draws[:, 0] * math.radians(self.max_rotation)
        shifts = draws[:, 1:] * (ops.array([height, width], "float32") * self.max_shift)
        return backend.fused(warped, has_gradient=False)(images, angles, shifts)


def image_shape(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """Return (height, width, channels) of samples of this shape, None where they are no images.

    A vector is an image when its length is a square (grey) or three times a square (RGB).

    Examples
    --------
    >>> image_shape((784,)), image_shape((28, 28)), image_shape((3072,)), image_shape((10,))
    ((28, 28, 1), (28, 28, 1), (32, 32, 3), None)
    """
    if len(shape) == 3 and shape[2] in (1, 3):
        return (shape[0], shape[1], shape[2])
    if len(shape) == 2:
        return (shape[0], shape[1], 1)
    if len(shape) == 1:
        for channels in (1, 3):
            side = math.isqrt(shape[0] // channels)
            if side > 1 and side * side * channels == shape[0]:
                return (side, side, channels)
    return None
