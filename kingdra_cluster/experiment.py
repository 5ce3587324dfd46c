"""One Kingdra experiment from a config: data, training, table, files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from clustering_common import cli, files, results
from clustering_common.callbacks import LabelsMonitor, empty_clusters, scores
from clustering_common.datasets import load_dataset
from clustering_common.identity import data_hash
from clustering_common.prepare_layout import FOLDERS, X_NAME, Y_NAME
from clustering_common.progress import Progress
from clustering_common.record import MEASURES, RESULTS
from clustering_common.report import FILES as REPORT_FILES
from clustering_common.report import Fitted, write_run_report
from clustering_common.run_folder import RunFolder
from clustering_common.run_state import run_identity
from clustering_common.samples_file import SAMPLES_FILE, write_samples
from clustering_common.user_data import UserData, image_shape, load_user_data
from kingdra_cluster.base import LadderClusterer
from kingdra_cluster.configs import Config

TOLD = ("acc", "nmi", "pseudo_acc", "coverage", "member_agreement", "loss")  # of an iteration
MODEL_FILE = "model.h5"
NEEDED = (MODEL_FILE, "labels.npy", "history.json")
WRITTEN = (*NEEDED, SAMPLES_FILE, RESULTS, *REPORT_FILES)


def needed(data: UserData) -> tuple[str, ...]:
    """Return the files that a finished run has left beside its results.json."""
    return NEEDED if data.names is None else (*NEEDED, SAMPLES_FILE)


class EarlierFiles(keras.callbacks.Callback):
    """Remove an earlier run's files once this one has learned something.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Remove them after the first iteration."""
        for name in WRITTEN:
            (self.folder / name).unlink(missing_ok=True)


def input_paths(config: Config, data_dir: str) -> dict[str, Path | None]:
    """Return the files that a config names, by its keys."""
    values = {key: getattr(config, key) for key in ("training_path", "ground_truth_path")}
    return {
        key: Path(data_dir) / Path(value).expanduser() if value else None
        for key, value in values.items()
    }


def load_data(config: Config, data_dir: str) -> UserData:
    """Return X (n_samples, n_features), dense or CSR, and what else is known of the samples.

    Raises
    ------
    FileNotFoundError
        With the command that makes the file, if it is missing.
    ValueError
        If a file is damaged or the two differ in length.
    """
    if config.dataset:
        dataset = load_dataset(config.dataset, Path(data_dir) / "data")
        return UserData(
            dataset.vectors, dataset.labels, image_shape=image_shape(dataset.images.shape)
        )
    paths = []
    for key, path in input_paths(config, data_dir).items():
        is_folder = path is not None and key == "training_path" and path.is_dir()  # of images
        if path is not None and not path.is_file() and not is_folder:
            raise FileNotFoundError(
                f"{key} must be an existing file; got {str(path)!r}. {_way_out(path, data_dir)}"
            )
        paths.append(path)
    if paths[0] is None:
        raise ValueError("training_path must be given; got None. Name a .npy file.")
    with cli.naming({"path": "training_path", "labels_path": "ground_truth_path"}):
        found = load_user_data(
            paths[0],
            paths[1],
            image_size=config.image_size,
            colour=config.colour,
            data_key=config.data_key,
            sparse=True,
        )
    X = found.X
    return found._replace(X=X.reshape(X.shape[0], -1) if X.ndim > 2 else X)


def _way_out(path: Path, data_dir: str) -> str:
    """Return how to come by a missing file."""
    names = {folder: name for name, folder in FOLDERS.items()}
    if path.parent.name not in names or path.name not in (X_NAME, Y_NAME):
        return "Check the path; it starts from --data-dir."
    where = "" if data_dir == "." else f" --data-dir {data_dir}"
    command = f"python -m clustering_common.prepare {names[path.parent.name]}{where}"
    return f"Make it by '{command}'."


def run(
    config: Config,
    estimator: LadderClusterer,
    data: UserData,
    place: RunFolder,
    *,
    seed: int,
    say: Callable[[str], None],
    with_report: bool = False,
) -> dict[str, Any]:
    """Train, write all files of the run, and return results.json's content.

    Parameters
    ----------
    place : RunFolder
        Gets model.h5, labels.npy, history.json and results.json; where samples are files,
        samples.csv too.
    say : callable
        Takes each line meant for the user.
    with_report : bool, default=False
        Whether the folder gets report.html too, and report.npz with what it shows; a run that was
        finished before as well.
    """
    X, labels, names, _ = data
    identity = run_identity(estimator, X, labels, names)
    with place.held():
        found = place.finished(identity)
        if found is None:
            monitors = [] if labels is None else [LabelsMonitor(labels)]
            iterations = Progress("", "iteration", verbose=2, names=TOLD, say=say)
            estimator.fit(
                X,
                callbacks=[*monitors, iterations, EarlierFiles(place.path)],
                checkpoint_dir=place.checkpoints,
                checkpoint_every=place.every,
            )
            # What took long is safe before anything is scored.
            estimator.save(place.path / MODEL_FILE)
            files.write_array(place.path / "labels.npy", estimator.labels_)
            files.write_json(place.path / "history.json", estimator.history_)
            if names is not None:
                write_samples(place.path, names, estimator.predict_proba(X), estimator.labels_)
            record = _record(config, estimator, X, labels, seed)
            found = place.finish({**record, "identity": identity})
        if with_report:
            write_run_report(place.path, estimator, data, _fitted, MODEL_FILE)
        return found


def _fitted(estimator: LadderClusterer) -> Fitted:
    """Return what a report asks of a fitted estimator."""
    return Fitted(
        labels=estimator.labels_,
        n_clusters=estimator.n_class,
        proba=estimator.predict_proba,
        # There is no embedding; all members' probabilities together tell where they disagree.
        embed=lambda rows: np.concatenate(list(estimator.member_proba(rows)), axis=1),
        space="members' class probabilities",
    )


def _record(
    config: Config, estimator: LadderClusterer, X: Any, labels: np.ndarray | None, seed: int
) -> dict[str, Any]:
    """Return what results.json says of the run."""
    return {
        "config": config.name,
        "model": config.model,
        "settings": estimator.get_params(),
        "data": {
            "training_path": config.training_path,
            "dataset": config.dataset,
            "shape": X.shape,
            "sha256": data_hash(X),
            "labels_sha256": None if labels is None else data_hash(labels),
        },
        "seed": seed,
        "seconds": estimator.seconds_,
        "n_iter": estimator.n_iter_,
        "termination_condition": estimator.termination_condition_,
        "empty_clusters": empty_clusters(estimator.labels_, estimator.n_class),
        "cluster_sizes": np.bincount(estimator.labels_, minlength=estimator.n_class),
        "metrics": {} if labels is None else _metrics(estimator, X, labels, seed),
        "paper": config.paper_figure(),
        **results.environment(),
    }


def _metrics(estimator: LadderClusterer, X: Any, labels: np.ndarray, seed: int) -> dict[str, Any]:
    members = [scores(labels, proba.argmax(axis=1)) for proba in estimator.member_proba(X)]
    return {
        "final": scores(labels, estimator.labels_),
        "members": members,
        "kmeans": results.kmeans_baseline(X, estimator.n_class, labels, seed),
    }


def _predicts(record: dict[str, Any]) -> str:
    """Return the name of what the final labels come from."""
    if len(record["metrics"]["members"]) == 1:
        return record["model"]
    # Without one naming the first member speaks for all.
    return "ensemble" if record["settings"]["ens_common_mapping"] else "member 1 predicts"


def report(record: dict[str, Any]) -> str:
    """Return the table that a run ends with, and its closing line where labels are known."""
    metrics, paper = record["metrics"], record["paper"]
    if not metrics:
        sizes = list(enumerate(np.asarray(record["cluster_sizes"]).tolist()))
        return cli.table(["cluster", "samples"], sizes)
    rows: list[list[Any]] = [["k-means", *(metrics["kmeans"][name] for name in MEASURES)]]
    members = metrics["members"]
    if len(members) > 1:
        rows += [
            [f"member {i + 1}", *(member[name] for name in MEASURES)]
            for i, member in enumerate(members)
        ]
        means = (float(np.mean([member[name] for member in members])) for name in MEASURES)
        rows.append(["members' mean", *means])
    rows.append([_predicts(record), *(metrics["final"][key] for key in MEASURES)])
    if paper:
        rows.append(["paper", paper["acc"], None, None])
    return "\n".join([cli.table(["", *MEASURES], rows), cli.score_line(metrics["final"])])
