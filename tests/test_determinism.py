"""Same seed, same machine, same result: twice in a process, and in another process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fingerprints import ESTIMATORS, fingerprint

ROOT = Path(__file__).resolve().parent.parent


def of_another_process(names, hash_seed):
    done = subprocess.run(
        [sys.executable, "-m", "tests.fingerprints", *names],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_another_process_learns_the_same():
    found = of_another_process(["FcDEC"], "1")
    assert set(found["FcDEC"]) == {fingerprint("FcDEC")}


@pytest.mark.slow
def test_every_estimator_learns_the_same_in_every_process():
    one, another = (of_another_process(list(ESTIMATORS), seed) for seed in ("2", "3"))
    assert one == another
    for name, (first, again) in one.items():
        assert first == again, name
    assert len({first for first, _ in one.values()}) == len(ESTIMATORS)
