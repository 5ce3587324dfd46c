"""The precision of training's products: set while training, put back after, else float32."""

import itertools

import keras
import numpy as np
import pytest

from clustering_common import backend
from clustering_common.training import SteppedModel
from dec_da import FcDEC
from kingdra_cluster import LadderIM

ENGINE = keras.backend.backend()
DEC = {"n_clusters": 3, "layer_sizes": (4, 3), "pretrain_epochs": 1, "max_iter": 2, "tol": 0}
LADDER = {"n_class": 3, "fc_layer_sizes": (4, 3), "denoising_cost": (1, 1, 1), "n_iter": 1}
KNOWN = backend.engine().PRECISIONS


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    """Let the engine believe that it has a GPU: a CPU takes float32 in any case."""
    if ENGINE == "jax":
        monkeypatch.setattr(backend.engine(), "device_kind", lambda: "A GPU")
    if ENGINE == "torch":
        import torch

        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def setting():
    """Return the engine's own word for the precision that it takes products in."""
    if ENGINE == "jax":
        import jax

        return jax.config.jax_default_matmul_precision
    if ENGINE == "torch":
        import torch

        return torch.get_float32_matmul_precision()
    import tensorflow as tf

    return tf.config.experimental.tensor_float_32_execution_enabled()


def settings_of_all():
    found = []
    for precision in KNOWN:
        with backend.products_in(precision):
            found.append(setting())
    return found


@pytest.fixture
def seen(monkeypatch):
    """Collect the setting of every training."""
    found, original = [], SteppedModel.fit

    def fit(*args, **kwargs):
        found.append(setting())
        return original(*args, **kwargs)

    monkeypatch.setattr(SteppedModel, "fit", fit)
    return found


def test_each_has_a_setting_of_its_own_that_is_put_back():
    before = setting()
    assert len(set(settings_of_all())) == len(KNOWN) and setting() == before
    with pytest.raises(KeyError), backend.products_in(KNOWN[-1]):
        raise KeyError
    assert setting() == before


@pytest.mark.parametrize("position", range(len(KNOWN)))
@pytest.mark.parametrize(("family", "params"), [(FcDEC, DEC), (LadderIM, LADDER)])
@pytest.mark.usefixtures("uncompiled")
def test_training_takes_what_was_chosen(blobs, seen, family, params, position):
    before = setting()
    family(**params, precision=KNOWN[position], random_state=0).fit(blobs)
    # Both phases of FcDEC.
    assert seen == [settings_of_all()[position]] * (2 if family is FcDEC else 1)
    assert setting() == before


def test_inference_takes_float32_wherever_it_is():
    found = []

    def double(x):
        found.append(setting())
        return 2 * x

    with backend.products_in("tf32"):
        assert backend.to_numpy(backend.compiled(double, [])(np.ones(2, np.float32)))[0] == 2
    assert found == [settings_of_all()[0]]


@pytest.mark.skipif(ENGINE != "jax", reason="JAX can show what it compiles")
@pytest.mark.parametrize(("precision", "word"), [("float32", "HIGHEST"), ("tf32", "HIGH,")])
def test_products_are_compiled_so(precision, word):
    import jax

    x = np.ones((2, 2), np.float32)
    with backend.products_in(precision):
        text = jax.jit(keras.ops.matmul).lower(x, x).as_text()
    assert word in text


def test_a_cpu_takes_float32(monkeypatch):
    if ENGINE != "jax":
        pytest.skip("the other engines' CPU kernels know no other")
    monkeypatch.undo()
    if backend.is_cpu():
        assert len(set(settings_of_all())) == 1


@pytest.mark.skipif(backend.is_cpu(), reason="a CPU takes float32 in any case")
def test_products_are_rounded_on_a_gpu():
    x = np.random.default_rng(0).normal(size=(512, 512)).astype(np.float32)
    exact = x.astype(np.float64) @ x
    errors = []
    for precision in KNOWN:
        with backend.products_in(precision):
            product = backend.to_numpy(keras.ops.matmul(x, x))
        errors.append(abs(product - exact).max() / abs(exact).max())
    assert errors[0] < 1e-6 and all(8 * a < b for a, b in itertools.pairwise(errors))


@pytest.mark.parametrize("family, params", [(FcDEC, DEC), (LadderIM, LADDER)])
@pytest.mark.parametrize("precision", ["float16", 32, None])
def test_another_is_one_line(blobs, family, params, precision):
    with pytest.raises((ValueError, TypeError), match=r"^precision must be") as caught:
        family(**params, precision=precision).fit(blobs)
    assert repr(precision) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.skipif(ENGINE != "tensorflow", reason="the other engines know it")
def test_what_tensorflow_lacks_is_said_before_training(blobs):
    model = FcDEC(**DEC, precision="bfloat16")
    with pytest.raises(ValueError, match="with KERAS_BACKEND=tensorflow; got 'bfloat16'"):
        model.fit(blobs)
    with pytest.raises(ValueError, match="got 'bfloat16'"):
        model.check((6,))


def test_a_file_serves_engines_that_lack_its_precision(blobs, tmp_path, monkeypatch):
    model = FcDEC(**DEC, precision="tf32", random_state=0).fit(blobs)
    model.save(tmp_path / "model.h5")
    monkeypatch.setattr(backend.engine(), "PRECISIONS", ("float32",))
    loaded = FcDEC.load(tmp_path / "model.h5")
    assert (loaded.predict(blobs) == model.labels_).all()
