"""Cost of augmentation in one compiled training step: FcDEC, 28x28, batch 256.

Both models run in turns in one process, so that a busy machine slows both: the ratio is what
counts. Also the time of ``accuracy`` on a million labels.

    python -m benchmarks.augmentation_step [--rounds 7] [--steps 20]
"""

import argparse
import json
import time
from typing import Any

import keras
import numpy as np

from clustering_common.backend import device_name
from clustering_common.metrics import accuracy
from clustering_common.seeds import SeedStream
from clustering_common.training import BatchSchedule
from dec_da import phases
from dec_da.assignment import ClusteringLayer
from dec_da.autoencoders import dense_autoencoder
from dec_da.models import ReconstructionModel, SoftAssignmentModel

SHAPE, BATCH = (28, 28, 1), 256


def make_model(X: np.ndarray, phase: str, augmented: bool) -> Any:
    """Return a compiled training model of a phase."""
    autoencoder = dense_autoencoder(X.shape[1], (500, 500, 2000, 10), SeedStream(0))
    options = {"image_shape": SHAPE, "augment_seed": 1 if augmented else None}
    if phase == "pretrain":
        model: Any = ReconstructionModel(autoencoder, X, **options)
    else:
        clustering = ClusteringLayer(10, name="clustering")
        clustering.build((1, 10))
        clustering.clusters.assign(np.random.default_rng(0).normal(size=(10, 10)))
        model = SoftAssignmentModel(autoencoder, clustering, X, **options)
        model.update()
    model.prepare(phases.make_optimizer("sgd", 0.01))
    return model


def seconds_per_step(model: Any, schedule: BatchSchedule, n_steps: int) -> float:
    """Return the wall-clock seconds of one step within a block of ``n_steps``."""
    begin = time.perf_counter()
    model.fit_steps(schedule.batches, steps_per_epoch=n_steps, n_steps=n_steps)
    keras.ops.convert_to_numpy(model.trainable_variables[0])
    return (time.perf_counter() - begin) / n_steps


def measure(phase: str, n_rounds: int, n_steps: int) -> dict[str, Any]:
    """Return seconds without and with augmentation, and the ratios of the rounds."""
    X = np.random.default_rng(0).random((10_000, 784), np.float32)
    schedule = BatchSchedule(len(X), BATCH, seed=0)
    models = {flag: make_model(X, phase, flag) for flag in (False, True)}
    for model in models.values():
        seconds_per_step(model, schedule, n_steps)
    rounds = []
    for _ in range(n_rounds):
        rounds.append([seconds_per_step(models[flag], schedule, n_steps) for flag in models])
    plain, augmented = np.array(rounds).T
    return {
        "phase": phase,
        "plain_ms": 1e3 * float(np.median(plain)),
        "augmented_ms": 1e3 * float(np.median(augmented)),
        "ratio": float(np.median(augmented / plain)),
        "ratio_range": [float(np.min(augmented / plain)), float(np.max(augmented / plain))],
    }


def accuracy_seconds(n_samples: int = 1_000_000) -> float:
    """Return the best of three times of ``accuracy`` on integer labels of ten classes."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, (2, n_samples))
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        accuracy(*labels)
        times.append(time.perf_counter() - begin)
    return min(times)


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    rows = [measure(phase, args.rounds, args.steps) for phase in ("pretrain", "cluster")]
    print(device_name())
    for row in rows:
        low, high = row["ratio_range"]
        print(
            f"{row['phase']:9s} {row['plain_ms']:6.1f} ms plain, {row['augmented_ms']:6.1f} ms "
            f"augmented, ratio {row['ratio']:.3f} ({low:.3f} to {high:.3f})"
        )
    seconds = accuracy_seconds()
    print(f"accuracy of 1,000,000 labels: {seconds:.3f} s")
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"device": device_name(), "steps": rows, "accuracy_s": seconds}, file)


if __name__ == "__main__":
    main()
