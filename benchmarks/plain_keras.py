"""FcDEC-DA's training steps against what people write today: Keras `fit`, images made on the host.

The plain way feeds ``fit`` from Keras's ImageDataGenerator, as the release of DEC-DA does, which
shifts and rotates the images of a mini-batch one by one, on one thread. Ours and the plain way run
in turns in one process, with the same network, optimiser and batch.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras.src.legacy.preprocessing.image import ImageDataGenerator  # public in tf.keras alone

from benchmarks.rows import Row, main, paired, ratio_row
from benchmarks.training_step import (
    BATCH,
    N_SAMPLES,
    RATE,
    SHAPE,
    clustering_model,
    make_data,
    make_network,
    pretraining_model,
    steps_of,
)
from dec_da import phases

WHOLE_BATCHES = N_SAMPLES // BATCH * BATCH  # images, so that all batches have one shape


def batches(targets: np.ndarray | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield mini-batches of rotated and shifted images, as rows, and their targets for ever.

    Parameters
    ----------
    targets : ndarray or None
        None makes each augmented image its own target.
    """
    images = make_data("FcDEC").reshape(-1, *SHAPE)[:WHOLE_BATCHES]
    generator = ImageDataGenerator(rotation_range=10, width_shift_range=0.1, height_shift_range=0.1)
    rows = np.zeros(len(images)) if targets is None else targets[:WHOLE_BATCHES]
    for x, y in generator.flow(images, rows, BATCH, seed=0):
        flat = x.reshape(BATCH, -1)
        yield flat, flat if targets is None else y


def plain_pretraining() -> Callable[[int], None]:
    """Return the plain way of pretraining for so many steps."""
    autoencoder = make_network("FcDEC").autoencoder
    x = keras.Input((math.prod(SHAPE),))
    model = keras.Model(x, autoencoder.decoder(autoencoder.encoder(x)))
    model.compile(phases.make_optimizer("sgd", RATE), "mse")
    return _fitting(model, None)


def plain_clustering() -> Callable[[int], None]:
    """Return the plain way of DEC's clustering phase between two updates."""
    network = make_network("FcDEC")
    x = keras.Input((math.prod(SHAPE),))
    model = keras.Model(x, network.clustering(network.autoencoder.encoder(x)))
    model.compile(phases.make_optimizer("sgd", RATE), "kld")
    targets = np.random.default_rng(0).dirichlet(np.ones(10), N_SAMPLES).astype(np.float32)
    return _fitting(model, targets)


def _fitting(model: keras.Model, targets: np.ndarray | None) -> Callable[[int], None]:
    data = batches(targets)
    return lambda n_steps: model.fit(data, steps_per_epoch=n_steps, shuffle=False, verbose=0)


def rows(quick: bool) -> list[Row]:
    """Return a row for each phase: how many times as fast ours is."""
    found = []
    rounds = 3 if quick else 15
    for phase, ours, plain in (
        ("pretraining", lambda: pretraining_model("FcDEC", True), plain_pretraining),
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
