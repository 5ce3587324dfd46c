"""One DEC-DA experiment: train, score, and leave files that tell and repeat it."""

import functools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from clustering_common import files, results
from clustering_common.callbacks import (
    LabelsMonitor,
    TrainingDivergedError,
    check_labels,
    empty_clusters,
    scores,
)
from clustering_common.identity import data_hash
from clustering_common.report import write_run_report
from clustering_common.run_folder import RunFolder
from clustering_common.run_state import run_identity
from clustering_common.samples_file import SAMPLES_FILE, write_samples
from clustering_common.user_data import UserData, image_shape
from dec_da.base import DeepClusterer
from dec_da.pretraining import Pretraining
from dec_da.reporting import fitted
from dec_da.run_files import (
    AUTOENCODER_FILE,
    LABELS_FILE,
    MODEL_FILE,
    NEEDED,
    AutoencoderWriter,
    LoadedAutoencoderWriter,
    LogWriter,
)

logger = logging.getLogger("clustering_common.dec_da")


@dataclass(frozen=True)
class Task:
    """The data of an experiment.

    Attributes
    ----------
    name : str
        Data set or file.
    X : ndarray of shape (n_samples, ...)
    labels : ndarray of shape (n_samples,) or None
        The truth, where known; it never reaches the learner.
    names : list of str, optional
        Of the files, where each sample is one.
    image_shape : tuple of int, optional
        (height, width) or (height, width, 3) of images; by default what the axes of X say, none
        for vectors.
    path : str, optional
        Of data of one's own, which may be called like a data set.

    Raises
    ------
    ValueError, TypeError
        If the labels can't score this data.
    """

    name: str
    X: np.ndarray
    labels: np.ndarray | None
    names: list[str] | None = None
    image_shape: tuple[int, ...] | None = None
    path: str | None = None

    def __post_init__(self) -> None:
        if self.image_shape is None:
            object.__setattr__(self, "image_shape", image_shape(self.X.shape))
        if self.labels is not None:
            check_labels(self.labels, len(self.X))


def needed(task: Task) -> tuple[str, ...]:
    """Return the files that a finished run of a task has left beside its results.json."""
    return NEEDED if task.names is None else (*NEEDED, SAMPLES_FILE)


def train(
    estimator: DeepClusterer,
    task: Task,
    place: RunFolder,
    *,
    method: str,
    seed: int,
    pixel_scores: dict[str, float] | None = None,
    paper: dict[str, float] | None = None,
    with_report: bool = False,
    known: Pretraining | None = None,
) -> dict[str, Any]:
    """Fit ``estimator`` on the task, write all files of a run, and return results.json's content.

    Parameters
    ----------
    estimator : DeepClusterer
    task : Task
    place : RunFolder
        Gets ae_weights.h5, pretrain_log.csv, log.csv, model_final.h5, labels.npy and results.json;
        where samples have names, samples.csv too: file, cluster and its probability. No file of an
        earlier run by these names outlives pretraining. With ``pretrained_weights``,
        ae_weights.h5 is a copy of the autoencoder that was loaded.
    method : str
        Name for the record, such as FcDEC-DA.
    seed : int
        Of the k-means on the raw data beside it; the estimator has its own.
    pixel_scores : dict, optional
        Scores of that k-means where they are known already.
    paper : dict, optional
        The paper's figures, for the record.
    with_report : bool, default=False
        Whether the folder gets report.html too, and report.npz with what it shows; a run that was
        finished before as well.
    known : Pretraining, optional
        A run's whose pretraining would be this one's too (`dec_da.pretraining`): it is not done
        again, and counts with its seconds.
    """
    identity = run_identity(estimator, task.X, task.labels, task.names)
    names = {"method": method, "seed": seed, "paper": paper or {}}
    # An earlier run's checkpoints are dropped only for a run that can begin.
    estimator.check(task.X.shape[1:], len(task.X))
    with place.held():
        record = place.finished(identity)
        if record is None:
            if known is not None and place.has_begun:
                known = None  # a run that has begun goes on by itself
            record = _run(estimator, task, place, identity, names, pixel_scores, known)
        if with_report:
            report_run(estimator, task, place)
        return record


def report_run(estimator: DeepClusterer, task: Task, place: RunFolder) -> None:
    """Write the report of a finished run, whose folder the caller holds."""
    logger.info("writing the report")
    data = UserData(task.X, task.labels, task.names, task.image_shape)
    fitted_of = functools.partial(fitted, autoencoder_path=place.path / AUTOENCODER_FILE)
    write_run_report(place.path, estimator, data, fitted_of, MODEL_FILE)


def _run(
    estimator: DeepClusterer,
    task: Task,
    place: RunFolder,
    identity: dict[str, Any],
    names: dict[str, Any],
    pixel_scores: dict[str, float] | None,
    known: Pretraining | None,
) -> dict[str, Any]:
    """Train, write the files, and return the record."""
    _fit(estimator, task, place, known)
    seconds = {**estimator.seconds_, "total": sum(estimator.seconds_.values())}
    # What took long is safe before anything is scored.
    estimator.save(place.path / MODEL_FILE)
    files.write_array(place.path / LABELS_FILE, estimator.labels_)
    if task.names is not None:
        write_samples(place.path, task.names, estimator.predict_proba(task.X), estimator.labels_)
    if task.labels is not None and pixel_scores is None:
        logger.info("k-means on pixels, for comparison")
        pixel_scores = results.kmeans_baseline(
            task.X, estimator.n_clusters, task.labels, names["seed"]
        )
    record = {
        **names,
        "dataset": task.name,
        "settings": estimator.resolved_params(),
        "data": {
            "path": task.path,
            "shape": task.X.shape,
            "sha256": data_hash(task.X),
            "labels_sha256": None if task.labels is None else data_hash(task.labels),
        },
        "seconds": seconds,
        "n_iter": estimator.n_iter_,
        "termination_condition": estimator.termination_condition_,
        "pretraining_of": estimator._pretraining_of,
        "empty_clusters": empty_clusters(estimator.labels_, estimator.n_clusters),
        "cluster_sizes": np.bincount(estimator.labels_, minlength=estimator.n_clusters),
        "metrics": _metrics(estimator, task, pixel_scores),
        **results.environment(),
        "identity": identity,
    }
    return place.finish(record)


def write_tested(
    place: RunFolder, task: Task, estimator: DeepClusterer, labels: np.ndarray
) -> Path:
    """Write samples.csv of a fitted estimator for other files, and return its path.

    Raises
    ------
    ValueError
        If the folder has the results of a run on other files, whose samples.csv stays.
    """
    names = task.names or []
    with place.only():
        place.check_names(names)
        return write_samples(place.path, names, estimator.predict_proba(task.X), labels)


def _fit(estimator: DeepClusterer, task: Task, place: RunFolder, known: Pretraining | None) -> None:
    """Train; where clustering diverges, say how to keep the pretraining."""
    writer = AutoencoderWriter(place.path)
    estimator._known_pretraining = known
    if known is not None:
        logger.info("the pretraining of %s is this run's too", known.weights.parent)
    try:
        estimator.fit(
            task.X,
            callbacks=_watchers(estimator, task, place.path, known),
            pretrain_callbacks=[writer],
            checkpoint_dir=place.checkpoints,
            checkpoint_every=place.every,
        )
    except TrainingDivergedError as error:
        if not writer.has_written and known is None:
            raise
        path = str(place.path / AUTOENCODER_FILE)
        raise TrainingDivergedError(
            f"{error} To keep the pretraining with other settings, give pretrained_weights "
            f"{path!r}."
        ) from error
    finally:
        del estimator._known_pretraining


def _watchers(
    estimator: DeepClusterer, task: Task, folder: Path, known: Pretraining | None
) -> list[keras.callbacks.Callback]:
    """Return the callbacks of the clustering phase."""
    watchers: list[keras.callbacks.Callback] = [LogWriter(folder / "log.csv")]
    loaded = estimator.pretrained_weights if known is None else known.weights
    if loaded is not None:
        history = () if known is None else known.history
        watchers.insert(0, LoadedAutoencoderWriter(folder, loaded, history))
    if task.labels is not None:
        watchers.insert(0, LabelsMonitor(task.labels))
    return watchers


def _metrics(
    estimator: DeepClusterer, task: Task, pixel_scores: dict[str, float] | None
) -> dict[str, Any]:
    """Return scores of the final labels, and of k-means on the data and on the embedding."""
    if task.labels is None:
        return {}
    first = (estimator.history_["cluster"] or [{}])[0]
    final = scores(task.labels, estimator.labels_)
    embedded = {name: first[name] for name in final} if "acc" in first else final
    return {"final": final, "kmeans_pixels": pixel_scores, "kmeans_embedding": embedded}
