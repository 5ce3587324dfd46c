"""What the folder of a grid tells of trials that are finished: their rows of results.csv."""

import json
import logging
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clustering_common.checkpoints import UNREADABLE
from clustering_common.datasets import Dataset
from clustering_common.record import MEASURES, RESULTS
from clustering_common.report_files import mapping, read_results
from clustering_common.run_state import data_identity, settings_identity
from dec_da import presets
from dec_da.grid_table import KMEANS, PROBLEM
from dec_da.run_files import NEEDED

logger = logging.getLogger("clustering_common.dec_da")
Key = tuple[str, str, int]  # data set, method, number of the trial
Row = dict[str, Any]
DIVERGED = "diverged.json"  # beside the checkpoints of a trial that will diverge again
DATASETS = (*presets.PAPER_DATASETS, "digits")
# What a file raises that is not there, cut off or changed by hand.
DAMAGED = (OSError, *UNREADABLE)


def name_of(key: Key) -> str:
    """Return a trial's name in words."""
    dataset, method, trial = key
    return f"{method} on {dataset}, trial {trial}"


def finished_row(key: Key, record: Mapping[str, Any]) -> Row:
    """Return the row of a trial from its results.json."""
    metrics, seconds = record["metrics"], record["seconds"]["total"]
    pixels = metrics["kmeans_pixels"]
    return _row(key, metrics["final"], pixels, seconds, record["empty_clusters"])


def diverged_row(key: Key, note: Mapping[str, Any]) -> Row:
    """Return the row of a trial from its diverged.json."""
    none = dict.fromkeys(MEASURES, math.nan)
    pixels = {"acc": float(note["pixels"]["acc"])}
    return _row(key, none, pixels, float(note["seconds"]), str(note["problem"]))


def _row(
    key: Key, final: Mapping[str, float], pixels: Mapping[str, float], seconds: float, problem: str
) -> Row:
    names = dict(zip(("dataset", "method", "trials"), key, strict=True))
    problem = f"{name_of(key)}: {problem}" if problem else ""
    return {**names, **final, "time": seconds, KMEANS: pixels["acc"], PROBLEM: problem}


def read_note(folder: Path) -> dict[str, Any]:
    """Return what a trial left that diverged, {} where there is none or it was cut off."""
    try:
        return mapping(json.loads((folder / DIVERGED).read_text()))
    except DAMAGED:
        return {}


def kept_rows(
    folder: Path,
    named: Collection[Key],
    loaded: Iterable[Dataset],
    seed: int,
    params: Mapping[str, Any],
) -> dict[Key, Row]:
    """Return the rows of trials that a call does not name and that are finished by its settings.

    What is damaged or of other settings has no row. Data is compared where the call has it loaded.

    Parameters
    ----------
    folder : Path
        Of the grid.
    named : collection of (str, str, int)
        Trials that the call names.
    loaded : iterable of Dataset
    seed : int
        Of trial 0.
    params : mapping
        Constructor arguments; None leaves the paper's own.
    """
    paths = {key: path for path in folder.glob("*/*/trial*") if (key := _key(path)) is not None}
    others = {key: path for key, path in paths.items() if key not in named}
    used = {dataset for dataset, _, _ in others}
    data = {one.name: data_identity(one.images, one.labels) for one in loaded if one.name in used}
    found = {}
    for key, path in others.items():
        dataset, method, trial = key
        try:
            estimator = presets.make_estimator(method, dataset, random_state=seed + trial, **params)
            wanted = {**settings_identity(estimator), **data.get(dataset, {})}
            row = _kept_row(key, path, wanted)
        except DAMAGED:  # TypeError also of a method without one of the settings
            row = None
        if row is None:
            logger.info("%s: not finished with these settings; it has no row", name_of(key))
        else:
            found[key] = row
    return found


def _key(path: Path) -> Key | None:
    """Return which trial a folder is of, None where it is of none."""
    dataset, method, name = path.parts[-3:]
    number = re.fullmatch(r"trial(0|[1-9]\d{0,8})", name)
    if number is None or dataset not in DATASETS or method not in presets.METHODS:
        return None
    return dataset, method, int(number[1])


def _kept_row(key: Key, folder: Path, wanted: Mapping[str, Any]) -> Row | None:
    """Return the row of a trial that finished or diverged with the wanted identity."""
    if all((folder / name).exists() for name in (RESULTS, *NEEDED)):
        record = read_results(folder)[0]
        if mapping(record.get("identity")).items() >= wanted.items():
            return finished_row(key, record)
    note = read_note(folder)
    is_same = mapping(note.get("identity")).items() >= wanted.items()
    return diverged_row(key, note) if is_same else None


def in_order(keys: Iterable[Key], datasets: Sequence[str], methods: Sequence[str]) -> list[Key]:
    """Return trials as the table has them: what was asked for first, the rest as in the paper."""
    places = [
        {name: place for place, name in enumerate(dict.fromkeys((*asked, *known)))}
        for asked, known in ((datasets, DATASETS), (methods, presets.METHODS))
    ]
    return sorted(keys, key=lambda key: (places[0][key[0]], places[1][key[1]], key[2]))
