"""The examples run as they stand."""

import itertools
import os
import re
import subprocess
import sys
import tomllib
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
# The examples take under two minutes each; machines of CI are shared, and may need twice that.
LIMIT = 240


def hide_extras(folder):
    """Shadow the packages that a plain installation does not bring: who imports one fails."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for package in itertools.chain(*project["optional-dependencies"].values()):
        name = re.match(r"[\w-]+", package)[0].replace("-", "_")
        (folder / f"{name}.py").write_text(f"raise ImportError('{name} is of an extra')\n")


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="once is enough")
@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
def test_an_example_runs(name, tmp_path):
    hide_extras(tmp_path)
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / name],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True, text=True, timeout=LIMIT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pattern, least = CLOSING[name]
    found = re.search(pattern, done.stdout)
    assert found, done.stdout
    assert least is None or float(found[1]) > least
    assert "Traceback" not in done.stderr
