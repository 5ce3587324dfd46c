"""What checkpoints cost: the time of one write against the time between two, at the paper's sizes.

python -m benchmarks.checkpoint [--rounds 5]
"""

import argparse
import tempfile
import time

import keras
import numpy as np

from clustering_common.backend import device_name
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


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(device_name())
    for name, model in models().items():
        with tempfile.TemporaryDirectory() as folder:
            run = RunState(folder)
            run.seeds(0)
            checkpointer = Checkpointer(run, "phase", [])
            checkpointer.set_model(model)
            seconds = []
            for _ in range(args.rounds):
                begin = time.perf_counter()
                checkpointer.write(1)
                seconds.append(time.perf_counter() - begin)
            size = run.folder.paths()[-1].stat().st_size / 1e6  # type: ignore[union-attr]
        # The longest write against the shortest time that may lie between two.
        shares = [100 * t / max(EVERY, COST_SHARE * t) for t in seconds]
        print(
            f"{name}: {size:.0f} MB in {np.median(seconds):.2f} s (at most {max(seconds):.2f}), "
            f"{max(shares):.2f} % of a run at the default interval"
        )


if __name__ == "__main__":
    main()
