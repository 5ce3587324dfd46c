"""What README's two jobs and docs/select_k.md are held to, on the embedded digits."""

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, check=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "least", "n_seconds"),
    [
        (["main.py", "--method", "FcDEC-DA", "--dataset", "digits"], 0.84, np.inf),
        (["run_exp.py", "configs/kingdra_ladder_im_digits.json"], 0.86, 120),
    ],
)
def test_mean_acc_of_three_seeds(command, least, n_seconds, tmp_path):
    accs = []
    for seed in range(3):
        folder = tmp_path / str(seed)
        run([*command, "--seed", str(seed), "-v", "0", "-d", str(folder)])
        record = json.loads((folder / "results.json").read_text())
        accs.append(record["metrics"]["final"]["acc"])
        assert record["seconds"]["total"] < n_seconds  # on two cores
    assert np.mean(accs) >= least, accs


def select_k_command():
    """Return the arguments of the command on the page."""
    page = (ROOT / "docs/select_k.md").read_text()
    command = re.search(r"^python (-m clustering_common\.select_k .*?)\n```", page, re.M | re.S)
    return shlex.split(command[1].replace("\\\n", " "))


@pytest.mark.slow
def test_ten_clusters_are_among_the_three_best(tmp_path):
    """Ten seeds of nine candidates: a quarter of an hour on two cores."""
    run([*select_k_command(), "-d", str(tmp_path)])
    with open(tmp_path / "select_k.csv", newline="") as file:
        best = [int(row["k"]) for row in csv.DictReader(file)]
    assert sorted(best) == list(range(6, 15))
    assert 10 in best[:3], best
