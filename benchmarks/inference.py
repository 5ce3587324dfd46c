"""Throughput of predict against the encoder's bare products, of accuracy against plain Python."""

import functools
from collections import Counter

import keras
import numpy as np
from scipy.optimize import linear_sum_assignment

from benchmarks.rows import Arm, Row, main, paired, ratio_row
from benchmarks.training_step import make_data
from clustering_common import backend
from clustering_common.metrics import accuracy
from dec_da import FcDEC

N_SAMPLES, BATCH = 20_000, 512


def fitted() -> FcDEC:
    """Return an estimator of the paper's sizes that can predict."""
    return FcDEC(10, pretrain_epochs=0, max_iter=0, random_state=0).fit(make_data("FcDEC", 512))


def bare_forward(model: FcDEC) -> Arm:
    """Return what runs the encoder's bare products over so many rows, a compiled call a batch."""
    kernels = [layer.kernel for layer in model._network.autoencoder.encoder.layers[1:]]
    rows_ = keras.ops.convert_to_tensor(make_data("FcDEC", BATCH))
    products = backend.compiled(lambda h: functools.reduce(keras.ops.matmul, kernels, h), kernels)

    def run(n_samples: int) -> None:
        """Multiply as many rows as predict does."""
        for _ in range(n_samples // BATCH):
            h = products(rows_)
        keras.ops.convert_to_numpy(h)

    return run


def plain_accuracy(labels_true: list[int], labels_pred: list[int]) -> float:
    """Return the accuracy, the samples counted one by one in Python."""
    counts: Counter[tuple[int, int]] = Counter()
    for true, pred in zip(labels_true, labels_pred, strict=True):
        counts[pred, true] += 1
    classes, clusters = sorted(set(labels_true)), sorted(set(labels_pred))
    table = np.array([[counts[pred, true] for true in classes] for pred in clusters])
    return float(table[linear_sum_assignment(table, maximize=True)].sum() / len(labels_true))


def accuracy_row(rounds: int, n_samples: int = 1_000_000) -> Row:
    """Return the row of ``accuracy`` on integer labels of ten classes."""
    labels = np.random.default_rng(0).integers(0, 10, (2, n_samples))
    plain = labels.tolist()
    if accuracy(*labels) != plain_accuracy(*plain):
        raise RuntimeError("Both ways must find the same accuracy.")
    arms = {"ours": lambda n: accuracy(*labels), "plain": lambda n: plain_accuracy(*plain)}
    found = paired(arms, rounds, 0, 1)
    ours, theirs = 1e3 * found["ours"], 1e3 * found["plain"]
    return ratio_row(f"accuracy, {n_samples:,} labels", ours, theirs, theirs / ours, "ms",
                     yardstick="a loop in Python", meaning="times as fast")  # fmt: skip


def rows(quick: bool) -> list[Row]:
    """Return a row for predict and one for accuracy."""
    model, X = fitted(), make_data("FcDEC", N_SAMPLES)
    arms = {"ours": lambda n: model.predict(X[:n]), "bare": bare_forward(model)}
    found = paired(arms, 3 if quick else 9, 2 * BATCH, 2 * BATCH + (10_240 if quick else 18_432))
    ours, bare = found["ours"], found["bare"]
    return [
        ratio_row("FcDEC.predict", 1 / ours, 1 / bare, bare / ours, "samples/s",
                  yardstick="bare products", meaning="share of the bare rate"),
        accuracy_row(3 if quick else 9),
    ]  # fmt: skip


if __name__ == "__main__":
    main(rows)
