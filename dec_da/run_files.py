"""The files of a DEC-DA run, and the callbacks that write some of them as it trains."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from clustering_common import backend, files
from clustering_common.callbacks import diverged
from clustering_common.record import MEASURES
from clustering_common.report import FILES as REPORT_FILES
from clustering_common.samples_file import SAMPLES_FILE
from clustering_common.weights import copy_weights, write_weights

LOG_COLUMNS = ("iter", *MEASURES, "loss")
PRETRAIN_COLUMNS = ("epoch", "loss")
AUTOENCODER_FILE = "ae_weights.h5"
PRETRAIN_LOG = "pretrain_log.csv"
MODEL_FILE = "model_final.h5"
LABELS_FILE = "labels.npy"
STALE = (MODEL_FILE, LABELS_FILE, SAMPLES_FILE, "results.json", "log.csv", *REPORT_FILES)
NEEDED = (MODEL_FILE, LABELS_FILE, "log.csv", AUTOENCODER_FILE)
WRITTEN = (*STALE, AUTOENCODER_FILE, PRETRAIN_LOG)


class AutoencoderWriter(keras.callbacks.Callback):
    """Write the autoencoder and the log when pretraining ends.

    Raises
    ------
    TrainingDivergedError
        If its last step left NaN or infinity; an earlier run's files then stay whole.
    """

    def __init__(self, folder: Path):
        super().__init__()
        self.folder, self.has_written = folder, False

    def on_train_end(self, logs: Any = None) -> None:
        """Write both files; a later phase's files of an earlier run go."""
        layers = [*self.model.encoder.layers, *self.model.decoder.layers]
        # The loss is taken before a step: what the last one did shows only here.
        chunk, _ = next(self.model.chunks())
        embedding = self.model.encoder(self.model.clean_rows(chunk))
        for array in (embedding, *(weight for layer in layers for weight in layer.weights)):
            if not np.isfinite(backend.to_numpy(array)).all():
                raise diverged("The autoencoder became nan in the last step of pretraining")
        _remove_earlier(self.folder, [*STALE, PRETRAIN_LOG])
        write_weights(self.folder / AUTOENCODER_FILE, [layer for layer in layers if layer.weights])
        _write_pretrain_log(self.folder, self.model.recorder.rows)
        self.has_written = True


class LoadedAutoencoderWriter(keras.callbacks.Callback):
    """Where pretraining is skipped, let no file of an earlier run pass for this run's.

    When clustering begins, ae_weights.h5 becomes a copy of the autoencoder that was loaded, and
    pretrain_log.csv has the epochs that are known. Where the folder's own ae_weights.h5 was
    loaded, both stay: they tell how this run's autoencoder came about.

    Parameters
    ----------
    folder : Path
    pretrained_weights : path-like
        What was loaded.
    history : sequence of dict, default=()
        A row per epoch.
    """

    def __init__(
        self,
        folder: Path,
        pretrained_weights: str | os.PathLike,
        history: Sequence[dict[str, Any]] = (),
    ):
        super().__init__()
        self.folder, self.loaded = folder, Path(pretrained_weights)
        self.history = history

    def on_train_begin(self, logs: Any = None) -> None:
        """Write both files; a later phase's files of an earlier run go."""
        _remove_earlier(self.folder, STALE, keep=self.loaded)
        path = self.folder / AUTOENCODER_FILE
        if path.exists() and path.samefile(self.loaded):
            return
        _remove_earlier(self.folder, [PRETRAIN_LOG])
        copy_weights(self.loaded, path, without=["clustering"])
        _write_pretrain_log(self.folder, self.history)


def _write_pretrain_log(folder: Path, history: Sequence[dict[str, Any]]) -> None:
    """Write a row per epoch."""
    rows = [{"epoch": epoch, **row} for epoch, row in enumerate(history, start=1)]
    files.write_csv(folder / PRETRAIN_LOG, PRETRAIN_COLUMNS, rows)


def _remove_earlier(folder: Path, names: Sequence[str], keep: Path | None = None) -> None:
    """Remove files of an earlier run before this run's come, but for the file ``keep``."""
    for path in (folder / name for name in names):
        if path.exists() and not (keep and path.samefile(keep)):
            path.unlink()


class LogWriter(keras.callbacks.Callback):
    """Keep log.csv up to date at every update.

    The model's ``recorder`` holds the earlier updates, those before a resumed run began too.
    """

    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write the log with this update."""
        files.write_csv(self.path, LOG_COLUMNS, [*self.model.recorder.rows, dict(logs or {})])

    def on_train_end(self, logs: Any = None) -> None:
        """Write the log, also where no update was left."""
        files.write_csv(self.path, LOG_COLUMNS, self.model.recorder.rows)
