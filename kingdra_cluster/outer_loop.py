"""Kingdra's outer loop: train, predict, agree, teach (SPEC 2.3)."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from scipy.optimize import linear_sum_assignment

from clustering_common.callbacks import FiniteLoss, Recorder
from clustering_common.seeds import SeedStream
from kingdra_cluster.agreement_graph import agreement_buckets
from kingdra_cluster.members import LadderTrainer, PopulationInference, PseudoLabelledSet
from kingdra_cluster.pseudo_labels import (
    BucketRecord,
    align_buckets,
    balanced_pseudo_labels,
    pseudo_labels_from_buckets,
)

logger = logging.getLogger("clustering_common.kingdra_cluster")


@dataclass(frozen=True)
class LoopSettings:
    """Settings of the outer loop; names as in the JSON configs (SPEC 2.6)."""

    n_class: int
    n_iter: int
    n_epochs_per_iter0: int
    n_epochs_per_iter: int
    low_th: int
    high_th: int
    thresh: float
    ens_common_mapping: bool
    mi_loss_w_it2: float | None
    use_pseudo_labels: bool


@dataclass
class LoopState:
    """What the loop learned so far.

    Attributes
    ----------
    history : list of dict
        A row per iteration.
    buckets : list of ndarray
        The pseudo-labelled sets in use; empty before the first.
    best_buckets, best_smallest : list of ndarray, int
        The earlier set whose smallest bucket is the largest, and that size.
    taught : PseudoLabelledSet or None
        What the next round is trained on.
    mapping : ndarray of shape (n_members, n_class)
        Renames each member's outputs before they are averaged; set where nothing else aligned them.
    member_proba : ndarray of shape (n_members, n_samples, n_class)
        After the last iteration.
    """

    mapping: np.ndarray
    history: list[dict[str, Any]] = field(default_factory=list)
    buckets: list[np.ndarray] = field(default_factory=list)
    best_buckets: list[np.ndarray] = field(default_factory=list)
    best_smallest: int = 0
    taught: PseudoLabelledSet | None = None
    member_proba: np.ndarray | None = None
    termination_condition: str = "n_iter"


def run_loop(
    trainer: LadderTrainer,
    inference: PopulationInference,
    X: Any,
    settings: LoopSettings,
    seeds: SeedStream,
    callbacks: Sequence[keras.callbacks.Callback],
) -> LoopState:
    """Train ``n_iter`` rounds and return what was learned."""
    n_members = trainer.network.n_members
    state = LoopState(mapping=np.tile(np.arange(settings.n_class), (n_members, 1)))
    watchers = keras.callbacks.CallbackList(
        [*callbacks, Recorder(state.history)],
        model=trainer,
        epochs=settings.n_iter,
        steps=1,
        verbose=0,
    )
    trainer.stop_training = False
    watchers.on_train_begin()
    for iteration in range(settings.n_iter):
        watchers.on_epoch_begin(iteration)
        # 1. Train every member, on pseudo-labels as soon as there are any.
        was_taught = state.taught is not None
        row = {"iter": iteration, **_train(trainer, state, settings, iteration)}
        # 2. Each member's clean class probabilities for all X.
        inference.refresh(X)
        state.member_proba = inference.probabilities(X)
        # 3.-6. Buckets of the agreement graph become the next pseudo-labelled set.
        if settings.use_pseudo_labels:
            row.update(_teach(state, settings, seeds, iteration))
        if not was_taught or not settings.ens_common_mapping:
            # Not taught one naming, the members name their clusters each in its own way.
            state.mapping = align_members(state.member_proba)
        else:
            state.mapping = np.tile(np.arange(settings.n_class), (n_members, 1))
        # 7. Once there are pseudo-labels, the base loss may get another weight.
        if state.taught is not None and settings.mi_loss_w_it2 is not None:
            trainer.base_weight.assign(settings.mi_loss_w_it2)
        trainer.labels = combine(state.member_proba, state.mapping, settings.ens_common_mapping)
        trainer.pseudo_labels = (
            pseudo_labels_from_buckets(state.buckets, X.shape[0]) if state.buckets else None
        )
        row["member_agreement"] = member_agreement(state.member_proba, state.mapping)
        _warn_of_collapse(trainer.labels, iteration)
        watchers.on_epoch_end(iteration, row)
        if trainer.stop_training:
            state.termination_condition = "callback"
            break
    watchers.on_train_end(row)
    return state


def _train(
    trainer: LadderTrainer, state: LoopState, settings: LoopSettings, iteration: int
) -> dict[str, float]:
    """Train one round and return the losses of its last epoch."""
    recorder = Recorder()
    n_epochs = settings.n_epochs_per_iter0 if state.taught is None else settings.n_epochs_per_iter
    guard = FiniteLoss(f"iteration {iteration}")
    trainer.train_round(n_epochs, state.taught, [guard, recorder])
    trainer.stop_training = False
    losses = recorder.rows[-1]
    if state.taught is None:
        losses.pop("sup_loss", None)
    return losses


def _teach(
    state: LoopState, settings: LoopSettings, seeds: SeedStream, iteration: int
) -> dict[str, Any]:
    """Renew the buckets and the pseudo-labelled set; return the iteration's record."""
    proba = state.member_proba
    if proba is None:
        raise ValueError("member_proba must be set before buckets are sought; got None.")
    member_labels = proba.argmax(axis=2)
    sure = (proba.max(axis=2) > settings.thresh).all(axis=0)
    buckets = agreement_buckets(
        member_labels,
        sure,
        n_class=settings.n_class,
        low_th=settings.low_th,
        high_th=settings.high_th,
    )
    n_samples = proba.shape[1]
    found = BucketRecord.from_buckets(buckets, n_samples)
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
        rng = np.random.default_rng(seeds.seed("pseudo-labelled set", iteration))
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


def _warn_of_collapse(labels: np.ndarray, iteration: int) -> None:
    if len(labels) > 1 and (labels == labels[0]).all():
        warnings.warn(
            f"All samples are in one cluster (collapse) after iteration {iteration}; training goes "
            "on. Raise mi_mu_w_init or mi_loss_w_init, lower lr or noise_std, or scale X.",
            UserWarning,
            stacklevel=4,
        )


def align_members(member_proba: np.ndarray) -> np.ndarray:
    """Return, for each member, the renaming of its outputs that agrees most with the last's.

    Parameters
    ----------
    member_proba : ndarray of shape (n_members, n_samples, n_clusters)

    Returns
    -------
    ndarray of shape (n_members, n_clusters)
        ``mapping[e, k]`` is the last member's name of member e's cluster k (Hungarian matching).
    """
    n_clusters = member_proba.shape[2]
    labels = member_proba.argmax(axis=2)
    mapping = np.empty((len(labels), n_clusters), np.int64)
    for member, row in enumerate(labels):
        table = np.zeros((n_clusters, n_clusters), np.int64)
        np.add.at(table, (row, labels[-1]), 1)
        rows, columns = linear_sum_assignment(table, maximize=True)
        mapping[member, rows] = columns
    return mapping


def mean_proba(member_proba: np.ndarray, mapping: np.ndarray) -> np.ndarray:
    """Return the mean of the members' probabilities, each renamed by its mapping."""
    inverse = np.argsort(mapping, axis=1)
    renamed = np.take_along_axis(member_proba, inverse[:, None, :], axis=2)
    return renamed.mean(axis=0)


def combine(member_proba: np.ndarray, mapping: np.ndarray, common: bool) -> np.ndarray:
    """Return the labels: of the members' mean, without a common mapping of the first member."""
    proba = mean_proba(member_proba, mapping) if common else member_proba[0]
    return proba.argmax(axis=1)


def member_agreement(member_proba: np.ndarray, mapping: np.ndarray) -> float:
    """Return the mean share of samples that a member and the majority's mean put alike."""
    majority = mean_proba(member_proba, mapping).argmax(axis=1)
    labels = member_proba.argmax(axis=2)
    return float(
        np.mean([(m[row] == majority).mean() for m, row in zip(mapping, labels, strict=True)])
    )
