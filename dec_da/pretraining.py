"""A pretraining that another run has done: the same data, network, settings and seed.

The methods of a family differ in clustering alone, and every random stream has its own name, so
that a run from it is the run that pretrains itself: to the bit on a CPU with as many threads, else
like another run of the same seed.
"""

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clustering_common.checkpoints import UNREADABLE
from clustering_common.record import RESULTS
from clustering_common.report_files import read_rows
from clustering_common.weights import open_weights
from dec_da.base import DeepClusterer
from dec_da.run_files import AUTOENCODER_FILE, PRETRAIN_LOG

# Parameters that come into play after pretraining, or tell of it alone; any other counts, a new one
# too.
CLUSTERING_PARAMS = {
    "alpha", "aug_cluster", "learning_rate", "max_iter", "move_centers", "optimizer", "tol",
    "update_interval", "verbose",
}  # fmt: skip


@dataclass(frozen=True)
class Pretraining:
    """What a finished run leaves of its pretraining.

    Attributes
    ----------
    weights : Path
        The autoencoder's.
    history : list of dict
        A row of logs per epoch.
    seconds : float
        What it took.
    """

    weights: Path
    history: list[dict[str, float]]
    seconds: float


def of_run(folder: Path) -> Pretraining | None:
    """Return the pretraining of a finished run, None where its files don't tell of one."""
    try:
        seconds = float(json.loads((folder / RESULTS).read_text())["seconds"]["pretrain"])
        history = [{"loss": float(row["loss"])} for row in read_rows(folder / PRETRAIN_LOG)]
        weights = folder / AUTOENCODER_FILE
        with open_weights(weights):  # whole, by its checksum
            return Pretraining(weights, history, seconds) if history else None
    except (OSError, *UNREADABLE):
        return None


def pretraining_key(estimator: DeepClusterer, dataset: str) -> Hashable:
    """Return what two runs share whose pretrainings are the same, None where none is."""
    params = estimator.resolved_params()
    if params["pretrained_weights"] is not None:
        return None
    if not isinstance(params["random_state"], int | np.integer):
        return None
    # The class that makes the autoencoder: dense or convolutional.
    maker = type(estimator)._make_autoencoder.__qualname__
    kept = {name: value for name, value in params.items() if name not in CLUSTERING_PARAMS}
    return (dataset, maker, *((name, repr(kept[name])) for name in sorted(kept)))


class SharedPretrainings:
    """The pretrainings that runs of a grid have done, by `pretraining_key`."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Pretraining] = {}

    def add(self, key: Hashable, folder: Path) -> None:
        """Keep the pretraining of a run in ``folder`` that has ended, if it has finished."""
        if key is not None and key not in self._known and (found := of_run(folder)) is not None:
            self._known[key] = found

    def get(self, key: Hashable) -> Pretraining | None:
        """Return what is known, None where a run must pretrain itself."""
        return self._known.get(key)

    def waiting(self, keys: Sequence[Hashable]) -> set[int]:
        """Return the positions of the runs that can share what an earlier one will do."""
        first: dict[Hashable, int] = {}
        for position, key in enumerate(keys):
            if key is not None and key not in self._known:
                first.setdefault(key, position)
        return {i for i, key in enumerate(keys) if first.get(key, i) != i}
