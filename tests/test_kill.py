"""Runs of the command lines that are killed, resumed, and compared with a run that was not."""

import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

import main
import run_exp
from clustering_common import checkpoints, cli
from dec_da.run_files import AutoencoderWriter

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
SMALL = ["--layer-sizes", "32", "10", "--maxiter", "60", "-i", "6", "--tol", "0", "-v", "0"]
COMMANDS = {"main.py": main.command, "run_exp.py": run_exp.command}
CONFIG = {
    "dataset": "digits", "n_class": 10, "n_en": 3, "n_iter": 4,
    "n_epochs_per_iter0": 1, "n_epochs_per_iter": 1, "low_th": 1, "high_th": 2, "thresh": 0,
    "fc_layer_sizes": [32, 32, 10],
}  # fmt: skip


def main_command(tmp_path, n_epochs=8):
    return [
        "main.py", "--method", "FcDEC-DA", "--dataset", "digits", *SMALL,
        "--pretrain-epochs", str(n_epochs),
    ]  # fmt: skip


def config_command(tmp_path, n_iter=4):
    path = tmp_path / "small.json"
    path.write_text(json.dumps({**CONFIG, "n_iter": n_iter}))
    return ["run_exp.py", str(path), "-v", "0"]


def grid_command(tmp_path):
    return [
        "run_exp.py", "--methods", "FcDEC", "FcDCN", "--datasets", "digits", "--trials", "1",
        "--pretrain-epochs", "2", "--maxiter", "30", "-v", "0",
    ]  # fmt: skip


def start(command, folder, *more):
    """Start the command; under JAX it reads, and only reads, what this process compiled."""
    compiled = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1000000"}
    if keras.backend.backend() == "jax":
        import jax

        compiled["JAX_COMPILATION_CACHE_DIR"] = jax.config.jax_compilation_cache_dir
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Tests in a shell's background are deaf to it, and so would be what they start.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    arguments = [*command, "-d", str(folder), "--checkpoint-every", "0", *more]
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**ENVIRONMENT, **compiled},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out


@pytest.fixture
def finish_here(handlers):
    """Run a command in this process, which is not that of a killed run; return what it prints."""

    def finish_here(command, folder, *more, code=0):
        argv = [*command[1:], "-d", str(folder), "--checkpoint-every", "0", *more]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            assert cli.run(COMMANDS[command[0]], argv) == code, err.getvalue()
        return err.getvalue() if code else out.getvalue()

    return finish_here


def content(folder):
    """Return what must be alike: labels and logs, and the scores, by the file's name."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == "labels.npy":
            found[name] = np.load(path).tobytes()
        elif path.name in ("log.csv", "pretrain_log.csv", "history.json"):
            found[name] = path.read_text()
        elif path.name == "results.csv":
            with open(path) as file:
                rows = list(csv.DictReader(file))
            found[name] = [{k: v for k, v in row.items() if k != "time"} for row in rows]
        elif path.name == "results.json":
            found[name] = json.loads(path.read_text())["metrics"]
    assert found
    return found


def stop_and_resume(command, folder, seconds, signal_number):
    """Run the command, signal it after some time, and run it to its end with --resume."""
    process = start(command, folder)
    time.sleep(seconds)
    process.send_signal(signal_number)
    _, err = process.communicate(timeout=120)
    if process.returncode != 0:
        assert process.returncode in (-signal_number, 128 + signal_number), err
        if process.returncode > 0 and "--resume" in err:
            assert len(err.strip().splitlines()) == 1
            assert list(folder.rglob("checkpoint-*.state"))
    finish(start(command, folder, "--resume"))
    assert not list(folder.rglob("checkpoint-*"))
    assert not list(folder.rglob(".*"))
    return process.returncode


def check_stops(command, tmp_path, n_stops, signal_number, seed):
    """Stop ``n_stops`` runs at random moments; each ends as the run that was not stopped."""
    begin = time.monotonic()
    finish(start(command, tmp_path / "whole"))
    total = time.monotonic() - begin
    rng = np.random.default_rng(seed)
    # The first third is imports and reading the data, where there is nothing to resume.
    for stop, share in enumerate(rng.uniform(0.35, 1, n_stops)):
        for attempt in range(8):
            folder = tmp_path / f"stop{stop}-{attempt}"
            folder.mkdir()
            seconds = share * total * 0.8**attempt
            code = stop_and_resume(command, folder, seconds, signal_number)
            assert content(folder) == content(tmp_path / "whole")
            if code:
                break  # it was stopped, and not done before: a machine's speed varies
        assert code, "no run was stopped before its end"


def newest_checkpoint(folder):
    """Return the number of the newest checkpoint, 0 where there is none."""
    numbers = [int(path.stem.rpartition("-")[2]) for path in folder.rglob("checkpoint-*.state")]
    return max(numbers, default=0)


def kill_after(n_checkpoints, command, folder):
    """Kill a run once it has written so many checkpoints; tell whether it was killed."""
    process = start(command, folder)
    while process.poll() is None and newest_checkpoint(folder) < n_checkpoints:
        time.sleep(0.005)
    process.kill()
    _, err = process.communicate(timeout=120)
    assert process.returncode in (0, -signal.SIGKILL), err
    return process.returncode != 0


@pytest.mark.parametrize(("make", "n_kills"), [(main_command, 2), (config_command, 1)])
def test_killed_runs_end_as_if_they_were_not(make, n_kills, tmp_path, monkeypatch, finish_here):
    command, written = make(tmp_path), []
    with monkeypatch.context() as patch:
        write = checkpoints.CheckpointFolder.write
        patch.setattr(
            checkpoints.CheckpointFolder,
            "write",
            lambda self, checkpoint: written.append(1) or write(self, checkpoint),
        )
        finish_here(command, tmp_path / "whole")
    for kill, place in enumerate(np.random.default_rng(0).integers(1, len(written), n_kills)):
        for attempt in range(8):
            folder = tmp_path / f"kill{kill}-{attempt}"
            folder.mkdir()
            was_killed = kill_after(max(1, place >> attempt), command, folder)
            finish_here(command, folder, "--resume")
            assert content(folder) == content(tmp_path / "whole")
            assert not list(folder.rglob("checkpoint-*"))
            assert not list(folder.rglob(".*"))
            if was_killed:
                break  # before its end, which may be close
        assert was_killed, "no run was killed before its end"


@pytest.mark.usefixtures("uncompiled")
def test_sigterm_causes_the_only_checkpoint(tmp_path, monkeypatch, finish_here):
    """Of main.py at the default interval; test_run_state.py resumes from such."""
    monkeypatch.setattr(
        AutoencoderWriter,
        "on_epoch_end",
        lambda self, epoch, logs=None: os.kill(os.getpid(), signal.SIGTERM),
    )
    err = finish_here(main_command(tmp_path), tmp_path, "--checkpoint-every", "60", code=143)
    assert len(err.strip().splitlines()) == 1 and "--resume goes on from there" in err
    (path,) = tmp_path.rglob("checkpoint-*.state")
    assert checkpoints.read_checkpoint(path).values["step"] == 1797 // 64  # of one epoch


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "n_stops"), [(main_command, 10), (config_command, 6), (grid_command, 4)]
)
def test_killed_at_20_moments(make, n_stops, tmp_path):
    command = make(tmp_path, 40) if make is main_command else make(tmp_path)
    check_stops(command, tmp_path, n_stops, signal.SIGKILL, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("make", [main_command, config_command, grid_command])
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_terminated_runs_leave_a_checkpoint(make, signal_number, tmp_path):
    check_stops(make(tmp_path), tmp_path, 3, signal_number, seed=2)


def test_a_finished_run_is_not_run_again(tmp_path, finish_here):
    command = main_command(tmp_path, 1)
    first = finish_here(command, tmp_path / "run")
    model = tmp_path / "run" / "model_final.h5"
    written = model.stat().st_mtime_ns
    again = finish_here(command, tmp_path / "run", "--resume")
    assert again == first and model.stat().st_mtime_ns == written
    err = finish_here([*command, "--seed", "1"], tmp_path / "run", "--resume", code=2)
    assert len(err.strip().splitlines()) == 1
    assert "whose run has --seed 0 where this one has 1" in err


def workers_of(process):
    """Return the processes that a grid has started."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [Path("/proc", number) for number in found]


def are_alive(processes):
    """Tell whether one is there that is more than its exit code."""
    for process in processes:
        with contextlib.suppress(OSError):
            if "State:\tZ" not in (process / "status").read_text():
                return True
    return False


def wait_until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="Linux tells of a process's children")
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_trials_at_the_same_time_stop_with_their_grid(signal_number, tmp_path):
    grid = [
        "run_exp.py", "--methods", "FcDEC", "FcDEC-DA", "--datasets", "digits", "--trials", "1",
        "--pretrain-epochs", "30", "--maxiter", "30", "-v", "0", "--jobs", "2",
    ]  # fmt: skip
    cells = [tmp_path / f"digits/{method}/trial0" for method in ("FcDEC", "FcDEC-DA")]
    seldom = ["--checkpoint-every", "3600"]
    process = start(grid, tmp_path, *seldom)
    wait_until(lambda: all((cell / "checkpoints/.lock").exists() for cell in cells))
    workers = workers_of(process)
    assert len(workers) >= 2
    process.send_signal(signal_number)
    _, err = process.communicate(timeout=120)  # what the workers write too
    if signal_number != signal.SIGKILL:
        assert process.returncode == 128 + signal_number
        assert err.splitlines()[-1].endswith("; checkpoints of 2 runs: --resume goes on from there")
    wait_until(lambda: not are_alive(workers))
    assert all(newest_checkpoint(cell) == 1 for cell in cells)
    finish(start(grid, tmp_path, *seldom, "--resume"))
    assert all((cell / "results.json").exists() for cell in cells)
    assert not list(tmp_path.rglob(".*"))
