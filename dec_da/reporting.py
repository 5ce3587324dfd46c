"""What the trained network of a DEC-DA run tells its report."""

from pathlib import Path

import numpy as np

from clustering_common import weights
from clustering_common.report import Fitted
from clustering_common.seeds import SeedStream
from dec_da.base import DeepClusterer


def fitted(estimator: DeepClusterer, autoencoder_path: Path) -> Fitted:
    """Return what a report asks of a fitted estimator.

    Parameters
    ----------
    estimator : DeepClusterer
    autoencoder_path : Path
        Weight file of the autoencoder as pretraining left it.
    """
    learns_on = estimator.settings.reconstruction_weight > 0
    return Fitted(
        labels=estimator.labels_,
        n_clusters=estimator.n_clusters,
        proba=estimator.predict_proba,
        embed=estimator.transform,
        space="embedding",
        # Without reconstruction in the clustering phase the encoder leaves its decoder behind.
        reconstruct=lambda rows: (
            estimator.inverse_transform(estimator.transform(rows))
            if learns_on
            else _pretrained(estimator, autoencoder_path, rows)
        ),
        reconstructed_by="the autoencoder"
        if learns_on
        else "the autoencoder, as pretraining left it,",
    )


def _pretrained(estimator: DeepClusterer, path: Path, rows: np.ndarray) -> np.ndarray:
    """Return what the autoencoder in a weight file makes of samples, in their layout."""
    inputs = estimator._fitted_input(rows)
    network = estimator._make_network(inputs.shape[1:], SeedStream(0))
    weights.load_weights(path, network.autoencoder.layers, ignored=["clustering"])
    return network.decode(network.embed(inputs)).reshape(rows.shape)
