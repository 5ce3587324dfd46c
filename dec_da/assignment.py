"""Soft and hard assignment of embedded samples to clusters (SPEC 1.4, 1.6)."""

from typing import Any

import keras
from keras import ops

from clustering_common import backend


def log_soft_assignment(embedding: Any, centers: Any, alpha: float = 1.0) -> Any:
    """Return log q, with q the Student's t similarity of sample and centre (DEC, eq. 1).

    q_ij = (1 + |z_i - mu_j|^2 / alpha)^(-(alpha + 1) / 2), normalised over j. In logarithms, so
    that no far sample underflows.

    Parameters
    ----------
    embedding : tensor of shape (n_samples, embedding_dim)
    centers : tensor of shape (n_clusters, embedding_dim)
    alpha : float, default=1.0
        Degrees of freedom, > 0.

    Returns
    -------
    tensor of shape (n_samples, n_clusters)
    """
    kernel = ops.log1p(backend.squared_distances(embedding, centers) / alpha)
    return ops.log_softmax(-(alpha + 1) / 2 * kernel, axis=1)


def target_distribution(soft_assignment: Any) -> Any:
    """Return p of all samples (DEC, eq. 3): p_ij = q_ij^2 / f_j, normalised over j.

    f_j = sum_i q_ij runs over the whole data set, never over a mini-batch.

    Parameters
    ----------
    soft_assignment : tensor of shape (n_samples, n_clusters)
        q of the whole data set.

    Notes
    -----
    A cluster that no sample uses has f_j = 0; it gets p = 0 rather than NaN.
    """
    frequency = ops.sum(soft_assignment, axis=0)
    # q <= f, so q^2 / f = q * (q / f) is taken without dividing by zero or losing small numbers.
    weight = soft_assignment * (soft_assignment / ops.maximum(frequency, 1e-30))
    return weight / ops.sum(weight, axis=1, keepdims=True)


def kl_divergence(target: Any, log_assignment: Any) -> Any:
    """Return KL(p || q), summed over clusters and averaged over the batch (DEC, eq. 2)."""
    log_target = ops.log(ops.maximum(target, 1e-30))
    return ops.mean(ops.sum(target * (log_target - log_assignment), axis=1))


class ClusteringLayer(keras.layers.Layer):
    """Soft assignment of embeddings to learned centres, with one weight ``clusters``.

    Parameters
    ----------
    n_clusters : int
    alpha : float, default=1.0
        Degrees of freedom of the Student's t kernel.
    """

    def __init__(self, n_clusters: int, alpha: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.n_clusters = n_clusters
        self.alpha = alpha

    def build(self, input_shape: tuple[int, ...]) -> None:
        """Create the centres, (n_clusters, embedding_dim), zero until k-means sets them."""
        self.clusters = self.add_weight(
            shape=(self.n_clusters, input_shape[-1]), initializer="zeros", name="clusters"
        )

    def log_assignment(self, embedding: Any) -> Any:
        """Return log q, (batch, n_clusters)."""
        return log_soft_assignment(embedding, self.clusters, self.alpha)

    def call(self, embedding: Any) -> Any:
        """Return q, (batch, n_clusters)."""
        return ops.exp(self.log_assignment(embedding))

    def get_config(self) -> dict[str, Any]:
        """Return the layer's settings."""
        return {**super().get_config(), "n_clusters": self.n_clusters, "alpha": self.alpha}
