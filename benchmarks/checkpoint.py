"""What checkpoints cost: the time of one write against the time between two, at the paper's sizes.

python -m benchmarks.checkpoint [--quick]
"""

import tempfile
import time

import keras
import numpy as np

from benchmarks.rows import Row, main
from clustering_common.checkpointer import Checkpointer
from clustering_common.run_state import COST_SHARE, EVERY, RunState
from clustering_common.seeds import SeedStream
from dec_da.autoencoders import dense_autoencoder
from dec_da.models import ReconstructionModel
from kingdra_cluster.ladder import LadderNetwork
from kingdra_cluster.members import LadderTrainer, LossSettings


def models() -> dict[str, keras.Model]:
    """Return FcDEC's and Kingdra's training models of MNIST's sizes, ready to train."""
    X = np.zeros((640, 784), np.float32)
    autoencoder = dense_autoencoder(784, (500, 500, 2000, 10), seeds=SeedStream(0))
    dense = ReconstructionModel(autoencoder, X, image_shape=None, augment_seed=None)
    settings = LossSettings("im", 0.1, 4.0, 1.0, 1.0, (1000.0, 10.0, 0.1, 0.1), 0.3)
    network = LadderNetwork(10, [784, 1200, 1200, 10], last_layer_bn=False, seeds=SeedStream(0))
    ladder = LadderTrainer(network, X, settings, 64, SeedStream(0))
    found = {"FcDEC": dense, "KingdraCluster": ladder}
    for model in found.values():
        model.prepare(keras.optimizers.Adam())
    return found


def rows(quick: bool) -> list[Row]:
    """Return the longest write of each against the shortest time that may lie between two."""
    found = []
    for name, model in models().items():
        seconds = write_seconds(model, 3 if quick else 9)
        shares = 100 * seconds / np.maximum(EVERY, COST_SHARE * seconds)
        spread = [float(f(shares)) for f in (np.median, np.min, np.max)]
        found.append(
            Row(
                f"{name}, a checkpoint",
                1e3 * float(np.median(seconds)),
                "ms",
                "a minute, or fifty times as long",
                None,
                spread,
                "% of a run at the default interval",
            )
        )
    return found


def write_seconds(model: keras.Model, rounds: int) -> np.ndarray:
    """Return the seconds of some checkpoints of a model."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        run = RunState(folder)
        run.seeds(0)
        checkpointer = Checkpointer(run, "phase", [])
        checkpointer.set_model(model)
        for step in range(1, rounds + 1):
            begin = time.perf_counter()
            checkpointer.write(step)
            seconds.append(time.perf_counter() - begin)
    return np.array(seconds)


if __name__ == "__main__":
    main(rows)
