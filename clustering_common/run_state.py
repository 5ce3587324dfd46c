"""The state of a run that can be stopped at any moment and goes on as if nothing had happened."""

import contextlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from clustering_common.callbacks import TrainingDivergedError
from clustering_common.checkpoints import Checkpoint, CheckpointFolder
from clustering_common.checks import check_number
from clustering_common.files import plain, remove_parts, writable_folder
from clustering_common.identity import (
    check_same_run,
    data_hash,
    file_hash,
    names_hash,
    own_version,
)
from clustering_common.run_lock import locked
from clustering_common.seeds import SeedStream
from clustering_common.stopping import STOP

logger = logging.getLogger("clustering_common")
EVERY = 60.0  # seconds between two checkpoints
COST_SHARE = 50  # a checkpoint that took t seconds is followed by 50 t without one: 2 %


class RunState:
    """Where a run's checkpoints go, and the one to go on from.

    Parameters
    ----------
    folder : path-like or None
        None keeps no state: every method is there and does nothing.
    identity : dict
        What two runs must share to be the same run: settings, hash of the data, engine.
    every : float, default=60.0
        Seconds between two checkpoints at least; more where writing one takes more than 2 % of it.
        0 writes one after every block of training steps.

    Raises
    ------
    ValueError
        If the folder's checkpoint belongs to another run.
    """

    def __init__(self, folder: Any, identity: dict[str, Any] | None = None, every: float = EVERY):
        check_number("checkpoint_every", every, low=0)
        self.folder = None
        if folder is not None:
            self.folder = CheckpointFolder(writable_folder("checkpoint_dir", folder))
        self.identity = identity or {}
        self.every = every
        self.checkpoint: Checkpoint | None = None
        self._last, self._cost = time.monotonic(), 0.0
        self._begin, self._before = self._last, 0.0
        self._has_left_out = False

    @contextlib.contextmanager
    def going_on(self) -> Iterator["RunState"]:
        """Hold the folder, find the checkpoint to go on from, and let signals wait for one."""
        if self.folder is None:
            yield self
            return
        with locked("checkpoint_dir", self.folder.folder), STOP.deferred(lambda: self._place):
            remove_parts(self.folder.folder)
            self.checkpoint = self._found(self.folder)
            try:
                yield self
            except TrainingDivergedError as error:
                if not self.folder.paths():
                    raise
                raise TrainingDivergedError(
                    f"{error} The last good checkpoint is in {str(self.folder.folder)!r}, for the "
                    "same settings alone."
                ) from error

    def _found(self, folder: CheckpointFolder) -> Checkpoint | None:
        found = folder.newest()
        if found is not None:
            check_same_run("checkpoint_dir", folder.folder, found.values["identity"], self.identity)
            self._before = found.values["elapsed"]
        return found

    @property
    def _place(self) -> str:
        """Where a checkpoint is, in words; '' where none is."""
        folder = self.folder
        return f"checkpoint in {str(folder.folder)!r}" if folder and folder.paths() else ""

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of the run, those before it was stopped too."""
        return self._before + time.monotonic() - self._begin

    def add_seconds(self, seconds: float) -> None:
        """Add what another run did in this one's place."""
        self._before += seconds

    def values(self, phase: str) -> dict[str, Any] | None:
        """Return the values of the checkpoint to go on from if it is of this phase."""
        found = self.checkpoint
        return found.values if found and found.values["phase"] == phase else None

    def seeds(self, random_state: Any) -> SeedStream:
        """Return the run's random streams: those of the checkpoint where there is one."""
        entropy = self.checkpoint.values["entropy"] if self.checkpoint else None
        self._seeds = SeedStream(random_state if entropy is None else entropy)
        return self._seeds

    @property
    def is_due(self) -> bool:
        """Whether it is time for a checkpoint, or a signal waits for one."""
        if self.folder is None:
            return False
        if STOP.is_asked or not self.every:
            return True
        return time.monotonic() - self._last >= max(self.every, COST_SHARE * self._cost)

    @property
    def is_kept(self) -> bool:
        """Whether the run has a folder for checkpoints."""
        return self.folder is not None

    def write(self, values: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Write a checkpoint, then do what a waiting signal asks."""
        if self.folder is None:
            return
        begin = time.monotonic()
        self.folder.write(Checkpoint({**self._common(), **values}, arrays))
        self._last = time.monotonic()
        self._cost = self._last - begin
        self.stop_if_asked()

    def leave_out(self, reason: str) -> None:
        """Write no checkpoint, so that the last good one stays, and say so the first time."""
        if not self._has_left_out:
            logger.warning("%s: no checkpoint is written; the last good one stays", reason)
        self._has_left_out = True
        self._last = time.monotonic()
        self.stop_if_asked()

    def stop_if_asked(self) -> None:
        """Do what a waiting signal asks."""
        STOP.raise_if_any()

    def _common(self) -> dict[str, Any]:
        return {
            "identity": self.identity,
            "entropy": self._seeds.entropy,
            "elapsed": self.seconds,
        }


def run_identity(
    estimator: Any, X: Any, labels_true: Any = None, names: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return what two runs must share to be the same run.

    Settings, data, the content of a weight file, the labels that its history is scored with, the
    engine and the version of this library. Images and the same values as rows are the same data.
    Where samples are files, their ``names`` too: they stand in samples.csv.
    """
    identity = {**settings_identity(estimator), **data_identity(X, labels_true)}
    if names is not None:
        identity["names"] = names_hash(names)
    return identity


def settings_identity(estimator: Any) -> dict[str, Any]:
    """Return the part of `run_identity` that does not depend on the data."""
    params = estimator.resolved_params()
    unlike = {name: value for name, value in params.items() if name != "verbose"}
    if not isinstance(unlike.get("random_state"), int | np.integer):
        unlike["random_state"] = None  # fresh or moving: the checkpoint's own entropy counts
    if unlike.get("pretrained_weights") is not None:
        unlike["pretrained_weights"] = file_hash(unlike["pretrained_weights"])
    identity = {
        "class": type(estimator).__name__,
        **unlike,
        "engine": keras.backend.backend(),
        "version": own_version(),
    }
    return json.loads(json.dumps(identity, default=plain))


def data_identity(X: Any, labels_true: Any = None) -> dict[str, Any]:
    """Return the part of `run_identity` that depends on the data alone."""
    return {
        "X": data_hash(X if X.ndim == 2 else np.reshape(X, (len(X), -1))),
        "labels_true": None if labels_true is None else data_hash(np.asarray(labels_true)),
    }
