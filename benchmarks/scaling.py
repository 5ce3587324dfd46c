"""Growth with the number of samples: the exponent of training time, and peak memory.

Each size runs in a process of its own, so that its peak is its own: one epoch of FcDEC's
pretraining and as many steps of clustering, with an update at the end of it. Time is that of the
phases without their start-up, and without k-means between them: half of what a fit of three epochs
takes longer than a fit of one.
"""

import argparse
import json
import subprocess
import sys
from typing import Any

import numpy as np

from benchmarks.memory import peak_mb
from benchmarks.rows import Row

QUICK = (4_000, 16_000)
SIZES = (10_000, 20_000, 40_000, 70_000)
N_FEATURES, BATCH = 784, 256


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


def run_once(n_samples: int) -> dict[str, Any]:
    """Return the seconds of an epoch of each phase, and the peak memory of the process."""
    X = np.random.default_rng(0).random((n_samples, N_FEATURES), np.float32)
    fit_seconds(X[: 4 * BATCH], 1)
    one, three = fit_seconds(X, 1), fit_seconds(X, 3)
    return {"seconds": (three - one) / 2, "peak_mb": peak_mb()}


def rows(quick: bool) -> list[Row]:
    """Return the exponent of time, and the growth of memory beside that of the data."""
    sizes = QUICK if quick else SIZES
    runs = []
    for n_samples in sizes:
        command = [sys.executable, "-m", "benchmarks.scaling", str(n_samples)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    seconds = np.array([run["seconds"] for run in runs])
    exponent = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
    data_mb = np.array(sizes) * N_FEATURES * 4 / 1e6
    # The caller's X is in memory before; the rest is what fit takes for itself.
    own = np.array([run["peak_mb"] for run in runs]) - data_mb
    growth = float(np.polyfit(data_mb, own, 1)[0])
    span = f"{sizes[0]:,} to {sizes[-1]:,} samples"
    phases, fit = f"FcDEC, both phases without k-means, {span}", f"FcDEC, whole fit, {span}"
    return [
        Row(phases, 1e3 * float(seconds[-1]), "ms an epoch of each phase", "linear growth", None,
            [exponent], "exponent of time"),
        Row(fit, float(runs[-1]["peak_mb"]), "MB at the peak", "the data once", float(data_mb[-1]),
            [growth], "own memory per MB of data"),
    ]  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("n_samples", type=int)
    print(json.dumps(run_once(parser.parse_args().n_samples)))
