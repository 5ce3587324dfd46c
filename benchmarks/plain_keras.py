"""FcDEC-DA's training steps against what people write: Keras `fit`, images augmented on the host.

Three plain ways, each with the same network, optimiser and batch as ours:

- arrays: before each epoch Keras's ImageDataGenerator shifts and rotates all images one by one,
  then ``fit`` takes them as arrays;
- a generator: ImageDataGenerator feeds ``fit`` one mini-batch after another, as in the release of
  DEC-DA; with TensorFlow from a thread beside the training;
- tf.data (with TensorFlow): it maps Keras's own RandomTranslation and RandomRotation, compiled,
  over mini-batches on all threads.

All run in turns in one process, whole fits, their start included. A fit from the generator is quick
or slow from its first step to its last, as its thread happens to run beside the training or against
it, so that the median is one of two values.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras.src.legacy.preprocessing.image import ImageDataGenerator  # public in tf.keras alone

from benchmarks.rows import WARM_STEPS, Arm, Row, main, paired, ratio_row
from benchmarks.training_step import (
    BATCH,
    N_SAMPLES,
    RATE,
    SHAPE,
    clustering_model,
    make_data,
    make_network,
    pretraining_model,
)
from clustering_common.training import BatchSchedule, SteppedModel
from dec_da import phases

PASS_STEPS = N_SAMPLES // BATCH
WHOLE_BATCHES = PASS_STEPS * BATCH  # images, so that all batches have one shape
MOVES = {"rotation_range": 10, "width_shift_range": 0.1, "height_shift_range": 0.1}

Way = Callable[[keras.Model, np.ndarray | None], Arm]


def from_arrays(model: keras.Model, targets: np.ndarray | None) -> Arm:
    """Return what augments all images and then trains on them as arrays, for whole epochs.

    Parameters
    ----------
    model : keras.Model
    targets : ndarray or None
        None makes each augmented image its own target.
    """
    images = make_data("FcDEC").reshape(-1, *SHAPE)[:WHOLE_BATCHES]
    passes = ImageDataGenerator(**MOVES).flow(images, None, WHOLE_BATCHES, shuffle=False, seed=0)

    def run(n_steps: int) -> None:
        """Train for the epochs that have so many steps."""
        n_epochs, rest = divmod(n_steps, PASS_STEPS)
        if rest:
            raise ValueError(f"n_steps must be a multiple of {PASS_STEPS}; got {n_steps}.")
        for _ in range(n_epochs):
            x = next(passes).reshape(WHOLE_BATCHES, -1)
            y = x if targets is None else targets[:WHOLE_BATCHES]
            model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0)

    return run


def from_generator(model: keras.Model, targets: np.ndarray | None) -> Arm:
    """Return what trains on the generator's mini-batches; see `from_arrays`."""
    data = batches(targets)
    return lambda n_steps: model.fit(data, steps_per_epoch=n_steps, shuffle=False, verbose=0)


def batches(targets: np.ndarray | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield mini-batches of rotated and shifted images, as rows, and their targets for ever."""
    images = make_data("FcDEC").reshape(-1, *SHAPE)[:WHOLE_BATCHES]
    rows = np.zeros(len(images)) if targets is None else targets[:WHOLE_BATCHES]
    for x, y in ImageDataGenerator(**MOVES).flow(images, rows, BATCH, seed=0):
        flat = x.reshape(BATCH, -1)
        yield flat, flat if targets is None else y


def from_tf_data(model: keras.Model, targets: np.ndarray | None) -> Arm:
    """Return what trains on a tf.data set augmented by Keras's layers; see `from_arrays`."""
    import tensorflow as tf

    augment = keras.Sequential(
        [
            keras.layers.RandomTranslation(0.1, 0.1, fill_mode="nearest"),
            keras.layers.RandomRotation(10 / 360, fill_mode="nearest"),
        ]
    )

    def augmented(x: Any, y: Any) -> Any:
        """Return a mini-batch as rows, and its targets."""
        flat = tf.reshape(augment(x, training=True), (BATCH, -1))
        return flat, flat if targets is None else y

    images = make_data("FcDEC").reshape(-1, *SHAPE)
    rows = np.zeros(len(images)) if targets is None else targets
    data = tf.data.Dataset.from_tensor_slices((images, rows)).shuffle(N_SAMPLES, seed=0)
    data = data.repeat().batch(BATCH, drop_remainder=True)
    data = data.map(augmented, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    return lambda n_steps: model.fit(data, steps_per_epoch=n_steps, verbose=0)


def plain_pretraining(way: Way) -> Arm:
    """Return a plain way of pretraining for so many steps."""
    autoencoder = make_network("FcDEC").autoencoder
    x = keras.Input((math.prod(SHAPE),))
    model = keras.Model(x, autoencoder.decoder(autoencoder.encoder(x)))
    model.compile(phases.make_optimizer("sgd", RATE), "mse")
    return way(model, None)


def plain_clustering(way: Way) -> Arm:
    """Return a plain way of DEC's clustering phase between two updates."""
    network = make_network("FcDEC")
    x = keras.Input((math.prod(SHAPE),))
    model = keras.Model(x, network.clustering(network.autoencoder.encoder(x)))
    model.compile(phases.make_optimizer("sgd", RATE), "kld")
    targets = np.random.default_rng(0).dirichlet(np.ones(10), N_SAMPLES).astype(np.float32)
    return way(model, targets)


def rows(quick: bool) -> list[Row]:
    """Return a row for each phase and each plain way: how many times as fast ours is."""
    found = []
    ways: dict[str, Way] = {"arrays": from_arrays, "a generator": from_generator}
    if keras.backend.backend() == "tensorflow":
        ways["tf.data"] = from_tf_data
    rounds, n_steps = (3, PASS_STEPS) if quick else (9, 2 * PASS_STEPS)
    for phase, ours, plain in (
        ("pretraining", lambda: pretraining_model("FcDEC", True), plain_pretraining),
        ("clustering", lambda: clustering_model("FcDEC", True), plain_clustering),
    ):
        arms = {"ours": fit_of(ours()), **{name: plain(way) for name, way in ways.items()}}
        seconds = paired(arms, rounds, 0, n_steps, WARM_STEPS)
        for name in ways:
            mine, theirs = 1e3 * seconds["ours"], 1e3 * seconds[name]
            found.append(
                ratio_row(f"FcDEC-DA {phase} step", mine, theirs, theirs / mine, "ms",
                          yardstick=f"Keras fit, {name}", meaning="times as fast")
            )  # fmt: skip
    return found


def fit_of(model: SteppedModel) -> Arm:
    """Return what fits a model of ours for so many steps, an epoch every pass over the data."""
    batches = BatchSchedule(N_SAMPLES, BATCH, seed=0).batches
    return lambda n: model.fit_steps(batches, steps_per_epoch=PASS_STEPS, n_steps=n)


if __name__ == "__main__":
    main(rows)
