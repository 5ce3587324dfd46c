"""FcDEC-DA's training steps against what people write today: Keras `fit`, images made on the host.

The plain way is a ``keras.utils.PyDataset`` that shifts and rotates every image of a mini-batch
with scipy.ndimage, as Keras's own ImageDataGenerator did, one batch a training step. Ours and the
plain way run in turns in one process, with the same network, optimiser and batch.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from scipy import ndimage

from benchmarks.rows import Row, main, paired, ratio_row
from benchmarks.training_step import (
    BATCH,
    N_SAMPLES,
    SHAPE,
    clustering_model,
    make_autoencoder,
    make_data,
    pretraining_model,
    steps_of,
)
from dec_da import phases
from dec_da.assignment import ClusteringLayer


class AugmentedImages(keras.utils.PyDataset):
    """Mini-batches of images, each rotated within 10 degrees and shifted within 10 %.

    Parameters
    ----------
    X : ndarray of shape (n_samples, 784)
    targets : ndarray or None
        None makes each augmented image its own target.
    """

    def __init__(self, X: np.ndarray, targets: np.ndarray | None, n_steps: int):
        super().__init__()
        self.X, self.targets, self.n_steps = X, targets, n_steps
        self.rng = np.random.default_rng(0)

    def __len__(self) -> int:
        return self.n_steps

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.rng.integers(0, len(self.X), BATCH)
        images = self.X[rows].reshape(-1, *SHAPE[:2])
        x = np.stack([self._augmented(image) for image in images]).reshape(BATCH, -1)
        return x, x if self.targets is None else self.targets[rows]

    def _augmented(self, image: np.ndarray) -> np.ndarray:
        angle = math.radians(self.rng.uniform(-10, 10))
        shift = self.rng.uniform(-0.1, 0.1, 2) * image.shape
        cos, sin = math.cos(angle), math.sin(angle)
        matrix = np.array([[cos, -sin], [sin, cos]])
        center = (np.array(image.shape) - 1) / 2
        offset = center - matrix @ center + shift
        return ndimage.affine_transform(image, matrix, offset, order=1, mode="nearest")


def plain_pretraining() -> Callable[[int], None]:
    """Return the plain way of pretraining for so many steps."""
    autoencoder = make_autoencoder("dense")
    x = keras.Input((math.prod(SHAPE),))
    model = keras.Model(x, autoencoder.decoder(autoencoder.encoder(x)))
    model.compile(phases.make_optimizer("sgd", 0.001), "mse")
    return _fitting(model, None)


def plain_clustering() -> Callable[[int], None]:
    """Return the plain way of DEC's clustering phase between two updates."""
    encoder = make_autoencoder("dense").encoder
    x = keras.Input((math.prod(SHAPE),))
    clustering = ClusteringLayer(10)
    model = keras.Model(x, clustering(encoder(x)))
    clustering.clusters.assign(np.random.default_rng(0).normal(size=(10, 10)))
    model.compile(phases.make_optimizer("sgd", 0.001), "kld")
    targets = np.random.default_rng(0).dirichlet(np.ones(10), N_SAMPLES).astype(np.float32)
    return _fitting(model, targets)


def _fitting(model: keras.Model, targets: np.ndarray | None) -> Callable[[int], None]:
    X = make_data("dense")
    return lambda n_steps: model.fit(AugmentedImages(X, targets, n_steps), verbose=0)


def rows(quick: bool) -> list[Row]:
    """Return a row for each phase: how many times as fast ours is."""
    found = []
    rounds = 5 if quick else 15
    for phase, ours, plain in (
        ("pretraining", lambda: pretraining_model("Fc", True), plain_pretraining),
        ("clustering", lambda: clustering_model("FcDEC", True), plain_clustering),
    ):
        arms: dict[str, Any] = {"ours": steps_of(ours()), "plain": plain()}
        seconds = paired(arms, rounds, 10, 30)
        found.append(
            ratio_row(
                f"FcDEC-DA {phase} step",
                1e3 * seconds["ours"],
                1e3 * seconds["plain"],
                seconds["plain"] / seconds["ours"],
                "ms",
                yardstick="Keras fit, augmentation on the host",
                meaning="times as fast",
            )
        )
    return found


if __name__ == "__main__":
    main(rows)
