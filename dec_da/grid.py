"""The paper's table as a grid of runs: methods x data sets x trials."""

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clustering_common import cli, files, results
from clustering_common.callbacks import TrainingDivergedError
from clustering_common.datasets import Dataset, load_dataset
from clustering_common.run_folder import RunFolder
from clustering_common.run_state import EVERY
from dec_da import experiment, presets

logger = logging.getLogger("clustering_common.dec_da")
COLUMNS = ("dataset", "method", "trials", "acc", "nmi", "ari", "time")
MEASURES = ("acc", "nmi", "ari")
KMEANS = "kmeans_acc"


def run_grid(
    methods: Sequence[str],
    names: Sequence[str],
    folder: Path,
    *,
    n_trials: int,
    data_dir: str,
    seed: int = 0,
    resume: bool = False,
    checkpoint_every: float = EVERY,
    **params: Any,
) -> list[dict[str, Any]]:
    """Run every cell and return the rows of results.csv.

    Everything a cell needs is loaded and checked before the first one starts. results.csv is
    written anew after each trial; each trial leaves the files of a run in
    ``folder/<dataset>/<method>/trial<i>``.

    Parameters
    ----------
    methods, names : sequence of str
        Methods and data sets.
    folder : Path
        Exists and is writable.
    n_trials : int
        Trial i has seed ``seed + i``.
    resume : bool, default=False
        Whether finished trials are kept and the one that was stopped goes on.
    checkpoint_every : float, default=60.0
        Seconds between two checkpoints of a trial at least.
    **params
        Constructor arguments for every cell; None leaves the paper's own.

    Returns
    -------
    list of dict
        A row per trial, then the mean and the standard deviation of each cell. Beside the columns
        of results.csv each has "kmeans_acc", of k-means on the pixels.
    """
    loaded = [load_dataset(name, data_dir) for name in names]
    for method in methods:
        for dataset in loaded:
            presets.make_estimator(method, dataset.name, **params).check(dataset.images.shape[1:])
    cells: list[list[dict[str, Any]]] = []
    for dataset in loaded:
        pixels = [
            results.kmeans_baseline(dataset.images, presets.N_CLASSES, dataset.labels, seed + trial)
            for trial in range(n_trials)
        ]
        logger.info("%s: k-means on pixels %s", dataset.name, cli.score_line(pixels[0]))
        for method in methods:
            cells.append([])
            for trial in range(n_trials):
                path = folder / dataset.name / method / f"trial{trial}"
                place = RunFolder(path, resume=resume, every=checkpoint_every)
                row = _run_cell(method, dataset, place, trial, seed, pixels[trial], params)
                cells[-1].append({**row, KMEANS: pixels[trial]["acc"]})
                files.write_csv(folder / "results.csv", COLUMNS, _with_means(cells))
    return _with_means(cells)


def _run_cell(
    method: str,
    dataset: Dataset,
    place: RunFolder,
    trial: int,
    seed: int,
    pixel_scores: dict[str, float],
    params: dict[str, Any],
) -> dict[str, Any]:
    """Run one trial and return its row."""
    logger.info("%s on %s, trial %d, to %s", method, dataset.name, trial, place.path)
    estimator = presets.make_estimator(method, dataset.name, random_state=seed + trial, **params)
    task = experiment.Task(dataset.name, dataset.images, dataset.labels)
    begin = time.monotonic()
    try:
        record = experiment.train(
            estimator, task, place, seed=seed + trial, pixel_scores=pixel_scores, method=method
        )
    except TrainingDivergedError as error:
        # One bad trial must not cost the others; its row has no scores.
        logger.warning("%s on %s, trial %d: %s", method, dataset.name, trial, error)
        none = dict.fromkeys(MEASURES, math.nan)
        seconds = time.monotonic() - begin
        return {"dataset": dataset.name, "method": method, "trials": trial, **none, "time": seconds}
    final, seconds = record["metrics"]["final"], record["seconds"]["total"]
    logger.info("%s on %s, trial %d: %s", method, dataset.name, trial, cli.score_line(final))
    return {"dataset": dataset.name, "method": method, "trials": trial, **final, "time": seconds}


def _with_means(cells: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the rows of the cells, each followed by its mean and standard deviation.

    A cell with a diverged trial has no mean: leaving that trial out would flatter it.
    """
    rows: list[dict[str, Any]] = []
    for cell in cells:
        rows += cell
        for name, function in (("mean", np.mean), ("std", np.std)):
            values = {
                key: float(function([row[key] for row in cell]))
                for key in (*MEASURES, KMEANS, "time")
            }
            rows.append({**cell[0], "trials": name, **values})
    return rows


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table that a grid ends with.

    Mean and deviation of each cell, beside k-means on the pixels, the mean of as many trials: what
    any method must beat; and the paper's figures.
    """
    lines = []
    for mean, std in zip(
        [row for row in rows if row["trials"] == "mean"],
        [row for row in rows if row["trials"] == "std"],
        strict=True,
    ):
        paper = presets.paper_figures(mean["method"], mean["dataset"])
        lines.append(
            [mean["dataset"], mean["method"]]
            + [f"{mean[key]:.3f} ± {std[key]:.3f}" for key in MEASURES]
            + [f"{mean[KMEANS]:.3f}"]
            + [f"{paper[key]:.3f}" if paper else "-" for key in ("acc", "nmi")]
            + [f"{mean['time']:.0f} s"]
        )
    columns = ["data set", "method", *MEASURES, "k-means acc", "paper acc", "paper nmi", "time"]
    return cli.table(columns, lines)
