import os
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest

from clustering_common import backend


@pytest.fixture(scope="session")
def images():
    """36 images of 8x8 in three kinds: a bar across, a bar down, a bright corner."""
    rng = np.random.default_rng(0)
    X = rng.uniform(0, 0.2, (36, 8, 8))
    X[0::3, 3:5, :] += 0.8
    X[1::3, :, 3:5] += 0.8
    X[2::3, :4, :4] += 0.8
    X = X.astype(np.float32)
    X.setflags(write=False)
    return X


@pytest.fixture(scope="session")
def image_labels():
    return np.arange(36) % 3


@pytest.fixture(scope="session")
def blobs():
    """45 vectors of 6 numbers in about [0, 1], in three well separated groups."""
    rng = np.random.default_rng(1)
    centers = rng.uniform(0, 1, (3, 6))
    X = (centers[np.arange(45) % 3] + rng.normal(0, 0.02, (45, 6))).astype(np.float32)
    X.setflags(write=False)
    return X


@pytest.fixture
def uncompiled(monkeypatch):
    """Run step by step: these 150 fits of a few steps cost more to compile than to run.

    What is compiled is tested in test_training.py, test_dec_phases.py and test_main.py.
    """
    if keras.backend.backend() == "jax":
        import jax

        with jax.disable_jit():
            yield
    elif keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        monkeypatch.setitem(backend._MANY_STEPS, "tensorflow", backend._plain_steps)
        tf.config.run_functions_eagerly(True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Even though the `tf.config.*run_functions_eagerly")
            yield
        tf.config.run_functions_eagerly(False)
    else:
        yield
