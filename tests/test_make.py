"""What the Makefile promises beyond the commands in it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


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
    recipe = re.search(r"^slow:\n\t(.+)$", (ROOT / "Makefile").read_text(), re.M)[1]
    assert recipe == "NEEDS_BROWSER=1 python -m pytest -m slow"
    code, out = slow_tests_of_the_browser(tmp_path, NEEDS_BROWSER="1")
    assert code == 1 and "apt-get install chromium" in out and "1 skipped" not in out
    code, out = slow_tests_of_the_browser(tmp_path)
    assert code == pytest.ExitCode.OK and "apt-get install chromium" in out
