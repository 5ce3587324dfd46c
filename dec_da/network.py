"""An autoencoder with its clustering layer: what a fitted estimator computes with."""

from typing import Any

import numpy as np

from clustering_common import backend
from clustering_common.training import apply_in_chunks
from dec_da.assignment import ClusteringLayer
from dec_da.autoencoders import Autoencoder


class ClusteringNetwork:
    """Autoencoder, cluster centres and their compiled inference.

    Parameters
    ----------
    autoencoder : Autoencoder
    clustering : ClusteringLayer
        Built.
    """

    def __init__(self, autoencoder: Autoencoder, clustering: ClusteringLayer):
        self.autoencoder = autoencoder
        self.clustering = clustering
        encoder = autoencoder.encoder
        self._encode = backend.compiled(encoder, encoder.variables)
        self._log_assignment = backend.compiled(
            lambda x: clustering.log_assignment(encoder(x)),
            [*encoder.variables, *clustering.variables],
        )
        self._decode = backend.compiled(autoencoder.decoder, autoencoder.decoder.variables)

    @property
    def layers(self) -> list[Any]:
        """All layers with weights, in the order of the weight files."""
        return [*self.autoencoder.layers, self.clustering]

    @property
    def optional_layers(self) -> list[str]:
        """Names of the decoder's layers, which clustering alone does not need."""
        return [layer.name for layer in self.autoencoder.decoder.layers if layer.weights]

    def embed(self, X: np.ndarray) -> np.ndarray:
        """Return the embedding, (n_samples, embedding_dim)."""
        return apply_in_chunks(self._encode, X)

    def log_assignment(self, X: np.ndarray) -> np.ndarray:
        """Return log q, (n_samples, n_clusters)."""
        return apply_in_chunks(self._log_assignment, X)

    def decode(self, embedding: np.ndarray) -> np.ndarray:
        """Return what the decoder makes of embeddings, (n_samples, *input_shape)."""
        return apply_in_chunks(self._decode, embedding)

    @property
    def centers(self) -> np.ndarray:
        """The cluster centres, (n_clusters, embedding_dim)."""
        return backend.to_numpy(self.clustering.clusters)
