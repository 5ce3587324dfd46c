"""The callback that keeps a phase of training in checkpoints, and puts it back."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from clustering_common import backend
from clustering_common.checkpoints import Checkpoint, CheckpointError
from clustering_common.run_state import RunState


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
    at_end : bool, default=True
        Whether to write one when the phase ends, however short the last is ago.

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
        at_end: bool = True,
    ):
        super().__init__()
        self.run, self.phase, self.rows = run, phase, rows
        self.others = list(variables)
        self.collect, self.restore, self.at_end = collect, restore, at_end
        found = run.checkpoint
        self.found = found if found and found.values["phase"] == phase else None
        self.first_step = self.found.values["step"] if self.found else 0
        self._step = self._kept_step = self.first_step

    def n_steps(self, planned: int) -> int:
        """Return how many steps the phase has: no more where a callback had stopped it before."""
        return self.first_step if self.found and self.found.values["stopped"] else planned

    def forget(self) -> None:
        """Begin at the start: the checkpoint was another's."""
        self.found, self.first_step = None, 0
        self._step = self._kept_step = 0

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

    def set_model(self, model: Any) -> None:
        """Restore the checkpoint, before any callback sees training begin."""
        super().set_model(model)
        if self.found is not None:
            self._assign(self._variables())
            self.rows[:] = self.found.values["rows"]
            model.stop_training = self.found.values["stopped"]
            if self.restore:
                self.restore(self.found)

    def _assign(self, variables: Sequence[Any]) -> None:
        kept = self.found.arrays if self.found else {}
        arrays = [kept[f"variable {i}"] for i in range(len(variables))]
        for variable, array in zip(variables, arrays, strict=True):
            if tuple(variable.shape) != array.shape:
                raise CheckpointError(
                    f"checkpoint_dir must hold checkpoints of this network; got one whose "
                    f"{variable.path} has shape {array.shape}, not {tuple(variable.shape)}. Use "
                    "another folder."
                )
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
        # What ends the epoch is left to its end, when all callbacks have seen it: its last block,
        # or one after which a callback stops training.
        ends = step >= self.model.steps_after(self._epoch) or self.model.stop_training
        if not ends and self.run.is_due:
            self.write(step)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write a checkpoint after an epoch."""
        self._step = self.model.steps_after(epoch)
        # The last one is left to the phase's end, where a callback may yet restore weights.
        is_last = self.model.stop_training or self._step == self.model.steps_after(epoch + 1)
        if not (self.at_end and is_last) and self.run.is_due:
            self.write(self._step)

    def on_train_end(self, logs: Any = None) -> None:
        """Write a checkpoint after the phase: what follows may take long, or be stopped."""
        if self.at_end and self.run.is_kept:
            self.write(self._step)

    def write(self, step: int) -> None:
        """Write a checkpoint of the state after ``step`` training steps, once."""
        if step == self._kept_step:
            self.run.stop_if_asked()
            return
        backend.sync(self.model)
        kept = {
            f"variable {i}": backend.to_numpy(variable)
            for i, variable in enumerate(self._variables())
        }
        if not all(np.isfinite(array).all() for array in kept.values() if array.dtype.kind == "f"):
            self.run.leave_out(f"numbers of the {self.phase} phase are not finite")
            return
        values, arrays = self.collect() if self.collect else ({}, {})
        own = {
            "phase": self.phase,
            "step": step,
            "rows": self.rows,
            "stopped": bool(self.model.stop_training),
        }
        self._kept_step = step
        self.run.write({**own, **values}, {**kept, **arrays})
