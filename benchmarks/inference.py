"""Throughput of predict against the encoder's bare products, and the time of accuracy."""

import time

import keras
import numpy as np

from benchmarks.rows import Row, main, paired, ratio_row
from benchmarks.training_step import make_data
from clustering_common import backend
from clustering_common.metrics import accuracy
from dec_da import FcDEC

N_SAMPLES, BATCH = 20_000, 512


def fitted() -> FcDEC:
    """Return an estimator of the paper's sizes that can predict."""
    return FcDEC(10, pretrain_epochs=0, max_iter=0, random_state=0).fit(make_data("FcDEC", 512))


def bare_forward(model: FcDEC) -> "keras.KerasTensor":
    """Return what runs the encoder's bare products over rows of X."""
    kernels = [layer.kernel.value for layer in model._network.autoencoder.encoder.layers[1:]]
    rows_ = keras.ops.convert_to_tensor(make_data("FcDEC", BATCH))

    def run(n_samples: int) -> None:
        """Multiply as many rows as predict does."""
        h = rows_
        with backend.products_in("float32"):
            for _ in range(n_samples // BATCH):
                h = rows_
                for kernel in kernels:
                    h = keras.ops.matmul(h, kernel)
        keras.ops.convert_to_numpy(h)

    return run


def accuracy_seconds(n_samples: int = 1_000_000) -> float:
    """Return the median of three times of ``accuracy`` on integer labels of ten classes."""
    labels = np.random.default_rng(0).integers(0, 10, (2, n_samples))
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        accuracy(*labels)
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


def rows(quick: bool) -> list[Row]:
    """Return a row for predict and one for accuracy."""
    model, X = fitted(), make_data("FcDEC", N_SAMPLES)
    arms = {"ours": lambda n: model.predict(X[:n]), "bare": bare_forward(model)}
    found = paired(arms, 3 if quick else 9, 2 * BATCH, 2 * BATCH + (10_240 if quick else 18_432))
    ours, bare = found["ours"], found["bare"]
    return [
        ratio_row("FcDEC.predict", 1 / ours, 1 / bare, bare / ours, "samples/s",
                  yardstick="bare products", meaning="share of the bare rate"),
        Row("accuracy, 1,000,000 labels", 1e3 * accuracy_seconds(), "ms"),
    ]  # fmt: skip


if __name__ == "__main__":
    main(rows)
