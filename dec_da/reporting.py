"""The report of a DEC-DA run: what the trained network tells, then the page."""

from pathlib import Path
from typing import Any

import numpy as np

from clustering_common import report, weights
from clustering_common.report_files import read_results
from clustering_common.seeds import SeedStream
from dec_da.base import DeepClusterer


def write_report(
    estimator: DeepClusterer, folder: Path, X: Any, labels: Any, names: list[str] | None,
    *, model_file: str, autoencoder_file: str,
) -> Path:  # fmt: skip
    """Write report.npz and report.html of a finished run; return the path of the page.

    Parameters
    ----------
    estimator : DeepClusterer
        Of the run; one that is not fitted is loaded from the folder.
    folder : Path
        Of the run, with its results.json.
    X, labels, names
        Of the task.
    model_file, autoencoder_file : str
        Names of the files that the run left.
    """
    if not hasattr(estimator, "labels_"):
        estimator = type(estimator).load(folder / model_file)
    learns_on = estimator.settings.reconstruction_weight > 0
    fitted = report.Fitted(
        labels=estimator.labels_,
        n_clusters=estimator.n_clusters,
        proba=estimator.predict_proba,
        embed=estimator.transform,
        space="embedding",
        # Without reconstruction in the clustering phase the encoder leaves its decoder behind.
        reconstruct=lambda rows: (
            estimator.inverse_transform(estimator.transform(rows))
            if learns_on
            else _pretrained(estimator, folder / autoencoder_file, rows)
        ),
        reconstructed_by="the autoencoder"
        if learns_on
        else "the autoencoder, as pretraining left it,",
    )
    _, checksum = read_results(folder)
    report.write_data(folder, checksum, X, fitted, labels, names)
    return report.write_report(folder)


def _pretrained(estimator: DeepClusterer, path: Path, rows: np.ndarray) -> np.ndarray:
    """Return what the autoencoder in a weight file makes of samples, in their layout."""
    inputs = estimator._fitted_input(rows)
    network = estimator._make_network(inputs.shape[1:], SeedStream(0))
    weights.load_weights(path, network.autoencoder.layers, ignored=["clustering"])
    return network.decode(network.embed(inputs)).reshape(rows.shape)
