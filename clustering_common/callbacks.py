"""Callbacks that every training run uses: what is logged and watched."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from clustering_common import metrics
from clustering_common.divergence import TrainingDivergedError, diverged

__all__ = ["LabelsMonitor", "TrainingDivergedError"]

# Keras makes floats of all that it hands to callbacks; these are none.
WHOLE: dict[str, Callable[[Any], Any]] = {
    "iter": int,
    "n_empty_clusters": int,
    "reused_buckets": bool,
}


def scores(labels_true: Any, labels_pred: Any) -> dict[str, float]:
    """Return ACC, NMI and ARI as the log names them."""
    measures = {"acc": metrics.accuracy, "nmi": metrics.nmi, "ari": metrics.ari}
    return {name: measure(labels_true, labels_pred) for name, measure in measures.items()}


def check_labels(labels_true: Any, n_samples: int) -> None:
    """Raise, as `scores` would after training, unless ``labels_true`` fit ``n_samples`` samples.

    Raises
    ------
    ValueError, TypeError
        If they are not one label a sample, in one dimension, hashable and none of them NaN.
    """
    if len(labels_true) != n_samples:
        raise ValueError(
            f"labels_true must be {n_samples} labels, one a sample; got {len(labels_true)!r}. "
            "Give the labels of the samples in X, in their order."
        )
    metrics.accuracy(labels_true, np.zeros(n_samples, int))


def check_callbacks(name: str, callbacks: Any) -> None:
    """Raise unless ``callbacks`` is a list of Keras callbacks that a run of ours can have.

    Raises
    ------
    TypeError
        If it is no list, or one of them is no callback.
    ValueError
        For ``keras.callbacks.BackupAndRestore``, which would restore the weights of one phase but
        neither batches nor targets.
    """
    is_list = isinstance(callbacks, list | tuple)
    for callback in callbacks if is_list else [callbacks]:
        if not is_list or not isinstance(callback, keras.callbacks.Callback):
            raise TypeError(
                f"{name} must be a list of keras.callbacks.Callback; got "
                f"{type(callback).__name__}. Give instances, in a list."
            )
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            raise ValueError(
                f"{name} must leave going on after a stop to checkpoint_dir; got BackupAndRestore, "
                "which knows neither batches nor targets. Use fit(X, checkpoint_dir=FOLDER)."
            )


def empty_clusters(labels: np.ndarray, n_clusters: int) -> str:
    """Return in words that clusters are empty, or all samples in one; '' where none is.

    Examples
    --------
    >>> empty_clusters(np.array([0, 0, 2]), 3)
    '1 of 3 clusters are empty'
    """
    n_used = len(np.unique(labels))
    if n_used == 1 < n_clusters and len(labels) > 1:
        return "all samples are in one cluster (collapse)"
    return (
        f"{n_clusters - n_used} of {n_clusters} clusters are empty" if n_used < n_clusters else ""
    )


class FiniteLoss(keras.callbacks.Callback):
    """Stop a run whose loss is no number any more.

    Parameters
    ----------
    phase : str
        Name of the phase, for the message.
    """

    def __init__(self, phase: str):
        super().__init__()
        self.phase = phase

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Raise TrainingDivergedError when the epoch's loss is NaN or infinite."""
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            raise diverged(f"The loss became {loss} in epoch {epoch + 1} of {self.phase}")


class LabelsMonitor(keras.callbacks.Callback):
    """Log ACC, NMI and ARI of the labels at every update; the learner never sees the truth.

    Put it among ``callbacks`` of ``fit``. It adds ``acc``, ``nmi`` and ``ari`` to the logs that
    later callbacks and ``history_`` see.

    Parameters
    ----------
    labels_true : array-like of shape (n_samples,)
        The ground truth, in the order of X.

    Raises
    ------
    ValueError, TypeError
        When the training that it watches begins, unless there is one usable label a sample.
    """

    def __init__(self, labels_true: Any):
        super().__init__()
        self.labels_true = labels_true

    def on_train_begin(self, logs: Any = None) -> None:
        """Check the labels and add the metrics before the first training step."""
        if not hasattr(self.model, "labels"):
            raise ValueError(
                "pretrain_callbacks must do without LabelsMonitor; got one. Pretraining has no "
                "labels yet: put it among callbacks."
            )
        n_samples = _n_samples(self.model)
        if n_samples is not None:
            check_labels(self.labels_true, n_samples)
        self.on_epoch_end(-1, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Add the metrics to ``logs``, ``pseudo_acc`` too where there are pseudo-labels."""
        if logs is None or self.model.labels is None:
            return
        logs.update(scores(self.labels_true, self.model.labels))
        pseudo_labels = getattr(self.model, "pseudo_labels", None)
        if pseudo_labels is not None:
            given = pseudo_labels >= 0
            truth = np.asarray(self.labels_true)[given]
            logs["pseudo_acc"] = metrics.accuracy(truth, pseudo_labels[given])


def _n_samples(model: Any) -> int | None:
    """Return how many samples a model of ours learns from, None where it does not tell."""
    # Labels come with the first update, rows are on the device or, where sparse, on the host.
    for rows in (model.labels, getattr(model, "data", None), getattr(model, "X", None)):
        if rows is not None:
            return int(rows.shape[0])
    return None


class Recorder(keras.callbacks.Callback):
    """Keep the logs of every epoch, and those from before the first one where there are any.

    Attributes
    ----------
    rows : list of dict
        One a call, ready for ``pandas.DataFrame``.
    """

    def __init__(self, rows: list[dict[str, Any]] | None = None):
        super().__init__()
        self.rows = [] if rows is None else rows

    def on_train_begin(self, logs: Any = None) -> None:
        """Keep what the update before training logged."""
        if logs and not self.rows:  # a resumed run has that row
            self.on_epoch_end(-1, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Keep the epoch's logs."""
        row = dict(logs or {})
        row.update({name: kind(row[name]) for name, kind in WHOLE.items() if name in row})
        self.rows.append(row)
