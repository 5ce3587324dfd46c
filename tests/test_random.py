"""Normal draws of `clustering_common.backend`: few and many, in either way of making them."""

import keras
import numpy as np
import pytest
import scipy.stats

from clustering_common import backend


@pytest.mark.parametrize("shape", [(40, 1000), (4, 50, 1000)], ids=["few", "many"])
def test_draws_are_normal_and_follow_their_seed(shape):
    """In their distribution, one by one, and between rows and calls."""
    seed = keras.random.SeedGenerator(3)
    first, second = (backend.to_numpy(backend.normal(shape, seed)) for _ in range(2))
    again = backend.to_numpy(backend.normal(shape, keras.random.SeedGenerator(3)))
    assert first.dtype == np.float32 and first.shape == shape
    np.testing.assert_array_equal(first, again)
    assert scipy.stats.kstest(first.ravel(), "norm").pvalue > 1e-3
    between = [(first, second), (first[..., 1:], first[..., :-1]), (first[1:], first[:-1])]
    for a, b in between:
        correlation = np.corrcoef(a.ravel(), b.ravel())[0, 1]
        assert abs(correlation) < 5 / np.sqrt(b.size)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's own draws")
def test_quantiles_are_those_of_scipy_and_finite_at_both_ends():
    """The steps are 2^-23 wide; each stands for its middle."""
    from clustering_common.backend_tensorflow_xla import _normal_quantile, fused

    steps = np.concatenate(
        [
            np.arange(100),
            np.linspace(100, 2**23 - 101, 1000).astype(int),
            2**23 - 1 - np.arange(100),
        ]
    )
    found = backend.to_numpy(fused(_normal_quantile)((steps * 2.0**-23).astype(np.float32)))
    np.testing.assert_allclose(found, scipy.stats.norm.ppf((steps + 0.5) * 2.0**-23), rtol=2e-5)
