"""The two training phases as Keras models: reconstruction, then clustering (SPEC 1.2, 1.5, 1.6)."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from clustering_common import backend
from clustering_common.mapped import rows_of, stays_in_file
from clustering_common.resident import ResidentSamples
from clustering_common.training import ROWS_PER_CALL, SteppedModel, row_chunks
from dec_da.assignment import ClusteringLayer, kl_divergence, target_distribution
from dec_da.augmentation import RandomAffine
from dec_da.autoencoders import Autoencoder, n_products


class ResidentData:
    """The samples of a fit, on the device once for all its phases.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...)

    Attributes
    ----------
    samples : ResidentSamples or None
        None for an array in a file (np.memmap of a gigabyte or more).
    """

    def __init__(self, X: np.ndarray):
        self.X = X
        self.samples = None if stays_in_file(X) else ResidentSamples(X)


class _ImageModel(SteppedModel):
    """Abstract: gathers mini-batches of the data and augments them.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...), or ResidentData
        The clean data, in the encoder's layout. It stays on the device; of an array in a file,
        blocks of rows are fed.
    image_shape : tuple of int, optional
        (height, width, channels) of a sample; needed to augment.
    augment_seed : int, optional
        Seed of the augmentation; None leaves it out.
    precision : {'float32', 'tf32', 'bfloat16'}, default='float32'
        Of the training's products.
    """

    def __init__(
        self,
        X: np.ndarray | ResidentData,
        image_shape: tuple[int, ...] | None,
        augment_seed: int | None,
        precision: str = "float32",
    ):
        super().__init__(precision=precision)
        data = X if isinstance(X, ResidentData) else ResidentData(X)
        self.samples = data.samples
        self.X = data.X if self.samples is None else None
        if self.samples is not None:
            self.share_resident(*self.samples.variables)
        self.n_samples, self.sample_shape = len(data.X), data.X.shape[1:]
        self.image_shape = image_shape or ()
        self.augment = None if augment_seed is None else RandomAffine(seed=augment_seed)

    def fed(self, batches: Callable[[int, int], np.ndarray]) -> Callable[[int, int], Any]:
        """Return the mini-batches of indices with their rows, where these are not on the device."""
        # A product and a sum a weight, sample and position, there and twice back.
        batch_size = batches(0, 1).shape[1]
        self.step_operations = 6.0 * batch_size * sum(map(n_products, self.weight_layers()))
        if self.X is None:
            return batches

        def with_rows(start: int, stop: int) -> dict[str, np.ndarray]:
            """Return the mini-batches of these steps."""
            indices = batches(start, stop)
            return {"indices": indices, "rows": rows_of(self.X, indices)}

        return with_rows

    def chunks(self) -> Iterator[tuple[np.ndarray, int]]:
        """Yield all clean data for `clean_rows`, each time ROWS_PER_CALL, and how many count."""
        if self.X is not None:
            yield from row_chunks(self.X)
            return
        for start in range(0, self.n_samples, ROWS_PER_CALL):
            rows = np.arange(start, start + ROWS_PER_CALL, dtype=np.int32)
            yield np.minimum(rows, self.n_samples - 1), min(ROWS_PER_CALL, self.n_samples - start)

    def clean_rows(self, chunk: Any) -> Any:
        """Return the rows of one of `chunks`, on the device."""
        return chunk if self.samples is None else self.samples.take(chunk)

    def drawn(self, batch: Any) -> tuple[Any, Any]:
        """Return the indices of a mini-batch and its rows, augmented afresh where asked."""
        indices = batch["indices"] if self.samples is None else batch
        x = batch["rows"] if self.samples is None else self.samples.take(indices)
        if self.augment is not None:
            images = self.augment(ops.reshape(x, (x.shape[0], *self.image_shape)))
            x = ops.reshape(images, (x.shape[0], *self.sample_shape))
        return indices, backend.spread_rows(x)


class ReconstructionModel(_ImageModel):
    """Pretraining: the mean squared error between each (augmented) image and its reconstruction.

    The augmented image is its own target (SPEC 1.2).
    """

    def __init__(self, autoencoder: Autoencoder, X: np.ndarray | ResidentData, **options: Any):
        super().__init__(X, **options)
        self.encoder = autoencoder.encoder
        self.decoder = autoencoder.decoder

    def weight_layers(self) -> list[keras.layers.Layer]:
        """Return the layers of the autoencoder."""
        return [layer for layer in [*self.encoder.layers, *self.decoder.layers] if layer.weights]

    def call(self, batch: Any) -> Any:
        """Return the mini-batch and its reconstruction."""
        _, x = self.drawn(batch)
        return x, self.decoder(self.encoder(x))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the mean squared error."""
        clean, reconstruction = y_pred
        return backend.share_of_loss(ops.mean(ops.square(reconstruction - clean)))


class ClusteringModel(_ImageModel):
    """Abstract: trains the encoder against targets that every update takes from all clean data.

    Attributes
    ----------
    labels : ndarray of shape (n_samples,)
        Nearest cluster of each sample at the last update.
    is_finite : bool
        Whether the weights still gave numbers at the last update.
    targets : keras.Variable
        What the mini-batches are trained towards, a row a sample.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        clustering: ClusteringLayer,
        X: np.ndarray | ResidentData,
        reconstruction_weight: float = 0.0,
        **options: Any,
    ):
        super().__init__(X, **options)
        self.encoder = autoencoder.encoder
        self.clustering = clustering
        self.reconstruction_weight = reconstruction_weight
        if reconstruction_weight:
            self.decoder = autoencoder.decoder
        self.labels = np.full(self.n_samples, -1)
        self.is_finite = True
        self.means = {name: keras.metrics.Mean(name) for name in self.loss_names}
        reads = [*self.encoder.variables, *clustering.variables, *self.fixed]
        self._log_assignment_of = backend.compiled(self._clean_log_assignment, reads)
        self._target_distribution = backend.compiled(target_distribution, [])

    def weight_layers(self) -> list[keras.layers.Layer]:
        """Return the layers that are trained, and the clustering layer."""
        decoder = self.decoder.layers if self.reconstruction_weight else []
        trained = [layer for layer in [*self.encoder.layers, *decoder] if layer.weights]
        return [*trained, self.clustering]

    @property
    def loss_names(self) -> list[str]:
        """Names of the parts of the loss, unweighted, in the log."""
        return ["clustering_loss"] + ["reconstruction_loss"] * bool(self.reconstruction_weight)

    def call(self, batch: Any) -> Any:
        """Return what the loss needs of the mini-batch."""
        indices, x = self.drawn(batch)
        embedding = self.encoder(x)
        outputs = {"embedding": embedding, "target": ops.take(self.targets, indices, axis=0)}
        if self.reconstruction_weight:
            error = self.decoder(embedding) - x
            outputs["reconstruction_loss"] = ops.mean(ops.square(error))
        return outputs

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the weighted sum of the clustering loss and the reconstruction loss."""
        clustering_loss = self.clustering_loss(y_pred["embedding"], y_pred["target"])
        self.means["clustering_loss"].update_state(clustering_loss)
        loss = self.clustering_weight * clustering_loss
        if self.reconstruction_weight:
            self.means["reconstruction_loss"].update_state(y_pred["reconstruction_loss"])
            loss = loss + self.reconstruction_weight * y_pred["reconstruction_loss"]
        return backend.share_of_loss(loss)

    def update(self) -> None:
        """Take labels and targets from the clean data, all of it, on the device."""
        raise NotImplementedError

    def clustering_loss(self, embedding: Any, target: Any) -> Any:
        """Return the scalar clustering loss of a mini-batch."""
        raise NotImplementedError

    def _clean_log_assignment(self, chunk: Any) -> Any:
        return self.clustering.log_assignment(self.encoder(self.clean_rows(chunk)))

    def log_assignment(self) -> Any:
        """Return log q of all clean data, on the device, (n_samples, n_clusters)."""
        parts = [self._log_assignment_of(chunk) for chunk, _ in self.chunks()]
        return ops.concatenate(parts)[: self.n_samples]


class SoftAssignmentModel(ClusteringModel):
    """DEC and IDEC: KL(p || q), optionally with the reconstruction (DEC, eq. 2; IDEC, eq. 1)."""

    def __init__(self, *args: Any, clustering_weight: float = 1.0, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.clustering_weight = clustering_weight
        shape = (len(self.labels), self.clustering.n_clusters)
        self.targets = self.add_resident(np.zeros(shape, np.float32), "targets", fixed=False)

    def update(self) -> None:
        """Set p and the labels argmax q."""
        log_q = self.log_assignment()
        self.is_finite = bool(ops.all(ops.isfinite(log_q)))
        self.targets.assign(self._target_distribution(ops.exp(log_q)))
        self.labels = backend.to_numpy(ops.argmax(log_q, axis=1))

    def clustering_loss(self, embedding: Any, target: Any) -> Any:
        """Return KL(p || q) of the mini-batch."""
        return kl_divergence(target, self.clustering.log_assignment(embedding))


class HardAssignmentModel(ClusteringModel):
    """FcDCN: mean |z - mu_s|^2 to the centre s nearest to the clean sample (SPEC 1.6).

    Parameters
    ----------
    move_centers : bool, default=False
        Whether each update moves the centres to the means of their classes.
    """

    clustering_weight = 1.0

    def __init__(self, *args: Any, move_centers: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.move_centers = move_centers
        self.clustering.trainable = False
        self.targets = self.add_resident(
            np.zeros(len(self.labels), np.int32), "targets", fixed=False
        )
        self._embedding_of = backend.compiled(
            lambda chunk: self.encoder(self.clean_rows(chunk)),
            [*self.encoder.variables, *self.fixed],
        )

    def update(self) -> None:
        """Set each sample's nearest centre, after moving the centres where asked."""
        log_q = self.log_assignment()
        self.is_finite = bool(ops.all(ops.isfinite(log_q)))
        labels = ops.argmax(log_q, axis=1)
        if self.move_centers:
            self._move_centers(backend.to_numpy(labels))
            labels = ops.argmax(self.log_assignment(), axis=1)
        self.targets.assign(ops.cast(labels, "int32"))
        self.labels = backend.to_numpy(labels)

    def clustering_loss(self, embedding: Any, target: Any) -> Any:
        """Return the mean squared distance to the assigned centres."""
        centers = ops.take(self.clustering.clusters, target, axis=0)
        return ops.mean(ops.sum(ops.square(embedding - centers), axis=1))

    def _move_centers(self, labels: np.ndarray) -> None:
        """Move each centre to the mean of its samples; a centre without samples stays."""
        n_clusters = self.clustering.n_clusters
        sums = np.zeros((n_clusters, self.clustering.clusters.shape[1]))
        start = 0
        for chunk, n_rows in self.chunks():
            part = backend.to_numpy(self._embedding_of(chunk))
            np.add.at(sums, labels[start : start + n_rows], part[:n_rows])
            start += n_rows
        counts = np.bincount(labels, minlength=n_clusters)[:, None]
        old = backend.to_numpy(self.clustering.clusters)
        self.clustering.clusters.assign(np.where(counts > 0, sums / np.maximum(counts, 1), old))
