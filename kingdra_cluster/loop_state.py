"""Settings of Kingdra's outer loop, and what it has learned so far."""

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from clustering_common.checkpoints import Checkpoint
from kingdra_cluster.members import PseudoLabelledSet


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

    @classmethod
    def of(cls, estimator: Any, **fixed: Any) -> "LoopSettings":
        """Return an estimator's settings of these names, but for those that are ``fixed``."""
        names = {entry.name for entry in fields(cls)} - set(fixed)
        return cls(**{name: getattr(estimator, name) for name in names}, **fixed)


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

    def collected(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return what a checkpoint keeps: values and arrays."""
        values = {"history": self.history, "best_smallest": self.best_smallest}
        arrays = {"mapping": self.mapping}
        for name in ("buckets", "best_buckets"):
            buckets = getattr(self, name)
            values[f"n_{name}"] = len(buckets)
            arrays.update({f"{name} {i}": bucket for i, bucket in enumerate(buckets)})
        if self.taught is not None:
            arrays.update(taught_indices=self.taught.indices, taught_classes=self.taught.classes)
        return values, arrays

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take back what `collected` returned."""
        values, arrays = checkpoint.values, checkpoint.arrays
        self.history[:] = values["history"]
        self.best_smallest = values["best_smallest"]
        self.mapping = arrays["mapping"]
        for name in ("buckets", "best_buckets"):
            n_buckets = values[f"n_{name}"]
            setattr(self, name, [arrays[f"{name} {i}"] for i in range(n_buckets)])
        if "taught_indices" in arrays:
            self.taught = PseudoLabelledSet(arrays["taught_indices"], arrays["taught_classes"])
