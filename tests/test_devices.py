"""Several devices: the same losses and labels as one, and one line where they can't be used."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import keras
import numpy as np
import pytest

import main
import run_exp
from clustering_common import backend, cli, devices
from dec_da import FcDEC
from kingdra_cluster import KingdraCluster, LadderIM
from tests.two_devices import CASES, QUICK, WHOLE

ROOT = Path(__file__).resolve().parent.parent
ENGINE = keras.backend.backend()
RTOL = 1e-4  # sums of halves are rounded in another order
ATOL = 3e-7  # of a divergence: a few of float32's steps at the logarithms that it is summed of
needs_devices = pytest.mark.skipif(ENGINE == "torch", reason="PyTorch trains on one device")
SPREAD = [case for case in CASES if ENGINE == "jax" or "Kingdra" not in case]


def of_two_devices(folder, *cases, flags=""):
    """Return what cases learn where there are two virtual devices."""
    variables = {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count=2 {flags}",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),  # a fit compiles what another has
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.two_devices", folder, *cases],
        cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def numbers(value, path=""):
    """Return all numbers of a nested value by their places."""
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list):
        parts = enumerate(value)
    else:
        return {path: value}
    return {at: x for key, part in parts for at, x in numbers(part, f"{path}/{key}").items()}


def check_same(found, expected):
    """Check that two fits went the same way."""
    got, want = numbers(found["history"]), numbers(expected["history"])
    assert got.keys() == want.keys() and any("loss" in name for name in got)
    for name, value in want.items():
        assert got[name] == pytest.approx(value, rel=RTOL, abs=ATOL), name
    assert found["labels"] == expected["labels"] == found["predicted"]
    assert len(set(found["labels"])) > 1
    np.testing.assert_allclose(found["proba"], expected["proba"], rtol=0, atol=RTOL)


@needs_devices
@pytest.mark.parametrize(
    "case",
    [case if case == QUICK else pytest.param(case, marks=pytest.mark.slow) for case in SPREAD],
)
def test_two_devices_learn_what_one_does(case, tmp_path):
    found = of_two_devices(tmp_path, case)[case]
    one, two = found["one"], found["two"]
    check_same(two, one)
    assert two["device"] == f"{one['device']}, 2 devices"
    # Each device has the weights, or those of half the members.
    shares = [one["places"][0]] * 2
    if "Kingdra" in case:
        shares = [[n_members // 2, *rest] for n_members, *rest in shares]
    assert two["places"] == shares
    if case in WHOLE:
        assert found["loaded"] == found["loaded on two"] == one["labels"]
        check_same(found["resumed on 2"], one)
        check_same(found["resumed on 1"], one)


@pytest.mark.slow
@pytest.mark.skipif(ENGINE != "jax", reason="JAX can show what it compiles")
@pytest.mark.parametrize(
    ("case", "half", "whole"),
    [
        (QUICK, "f32[6,8]", "f32[12,8]"),  # 12 samples, 8 units
        # 4 members, 2 passes or noisy passes, 12 samples, 16 units
        ("KingdraCluster of sparse rows", "f32[2,2,12,16]", "f32[4,2,12,16]"),
    ],
)
def test_each_device_computes_half(case, half, whole, tmp_path):
    of_two_devices(tmp_path, case, flags=f"--xla_dump_to={tmp_path} --xla_dump_hlo_as_text")
    steps = [path.read_text() for path in tmp_path.glob("*train_step*after_optimizations.txt")]
    spread = [text for text in steps if "num_partitions=2" in text]
    assert len(spread) >= 2  # both phases, or rounds without and with pseudo-labels
    for text in spread:
        assert text.count(" all-reduce(") == 1
        assert half in text and whole not in text


@pytest.fixture
def two(monkeypatch):
    """Let the library believe that two devices were asked for."""
    monkeypatch.setattr(backend, "n_devices", lambda: 2)


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    ("batch_size", "message"),
    [
        (7, "batch_size must be a multiple of the 2 devices; got 7. "),
        (64, "batch_size must be a multiple of the 2 devices; got 64, more than n_samples=45"),
    ],
)
def test_a_batch_that_cannot_be_halved(blobs, batch_size, message):
    with pytest.raises(ValueError, match=message):
        FcDEC(3, batch_size=batch_size).fit(blobs)


@pytest.mark.usefixtures("two")
def test_members_that_cannot_be_halved(blobs, monkeypatch):
    monkeypatch.setattr(backend, "spreads_members", lambda: True)
    members = KingdraCluster(3, n_en=3, high_th=2, fc_layer_sizes=(3,), denoising_cost=(1, 1))
    with pytest.raises(ValueError, match=r"n_en must be a multiple of the 2 devices; got 3. "):
        members.fit(blobs)
    with pytest.raises(ValueError, match="n_en must be"):
        members.check(blobs.shape)
    with pytest.raises(ValueError, match=r"devices must be 1 for one ladder network; got 2. "):
        LadderIM(3, fc_layer_sizes=(3,), denoising_cost=(1, 1)).fit(blobs)


@pytest.mark.usefixtures("two")
@pytest.mark.skipif(ENGINE == "jax", reason="JAX can")
def test_an_engine_that_cannot_spread_members(blobs):
    members = KingdraCluster(3, n_en=4, high_th=2, fc_layer_sizes=(3,), denoising_cost=(1, 1))
    with pytest.raises(ValueError, match=r"devices must be 1 for an ensemble .* KERAS_BACKEND=jax"):
        members.fit(blobs)


@pytest.mark.parametrize("n_devices", [0, -1, 10**6])
def test_more_devices_than_there_are(n_devices):
    there = len(backend.all_devices())
    with pytest.raises(ValueError, match=f"from 1 to {there}, as many as .*; got {n_devices}. "):
        devices.use(n_devices)


def test_one_device_changes_nothing():
    with devices.use(1):
        assert backend.n_devices() == 1
        assert keras.distribution.distribution() is None


@pytest.mark.parametrize(
    ("prog", "argv"),
    [
        (main, ["--dataset", "digits"]),
        (run_exp, ["--datasets", "digits"]),
        (run_exp, ["configs/kingdra_ladder_im_digits.json"]),
    ],
)
@pytest.mark.usefixtures("handlers")
def test_command_lines_say_how_many_there_are(prog, argv, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    argv = [*argv, "--devices", "4096", "--save-dir", str(tmp_path / "run")]
    assert cli.run(prog.command, argv) == 2
    _, err = capsys.readouterr()
    assert len(err.splitlines()) == 1 and "--devices must be from 1 to " in err
    assert not (tmp_path / "run").exists()


def test_jobs_have_one_device_each(capsys):
    with pytest.raises(SystemExit):
        run_exp.parse(["--jobs", "2", "--devices", "2"])
    assert "--devices must be 1 with --jobs above 1" in capsys.readouterr().err


@pytest.mark.skipif(ENGINE != "jax", reason="Keras distributes under JAX alone")
def test_other_distributions_are_refused(blobs):
    mesh = keras.distribution.DeviceMesh((1,), ["batch"], keras.distribution.list_devices()[:1])
    layouts = keras.distribution.LayoutMap(mesh)
    with (
        keras.distribution.ModelParallel(layout_map=layouts).scope(),
        pytest.raises(ValueError, match=r"must be DataParallel; got ModelParallel. "),
    ):
        FcDEC(3).fit(blobs)


@pytest.mark.skipif(ENGINE != "tensorflow", reason="of TensorFlow")
def test_other_strategies_are_refused(blobs):
    import tensorflow as tf

    with (
        tf.distribute.OneDeviceStrategy("CPU:0").scope(),
        pytest.raises(ValueError, match=r"must be MirroredStrategy; got OneDeviceStrategy. "),
    ):
        FcDEC(3).fit(blobs)


@pytest.mark.skipif(ENGINE != "tensorflow", reason="of TensorFlow")
def test_a_second_strategy_is_refused(monkeypatch):
    import tensorflow as tf

    from clustering_common import backend_tensorflow

    first, second = (types.SimpleNamespace(num_replicas_in_sync=2) for _ in range(2))
    monkeypatch.setattr(backend_tensorflow, "_STRATEGIES", [])
    for strategy in (first, first):
        monkeypatch.setattr(tf.distribute, "get_strategy", lambda strategy=strategy: strategy)
        assert backend_tensorflow.n_devices() == 2
    monkeypatch.setattr(tf.distribute, "get_strategy", lambda: second)
    with pytest.raises(ValueError, match=r"must be the first MirroredStrategy .* got a second one"):
        backend_tensorflow.n_devices()
