"""What KingdraCluster and LadderIM share as scikit-learn estimators (SPEC 2.3, 2.6)."""

import itertools
import os
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils import ClassifierTags, Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from clustering_common import devices
from clustering_common.aligned import single_precision
from clustering_common.backend import PRECISIONS
from clustering_common.checks import (
    check_choice,
    check_finite,
    check_flag,
    check_number,
    check_verbose,
)
from clustering_common.fitting import ResumableFit, documented_fit
from clustering_common.mapped import stays_in_file
from clustering_common.persistence import SavedClusterer
from clustering_common.progress import Progress
from clustering_common.run_state import EVERY, RunState
from clustering_common.saved_state import check_arrays
from clustering_common.seeds import SeedStream
from clustering_common.weights import read_extras
from kingdra_cluster.ensemble import mean_proba
from kingdra_cluster.ladder import LadderNetwork, check_memory
from kingdra_cluster.loop_state import LoopSettings
from kingdra_cluster.members import LadderTrainer, LossSettings, PopulationInference
from kingdra_cluster.outer_loop import OuterLoop

BASE_LOSSES = ("im", "dot")
LARGEST = 1e30  # of a weight, in single precision


class MemberNetwork:
    """The ladder network of all members and its inference: what a fitted estimator computes with.

    Parameters
    ----------
    ladder : LadderNetwork
    """

    def __init__(self, ladder: LadderNetwork):
        self.ladder = ladder
        self.inference = PopulationInference(ladder)

    @property
    def layers(self) -> list[Any]:
        """The layers with weights, in the order of the weight files."""
        return [self.ladder]

    @property
    def optional_layers(self) -> list[str]:
        """Layers that a weight file may lack: none."""
        return []


class LadderClusterer(ResumableFit, SavedClusterer, ClusterMixin, BaseEstimator):
    """Abstract estimator: ladder networks trained without labels."""

    learned_values = ("history_", "n_iter_", "termination_condition_", "seconds_")
    learned_arrays = ("labels_", "member_mapping_", "pseudo_labels_")

    _members = "ladder/"
    # Common to all constructors.
    n_class: int
    fc_layer_sizes: Sequence[int]
    base_loss: str
    batch_size: int
    precision: str
    random_state: Any
    verbose: int

    def _loop_settings(self) -> LoopSettings:
        raise NotImplementedError

    @property
    def _n_members(self) -> int:
        raise NotImplementedError

    @documented_fit
    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        checkpoint_dir: str | os.PathLike | None = None,
        checkpoint_every: float = EVERY,
    ) -> "LadderClusterer":
        """Learn clusters from ``X``.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features)
            Finite numbers, which must not change meanwhile. A sparse matrix is never made dense as
            a whole.
        y : None
            Ignored.
        callbacks : sequence of keras.callbacks.Callback
            See every iteration as an epoch, numbered from 0: ``self.model.labels`` holds the
            labels, ``self.model.pseudo_labels`` the pseudo-labels (-1 = none; None before the
            first), ``logs`` the numbers of a row of ``history_``. By
            ``self.model.stop_training = True`` training ends after the iteration. A
            `clustering_common.progress.Progress` among them says the iterations in the place of
            ``verbose``.
        {checkpoints}
        """
        return self._fit(X, checkpoint_dir, checkpoint_every, callbacks)

    def _check_n_samples(self, n_samples: int) -> None:
        if self.n_class > n_samples:
            raise ValueError(
                f"n_class must be at most n_samples={n_samples}; got {self.n_class!r}. "
                "Choose fewer classes or give more samples."
            )
        devices.check_members(self._n_members)

    def _learn(self, X: Any, run: RunState, *callbacks: Any) -> None:
        """Run the outer loop on checked data and keep what it learned."""
        seeds = run.seeds(self.random_state)
        network = self._make_network((X.shape[1],), seeds)
        trainer = LadderTrainer(
            network.ladder, X, self._loss_settings(), self.batch_size, seeds, self.precision
        )
        trainer.prepare(keras.optimizers.Adam(float(self.lr)))  # type: ignore[attr-defined]
        watchers = list(callbacks[0])
        if not any(isinstance(watcher, Progress) for watcher in watchers):
            watchers.append(Progress(type(self).__name__, "iteration", verbose=self.verbose))
        loop = OuterLoop(
            trainer, network.inference, X, self._loop_settings(), seeds, run, self.verbose
        )
        state = loop.run(watchers)
        self.history_ = state.history
        self.n_iter_ = len(state.history)
        self.termination_condition_ = state.termination_condition
        self.member_mapping_ = state.mapping
        self.pseudo_labels_ = np.full(X.shape[0], -1)
        if trainer.pseudo_labels is not None:
            self.pseudo_labels_ = trainer.pseudo_labels
        self._set_network(network)
        self.labels_ = self._proba(state.member_proba).argmax(axis=1)
        self.seconds_ = {"total": run.seconds}

    def check(self, shape: tuple[int, int] | None = None) -> None:
        """Raise, as `fit` would, unless all arguments are usable, for data of a shape if given."""
        self._check_to_fit()
        if shape is not None:
            self._check_n_samples(shape[0])
            check_memory(self._n_members, [shape[1], *self.fc_layer_sizes])

    def predict(self, X: Any) -> np.ndarray:
        """Return the cluster of each sample, (n_samples,)."""
        return self.predict_proba(X).argmax(axis=1)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the class probabilities, (n_samples, n_class).

        The mean of the members; without ``ens_common_mapping`` the first member's. A sample's
        result does not depend on the others in ``X``.
        """
        return self._proba(self.member_proba(X))

    def member_proba(self, X: Any) -> np.ndarray:
        """Return each member's class probabilities, (n_members, n_samples, n_class)."""
        check_is_fitted(self)
        X = self._validated(X, reset=False)
        return self._network.inference.probabilities(X)

    def _proba(self, member_proba: Any) -> np.ndarray:
        if self._loop_settings().ens_common_mapping:
            return mean_proba(member_proba, self.member_mapping_)
        return member_proba[0]

    def _loss_settings(self) -> LossSettings:
        params = self.get_params()
        return LossSettings(
            base_loss=self.base_loss,
            base_weight=float(params["mi_loss_w_init"]),
            mi_mu_w=float(params["mi_mu_w_init"]),
            noise_kl_w=float(params["noise_kl_w_init"]),
            ladder_w=float(params["ladder_loss_w_init"]),
            denoising_cost=tuple(map(float, params["denoising_cost"])),
            noise_std=float(params["noise_std"]),
        )

    def _make_network(self, input_shape: tuple[int, ...], seeds: SeedStream) -> MemberNetwork:
        sizes = [input_shape[0], *map(int, self.fc_layer_sizes)]
        last_layer_bn = bool(self.last_layer_bn)  # type: ignore[attr-defined]
        ladder = LadderNetwork(self._n_members, sizes, last_layer_bn=last_layer_bn, seeds=seeds)
        return MemberNetwork(ladder)

    def _least_size(self, input_shape: tuple[int, ...]) -> tuple[int, int]:
        sizes = [input_shape[0], *map(int, self.fc_layer_sizes)]
        n_weights = sum(below * above for below, above in itertools.pairwise(sizes))
        return self._n_members * n_weights, len(self.fc_layer_sizes)

    def _set_network(self, network: MemberNetwork) -> None:
        self._network = network

    def _learned_beside(self, path: str | os.PathLike) -> dict[str, Any]:
        """Return the members' names of the clusters; without them one naming is taken for granted.

        As members share that were taught pseudo-labels.
        """
        _, arrays = read_extras(path)
        known = {key: arrays[key] for key in ("member_mapping_",) if key in arrays}
        check_arrays(known, {"n_en": self._n_members, "n_class": self.n_class}, path)
        if not known and self._n_members > 1:
            warnings.warn(
                f"{str(path)!r} does not tell how the members name their clusters; one naming is "
                "taken for granted. Members that were never taught pseudo-labels have none: load "
                "what save() wrote.",
                UserWarning,
                stacklevel=3,
            )
        own_names = np.tile(np.arange(self.n_class), (self._n_members, 1))
        return {"member_mapping_": own_names, **known}

    def _set_sample_shape(self, sample_shape: tuple[int, ...]) -> tuple[int, ...]:
        self._sample_shape = tuple(map(int, sample_shape))
        self.n_features_in_ = int(np.prod(sample_shape))
        return (self.n_features_in_,)

    def _validated(self, X: Any, reset: bool) -> Any:
        """Return ``X`` as finite float32 rows, dense or CSR."""
        X = single_precision(X) if reset and not stays_in_file(X) else X
        if np.ndim(X) > 2:
            X = np.reshape(X, (len(X), -1))
        X = validate_data(
            self,
            X,
            accept_sparse="csr",
            dtype="numeric" if stays_in_file(X) else np.float32,  # a copy of a file might not fit
            reset=reset,
            ensure_all_finite=False,
        )
        if hasattr(X, "toarray"):
            if not np.isfinite(X.data).all():
                raise ValueError(
                    "X must be finite; got NaN or infinity among the stored values. "
                    "Drop or impute them."
                )
        else:
            check_finite("X", X)
        if reset:
            self._set_sample_shape(X.shape[1:])
        return X

    def _check_arguments(self) -> None:
        check_choice("base_loss", self.base_loss, BASE_LOSSES)
        for name in ("n_class", "n_iter", "batch_size"):
            check_number(name, getattr(self, name), integer=True, low=1)
        check_verbose(self.verbose)
        check_number("lr", self.lr, low=0, strict=True)  # type: ignore[attr-defined]
        weights = ("mi_loss_w_init", "mi_mu_w_init", "noise_kl_w_init", "ladder_loss_w_init")
        for name in (*weights, "noise_std"):
            check_number(name, getattr(self, name), low=0, high=LARGEST)
        check_choice("precision", self.precision, PRECISIONS)
        check_flag("last_layer_bn", self.last_layer_bn)  # type: ignore[attr-defined]
        self._check_layers()

    def _check_layers(self) -> None:
        sizes, costs = self.fc_layer_sizes, self.denoising_cost  # type: ignore[attr-defined]
        for name, values in (("fc_layer_sizes", sizes), ("denoising_cost", costs)):
            if not isinstance(values, list | tuple | np.ndarray) or not len(values):
                raise TypeError(f"{name} must be a list of numbers; got {values!r}. Give a list.")
        for size in sizes:
            check_number("each of fc_layer_sizes", size, integer=True, low=1)
        for cost in costs:
            check_number("each of denoising_cost", cost, low=0, high=LARGEST)
        if sizes[-1] != self.n_class:
            raise ValueError(
                f"n_class must be the last of fc_layer_sizes={list(sizes)}; got {self.n_class!r}. "
                f"Set fc_layer_sizes to {[*sizes[:-1], self.n_class]}."
            )
        if len(costs) != len(sizes) + 1:
            raise ValueError(
                f"denoising_cost must have {len(sizes) + 1} numbers, one for the input and one "
                f"for each of fc_layer_sizes; got {list(costs)!r}. Add or drop numbers."
            )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        # scikit-learn's checks ask these of whatever has predict_proba and takes sparse input.
        tags.classifier_tags = ClassifierTags()
        return tags
