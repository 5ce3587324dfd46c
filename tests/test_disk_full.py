"""A disk that is full at any write: a clear line, and no damaged file under a final name."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clustering_common import checkpoints, files, run_lock, weights
from clustering_common.report_files import read_results
from clustering_common.run_folder import RunFolder
from dec_da import FcDEC, experiment

pytestmark = pytest.mark.filterwarnings("ignore:After fit, ")
ROOT = Path(__file__).resolve().parent.parent
# main.py in a process that limits itself: preexec_fn would fork, of which JAX warns.
LIMITED = """
import resource, runpy, sys

limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.argv[0] = "main.py"
runpy.run_path("main.py", run_name="__main__")
"""


def run(folder, X, seed):
    estimator = FcDEC(
        2, layer_sizes=(4, 2), pretrain_epochs=1, max_iter=2, update_interval=1, random_state=seed
    )
    task = experiment.Task("x", X, np.arange(len(X)) % 2)
    place = RunFolder(folder, every=0)
    return experiment.train(estimator, task, place, method="FcDEC", seed=seed)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def check_files(folder, whole):
    """Check that each file of a run is that of the whole run, or, where times differ, whole."""
    for name, content in contents(folder).items():
        if name == "results.json":
            read_results(folder)  # with its checksum
        elif name == "model_final.h5":
            FcDEC.load(folder / name)
        elif name == "log.csv":  # of all updates so far
            assert content.endswith(b"\n") and whole[name].startswith(content)
        else:
            assert content == whole[name]


@pytest.mark.usefixtures("uncompiled")
def test_enospc_at_every_write_in_turn(tmp_path, monkeypatch, blobs):
    run(tmp_path / "whole", blobs, 0)
    whole = contents(tmp_path / "whole")
    n_writes, count = 0, [0]
    replacing = files.replacing

    @files.contextmanager
    def full(path, durable=False):
        with replacing(path, durable) as temporary:
            yield temporary
            count[0] -= 1
            if count[0] == 0:
                os.truncate(temporary, temporary.stat().st_size // 2)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(temporary))

    for module in (files, weights, checkpoints):
        monkeypatch.setattr(module, "replacing", full)
    folder = tmp_path / "run"
    while True:
        n_writes += 1
        count[0] = n_writes
        try:
            run(folder, blobs, 0)
        except OSError as error:
            assert len(str(error).splitlines()) == 1 and ".part" not in str(error)
            check_files(folder, whole)
            assert not list(folder.rglob(".*"))
            continue
        break
    assert n_writes > 8


@pytest.mark.parametrize("call", ["open", "ftruncate", "pwrite"])
def test_a_lock_that_cannot_be_written_is_told_with_its_folder(call, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(OSError) as found:
        patch.setattr(run_lock.os, call, full)
        with run_lock.locked("--save-dir", tmp_path):
            pytest.fail("it was held")
    assert str(found.value) == (
        f"--save-dir must be a folder that can be written to; got {str(tmp_path)!r} (No space left "
        "on device). Choose another folder, free space on its disk or change its permissions."
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("limit", [pytest.param(2_000, marks=pytest.mark.slow), 30_000])
def test_a_full_disk_is_one_line(limit, tmp_path):
    command = [
        sys.executable, "-c", LIMITED, str(limit), "--dataset", "digits", "--layer-sizes", "64",
        "10", "--pretrain-epochs", "1", "--maxiter", "2", "-v", "0", "-d", str(tmp_path),
    ]  # fmt: skip
    # Nor may the engine's chatter reach standard error, which conftest.py would silence.
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and str(tmp_path) in done.stderr
    assert done.stderr.startswith("main.py: error: ")
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".part", ".h5")]
