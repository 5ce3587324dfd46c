"""One DEC-DA experiment: train, score, and leave files that tell and repeat it."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from clustering_common import files, results
from clustering_common.callbacks import LabelsMonitor, scores
from clustering_common.weights import write_weights
from dec_da.base import DeepClusterer

logger = logging.getLogger("clustering_common.dec_da")
LOG_COLUMNS = ("iter", "acc", "nmi", "ari", "loss")
PRETRAIN_COLUMNS = ("epoch", "loss")
AUTOENCODER_FILE = "ae_weights.h5"
MODEL_FILE = "model_final.h5"
STALE = (MODEL_FILE, "labels.npy", "results.json", "log.csv")


@dataclass(frozen=True)
class Task:
    """The data of an experiment.

    Attributes
    ----------
    name : str
        Data set or file.
    X : ndarray of shape (n_samples, ...)
    labels : ndarray of shape (n_samples,) or None
        The truth, where known; it never reaches the learner.
    """

    name: str
    X: np.ndarray
    labels: np.ndarray | None


class AutoencoderWriter(keras.callbacks.Callback):
    """Write the autoencoder and the log when pretraining ends."""

    def __init__(self, folder: Path):
        super().__init__()
        self.folder, self.rows = folder, []  # type: ignore[var-annotated]

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Keep the epoch's loss."""
        self.rows.append({"epoch": epoch + 1, **(logs or {})})

    def on_train_end(self, logs: Any = None) -> None:
        """Write both files; a later phase's files of an earlier run go."""
        for name in STALE:
            (self.folder / name).unlink(missing_ok=True)
        layers = [*self.model.encoder.layers, *self.model.decoder.layers]
        write_weights(self.folder / AUTOENCODER_FILE, [layer for layer in layers if layer.weights])
        files.write_csv(self.folder / "pretrain_log.csv", PRETRAIN_COLUMNS, self.rows)


class LogWriter(keras.callbacks.Callback):
    """Keep log.csv up to date at every update."""

    def __init__(self, path: Path):
        super().__init__()
        self.path, self.rows = path, []  # type: ignore[var-annotated]

    def on_train_begin(self, logs: Any = None) -> None:
        """Write the row of the first targets."""
        self.on_epoch_end(-1, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Add a row."""
        self.rows.append(dict(logs or {}))
        files.write_csv(self.path, LOG_COLUMNS, self.rows)


def train(
    estimator: DeepClusterer,
    task: Task,
    folder: Path,
    *,
    method: str,
    seed: int,
    pixel_scores: dict[str, float] | None = None,
) -> dict[str, Any]:
    """Fit ``estimator`` on the task, write all files of a run, and return results.json's content.

    Parameters
    ----------
    estimator : DeepClusterer
    task : Task
    folder : Path
        Exists and is writable. Gets ae_weights.h5, pretrain_log.csv, log.csv, model_final.h5,
        labels.npy and results.json.
    method : str
        Name for the record, such as FcDEC-DA.
    seed : int
        Of the k-means on the raw data beside it; the estimator has its own.
    pixel_scores : dict, optional
        Scores of that k-means where they are known already.
    """
    monitors = [] if task.labels is None else [LabelsMonitor(task.labels)]
    begin = time.monotonic()
    estimator.fit(
        task.X,
        callbacks=[*monitors, LogWriter(folder / "log.csv")],
        pretrain_callbacks=[AutoencoderWriter(folder)],
    )
    seconds = {**estimator.seconds_, "total": time.monotonic() - begin}
    # What took long is safe before anything is scored.
    estimator.save(folder / MODEL_FILE)
    files.write_array(folder / "labels.npy", estimator.labels_)
    if task.labels is not None and pixel_scores is None:
        logger.info("k-means on pixels, for comparison")
        pixel_scores = results.kmeans_baseline(task.X, estimator.n_clusters, task.labels, seed)
    record = {
        "method": method,
        "dataset": task.name,
        "settings": estimator.resolved_params(),
        "seed": seed,
        "data": {
            "shape": task.X.shape,
            "sha256": results.data_hash(task.X),
            "labels_sha256": None if task.labels is None else results.data_hash(task.labels),
        },
        "seconds": seconds,
        "n_iter": estimator.n_iter_,
        "termination_condition": estimator.termination_condition_,
        "cluster_sizes": np.bincount(estimator.labels_, minlength=estimator.n_clusters),
        "metrics": _metrics(estimator, task, pixel_scores),
        **results.environment(),
    }
    files.write_json(folder / "results.json", record)
    return record


def _metrics(
    estimator: DeepClusterer, task: Task, pixel_scores: dict[str, float] | None
) -> dict[str, Any]:
    """Return scores of the final labels, and of k-means on the data and on the embedding."""
    if task.labels is None:
        return {}
    first = (estimator.history_["cluster"] or [{}])[0]
    final = scores(task.labels, estimator.labels_)
    embedded = {name: first[name] for name in final} if "acc" in first else final
    return {"final": final, "kmeans_pixels": pixel_scores, "kmeans_embedding": embedded}
