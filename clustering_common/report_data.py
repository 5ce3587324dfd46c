"""What a report shows beside a run's other files: report.npz, small arrays without pickle."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import PCA

from clustering_common import files
from clustering_common.mapped import rows_of
from clustering_common.report_files import DATA_FILE, THUMBNAIL

N_LOOKED_AT, N_BYTES = 20_000, 1 << 28  # samples, and bytes of them, among which some are chosen
N_MAPPED, N_PAIRS = 2_000, 12
N_SHOWN, N_SHOWN_OF_MANY, MANY, MAX_SHOWN = 8, 4, 20, 100
MAX_MATRIX, MAX_NAME = 50, 80


@dataclass(frozen=True)
class Fitted:
    """What a report asks of a fitted estimator.

    Attributes
    ----------
    labels : int ndarray of shape (n_samples,)
    n_clusters : int
    proba, embed : callable
        From rows of X to the probabilities of the clusters, and to the space of the map.
    space : str
        What the map shows, in words.
    reconstruct : callable, optional
        From rows of X to what the autoencoder makes of them.
    reconstructed_by : str, default=''
        Which autoencoder that is, in words.
    """

    labels: np.ndarray
    n_clusters: int
    proba: Callable[[np.ndarray], np.ndarray]
    embed: Callable[[np.ndarray], np.ndarray]
    space: str
    reconstruct: Callable[[np.ndarray], np.ndarray] | None = None
    reconstructed_by: str = ""


def write_data(
    folder: Path,
    run: str,
    X: Any,
    fitted: Fitted,
    labels_true: Any = None,
    names: Sequence[str] | None = None,
    image_shape: tuple[int, ...] | None = None,
) -> None:
    """Write report.npz.

    Parameters
    ----------
    folder : Path
        Of the run.
    run : str
        Checksum of its results.json, so that no other run's pictures are shown.
    X : ndarray or CSR matrix of shape (n_samples, ...)
        Of an array in a file, only some rows are read.
    fitted : Fitted
    labels_true : array-like of shape (n_samples,), optional
    names : sequence of str, optional
        Of the samples' files.
    image_shape : tuple of int, optional
        (height, width) or (height, width, 3) of samples that are images, whether or not X has
        them as vectors; no others are drawn.
    """
    arrays = {"run": np.array(run), **collected(X, fitted, labels_true, names, image_shape)}
    with files.replacing(folder / DATA_FILE) as part, open(part, "wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def collected(
    X: Any,
    fitted: Fitted,
    labels_true: Any = None,
    names: Sequence[str] | None = None,
    image_shape: tuple[int, ...] | None = None,
) -> dict[str, np.ndarray]:
    """Return all arrays of a report; the same for the same run, whatever the random state."""
    rng = np.random.default_rng(0)
    labels = np.asarray(fitted.labels)
    looked_at = _drawn(X, rng)
    rows = rows_of(X, looked_at)
    own = labels[looked_at]
    sure = np.asarray(fitted.proba(rows))[np.arange(len(rows)), own]
    chosen, is_most = _most_and_least(own, sure, fitted.n_clusters)
    found = {
        "n_looked_at": np.array(len(rows)),
        "sure_mean": _means(own, sure, fitted.n_clusters),
        "shown": looked_at[chosen],
        "shown_cluster": own[chosen],
        "shown_sure": sure[chosen].astype(np.float32),
        "shown_is_most": is_most,
    }
    if names is not None:
        found["shown_name"] = np.array([names[i][-MAX_NAME:] for i in looked_at[chosen]], str)
    mapped = np.sort(rng.permutation(len(rows))[:N_MAPPED])
    found |= _maps(np.asarray(fitted.embed(rows[mapped])))
    found |= {"map_cluster": own[mapped], "map_space": np.array(fitted.space)}
    if labels_true is not None:
        classes, ids = _classes(labels_true)
        found["map_class"] = ids[looked_at[mapped]]
        found |= confusion(classes, ids, labels, fitted.n_clusters)
    if image_shape is not None and len(chosen):
        found |= _pictures(rows, chosen, rng, fitted, image_shape)
    return found


def _drawn(X: Any, rng: np.random.Generator) -> np.ndarray:
    """Return the samples to look at: all, or so many that their rows fit into memory with ease."""
    n_samples = X.shape[0]
    n_fitting = N_BYTES // (4 * math.prod(X.shape[1:]))
    n_rows = min(n_samples, N_LOOKED_AT, max(1, n_fitting))
    return np.sort(rng.choice(n_samples, n_rows, replace=False, shuffle=False))


def _means(own: np.ndarray, sure: np.ndarray, n_clusters: int) -> np.ndarray:
    """Return each cluster's mean probability, NaN where nobody is in it."""
    sums, counts = (np.bincount(own, w, n_clusters) for w in (sure, np.ones(len(own))))
    return np.divide(sums, counts, out=np.full(n_clusters, np.nan), where=counts > 0)


def _most_and_least(
    own: np.ndarray, sure: np.ndarray, n_clusters: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions of the surest and the least sure of each cluster, and which they are.

    None is both; each kind begins with its extreme.
    """
    n_each = N_SHOWN if n_clusters <= MANY else N_SHOWN_OF_MANY
    positions, kinds = [], []
    for k in range(min(n_clusters, MAX_SHOWN)):
        members = np.flatnonzero(own == k)
        members = members[np.argsort(-sure[members], kind="stable")]
        most = members[: min(n_each, math.ceil(len(members) / 2))]
        least = members[len(most) :][::-1][:n_each]
        positions += [most, least]
        kinds += [np.ones(len(most), bool), np.zeros(len(least), bool)]
    return np.concatenate(positions), np.concatenate(kinds)


def _maps(space: np.ndarray) -> dict[str, np.ndarray]:
    """Return the places of samples in the plane: by PCA, by UMAP too where it is installed."""
    space = space.reshape(len(space), -1).astype(np.float64)
    n_axes = min(2, *space.shape)
    places = np.zeros((len(space), 2), np.float32)
    share = 1.0
    if len(space) > 1 and np.ptp(space, axis=0).any():
        model = PCA(n_axes, svd_solver="full")
        places[:, :n_axes] = model.fit_transform(space)
        share = float(model.explained_variance_ratio_.sum())
    found = {"map_pca": places, "map_pca_share": np.array(share)}
    umap_places = _umap(space)
    return found if umap_places is None else {**found, "map_umap": umap_places}


def _umap(space: np.ndarray) -> np.ndarray | None:
    """Return the places by UMAP, None where it is not installed or the samples are too few."""
    if len(space) < 10:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed costs it its threads
        try:
            from umap import UMAP
        except ImportError:
            return None
        model = UMAP(n_neighbors=min(15, len(space) - 1), random_state=0)
        return np.asarray(model.fit_transform(space), np.float32)


def _classes(labels_true: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the names of the true classes, and each sample's position among them."""
    given = np.asarray(labels_true)
    given = given.astype(str) if given.dtype.kind == "O" else given
    classes, ids = np.unique(given, return_inverse=True)
    return np.array([str(name)[:MAX_NAME] for name in classes.tolist()], str), ids.reshape(-1)


def confusion(
    classes: np.ndarray, ids: np.ndarray, labels: np.ndarray, n_clusters: int
) -> dict[str, np.ndarray]:
    """Return how many samples of each class are in each cluster; {"classes": ...} if too many.

    The clusters stand in the order of the classes that they match best, one to one: the sum of
    the diagonal is what ACC counts.
    """
    if max(len(classes), n_clusters) > MAX_MATRIX:
        return {"classes": classes}
    counts = np.zeros((len(classes), n_clusters), np.int64)
    np.add.at(counts, (ids, labels), 1)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    cost = counts.sum(axis=0)
    rest = sorted(set(range(n_clusters)) - set(columns.tolist()), key=lambda k: -cost[k])
    order = np.array([*columns[np.argsort(rows)], *rest], np.int64)
    # Where classes are left over, those that match none come last.
    left = [i for i in range(len(classes)) if i not in set(rows.tolist())]
    class_order = np.array([*np.sort(rows), *left], np.int64)
    return {
        "classes": classes,
        "confusion": counts[np.ix_(class_order, order)],
        "confusion_class": class_order,
        "confusion_cluster": order,
    }


def _pictures(
    rows: np.ndarray,
    chosen: np.ndarray,
    rng: np.random.Generator,
    fitted: Fitted,
    shape: tuple[int, ...],
) -> dict[str, np.ndarray]:
    """Return the chosen samples and some reconstructions as images."""
    low, high = (0.0, 1.0)
    if rows[chosen].min() < 0 or rows[chosen].max() > 1:
        low, high = float(rows[chosen].min()), float(rows[chosen].max())
    found = {"shown_image": _thumbnails(rows[chosen], shape, low, high)}
    if fitted.reconstruct is not None:
        some = np.sort(rng.permutation(len(rows))[:N_PAIRS])
        made = np.asarray(fitted.reconstruct(rows[some]))
        found["pair_image"] = _thumbnails(rows[some], shape, low, high)
        found["pair_made"] = _thumbnails(made, shape, low, high)
        found["pair_by"] = np.array(fitted.reconstructed_by)
    return found


def _thumbnails(rows: np.ndarray, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
    """Return images as uint8, large ones smaller."""
    scaled = (rows.reshape(len(rows), *shape) - low) / ((high - low) or 1.0)
    pixels = (np.clip(scaled, 0, 1) * 255).round().astype(np.uint8)
    largest = max(shape[:2])
    if largest <= THUMBNAIL:
        return pixels
    size = [max(1, round(side * THUMBNAIL / largest)) for side in shape[:2]]
    small = [
        Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        for image in pixels
    ]
    return np.array([np.asarray(image) for image in small], np.uint8)
