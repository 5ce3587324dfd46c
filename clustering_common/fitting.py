"""The frame of every ``fit``: checks first, then learning that can be resumed, or no change."""

import gc
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import keras

from clustering_common import backend
from clustering_common.callbacks import LabelsMonitor, check_callbacks, check_labels
from clustering_common.persistence import unchanged_on_failure
from clustering_common.progress import logger, show_progress
from clustering_common.run_state import RunState, run_identity

COLLECT_BYTES = 4 * 2**20  # of X, from which on it is worth a third of a second
Fit = TypeVar("Fit", bound=Callable[..., Any])
CALLBACKS = ("callbacks", "pretrain_callbacks")  # arguments of fit, in the order of `_fit`
CHECKPOINTS = """checkpoint_dir : path-like, optional
            Folder for checkpoints of this run. If it holds one of the same settings and data, fit
            goes on from there, to the same result as if it had never stopped; callbacks see only
            what is new. Remove the folder when fit has ended.
        checkpoint_every : float, default=60.0
            Seconds between two checkpoints at least.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            For an argument or data out of range, in one line.
        TrainingDivergedError
            If a loss becomes NaN or infinite."""


def documented_fit(fit: Fit) -> Fit:
    """Fill ``{checkpoints}`` of a fit's docstring with what all of them share."""
    fit.__doc__ = (fit.__doc__ or "").replace("{checkpoints}", CHECKPOINTS)
    return fit


class ResumableFit:
    """Abstract: an estimator whose ``fit`` calls `_fit`, which calls what a subclass fills in."""

    # What the estimator has.
    precision: str
    verbose: int
    get_params: Any
    _members: str | None = None  # how the paths of variables with a member axis begin
    _check_arguments: Any
    _validated: Any

    def _check_to_fit(self) -> None:
        """Raise unless all arguments are usable, by the engine too."""
        self._check_arguments()
        backend.check_precision(self.precision)

    def _check_n_samples(self, n_samples: int) -> None:
        """Raise ValueError unless so many samples are enough."""
        raise NotImplementedError

    def _learn(self, X: Any, run: RunState, *callbacks: Any) -> None:
        """Learn from checked data and set the learned attributes."""
        raise NotImplementedError

    def resolved_params(self) -> dict[str, Any]:
        """Return all parameters, those that stand for others' defaults filled in."""
        return self.get_params()

    def _fit(
        self,
        X: Any,
        checkpoint_dir: str | os.PathLike | None,
        checkpoint_every: float,
        callbacks: Sequence[keras.callbacks.Callback],
        *more_callbacks: Sequence[keras.callbacks.Callback],
    ) -> Any:
        with unchanged_on_failure(self):
            self._check_to_fit()
            for name, given in zip(CALLBACKS, (callbacks, *more_callbacks), strict=False):
                check_callbacks(name, given)
            X = self._validated(X, reset=True)
            self._check_n_samples(X.shape[0])
            truths = [c.labels_true for c in callbacks if isinstance(c, LabelsMonitor)]
            for labels_true in truths:
                check_labels(labels_true, X.shape[0])
            show_progress(self.verbose)
            identity = {}
            if checkpoint_dir is not None:  # hashing the data has its price
                identity = run_identity(self, X, truths[0] if truths else None)
            run = RunState(checkpoint_dir, identity, checkpoint_every)
            try:
                with run.going_on(), backend.spreading(self._members):
                    if self.verbose and run.checkpoint is not None:
                        logger.info("going on from the last checkpoint in %s", checkpoint_dir)
                    self._learn(X, run, callbacks, *more_callbacks)
            finally:
                backend.release()
                if getattr(X, "nbytes", 0) > COLLECT_BYTES:
                    gc.collect()  # the trainer that has X, or a copy: a ring of references
        return self
