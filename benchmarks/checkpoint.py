"""What checkpoints cost: whole runs that write them against the same runs without, in turns.

So that the difference stands out of the noise, a run writes one as often as can be; by default a
minute lies between two, or fifty times what the writing took. The difference holds all that a run
does for them: the hash of the data, waiting for the engine, copying the state, the checksum, the
disk. Networks have the papers' sizes.

python -m benchmarks.checkpoint [--quick]
"""

import logging
import tempfile
import time
import warnings
from typing import Any
from unittest import mock

import numpy as np
from sklearn.base import clone

from benchmarks.rows import Row, main, ratio_row
from clustering_common.run_state import COST_SHARE, EVERY, RunState
from dec_da import FcDEC
from kingdra_cluster import KingdraCluster

SIZES = {"FcDEC": (10_240, 1024), "KingdraCluster": (192, 128)}  # samples, and if quick


def estimators() -> dict[str, Any]:
    """Return FcDEC and Kingdra's ten members, for runs of two to four checkpoints."""
    dense = FcDEC(10, pretrain_epochs=2, max_iter=20, update_interval=20, tol=0, random_state=0)
    ladder = KingdraCluster(10, n_iter=1, n_epochs_per_iter0=3, random_state=0)
    return {"FcDEC": dense, "KingdraCluster": ladder}


def run_seconds(estimator: Any, X: np.ndarray, writes: list[float] | None) -> float:
    """Return the seconds of a fit; append those of writing each checkpoint, none where None."""
    write = RunState.write

    def timed(self: RunState, *state: Any) -> None:
        write(self, *state)
        writes.append(self._cost)

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(RunState, "write", timed):
        more = {} if writes is None else {"checkpoint_dir": folder, "checkpoint_every": 0}
        begin = time.perf_counter()
        clone(estimator).fit(X, **more)
        return time.perf_counter() - begin


def paired_runs(estimator: Any, X: np.ndarray, rounds: int) -> tuple[np.ndarray, list[list[float]]]:
    """Return each round's seconds with and without checkpoints, and those of each write."""
    run_seconds(estimator, X, [])  # warms up
    seconds, writes = np.empty((rounds, 2)), [[] for _ in range(rounds)]
    for one in range(rounds):
        for arm in (0, 1) if one % 2 else (1, 0):
            seconds[one, arm] = run_seconds(estimator, X, None if arm else writes[one])
    return seconds.T, writes


def rows(quick: bool) -> list[Row]:
    """Return whole runs with and without checkpoints, and the share of one by default."""
    warnings.simplefilter("ignore")  # of runs too short to cluster anything
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # each fit makes a network of its own
    found = []
    for name, estimator in estimators().items():
        X = np.random.default_rng(0).random((SIZES[name][quick], 784), np.float32)
        (ours, theirs), writes = paired_runs(estimator, X, 1 if quick else 2)
        each = (ours - theirs) / len(writes[0])
        between = np.maximum(EVERY, COST_SHARE * np.mean(writes, axis=1))
        found += [
            ratio_row(
                f"{name}, a run with {len(writes[0])} checkpoints", ours, theirs, ours / theirs,
                "s", yardstick="without", meaning="of its time",
            ),
            ratio_row(
                f"{name}, one of them", 1e3 * each, 1e3 * between, 100 * each / between, "ms",
                yardstick="by default between two", meaning="% of a run",
            ),
        ]  # fmt: skip
    return found


if __name__ == "__main__":
    main(rows)
