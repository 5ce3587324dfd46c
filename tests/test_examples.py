"""The examples run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).resolve().parent.parent
# What the last lines say, and at least how well it must go.
CLOSING = {
    "images.py": (r"cluster 9: \d+ images", None),
    "text.py": (r"cluster 5: \d+ documents", None),
    "table.py": (r"acc=(\d\.\d+), nmi=", 0.8),
    "embeddings.py": (r"nobody named: (\d\.\d+)", 0.7),
}


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="once is enough")
@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
def test_an_example_runs(name):
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / name],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pattern, least = CLOSING[name]
    found = re.search(pattern, done.stdout)
    assert found, done.stdout
    assert least is None or float(found[1]) > least
    assert "Traceback" not in done.stderr
