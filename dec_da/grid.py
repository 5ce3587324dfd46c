"""The paper's table as a grid of runs: methods x data sets x trials."""

import functools
import itertools
import logging
import math
import os
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib

from clustering_common import cli, files, report, results
from clustering_common.callbacks import TrainingDivergedError
from clustering_common.datasets import Dataset, load_dataset
from clustering_common.progress import show_progress
from clustering_common.run_folder import RunFolder
from clustering_common.run_state import EVERY, run_identity
from clustering_common.workers import WORKER_STOP, told_to_stop
from dec_da import experiment, presets
from dec_da.grid_table import COLUMNS, with_means
from dec_da.grid_trials import (
    DAMAGED,
    DIVERGED,
    Key,
    diverged_row,
    finished_row,
    in_order,
    kept_rows,
    name_of,
    read_note,
)
from dec_da.pretraining import Pretraining, SharedPretrainings, pretraining_key

__all__ = ["run_grid"]

logger = logging.getLogger("clustering_common.dec_da")


def run_grid(
    methods: Sequence[str],
    names: Sequence[str],
    folder: str | os.PathLike,
    *,
    n_trials: int = 5,
    data_dir: str | os.PathLike = "data",
    seed: int = 0,
    resume: bool = False,
    checkpoint_every: float = EVERY,
    n_jobs: int = 1,
    with_report: bool = False,
    **params: Any,
) -> list[dict[str, Any]]:
    """Run every cell and return the rows of results.csv.

    Everything a cell needs is loaded and checked before the first one starts. results.csv is
    written anew after each trial; each trial leaves the files of a run in
    ``folder/<dataset>/<method>/trial<i>``. Trials that differ in clustering alone share the
    pretraining of the first one that is done, with its seconds: on a CPU with as many threads
    their files and labels are those of a trial by itself.

    Parameters
    ----------
    methods, names : sequence of str
        Methods and data sets.
    folder : path-like
        Made where there is none.
    n_trials : int, default=5
        Trial i has seed ``seed + i``.
    data_dir : path-like, default="data"
        Where the files of the data sets are (`clustering_common.datasets.load_dataset`).
    resume : bool, default=False
        Whether finished trials are kept and the one that was stopped goes on. A trial that
        diverged would do so again and counts as finished: remove its diverged.json to try.
        Trials of other methods, data sets and numbers that ``folder`` has finished with the same
        settings keep their rows: a grid can be taken in parts.
    checkpoint_every : float, default=60.0
        Seconds between two checkpoints of a trial at least.
    n_jobs : int, default=1
        Trials at a time, each in a process of its own, by joblib: -1 means one a core; inside
        ``joblib.parallel_config("dask")`` or ``"ray"`` they run on that cluster, whose machines
        must see ``folder`` and whose workers must have one thread. A stopped grid goes on from
        each trial's last checkpoint. Trials that share a pretraining wait for those that do it.
    with_report : bool, default=False
        Whether each trial gets its report.html, and ``folder`` one that compares them.
    **params
        Constructor arguments for every cell; None leaves the paper's own.

    Returns
    -------
    list of dict
        A row per trial, then the mean and the standard deviation of each cell that has all of
        ``n_trials``. Beside the columns of results.csv each has "kmeans_acc", of k-means on the
        pixels, and "problem", what went wrong in words: empty clusters, a loss that was no number
        any more.
    """
    folder = Path(folder)
    loaded = [load_dataset(name, data_dir) for name in names]
    for method in methods:
        for dataset in loaded:
            presets.make_estimator(method, dataset.name, **params).check(dataset.images.shape[1:])
    cells = []
    for dataset, method, trial in itertools.product(loaded, methods, range(n_trials)):
        path = folder / dataset.name / method / f"trial{trial}"
        place = RunFolder(path, resume=resume, every=checkpoint_every, needed=experiment.NEEDED)
        cells.append(Cell(method, dataset, place, trial, seed + trial, params, with_report))
    # What is finished, or can't be resumed, is known before anything is trained.
    rows = {cell.key: row for cell in cells if (row := cell.finished_row()) is not None}
    left = [cell for cell in cells if cell.key not in rows]
    kept = kept_rows(folder, {cell.key for cell in cells}, loaded, seed, params) if resume else {}
    order = in_order({*kept, *(cell.key for cell in cells)}, names, methods)
    (folder / report.PAGE_FILE).unlink(missing_ok=True)  # of the grid as it was
    shared = SharedPretrainings()
    for cell in (cell for cell in cells if cell.key in rows):
        cell.share(rows[cell.key], shared)
    rows |= kept
    found = _run_cells(left, PixelScores(seed), shared, n_jobs)
    for key, row in itertools.chain(rows.copy().items(), found):
        rows[key] = row
        done = [rows[key] for key in order if key in rows]
        files.write_csv(folder / "results.csv", COLUMNS, with_means(done, n_trials))
    if with_report:
        report.write_grid_report(folder)
    return with_means([rows[key] for key in order], n_trials)


def _run_cells(
    cells: Sequence["Cell"], pixels: "PixelScores", shared: SharedPretrainings, n_jobs: int
) -> Iterator[tuple[Key, dict[str, Any]]]:
    """Run the cells and yield each one's key and row as it ends."""
    if n_jobs == 1:
        for cell in cells:
            known = shared.get(cell.pretraining_key)
            row = cell.run(pixels.of(cell.task, cell.trial), known)
            cell.share(row, shared)
            yield cell.key, row
        return
    # In waves: of each pretraining that nobody has done one cell, until all can share.
    run_apart = joblib.delayed(_run_apart)
    call = uuid.uuid4().hex
    left = list(cells)
    while left:
        later = shared.waiting([cell.pretraining_key for cell in left])
        wave = {cell.key: cell for i, cell in enumerate(left) if i not in later}
        left = [left[i] for i in sorted(later)]
        # A generator: the first cells train while k-means on the pixels of later ones is done here.
        tasks = (
            run_apart(
                cell,
                pixels.of(cell.task, cell.trial),
                shared.get(cell.pretraining_key),
                sys.argv,
                call,
            )
            for cell in wave.values()
        )
        # All at once, in this thread: joblib's own, which gives later ones out, hears no signal.
        parallel = joblib.Parallel(n_jobs, return_as="generator_unordered", pre_dispatch="all")
        places = [cell.place for cell in wave.values()]
        for key, row in told_to_stop(functools.partial(parallel, tasks), places):
            wave[key].share(row, shared)
            yield key, row


def _run_apart(
    cell: "Cell",
    pixel_scores: dict[str, float],
    known: Pretraining | None,
    argv: list[str],
    call: str,
) -> tuple[Key, dict[str, Any]]:
    """Run a cell in a process of its own, on its share of the cores."""
    sys.argv = argv  # what results.json calls the command
    if "OMP_NUM_THREADS" in os.environ:  # joblib's share, which TensorFlow does not read
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", os.environ["OMP_NUM_THREADS"])
    with WORKER_STOP.heeded(call):
        show_progress(cell.estimator.verbose)
        return cell.key, cell.run(pixel_scores, known)


class PixelScores:
    """The scores of k-means on the pixels, taken once for each data set and trial."""

    def __init__(self, seed: int):
        self.seed = seed
        self._known: dict[tuple[str, int], dict[str, float]] = {}

    def of(self, task: experiment.Task, trial: int) -> dict[str, float]:
        """Return the scores of a trial, which has its own seed."""
        key = (task.name, trial)
        if key not in self._known:
            self._known[key] = results.kmeans_baseline(
                task.X, presets.N_CLASSES, task.labels, self.seed + trial
            )
            logger.info("%s: k-means on pixels %s", task.name, cli.score_line(self._known[key]))
        return self._known[key]


class Cell:
    """One trial of a method on a data set.

    Parameters
    ----------
    method : str
    dataset : Dataset
    place : RunFolder
    trial, seed : int
    params : mapping
        Constructor arguments; None leaves the paper's own.
    with_report : bool, default=False
        Whether the trial gets its report.html.
    """

    def __init__(
        self,
        method: str,
        dataset: Dataset,
        place: RunFolder,
        trial: int,
        seed: int,
        params: Mapping[str, Any],
        with_report: bool = False,
    ):
        self.method, self.place, self.trial, self.seed = method, place, trial, seed
        self.with_report = with_report
        self.task = experiment.Task(dataset.name, dataset.images, dataset.labels)
        self.estimator = presets.make_estimator(method, dataset.name, random_state=seed, **params)
        self.key: Key = (dataset.name, method, trial)
        self.pretraining_key = pretraining_key(self.estimator, dataset.name)

    def finished_row(self) -> dict[str, Any] | None:
        """Return the row of a trial that was finished before, None where it must run."""
        if not self.place.resume:
            return None
        identity = run_identity(self.estimator, self.task.X, self.task.labels)
        with self.place.held():
            record = self.place.finished(identity)
            if record is None:
                self.place.check_checkpoints(identity)
                return self._diverged_row(identity)
            if self.with_report and not report.is_current(self.place.path):
                experiment.report_run(self.estimator, self.task, self.place)
        return finished_row(self.key, record)

    def run(
        self, pixel_scores: dict[str, float], known: Pretraining | None = None
    ) -> dict[str, Any]:
        """Run the trial, from a pretraining that is known or its own, and return its row."""
        logger.info("%s to %s", name_of(self.key), self.place.path)
        begin = time.monotonic()
        (self.place.path / DIVERGED).unlink(missing_ok=True)
        try:
            record = experiment.train(
                self.estimator, self.task, self.place,
                seed=self.seed, pixel_scores=pixel_scores, method=self.method,
                paper=presets.paper_figures(self.method, self.task.name),
                with_report=self.with_report, known=known,
            )  # fmt: skip
        except TrainingDivergedError as error:
            # One bad trial must not cost the others; its row has no scores.
            logger.warning("%s: %s", name_of(self.key), error)
            note = {
                "identity": run_identity(self.estimator, self.task.X, self.task.labels),
                "pixels": pixel_scores,
                "seconds": time.monotonic() - begin + (known.seconds if known else 0.0),
                "problem": str(error),
            }
            files.write_json(self.place.path / DIVERGED, note)
            return diverged_row(self.key, note)
        logger.info("%s: %s", name_of(self.key), cli.score_line(record["metrics"]["final"]))
        return finished_row(self.key, record)

    def share(self, row: dict[str, Any], shared: SharedPretrainings) -> None:
        """Let other trials use the pretraining of this one, which has ended with ``row``."""
        if math.isfinite(row["acc"]):  # a trial that diverged may have left files of an earlier run
            shared.add(self.pretraining_key, self.place.path)

    def _diverged_row(self, identity: dict[str, Any]) -> dict[str, Any] | None:
        """Return the row of this very trial if it diverged before."""
        note = read_note(self.place.path)
        if note.get("identity") != identity:
            return None
        try:
            row = diverged_row(self.key, note)
        except DAMAGED:  # changed by hand: it runs again
            return None
        path = self.place.path / DIVERGED
        logger.info("%s: diverged before; remove %s to run it again", name_of(self.key), path)
        return row
