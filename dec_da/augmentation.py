"""Random affine augmentation on the device, inside the compiled training step."""

import math
from typing import Any

import keras
from keras import ops

MAX_ROTATION = 10.0
MAX_SHIFT = 0.1


def affine_parameters(angles: Any, shifts: Any, height: int, width: int) -> Any:
    """Return the eight parameters per image that map output pixels to input pixels.

    One matrix about the image centre c: an output pixel o reads the input at
    R (o - c + t) + c, with R the rotation and t the shift (SPEC 1.3).

    Parameters
    ----------
    angles : tensor of shape (batch,)
        Radians; from the row axis towards the column axis.
    shifts : tensor of shape (batch, 2)
        Pixels along height and along width.
    height, width : int
        Size of the images in pixels.

    Returns
    -------
    tensor of shape (batch, 8)
        In the order of `keras.ops.image.affine_transform`: x first.
    """
    cos, sin = ops.cos(angles), ops.sin(angles)
    center_y, center_x = (height - 1) / 2, (width - 1) / 2
    y, x = shifts[:, 0] - center_y, shifts[:, 1] - center_x
    origin_y = cos * y - sin * x + center_y
    origin_x = sin * y + cos * x + center_x
    zero = ops.zeros_like(cos)
    return ops.stack([cos, sin, origin_x, -sin, cos, origin_y, zero, zero], axis=1)


class RandomAffine(keras.layers.Layer):
    """Rotate and shift each image afresh, each time it is drawn.

    Rotation is uniform in +-``max_rotation`` degrees, the shift uniform in +-``max_shift`` of
    height and of width, sub-pixel; both are one affine map, interpolated once (bilinear), with the
    edges extended by the nearest pixel (DEC-DA, section 4.1; SPEC 1.3).

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
        draws = keras.random.uniform((n_images, 3), -1.0, 1.0, seed=self.seed_generator)
        angles = draws[:, 0] * math.radians(self.max_rotation)
        shifts = draws[:, 1:] * (ops.array([height, width], "float32") * self.max_shift)
        return ops.image.affine_transform(
            images,
            affine_parameters(angles, shifts, height, width),
            interpolation="bilinear",
            fill_mode="nearest",
            data_format="channels_last",
        )


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
