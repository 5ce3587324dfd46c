"""What the Makefile promises beyond the commands in it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def recipe(target):
    """Return the commands of a target."""
    found = re.search(rf"^{target}:\n((?:\t.+\n)+)", (ROOT / "Makefile").read_text(), re.M)[1]
    return [line.strip() for line in found.splitlines()]


def slow_tests_of_the_browser(tmp_path, **variables):
    """Run them where there is no browser; return the exit code and what is said."""
    # No conftest: it loads an engine, which these tests do without.
    command = [sys.executable, "-m", "pytest", "--noconftest", "-m", "slow", "-k", "would_tell"]
    command += ["-p", "no:cacheprovider", "-rs", "tests/test_report_browser.py"]
    environment = {**os.environ, "PATH": str(tmp_path), **variables}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout


def test_make_slow_wants_a_browser(tmp_path, monkeypatch):
    monkeypatch.delenv("NEEDS_BROWSER", raising=False)
    assert recipe("slow")[0] == "NEEDS_BROWSER=1 python -m pytest -m slow"
    code, out = slow_tests_of_the_browser(tmp_path, NEEDS_BROWSER="1")
    assert code == 1 and "apt-get install chromium" in out and "1 skipped" not in out
    code, out = slow_tests_of_the_browser(tmp_path)
    assert code == pytest.ExitCode.OK and "apt-get install chromium" in out


def test_make_slow_repeats_and_resumes_with_both_engines():
    of_jax = recipe("slow")[1].split()
    assert of_jax[:6] == ["KERAS_BACKEND=jax", "python", "-m", "pytest", "-m", "slow"]
    for path in ("tests/test_determinism.py", "tests/test_resume.py"):
        assert path in of_jax and "pytest.mark.slow" in (ROOT / path).read_text()
