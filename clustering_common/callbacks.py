"""Callbacks that every training run uses: what is logged, watched and reported."""

import logging
import math
import time
from collections.abc import Callable
from numbers import Real
from typing import Any

import keras
import numpy as np

from clustering_common import metrics

logger = logging.getLogger("clustering_common")
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


class TrainingDivergedError(ValueError):
    """A loss became NaN or infinite."""


def diverged(what: str) -> TrainingDivergedError:
    """Return the error that says ``what`` happened and what to try."""
    return TrainingDivergedError(
        f"{what}. Scale X to about [0, 1], or choose a smaller learning rate."
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


class Progress(keras.callbacks.Callback):
    """Report epoch, loss and time left through the ``logging`` module.

    Parameters
    ----------
    phase : str
        Name of the phase.
    unit : str, default='epoch'
        What an epoch of ``Model.fit`` is called.
    every : float, default=5.0
        Seconds between two lines; the first and the last always come.
    """

    def __init__(self, phase: str, unit: str = "epoch", every: float = 5.0):
        super().__init__()
        self.phase, self.unit, self.every = phase, unit, every

    def on_train_begin(self, logs: Any = None) -> None:
        """Note the time."""
        self._start, self._shown, self._first = time.monotonic(), -math.inf, -1

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Log a line when the last one is ``every`` seconds old."""
        now, n_epochs = time.monotonic(), self.params["epochs"]
        self._first = epoch if self._first < 0 else self._first
        if now - self._shown < self.every and epoch + 1 < n_epochs and not self.model.stop_training:
            return
        self._shown = now
        left = (now - self._start) / (epoch + 1 - self._first) * (n_epochs - epoch - 1)
        numbers = {name: value for name, value in (logs or {}).items() if isinstance(value, Real)}
        values = ", ".join(f"{name} {float(value):.4g}" for name, value in numbers.items())
        logger.info(
            "%s: %s %d/%d, %s, at most %s left",
            *(self.phase, self.unit, epoch + 1, n_epochs, values, clock(left)),
        )


def clock(seconds: float) -> str:
    """Return seconds as h:mm:ss or m:ss.

    Examples
    --------
    >>> clock(75), clock(3600)
    ('1:15', '1:00:00')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def show_progress(verbose: int) -> None:
    """Let ``verbose`` > 0 be seen where the application has set up no logging of its own."""
    if verbose and not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
