"""What the five methods share as scikit-learn estimators."""

import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
)
from sklearn.utils import Tags
from sklearn.utils.validation import check_array, check_is_fitted

from clustering_common import devices, weights
from clustering_common.callbacks import diverged
from clustering_common.fitting import ResumableFit, documented_fit
from clustering_common.persistence import SavedClusterer
from clustering_common.run_state import EVERY, RunState
from clustering_common.seeds import SeedStream
from dec_da import phases
from dec_da.arguments import MethodArguments
from dec_da.assignment import ClusteringLayer
from dec_da.autoencoders import Autoencoder
from dec_da.models import (
    ClusteringModel,
    ReconstructionModel,
    ResidentData,
    SoftAssignmentModel,
)
from dec_da.network import ClusteringNetwork
from dec_da.samples import SampleLayout


class DeepClusterer(
    MethodArguments,
    SampleLayout,
    ResumableFit,
    SavedClusterer,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    ClusterMixin,
    BaseEstimator,
):
    """Abstract estimator: pretrain an autoencoder, then learn clusters in its embedding."""

    # Set for one fit by whoever knows that it would pretrain alike (`dec_da.pretraining`), and the
    # folder of the run whose it was, which a fit leaves.
    _known_pretraining: Any = None
    _pretraining_of: str | None = None

    # What a subclass says of its network.

    def _make_autoencoder(self, input_shape: tuple[int, ...], seeds: SeedStream) -> Autoencoder:
        raise NotImplementedError

    @property
    def _embedding_dim(self) -> int:
        raise NotImplementedError

    # Learning.

    @documented_fit
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
            Finite numbers, best in about [0, 1], which must not change meanwhile.
        y : None
            Ignored.
        callbacks : sequence of keras.callbacks.Callback
            See every update of the clustering phase as an epoch, numbered from 0:
            ``self.model.labels`` holds the labels, ``logs`` the numbers of a row of ``history_``.
            ``self.model.stop_training = True`` ends the phase after the update. What Keras calls a
            batch is a block of up to 256 training steps.
        pretrain_callbacks : sequence of keras.callbacks.Callback
            See every epoch of pretraining, and may end it too; clustering follows all the same.
        {checkpoints}
        """
        return self._fit(X, checkpoint_dir, checkpoint_every, callbacks, pretrain_callbacks)

    def _check_n_samples(self, n_samples: int) -> None:
        if self.n_clusters > n_samples:
            raise ValueError(
                f"n_clusters must be at most n_samples={n_samples}; got {self.n_clusters!r}. "
                "Choose fewer clusters or give more samples."
            )
        devices.check_batch(self.batch_size, n_samples)

    def _learn(self, X: np.ndarray, run: RunState, *callbacks: Any) -> None:
        """Run the phases on checked data and keep what they learned."""
        cluster_callbacks, pretrain_callbacks = callbacks
        seeds = run.seeds(self.random_state)
        network = self._make_network(X.shape[1:], seeds)
        data = ResidentData(X)
        before = run.values(phases.CLUSTER)
        if before is None:
            earlier = self._start(network, data, seeds, run, pretrain_callbacks)
        else:
            earlier = {name: before[name] for name in ("pretraining", "pretraining_of", "seconds")}
        result = self._cluster(network, data, seeds, cluster_callbacks, run, earlier)
        until = sum(earlier["seconds"].values())
        self.seconds_ = {**earlier["seconds"], "cluster": run.seconds - until}
        self.history_ = {"pretrain": earlier["pretraining"], "cluster": result.history}
        self._pretraining_of = earlier["pretraining_of"]
        self.n_iter_ = result.n_iter
        self.termination_condition_ = result.termination_condition
        self._set_network(network)
        self.labels_ = self._labels(X)
        phases.warn_of_empty_clusters(self.labels_, self.n_clusters)

    def _start(
        self, network: Any, data: ResidentData, seeds: SeedStream, run: RunState, callbacks: Any
    ) -> dict[str, Any]:
        """Pretrain and place the centres; return the pretraining's history, whose, and seconds."""
        pretraining = self._pretrain(network, data, seeds, callbacks, run)
        pretrain_seconds = run.seconds
        embedding = network.embed(data.X).astype(np.float64)
        if not np.isfinite(embedding).all():
            raise diverged("The embedding became nan in pretraining")
        centers = phases.kmeans(embedding, self.n_clusters, seeds.seed("kmeans"))
        network.clustering.clusters.assign(centers)
        seconds = {"pretrain": pretrain_seconds, "kmeans": run.seconds - pretrain_seconds}
        known = self._known_pretraining
        whose = None if known is None else str(known.weights.parent)
        return {"pretraining": pretraining, "pretraining_of": whose, "seconds": seconds}

    def _pretrain(
        self, network: Any, data: ResidentData, seeds: SeedStream, callbacks: Any, run: RunState
    ) -> list[Any]:
        if self._load_pretrained(network):
            return []
        if (known := self._known_pretraining) is not None:
            weights.load_weights(known.weights, network.autoencoder.layers)
            run.add_seconds(known.seconds)
            return list(known.history)
        model = ReconstructionModel(
            network.autoencoder,
            data,
            **self._training_options(self.aug_pretrain, seeds, "pretrain"),
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
            verbose=self.verbose,
        )

    def _load_pretrained(self, network: Any) -> bool:
        """Load ``pretrained_weights`` if there are any, and return whether there are."""
        if self.pretrained_weights is None:
            return False
        layers = network.autoencoder.layers
        weights.load_weights(self.pretrained_weights, layers, ignored=["clustering"])
        return True

    def _cluster(
        self,
        network: Any,
        data: ResidentData,
        seeds: SeedStream,
        callbacks: Any,
        run: RunState,
        earlier: dict[str, Any],
    ) -> Any:
        model = self._clustering_model(
            network, data, **self._training_options(self.aug_cluster, seeds, "cluster")
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
            verbose=self.verbose,
        )

    def _clustering_model(self, network: Any, data: Any, **options: Any) -> ClusteringModel:
        return SoftAssignmentModel(
            network.autoencoder,
            network.clustering,
            data,
            clustering_weight=self.settings.clustering_weight,
            reconstruction_weight=self.settings.reconstruction_weight,
            **options,
        )

    def _training_options(self, augmented: bool, seeds: SeedStream, phase: str) -> dict[str, Any]:
        return {
            "image_shape": self._image_shape,
            "augment_seed": seeds.seed(f"{phase} augmentation") if augmented else None,
            "precision": self.precision,
        }

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
