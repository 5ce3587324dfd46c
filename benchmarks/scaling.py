"""Growth with the number of samples: the exponent of training time, and peak memory.

Each size runs in a process of its own, so that its peak is its own: one epoch of FcDEC's
pretraining and as many steps of clustering, with an update at the end of it. Time is that of the
phases without their start-up, and without k-means between them: half of what a fit of three epochs
takes longer than a fit of one.

The samples are those of a .npy file, as our loader returns them, which the command line takes, and
as NumPy's does, at an address from which no engine can take them as they are. Without those with
--quick: few are copied, so that the growth from few to many says nothing.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.memory import peak_mb
from benchmarks.rows import Row
from clustering_common.aligned import is_aligned
from clustering_common.user_data import load_user_data

QUICK = (4_000, 16_000)
SIZES = (10_000, 20_000, 40_000, 70_000)
N_FEATURES, BATCH = 784, 256
OURS, NUMPYS = "load_user_data", "np.load"


def fit_seconds(X: np.ndarray, n_epochs: int) -> float:
    """Return the seconds of so many passes over X in each phase of an FcDEC fit.

    Without those of k-means between the phases.
    """
    from dec_da import FcDEC

    steps = n_epochs * (len(X) // BATCH)
    model = FcDEC(
        10, pretrain_epochs=n_epochs, max_iter=steps, update_interval=len(X) // BATCH, tol=0,
        random_state=0,
    )  # fmt: skip
    model.fit(X)
    return model.seconds_["pretrain"] + model.seconds_["cluster"]


def run_once(path: Path, loader: str) -> dict[str, float]:
    """Return the seconds of an epoch of each phase, and the memory that fits took, in MB.

    Parameters
    ----------
    path : Path
        A .npy file.
    loader : {'load_user_data', 'np.load'}
        With the second one no time is taken.
    """
    X = load_user_data(path).X if loader == OURS else np.load(path)
    if loader == NUMPYS and is_aligned(X):
        raise RuntimeError("np.load's array begins where engines take it as it is: measure anew.")
    fit_seconds(X[: 4 * BATCH], 1)
    one = fit_seconds(X, 1)
    three = fit_seconds(X, 3) if loader == OURS else np.nan
    # X was in memory before; the rest is what fit takes for itself.
    return {"seconds": (three - one) / 2, "own_mb": peak_mb() - X.nbytes / 1e6}


def run_all(sizes: Sequence[int], loader: str) -> list[dict[str, float]]:
    """Return what each size comes to in a process of its own."""
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "X.npy"
        for n_samples in sizes:
            np.save(path, np.random.default_rng(0).random((n_samples, N_FEATURES), np.float32))
            command = [sys.executable, "-m", "benchmarks.scaling", str(path), loader]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            runs.append(json.loads(done.stdout.splitlines()[-1]))
    return runs


def rows(quick: bool) -> list[Row]:
    """Return the exponent of time, and the growth of memory beside that of the data."""
    sizes = QUICK if quick else SIZES
    runs = run_all(sizes, OURS)
    seconds = [run["seconds"] for run in runs]
    exponent = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
    span = f"{sizes[0]:,} to {sizes[-1]:,} samples"
    found = [
        Row(f"FcDEC, both phases without k-means, {span}", 1e3 * seconds[-1],
            "ms an epoch of each phase", "linear growth", None, [exponent], "exponent of time"),
        memory_row(sizes, runs, f"FcDEC, whole fit of {OURS}'s X, {span}"),
    ]  # fmt: skip
    if not quick:
        numpys = run_all(sizes, NUMPYS)
        found.append(memory_row(sizes, numpys, f"FcDEC, whole fit of {NUMPYS}'s X, {span}"))
    return found


def memory_row(sizes: Sequence[int], runs: Sequence[dict[str, float]], name: str) -> Row:
    """Return the row of what fits take for themselves."""
    data_mb = np.array(sizes) * N_FEATURES * 4 / 1e6
    own_mb = [run["own_mb"] for run in runs]
    growth = float(np.polyfit(data_mb, own_mb, 1)[0])
    return Row(
        name, own_mb[-1], "MB beside X", "X", float(data_mb[-1]), [growth],
        "own memory per MB of data",
    )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="a .npy file")
    parser.add_argument("loader", choices=(OURS, NUMPYS))
    args = parser.parse_args()
    print(json.dumps(run_once(args.path, args.loader)))
