"""The phases of a run: pretraining, k-means on the embedding, clustering (SPEC 1.2, 1.5)."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from clustering_common.callbacks import FiniteLoss, Recorder, diverged, empty_clusters
from clustering_common.checkpointer import Checkpointer
from clustering_common.checkpoints import Checkpoint
from clustering_common.progress import Progress
from clustering_common.run_state import RunState
from clustering_common.seeds import SeedStream
from clustering_common.training import BatchSchedule
from dec_da.models import ClusteringModel, ReconstructionModel

logger = logging.getLogger("clustering_common.dec_da")
N_INIT = 20  # k-means initialisations, DEC-DA section 5.2
MOMENTUM = 0.9
PRETRAIN, CLUSTER = "pretrain", "cluster"  # names of the phases in checkpoints


def make_optimizer(name: str, learning_rate: float) -> keras.optimizers.Optimizer:
    """Return a fresh optimiser; SGD with momentum 0.9 as in the paper."""
    options = {"momentum": MOMENTUM} if name == "sgd" else {}
    config = {"learning_rate": float(learning_rate), **options}
    return keras.optimizers.get({"class_name": name, "config": config})


def kmeans(embedding: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    """Return the centres of k-means with 20 initialisations, (n_clusters, embedding_dim).

    On one thread: scikit-learn adds up the threads' sums in the order in which they finish.
    """
    with threadpool_limits(1, user_api="openmp"):
        model = KMeans(n_clusters, n_init=N_INIT, random_state=seed).fit(embedding)
    return model.cluster_centers_


def _prepared(
    model: ReconstructionModel | ClusteringModel, optimizer: keras.optimizers.Optimizer
) -> Recorder:
    """Make a model ready for a phase, and return the recorder of its logs."""
    model.recorder = Recorder()
    model.prepare(optimizer)
    return model.recorder


def pretrain(
    model: ReconstructionModel,
    optimizer: keras.optimizers.Optimizer,
    *,
    batch_size: int,
    n_epochs: int,
    seeds: SeedStream,
    callbacks: Sequence[keras.callbacks.Callback],
    run: RunState | None = None,
    verbose: int = 0,
) -> list[dict[str, Any]]:
    """Train the autoencoder and return a row of logs per epoch."""
    schedule = BatchSchedule(model.n_samples, batch_size, seeds.seed("pretrain batches"))
    recorder = _prepared(model, optimizer)
    checkpointer = Checkpointer(run or RunState(None), PRETRAIN, recorder.rows)
    model.fit_steps(
        model.fed(schedule.batches),
        steps_per_epoch=schedule.steps_per_pass,
        n_steps=checkpointer.n_steps(n_epochs * schedule.steps_per_pass),
        first_step=checkpointer.first_step,
        callbacks=[
            FiniteLoss("pretraining"),
            *callbacks,
            recorder,
            Progress("pretraining", verbose=verbose),
            checkpointer,
        ],
    )
    return recorder.rows


@dataclass
class ClusteringResult:
    """What the clustering phase learned besides the weights.

    Attributes
    ----------
    history : list of dict
        A row per update; the first, before any training, has neither loss nor label_change.
    n_iter : int
        Training steps.
    termination_condition : {'tol', 'max_iter', 'callback'}
    """

    history: list[dict[str, Any]]
    n_iter: int
    termination_condition: str


def cluster(
    model: ClusteringModel,
    optimizer: keras.optimizers.Optimizer,
    *,
    batch_size: int,
    update_interval: int,
    max_iter: int,
    tol: float,
    seeds: SeedStream,
    callbacks: Sequence[keras.callbacks.Callback],
    run: RunState | None = None,
    variables: Sequence[Any] = (),
    earlier: dict[str, Any] | None = None,
    verbose: int = 0,
) -> ClusteringResult:
    """Train encoder and centres until the labels are stable (SPEC 1.5).

    A checkpoint keeps ``variables`` besides the model's own, and ``earlier``, what the phases
    before came to.
    """
    schedule = BatchSchedule(len(model.labels), batch_size, seeds.seed("cluster batches"))
    updates = TargetUpdates(tol)
    recorder = _prepared(model, optimizer)
    model.stop_training = False
    checkpointer = Checkpointer(
        run or RunState(None), CLUSTER, recorder.rows, variables=variables,
        collect=lambda: ({**(earlier or {}), **updates.state}, {"labels": model.labels}),
        restore=updates.restore,
    )  # fmt: skip
    model.fit_steps(
        model.fed(schedule.batches),
        steps_per_epoch=update_interval,
        n_steps=checkpointer.n_steps(max_iter),
        first_step=checkpointer.first_step,
        callbacks=[
            FiniteLoss("clustering"), updates, *callbacks, recorder,
            Progress("clustering", "update", verbose=verbose), checkpointer,
        ],
    )  # fmt: skip
    if model.stop_training and updates.termination_condition != "tol":
        updates.termination_condition = "callback"
    return ClusteringResult(recorder.rows, updates.n_iter, updates.termination_condition)


class TargetUpdates(keras.callbacks.Callback):
    """Refresh the targets after every epoch of the callbacks and stop when labels are stable.

    Adds ``iter`` and ``label_change``, the share of labels that differ from the last update, to
    the logs.
    """

    def __init__(self, tol: float):
        super().__init__()
        self.tol = tol
        self.n_iter, self.termination_condition = 0, "max_iter"
        self.is_resumed = False
        self._n_empty = self._n_blocks = 0

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps besides the labels."""
        return {
            "n_iter": self.n_iter,
            "termination_condition": self.termination_condition,
            "n_empty": self._n_empty,
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint."""
        values = checkpoint.values
        self.n_iter = values["n_iter"]
        self.termination_condition = values["termination_condition"]
        self._n_empty = values["n_empty"]
        self.is_resumed = True
        self.model.labels = checkpoint.arrays["labels"]

    def on_train_begin(self, logs: Any = None) -> None:
        """Take the first targets, from the embedding's k-means."""
        if self.is_resumed:
            return
        self.model.update()
        if not self.model.is_finite:
            raise ValueError(
                f"alpha must be a number > 0 in single precision; got "
                f"{self.model.clustering.alpha!r}. The paper uses 1."
            )
        if logs is not None:
            logs.update(iter=0, n_empty_clusters=self._report_empty())

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count the blocks of steps: a callback may stop training between two of them."""
        self._n_blocks = batch + 1

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Take new targets and compare the labels with the last ones."""
        last = self.model.labels
        self.model.update()
        # The loss is taken before a step: what the last one did shows only here.
        if not self.model.is_finite:
            raise diverged(f"The loss became nan after update {epoch + 1} of clustering")
        label_change = float(np.mean(last != self.model.labels))
        self.n_iter = self.model.steps_after(epoch, self._n_blocks)
        if logs is not None:
            n_empty = self._report_empty()
            logs.update(iter=self.n_iter, label_change=label_change, n_empty_clusters=n_empty)
        if label_change < self.tol:
            self.termination_condition = "tol"
            self.model.stop_training = True

    def _report_empty(self) -> int:
        """Return how many clusters are empty, and log it when there are more than before."""
        n_clusters = self.model.clustering.n_clusters
        n_empty = n_clusters - len(np.unique(self.model.labels))
        problem = empty_clusters(self.model.labels, n_clusters)
        if problem and n_empty > self._n_empty:
            logger.warning("clustering: %s", problem)
        self._n_empty = n_empty
        return n_empty


def warn_of_empty_clusters(labels: np.ndarray, n_clusters: int) -> None:
    """Warn when clusters are empty, or all samples are in one."""
    problem = empty_clusters(labels, n_clusters)
    if not problem:
        return
    warnings.warn(
        f"After fit, {problem}. Choose fewer clusters, a smaller learning rate, or scale X.",
        UserWarning,
        stacklevel=5,
    )
