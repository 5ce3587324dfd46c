import math

import keras
import numpy as np
import pytest

from clustering_common.backend import to_numpy
from clustering_common.seeds import SeedStream
from dec_da.autoencoders import (
    check_conv_shape,
    conv_autoencoder,
    dense_autoencoder,
    n_products,
)
from tests.reference import naive_dense

FILTERS = (2, 3, 4)


def conv(shape, seed=0):
    return conv_autoencoder(shape, FILTERS, 3, SeedStream(seed))


def test_dense_layers():
    autoencoder = dense_autoencoder(12, (7, 6, 5, 3), SeedStream(0))
    names = [f"encoder_{i}" for i in range(4)] + [f"decoder_{i}" for i in (3, 2, 1, 0)]
    assert [layer.name for layer in autoencoder.layers] == names
    kernels = [tuple(layer.kernel.shape) for layer in autoencoder.layers]
    expected = [(12, 7), (7, 6), (6, 5), (5, 3), (3, 5), (5, 6), (6, 7), (7, 12)]
    assert kernels == expected
    activations = {layer.name: layer.activation.__name__ for layer in autoencoder.layers}
    linear = {name for name, activation in activations.items() if activation == "linear"}
    assert linear == {"encoder_3", "decoder_0"}
    assert set(activations.values()) == {"linear", "relu"}
    assert autoencoder.encoder.output_shape == (None, 3)
    assert autoencoder.decoder.output_shape == (None, 12)


def test_dense_equals_the_naive_network():
    autoencoder = dense_autoencoder(6, (8, 3), SeedStream(0))
    x = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    arrays = [to_numpy(weight) for layer in autoencoder.layers for weight in layer.weights]
    z = to_numpy(autoencoder.encoder(x))
    np.testing.assert_allclose(z, naive_dense(arrays[:4], x), atol=1e-5)
    np.testing.assert_allclose(
        to_numpy(autoencoder.decoder(z)), naive_dense(arrays[4:], z), atol=1e-5
    )


def test_dense_initial_weights():
    autoencoder = dense_autoencoder(100, (100, 100), SeedStream(0))
    kernels = [to_numpy(layer.kernel) for layer in autoencoder.layers]
    for kernel in kernels:
        # Scale 1/3 over a fan-in of 100: variance 1/300, so uniform within +-sqrt(3 / 300).
        bound = math.sqrt(1 / kernel.shape[0])
        assert np.abs(kernel).max() <= bound * (1 + 1e-6)
        assert np.abs(kernel).max() > 0.99 * bound
        # 10,000 draws: 5 sigma of the variance of a uniform is 4.5 % of it.
        assert kernel.var() == pytest.approx(bound**2 / 3, rel=0.045)
    for layer in autoencoder.layers:
        assert not to_numpy(layer.bias).any()
    for i in range(len(kernels)):
        for j in range(i):
            assert not np.array_equal(kernels[i], kernels[j])
            assert not np.array_equal(kernels[i], kernels[j].T)


def test_fan_in_counts_inputs_not_units():
    autoencoder = dense_autoencoder(400, (5,), SeedStream(0))
    wide, narrow = (np.abs(to_numpy(layer.kernel)).max() for layer in autoencoder.layers)
    assert 0.98 / 20 < wide <= 1.0001 / 20
    assert 0.98 / math.sqrt(5) < narrow <= 1.0001 / math.sqrt(5)


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: dense_autoencoder(9, (4, 2), SeedStream(seed)),
        lambda seed: conv((8, 8, 1), seed),
    ],
    ids=["dense", "conv"],
)
def test_a_seed_repeats_the_initial_weights(make):
    def kernels(seed):
        return [to_numpy(layer.kernel) for layer in make(seed).layers]

    first, again, other = kernels(1), kernels(1), kernels(2)
    for a, b, c in zip(first, again, other, strict=True):
        assert np.array_equal(a, b)
        assert not np.array_equal(a, c)


@pytest.mark.parametrize(
    ("shape", "sides"),
    [
        ((28, 28, 1), [(14, 14), (7, 7), (3, 3)]),
        ((16, 16, 1), [(8, 8), (4, 4), (2, 2)]),
        ((8, 8, 1), [(4, 4), (2, 2), (1, 1)]),
        ((12, 8, 1), [(6, 4), (3, 2), (1, 1)]),
        ((8, 20, 1), [(4, 10), (2, 5), (1, 2)]),
        ((32, 32, 3), [(16, 16), (8, 8), (4, 4)]),
    ],
)
def test_conv_shapes(shape, sides):
    autoencoder = conv(shape)
    names = ["conv1", "conv2", "conv3", "embedding", "dense", "deconv3", "deconv2", "deconv1"]
    assert [layer.name for layer in autoencoder.layers] == names
    layer = {layer.name: layer for layer in autoencoder.layers}
    for i, side in enumerate(sides):
        assert layer[f"conv{i + 1}"].output.shape == (None, *side, FILTERS[i])
    assert sides[-1] == (shape[0] // 8, shape[1] // 8)
    assert layer["embedding"].output.shape == (None, 3)
    assert layer["dense"].output.shape == (None, math.prod(sides[-1]) * FILTERS[2])
    assert layer["deconv2"].output.shape == (None, *sides[0], FILTERS[0])
    assert layer["deconv1"].output.shape == (None, *shape)
    assert [tuple(layer[n].kernel.shape) for n in ("conv1", "conv2", "conv3")] == [
        (5, 5, shape[2], 2), (5, 5, 2, 3), (3, 3, 3, 4),
    ]  # fmt: skip
    assert [tuple(layer[n].kernel.shape) for n in ("deconv3", "deconv2", "deconv1")] == [
        (3, 3, 3, 4), (5, 5, 2, 3), (5, 5, shape[2], 2),
    ]  # fmt: skip
    linear = {n for n in names if layer[n].activation.__name__ == "linear"}
    assert linear == {"embedding", "deconv1"}
    assert {tuple(layer[n].strides) for n in names if "conv" in n} == {(2, 2)}


@pytest.mark.parametrize("shape", [(28, 28, 1), (16, 16, 1), (8, 20, 3)])
def test_conv_equals_a_plain_keras_network(shape):
    # SPEC 1.1: "same" where the side is a multiple of 8, "valid" otherwise; (8, 20) has both.
    autoencoder = conv(shape)
    x = np.random.default_rng(0).random((2, *shape)).astype(np.float32)
    z = to_numpy(autoencoder.encoder(x))
    reconstruction = to_numpy(autoencoder.decoder(z))
    assert reconstruction.shape == x.shape
    if shape[0] != shape[1]:
        return
    third = "same" if shape[0] % 8 == 0 else "valid"
    small = (shape[0] // 8, shape[1] // 8, FILTERS[2])
    layers = keras.layers
    plain = keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(FILTERS[0], 5, 2, "same", activation="relu"),
            layers.Conv2D(FILTERS[1], 5, 2, "same", activation="relu"),
            layers.Conv2D(FILTERS[2], 3, 2, third, activation="relu"),
            layers.Flatten(),
            layers.Dense(3),
            layers.Dense(math.prod(small), activation="relu"),
            layers.Reshape(small),
            layers.Conv2DTranspose(FILTERS[1], 3, 2, third, activation="relu"),
            layers.Conv2DTranspose(FILTERS[0], 5, 2, "same", activation="relu"),
            layers.Conv2DTranspose(shape[2], 5, 2, "same"),
        ]
    )
    rng = np.random.default_rng(1)
    for layer in autoencoder.layers:
        layer.bias.assign(rng.normal(0, 0.1, layer.bias.shape))
    plain.set_weights([to_numpy(w) for layer in autoencoder.layers for w in layer.weights])
    np.testing.assert_allclose(
        to_numpy(autoencoder.decoder(autoencoder.encoder(x))), to_numpy(plain(x)), atol=1e-5
    )


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((10, 10, 1), r"; got 10x10x1\. Resize or pad to 8x8 or 12x12\.$"),
        ((12, 9, 1), r"; got 12x9x1\. Resize or pad to 12x8 or 12x12\.$"),
        ((30, 17, 3), r"; got 30x17x3\. Resize or pad to 28x16 or 32x20\.$"),
        ((4, 4, 1), r"; got 4x4x1\. Resize or pad to 8x8\.$"),
        ((8, 8, 2), r"with 1 or 3 channels; got 8x8x2\."),
        (None, r"^X must be images .*; got neither\. Reshape X, or use the Fc methods"),
    ],
)
def test_sizes_that_do_not_fit(shape, text):
    with pytest.raises(ValueError, match=text):
        check_conv_shape(shape)


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (12, 40, 3)])
def test_sizes_that_fit(shape):
    check_conv_shape(shape)


def test_products_of_a_sample():
    dense = [n_products(layer) for layer in dense_autoencoder(5, (4, 2), SeedStream(0)).layers]
    assert dense == [5 * 4, 4 * 2, 2 * 4, 4 * 5]
    autoencoder = conv_autoencoder((16, 8, 3), (4, 5, 6), 2, SeedStream(0))
    there = [25 * 3 * 4 * 8 * 4, 25 * 4 * 5 * 4 * 2, 9 * 5 * 6 * 2 * 1, 2 * 1 * 6 * 2]
    assert [n_products(layer) for layer in autoencoder.layers] == there + there[::-1]
    assert [n_products(layer) for layer in autoencoder.encoder.layers if not layer.weights] == [
        0
    ] * 2
