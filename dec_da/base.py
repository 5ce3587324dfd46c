"""What the five methods share as scikit-learn estimators."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
    clone,
)
from sklearn.utils import Tags
from sklearn.utils.validation import check_array, check_is_fitted

from clustering_common import weights
from clustering_common.callbacks import LabelsMonitor, check_labels, diverged, show_progress
from clustering_common.checks import check_choice, check_flag, check_number
from clustering_common.persistence import SavedClusterer, unchanged_on_failure
from clustering_common.run_state import EVERY, RunState, run_identity
from clustering_common.seeds import SeedStream
from dec_da import phases
from dec_da.assignment import ClusteringLayer
from dec_da.autoencoders import Autoencoder
from dec_da.models import ClusteringModel, ReconstructionModel, SoftAssignmentModel
from dec_da.network import ClusteringNetwork
from dec_da.samples import SampleLayout

RESOLVED = ("optimizer", "learning_rate", "pretrain_optimizer", "pretrain_learning_rate")
USUAL_RATES = {"sgd": 0.01, "adam": 0.001, "adamw": 0.001, "rmsprop": 0.001}  # Keras's own
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")


@dataclass(frozen=True)
class MethodSettings:
    """The paper's settings of one method (SPEC 1.2 and 1.5)."""

    clustering_weight: float
    reconstruction_weight: float
    optimizer: str
    learning_rate: float
    pretrain_optimizer: str
    pretrain_learning_rate: float


class DeepClusterer(
    SampleLayout,
    SavedClusterer,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    ClusterMixin,
    BaseEstimator,
):
    """Abstract estimator: pretrain an autoencoder, then learn clusters in its embedding."""

    settings: MethodSettings

    # What a subclass says of its network.

    def _make_autoencoder(self, input_shape: tuple[int, ...], seeds: SeedStream) -> Autoencoder:
        raise NotImplementedError

    def _check_layers(self) -> None:
        raise NotImplementedError

    @property
    def _embedding_dim(self) -> int:
        raise NotImplementedError

    # Learning.

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        pretrain_callbacks: Sequence[keras.callbacks.Callback] = (),
        checkpoint_dir: str | os.PathLike | None = None,
        checkpoint_every: float = EVERY,
    ) -> "DeepClusterer":
        """Learn clusters from ``X``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, height, width[, channels])
            Finite numbers, best in about [0, 1].
        y : None
            Ignored.
        callbacks : sequence of keras.callbacks.Callback
            See every update of the clustering phase as an epoch: ``self.model.labels`` holds the
            labels, ``logs`` iter, loss and label_change.
        pretrain_callbacks : sequence of keras.callbacks.Callback
            See every epoch of pretraining.
        checkpoint_dir : path-like, optional
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
            If a loss becomes NaN or infinite.
        """
        with unchanged_on_failure(self):
            self._check_arguments()
            X = self._validated(X, reset=True)
            if self.n_clusters > len(X):
                raise ValueError(
                    f"n_clusters must be at most n_samples={len(X)}; got {self.n_clusters!r}. "
                    "Choose fewer clusters or give more samples."
                )
            for callback in callbacks:
                if isinstance(callback, LabelsMonitor):
                    check_labels(callback.labels_true, len(X))
            show_progress(self.verbose)
            run = RunState(checkpoint_dir, self._identity(X, checkpoint_dir), checkpoint_every)
            with run.going_on():
                self._learn(X, run, pretrain_callbacks, callbacks)
        return self

    def _learn(self, X: np.ndarray, run: RunState, pretrain_callbacks: Any, callbacks: Any) -> None:
        """Run the phases on checked data and keep what they learned."""
        seeds = run.seeds(self.random_state)
        network = self._make_network(X.shape[1:], seeds)
        before = run.values(phases.CLUSTER)
        if before is None:
            earlier = self._start(network, X, seeds, run, pretrain_callbacks)
        else:
            earlier = {name: before[name] for name in ("pretraining", "seconds")}
        begin = time.monotonic()
        result = self._cluster(network, X, seeds, callbacks, run, earlier)
        self.seconds_ = {**earlier["seconds"], "cluster": time.monotonic() - begin}
        self.history_ = {"pretrain": earlier["pretraining"], "cluster": result.history}
        self.n_iter_ = result.n_iter
        self.termination_condition_ = result.termination_condition
        self._set_network(network)
        self.labels_ = self._labels(X)
        phases.warn_of_empty_clusters(self.labels_, self.n_clusters)

    def _start(
        self, network: Any, X: np.ndarray, seeds: SeedStream, run: RunState, callbacks: Any
    ) -> dict[str, Any]:
        """Pretrain and place the centres; return the pretraining's history and the seconds."""
        times = [time.monotonic()]
        pretraining = self._pretrain(network, X, seeds, callbacks, run)
        times.append(time.monotonic())
        embedding = network.embed(X).astype(np.float64)
        if not np.isfinite(embedding).all():
            raise diverged("The embedding became nan in pretraining")
        centers = phases.kmeans(embedding, self.n_clusters, seeds.seed("kmeans"))
        network.clustering.clusters.assign(centers)
        times.append(time.monotonic())
        seconds = dict(zip(("pretrain", "kmeans"), np.diff(times).tolist(), strict=True))
        return {"pretraining": pretraining, "seconds": seconds}

    def _identity(self, X: np.ndarray, checkpoint_dir: Any) -> dict[str, Any]:
        """Return what makes two runs the same run."""
        if checkpoint_dir is None:
            return {}
        return run_identity(self, self.resolved_params(), X)

    def _pretrain(
        self, network: Any, X: Any, seeds: SeedStream, callbacks: Any, run: RunState
    ) -> list[Any]:
        if self.pretrained_weights is not None:
            weights.load_weights(
                self.pretrained_weights, network.autoencoder.layers, ignored=["clustering"]
            )
            return []
        model = ReconstructionModel(
            network.autoencoder, X, **self._augmentation(self.aug_pretrain, seeds, "pretrain")
        )
        params = self.resolved_params()
        optimizer = phases.make_optimizer(
            params["pretrain_optimizer"], params["pretrain_learning_rate"]
        )
        return phases.pretrain(
            model,
            optimizer,
            batch_size=self.batch_size,
            n_epochs=self.pretrain_epochs,
            seeds=seeds,
            callbacks=callbacks,
            run=run,
        )

    def _cluster(
        self,
        network: Any,
        X: Any,
        seeds: SeedStream,
        callbacks: Any,
        run: RunState,
        earlier: dict[str, Any],
    ) -> Any:
        model = self._clustering_model(
            network, X, **self._augmentation(self.aug_cluster, seeds, "cluster")
        )
        params = self.resolved_params()
        optimizer = phases.make_optimizer(params["optimizer"], params["learning_rate"])
        return phases.cluster(
            model,
            optimizer,
            batch_size=self.batch_size,
            update_interval=self.update_interval,
            max_iter=self.max_iter,
            tol=self.tol,
            seeds=seeds,
            callbacks=callbacks,
            run=run,
            variables=[weight for layer in network.layers for weight in layer.weights],
            earlier=earlier,
        )

    def _clustering_model(self, network: Any, X: Any, **augmentation: Any) -> ClusteringModel:
        return SoftAssignmentModel(
            network.autoencoder,
            network.clustering,
            X,
            clustering_weight=self.settings.clustering_weight,
            reconstruction_weight=self.settings.reconstruction_weight,
            **augmentation,
        )

    def _augmentation(self, wanted: bool, seeds: SeedStream, phase: str) -> dict[str, Any]:
        seed = seeds.seed(f"{phase} augmentation") if wanted else None
        return {"image_shape": self._image_shape, "augment_seed": seed}

    def check(self, sample_shape: tuple[int, ...]) -> None:
        """Raise, as `fit` would, unless all arguments and samples of this shape are usable."""
        self._check_arguments()
        clone(self)._set_sample_shape(tuple(sample_shape))

    def resolved_params(self) -> dict[str, Any]:
        """Return all parameters, with the paper's own in the place of None."""
        params = self.get_params()
        own: dict[str, Any] = {
            name: getattr(self.settings, name) for name in RESOLVED if params.get(name) is None
        }
        for prefix in ("", "pretrain_"):
            optimizer = params[f"{prefix}optimizer"]
            if params[f"{prefix}learning_rate"] is None and optimizer not in (
                None,
                getattr(self.settings, f"{prefix}optimizer"),
            ):
                # The paper's rate belongs to its optimiser: 1.0 is for SGD alone.
                own[f"{prefix}learning_rate"] = USUAL_RATES[optimizer]
        return {**params, **own}

    # Using what was learned.

    def predict(self, X: Any) -> np.ndarray:
        """Return the nearest cluster of each sample, (n_samples,)."""
        return self._labels(self._fitted_input(X))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the soft assignment q, (n_samples, n_clusters); rows sum to 1 (DEC, eq. 1)."""
        X = self._fitted_input(X)
        return np.exp(self._network.log_assignment(X))

    def transform(self, X: Any) -> np.ndarray:
        """Return the embedding, (n_samples, embedding_dim)."""
        X = self._fitted_input(X)
        return self._network.embed(X)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Return what the decoder makes of embeddings, (n_samples, ...) in the layout of X."""
        check_is_fitted(self)
        embedding = check_array(X, dtype=np.float32)
        return self._network.decode(embedding).reshape(-1, *self._sample_shape)

    def _labels(self, X: np.ndarray) -> np.ndarray:
        return self._network.log_assignment(X).argmax(axis=1)

    # Helpers.

    def _make_network(self, input_shape: tuple[int, ...], seeds: SeedStream) -> ClusteringNetwork:
        autoencoder = self._make_autoencoder(input_shape, seeds)
        clustering = ClusteringLayer(self.n_clusters, self.alpha, name="clustering")
        clustering.build((1, self._embedding_dim))
        return ClusteringNetwork(autoencoder, clustering)

    def _set_network(self, network: ClusteringNetwork) -> None:
        self._network = network
        self.cluster_centers_ = network.centers

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    @property
    def _n_features_out(self) -> int:
        return self._embedding_dim

    def _check_arguments(self) -> None:
        check_flag("aug_pretrain", self.aug_pretrain)
        check_flag("aug_cluster", self.aug_cluster)
        check_number("n_clusters", self.n_clusters, integer=True, low=1)
        check_number("alpha", self.alpha, low=0, strict=True, hint="The paper uses 1.")
        check_number("batch_size", self.batch_size, integer=True, low=1, hint="The paper uses 256.")
        check_number(
            "update_interval", self.update_interval, integer=True, low=1, hint="The paper uses 140."
        )
        check_number("pretrain_epochs", self.pretrain_epochs, integer=True, low=0)
        check_number("max_iter", self.max_iter, integer=True, low=0)
        check_number("tol", self.tol, low=0, hint="0 trains for max_iter steps.")
        check_number("verbose", self.verbose, integer=True, low=0)
        for prefix in ("", "pretrain_"):
            optimizer = getattr(self, f"{prefix}optimizer")
            rate = getattr(self, f"{prefix}learning_rate")
            if optimizer is not None:
                check_choice(f"{prefix}optimizer", optimizer, OPTIMIZERS)
            if rate is not None:
                check_number(f"{prefix}learning_rate", rate, low=0, strict=True)
        self._check_layers()
