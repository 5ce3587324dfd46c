"""Kingdra's outer loop: train, predict, agree, teach (SPEC 2.3)."""

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from clustering_common.callbacks import FiniteLoss, Recorder, diverged, empty_clusters
from clustering_common.checkpointer import Checkpointer
from clustering_common.progress import Progress
from clustering_common.run_state import RunState
from clustering_common.seeds import SeedStream
from kingdra_cluster.agreement_graph import agreement_buckets
from kingdra_cluster.ensemble import align_members, combine, member_agreement
from kingdra_cluster.loop_state import LoopSettings, LoopState
from kingdra_cluster.members import LadderTrainer, PopulationInference, PseudoLabelledSet
from kingdra_cluster.pseudo_labels import (
    BucketRecord,
    align_buckets,
    balanced_pseudo_labels,
    pseudo_labels_from_buckets,
)

ROUND = "round"  # name of the phase in checkpoints
logger = logging.getLogger("clustering_common.kingdra_cluster")


class OuterLoop:
    """Train, predict, agree, teach: the rounds of one ``fit``.

    Parameters
    ----------
    trainer : LadderTrainer
    inference : PopulationInference
    X : ndarray or CSR matrix of shape (n_samples, n_features)
    settings : LoopSettings
    seeds : SeedStream
    run : RunState, optional
        Where checkpoints go, and the one to go on from.
    verbose : int, default=0
        From 2 on the epochs within a round are told too.
    """

    def __init__(
        self,
        trainer: LadderTrainer,
        inference: PopulationInference,
        X: Any,
        settings: LoopSettings,
        seeds: SeedStream,
        run: RunState | None = None,
        verbose: int = 0,
    ):
        self.trainer, self.inference, self.X = trainer, inference, X
        self.settings, self.seeds = settings, seeds
        self.run_state, self.verbose = run or RunState(None), verbose
        self.state = LoopState(mapping=self._own_names())
        self.first = 0

    def run(self, callbacks: Sequence[keras.callbacks.Callback]) -> LoopState:
        """Run ``n_iter`` rounds, each an epoch of the callbacks, and return what was learned."""
        state, trainer = self.state, self.trainer
        watchers = keras.callbacks.CallbackList(
            [*callbacks, Recorder(state.history)],
            model=trainer,
            epochs=self.settings.n_iter,
            steps=1,
            verbose=0,
        )
        trainer.stop_training = False
        watchers.on_train_begin()
        self._go_on()
        row: dict[str, Any] = {}
        for iteration in range(self.first, self.settings.n_iter):
            watchers.on_epoch_begin(iteration)
            row = self._round(iteration)
            trainer.weights_were_set = False
            # Callbacks such as TensorBoard take every entry for a number.
            bucket_sizes = {k: row.pop(k) for k in ("bucket_sizes",) if k in row}
            watchers.on_epoch_end(iteration, row)
            state.history[-1].update(bucket_sizes)
            if trainer.stop_training:
                state.termination_condition = "callback"
                break
        if self.settings.use_pseudo_labels and state.taught is None:
            warnings.warn(
                "No round found pseudo-labels, so the members were never taught. Lower thresh (now "
                f"{self.settings.thresh!r}) or high_th, train longer, or scale X.",
                UserWarning,
                stacklevel=5,
            )
        watchers.on_train_end(row)
        if trainer.weights_were_set:
            self._look_again()
        return state

    def _look_again(self) -> None:
        """Predict with the weights that a callback put in the place of the last ones."""
        state = self.state
        # A mean of several iterations' weights has other statistics than the mean of theirs.
        self.inference.refresh(self.X)
        state.member_proba = self.inference.probabilities(self.X)
        # Whether they were taught one naming is not known; if so, matching finds it again.
        state.mapping = align_members(state.member_proba)

    def _go_on(self) -> None:
        """Take the loop's part of a checkpoint back; the trainer's follows when it trains."""
        found = self.run_state.checkpoint
        if found is None:
            return
        self.first, self.trainer.n_steps_done = found.values["iteration"], found.values["n_steps"]
        self.state.restore(found)
        self._publish_pseudo_labels()

    def _collected(self, iteration: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return what a checkpoint keeps of the loop."""
        values, arrays = self.state.collected()
        n_steps = self.trainer.n_steps_done
        return {**values, "iteration": iteration, "n_steps": n_steps}, arrays

    def _round(self, iteration: int) -> dict[str, Any]:
        """Run one round and return its record."""
        state, trainer, settings = self.state, self.trainer, self.settings
        # 1. Train every member, on pseudo-labels as soon as there are any.
        was_taught = state.taught is not None
        row = {"iter": iteration, **self._train(iteration)}
        # 2. Each member's clean class probabilities for all X.
        self.inference.refresh(self.X)
        state.member_proba = self.inference.probabilities(self.X)
        # The loss is taken before a step: what the last one did shows only here.
        if not np.isfinite(state.member_proba).all():
            raise diverged(f"The probabilities became nan in iteration {iteration}")
        # 3.-6. Buckets of the agreement graph become the next pseudo-labelled set.
        if settings.use_pseudo_labels:
            row.update(self._teach(state.member_proba, iteration))
        # Not taught one naming, the members name their clusters each in its own way.
        one_naming = was_taught and settings.ens_common_mapping
        state.mapping = self._own_names() if one_naming else align_members(state.member_proba)
        # 7. Once there are pseudo-labels, the base loss may get another weight.
        if state.taught is not None and settings.mi_loss_w_it2 is not None:
            trainer.base_weight.assign(settings.mi_loss_w_it2)
        trainer.labels = combine(state.member_proba, state.mapping, settings.ens_common_mapping)
        self._publish_pseudo_labels()
        row["n_empty_clusters"] = self._n_empty(trainer.labels, iteration)
        row["member_agreement"] = member_agreement(state.member_proba, state.mapping)
        return row

    def _publish_pseudo_labels(self) -> None:
        """Show the pseudo-labels as the first member is taught them: by the names of the labels."""
        buckets, taught = self.state.buckets, self.state.taught
        if taught is None:
            return
        # Buckets stand in the last member's order; a taught set has samples of all of them.
        pseudo_labels = pseudo_labels_from_buckets(buckets, self.X.shape[0])
        names = np.full(len(buckets) + 1, -1)  # the last one is that of no bucket, -1
        names[pseudo_labels[taught.indices]] = taught.classes[0]
        self.trainer.pseudo_labels = names[pseudo_labels]

    def _n_empty(self, labels: np.ndarray, iteration: int) -> int:
        """Return how many clusters are empty; tell when there are more than before."""
        n_class = self.settings.n_class
        n_empty = n_class - len(np.unique(labels))
        problem = empty_clusters(labels, n_class)
        if "collapse" in problem:
            _warn_of_collapse(iteration)
        elif n_empty > (self.state.history[-1]["n_empty_clusters"] if self.state.history else 0):
            logger.warning("iteration %d: %s", iteration, problem)
        return n_empty

    def _own_names(self) -> np.ndarray:
        """Return the mapping that renames nothing."""
        names = np.arange(self.settings.n_class)
        return np.tile(names, (self.trainer.network.n_members, 1))

    def _train(self, iteration: int) -> dict[str, float]:
        """Train one round and return the losses of its last epoch."""
        state, settings = self.state, self.settings
        recorder = Recorder()
        untaught = state.taught is None
        n_epochs = settings.n_epochs_per_iter0 if untaught else settings.n_epochs_per_iter
        watchers: list[keras.callbacks.Callback] = [FiniteLoss(f"iteration {iteration}"), recorder]
        if self.verbose > 1:
            watchers.append(Progress(f"iteration {iteration + 1}"))
        checkpointer = Checkpointer(
            self.run_state,
            ROUND,
            recorder.rows,
            collect=lambda: self._collected(iteration),
            at_end=iteration == settings.n_iter - 1,
        )
        if iteration > self.first:
            checkpointer.forget()
        was_stopped = self.trainer.stop_training  # as the iteration began, by a callback
        self.trainer.train_round(
            n_epochs,
            state.taught,
            [*watchers, checkpointer],
            first_step=checkpointer.first_step,
        )
        self.trainer.stop_training = was_stopped
        losses = recorder.rows[-1]
        if untaught:
            losses.pop("sup_loss", None)
        return losses

    def _teach(self, proba: np.ndarray, iteration: int) -> dict[str, Any]:
        """Renew the buckets and the pseudo-labelled set; return the round's record."""
        state, settings = self.state, self.settings
        member_labels = proba.argmax(axis=2)
        sure = (proba.max(axis=2) > settings.thresh).all(axis=0)
        buckets = agreement_buckets(
            member_labels,
            sure,
            n_class=settings.n_class,
            low_th=settings.low_th,
            high_th=settings.high_th,
        )
        found = BucketRecord.from_buckets(buckets, proba.shape[1])
        record = {"bucket_sizes": list(found.sizes), "coverage": found.coverage}
        if found.smallest > 0:
            state.buckets = buckets
            if found.smallest > state.best_smallest:
                state.best_buckets, state.best_smallest = buckets, found.smallest
        elif state.best_buckets:
            # Step 4: the best earlier set, if there is one; otherwise training stays unsupervised.
            state.buckets = state.best_buckets
        record["reused_buckets"] = found.smallest == 0 and bool(state.buckets)
        if state.buckets:
            rng = np.random.default_rng(self.seeds.seed("pseudo-labelled set", iteration))
            state.buckets = align_buckets(state.buckets, member_labels[-1], settings.n_class)
            state.taught = pseudo_labelled_set(
                state.buckets, member_labels, settings.ens_common_mapping, rng
            )
        return record


def pseudo_labelled_set(
    buckets: Sequence[np.ndarray],
    member_labels: np.ndarray,
    common_mapping: bool,
    rng: np.random.Generator,
) -> PseudoLabelledSet:
    """Return a balanced set with each member's classes (SPEC 2.3, steps 5 and 6).

    Parameters
    ----------
    buckets : sequence of ndarray
        In the order of the last member's outputs, none empty.
    member_labels : ndarray of shape (n_members, n_samples)
    common_mapping : bool
        Whether all members are taught the last one's class ids, or each its own.
    rng : numpy.random.Generator
        Shuffles the set.
    """
    n_members, n_samples = member_labels.shape
    indices, positions = balanced_pseudo_labels(buckets, n_samples, rng)
    classes = np.tile(positions, (n_members, 1))
    if not common_mapping:
        place = {id(bucket): position for position, bucket in enumerate(buckets)}
        for member, labels in enumerate(member_labels):
            own = align_buckets(buckets, labels, len(buckets))
            name = np.empty(len(buckets), np.int64)
            for class_id, bucket in enumerate(own):
                name[place[id(bucket)]] = class_id
            classes[member] = name[positions]
    return PseudoLabelledSet(indices, classes)


def _warn_of_collapse(iteration: int) -> None:
    warnings.warn(
        f"All samples are in one cluster (collapse) after iteration {iteration}; training goes "
        "on. Raise mi_mu_w_init or mi_loss_w_init, lower lr or noise_std, or scale X.",
        UserWarning,
        stacklevel=8,
    )
