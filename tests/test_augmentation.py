import ctypes
import functools
import gc
import math

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

from clustering_common import backend
from clustering_common.backend import to_numpy
from dec_da.augmentation import RandomAffine, image_shape, warped
from tests.reference import naive_affine


def warp(images, angles, shifts):
    arrays = (np.asarray(values, np.float32) for values in (images, angles, shifts))
    return to_numpy(backend.fused(warped)(*map(ops.array, arrays)))


def grey(rows):
    return np.array(rows, np.float32)[None, :, :, None]


def test_three_by_three_worked_by_hand():
    image = grey([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    assert warp(image, [0], [[0, 0]])[0, :, :, 0].tolist() == image[0, :, :, 0].tolist()
    # Reading one row further down: the last row is repeated.
    down = warp(image, [0], [[1, 0]])[0, :, :, 0]
    assert down.tolist() == [[4, 5, 6], [7, 8, 9], [7, 8, 9]]
    left = warp(image, [0], [[0, -1]])[0, :, :, 0]
    assert left.tolist() == [[1, 1, 2], [4, 4, 5], [7, 7, 8]]
    half = warp(image, [0], [[0, 0.5]])[0, :, :, 0]
    assert half.tolist() == [[1.5, 2.5, 3], [4.5, 5.5, 6], [7.5, 8.5, 9]]
    # A quarter turn about the centre: the output's top row reads a column of the input.
    turned = warp(image, [math.pi / 2], [[0, 0]])[0, :, :, 0]
    np.testing.assert_allclose(turned, [[7, 4, 1], [8, 5, 2], [9, 6, 3]], atol=1e-5)
    # Shift and turn are one matrix, the shift first.
    both = warp(image, [math.pi / 2], [[1, 0]])[0, :, :, 0]
    np.testing.assert_allclose(both, [[8, 5, 2], [9, 6, 3], [9, 6, 3]], atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 8, 1), (6, 11, 1), (9, 5, 3), (1, 4, 1)])
def test_layer_equals_the_naive_loop(shape, monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.random((5, *shape)).astype(np.float32)
    draws = rng.uniform(-1, 1, (5, 3)).astype(np.float32)
    draws[0] = [1, -1, 1]

    def uniform(shape, low, high, seed):
        assert (shape, low, high) == ((5, 3), -1.0, 1.0)
        return ops.array(draws)

    monkeypatch.setattr(keras.random, "uniform", uniform)
    augmented = to_numpy(RandomAffine(seed=0)(ops.array(images)))
    for i in range(5):
        angle = math.radians(10 * draws[i, 0])
        shift = 0.1 * np.array(shape[:2]) * draws[i, 1:]
        # Coordinates up to 11 pixels in float32.
        expected = naive_affine(images[i], angle, shift)
        np.testing.assert_allclose(augmented[i], expected, atol=2e-5)


def drawn(layer, n_images, height=21, width=41):
    """Return angle (degrees) and shift (pixels) of each image, read off images of coordinates."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    one = np.stack([rows, columns, 0 * rows], axis=2)
    out = to_numpy(layer(ops.array(np.repeat(one[None], n_images, axis=0)))).astype(np.float64)
    y, x = height // 2, width // 2
    here = out[:, y, x, :2] - [y, x]
    # Four pixels apart, where rounding of the coordinates counts less.
    cos = (out[:, y + 2, x, 0] - out[:, y - 2, x, 0]) / 4
    sin = (out[:, y + 2, x, 1] - out[:, y - 2, x, 1]) / 4
    shift_y = cos * here[:, 0] + sin * here[:, 1]
    shift_x = -sin * here[:, 0] + cos * here[:, 1]
    return np.degrees(np.arctan2(sin, cos)), shift_y, shift_x


def test_draws_are_uniform_in_their_ranges_and_independent():
    layer = RandomAffine(seed=3)
    first, second = drawn(layer, 1000), drawn(layer, 1000)
    ranges = (10.0, 2.1, 4.1)
    values = [np.concatenate(pair) for pair in zip(first, second, strict=True)]
    for value, most in zip(values, ranges, strict=True):
        assert np.abs(value).max() <= most + 1e-3
        assert stats.kstest(value, "uniform", args=(-most, 2 * most)).pvalue > 1e-3
    # Sub-pixel: the fraction of the shift is uniform too.
    assert stats.kstest(values[2] % 1, "uniform").pvalue > 1e-4
    # Independent of each other, of the next image and of the next draw: 4.5 sigma.
    bound = 4.5 / math.sqrt(1000)
    for value in values:
        assert abs(np.corrcoef(value[:-1], value[1:])[0, 1]) < bound
        assert abs(np.corrcoef(value[:1000], value[1000:])[0, 1]) < bound
    assert np.abs(np.corrcoef(values) - np.eye(3)).max() < bound


def test_one_seed_one_stream():
    images = ops.array(np.random.default_rng(0).random((2, 8, 8, 1)).astype(np.float32))
    a, b, other = RandomAffine(seed=1), RandomAffine(seed=1), RandomAffine(seed=2)
    first = to_numpy(a(images))
    assert np.array_equal(first, to_numpy(b(images)))
    assert not np.array_equal(first, to_numpy(a(images)))
    assert not np.array_equal(first, to_numpy(other(images)))


def test_a_constant_image_stays_and_a_range_of_zero_changes_nothing():
    constant = np.full((3, 8, 12, 3), 0.25, np.float32)
    out = to_numpy(RandomAffine(seed=0)(ops.array(constant)))
    np.testing.assert_allclose(out, constant, atol=1e-6)
    image = np.random.default_rng(0).random((2, 8, 12, 1)).astype(np.float32)
    out = to_numpy(RandomAffine(0.0, 0.0, seed=0)(ops.array(image)))
    np.testing.assert_allclose(out, image, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((784,), (28, 28, 1)),
        ((256,), (16, 16, 1)),
        ((3072,), (32, 32, 3)),
        ((12,), (2, 2, 3)),
        ((28, 20), (28, 20, 1)),
        ((8, 12, 1), (8, 12, 1)),
        ((8, 12, 3), (8, 12, 3)),
        ((8, 12, 2), None),
        ((10,), None),
        ((1,), None),
        ((3,), None),
        ((2, 2, 2, 1), None),
    ],
)
def test_image_shape(shape, expected):
    assert image_shape(shape) == expected


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow keeps copies")
def test_graphs_that_augment_give_the_same_and_leave_nothing_behind():
    """A copy of the function would be 400 kB a graph."""
    import tensorflow as tf

    class Info(ctypes.Structure):
        _fields_ = [(name, ctypes.c_size_t) for name in "abcdefghij"]  # h is what is in use

    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        pytest.skip("glibc 2.33 tells what is in use")
    libc.mallinfo2.restype = Info
    rng = np.random.default_rng(0)
    arrays = [rng.random(shape, np.float32) for shape in ((9, 8, 8, 1), (9,), (9, 2))]
    function = backend.fused(warped, has_gradient=False)

    def in_graph():
        """Call it from a new graph, in a loop, as a training phase does."""

        @tf.function(autograph=False)
        def calls(images, angles, shifts):
            def body(i, _):
                return i + 1, function(images, angles, shifts)

            return tf.while_loop(lambda i, _: i < 2, body, [0, images])[1]

        return to_numpy(calls(*map(tf.constant, arrays)))

    np.testing.assert_allclose(in_graph(), warp(*arrays), atol=1e-6)
    in_use = []
    for _ in range(2):
        gc.collect()
        in_use.append(libc.mallinfo2().h)
        for _ in range(10):
            in_graph()
            backend.release()
    gc.collect()
    assert libc.mallinfo2().h - in_use[1] < 10 * 100e3


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="XLA alone does so unasked")
@pytest.mark.skipif(not backend.is_cpu(), reason="of a CPU")
def test_augmentation_is_not_done_anew_for_each_reader():
    import jax

    def step(way, images, angles, shifts, kernel):
        """Multiply the augmented images and compare the product with them, as in a training."""
        x = ops.reshape(way(images, angles, shifts), (4, 64))
        return ops.mean(ops.square(ops.matmul(x, kernel) - x))

    rng = np.random.default_rng(0)
    shapes = (4, 8, 8, 1), (4,), (4, 2), (64, 64)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    floors, losses = [], []
    for way in (warped, backend.fused(warped, has_gradient=False)):
        program = jax.jit(functools.partial(step, way)).lower(*arrays).compile()
        floors.append(program.as_text().count(" floor("))
        losses.append(float(program(*arrays)))
    assert floors[1] == 2 < floors[0]  # of rows and of columns
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert way is backend.fused(warped, has_gradient=False)  # else eager calls would compile anew
