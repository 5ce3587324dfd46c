"""The state of a run that can be stopped at any moment and goes on as if nothing had happened."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from clustering_common import backend
from clustering_common.callbacks import TrainingDivergedError
from clustering_common.checkpoints import Checkpoint, CheckpointFolder
from clustering_common.checks import check_number
from clustering_common.files import plain, remove_parts
from clustering_common.results import data_hash
from clustering_common.run_lock import locked
from clustering_common.seeds import SeedStream
from clustering_common.stopping import STOP

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
        self.folder = None if folder is None else CheckpointFolder(folder)
        self.identity = identity or {}
        self.every = every
        self.checkpoint: Checkpoint | None = None
        self._last, self._cost = time.monotonic(), 0.0

    @contextlib.contextmanager
    def going_on(self) -> Iterator["RunState"]:
        """Hold the folder, find the checkpoint to go on from, and let signals wait for one."""
        if self.folder is None:
            yield self
            return
        with locked("checkpoint_dir", self.folder.folder), STOP.deferred():
            remove_parts(self.folder.folder)
            self.checkpoint = self._found()
            try:
                yield self
            except TrainingDivergedError as error:
                if not self.folder.paths():
                    raise
                place = str(self.folder.folder)
                raise TrainingDivergedError(
                    f"{error} The last good checkpoint is in {place!r}."
                ) from error

    def _found(self) -> Checkpoint | None:
        found = self.folder.newest() if self.folder else None
        if found is None:
            return None
        theirs = found.values["identity"]
        for name in {*theirs, *self.identity}:
            if theirs.get(name) != self.identity.get(name):
                raise ValueError(
                    f"checkpoint_dir must be this run's own; got {str(self.folder.folder)!r}, "  # type: ignore[union-attr]
                    f"whose run has {name}={theirs.get(name)!r} where this one has "
                    f"{self.identity.get(name)!r}. Use the same settings and data, or another "
                    "folder."
                )
        return found

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
        if STOP.signal_number is not None or not self.every:
            return True
        return time.monotonic() - self._last >= max(self.every, COST_SHARE * self._cost)

    def write(self, values: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Write a checkpoint, then do what a waiting signal asks."""
        if self.folder is None:
            return
        begin = time.monotonic()
        self.folder.write(Checkpoint({**self._common(), **values}, arrays))
        self._last = time.monotonic()
        self._cost = self._last - begin
        STOP.raise_if_any(f"checkpoint in {str(self.folder.folder)!r}")

    def _common(self) -> dict[str, Any]:
        return {"identity": self.identity, "entropy": self._seeds.entropy}


def run_identity(estimator: Any, params: dict[str, Any], X: Any) -> dict[str, Any]:
    """Return what two runs must share to be the same run: settings, data, engine."""
    unlike = {name: value for name, value in params.items() if name != "verbose"}
    if not isinstance(unlike.get("random_state"), int | np.integer):
        unlike["random_state"] = None  # fresh or moving: the checkpoint's own entropy counts
    identity = {"class": type(estimator).__name__, **unlike}
    identity.update(engine=keras.backend.backend(), data=data_hash(X))
    return json.loads(json.dumps(identity, default=plain))


class Checkpointer(keras.callbacks.Callback):
    """Write a checkpoint when one is due, and put the model where the last one left it.

    The last of a run's callbacks, so that it sees what the others did.

    Parameters
    ----------
    run : RunState
    phase : str
        Only a checkpoint of the same phase is restored.
    rows : list of dict
        The history of the phase, kept and restored.
    variables : sequence of keras.Variable
        What must be kept besides the model's own.
    collect : callable, optional
        Returns more values and arrays to keep.
    restore : callable, optional
        Takes the checkpoint back.

    Attributes
    ----------
    first_step : int
        Training steps that were done before.
    """

    def __init__(
        self,
        run: RunState,
        phase: str,
        rows: list[dict[str, Any]],
        *,
        variables: Sequence[Any] = (),
        collect: Callable[[], tuple[dict[str, Any], dict[str, np.ndarray]]] | None = None,
        restore: Callable[[Checkpoint], None] | None = None,
    ):
        super().__init__()
        self.run, self.phase, self.rows = run, phase, rows
        self.others = list(variables)
        self.collect, self.restore = collect, restore
        found = run.checkpoint
        self.found = found if found and found.values["phase"] == phase else None
        self.first_step = self.found.values["step"] if self.found else 0

    def forget(self) -> None:
        """Begin at the start: the checkpoint was another's."""
        self.found, self.first_step = None, 0

    def _variables(self) -> list[Any]:
        model, fixed = self.model, {id(variable) for variable in self.model.fixed}
        every = [
            *self.others,
            *model.variables,
            *model.optimizer.variables,
            *model.metrics_variables,
            *model.resident,
        ]
        unique = {id(variable): variable for variable in every if id(variable) not in fixed}
        return list(unique.values())

    def on_train_begin(self, logs: Any = None) -> None:
        """Restore the checkpoint."""
        if self.found is not None:
            self._assign(self._variables())
            self.rows[:] = self.found.values["rows"]
            if self.restore:
                self.restore(self.found)

    def _assign(self, variables: Sequence[Any]) -> None:
        kept = self.found.arrays if self.found else {}
        arrays = [kept[f"variable {i}"] for i in range(len(variables))]
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Restore the metrics too, which Keras clears at the start of an epoch."""
        self._epoch = epoch
        if self.found is not None and self.first_step > self.model.steps_after(epoch, 0):
            self._assign(self._variables())
        self.found = None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Write a checkpoint between two blocks of an epoch."""
        step = max(self.model.steps_after(self._epoch, batch + 1), self.first_step)
        # The end of the last block is left to the epoch's end, when all callbacks have seen it.
        if step < self.model.steps_after(self._epoch) and self.run.is_due:
            self.write(step)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write a checkpoint after an epoch."""
        if self.run.is_due:
            self.write(self.model.steps_after(epoch))

    def write(self, step: int) -> None:
        """Write a checkpoint of the state after ``step`` training steps."""
        backend.sync(self.model)
        kept = {
            f"variable {i}": backend.to_numpy(variable)
            for i, variable in enumerate(self._variables())
        }
        if not all(np.isfinite(array).all() for array in kept.values() if array.dtype.kind == "f"):
            return  # the run is about to be stopped; what was good stays the last
        values, arrays = self.collect() if self.collect else ({}, {})
        values = {"phase": self.phase, "step": step, "rows": self.rows, **values}
        self.run.write(values, {**kept, **arrays})
