"""What a report reads from the folder of a run or of a grid."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clustering_common.array_files import file_error, npz_names, read_npz
from clustering_common.record import CHECKSUM, RESULTS, checksum

GRID_FILE, HISTORY_FILE, DATA_FILE = "results.csv", "history.json", "report.npz"
MAX_BYTES = 1 << 26  # of a file that is read whole
# The arrays of report.npz: kinds of dtype, numbers of axes, and which of them are equally long.
ARRAYS: dict[str, tuple[str, tuple[int, ...], str]] = {
    "run": ("U", (0,), ""), "n_looked_at": ("i", (0,), ""), "sure_mean": ("f", (1,), ""),
    "shown": ("i", (1,), "shown"), "shown_cluster": ("i", (1,), "shown"),
    "shown_sure": ("f", (1,), "shown"), "shown_is_most": ("b", (1,), "shown"),
    "shown_name": ("U", (1,), "shown"), "shown_image": ("u", (3, 4), "shown"),
    "map_pca": ("f", (2,), "map"), "map_umap": ("f", (2,), "map"),
    "map_cluster": ("i", (1,), "map"), "map_class": ("i", (1,), "map"),
    "map_pca_share": ("f", (0,), ""), "map_space": ("U", (0,), ""), "classes": ("U", (1,), ""),
    "confusion": ("i", (2,), ""), "confusion_class": ("i", (1,), ""),
    "confusion_cluster": ("i", (1,), ""), "pair_image": ("u", (3, 4), "pair"),
    "pair_made": ("u", (3, 4), "pair"), "pair_by": ("U", (0,), ""),
}  # fmt: skip
NEEDED = ("run", "n_looked_at", "sure_mean", "shown", "shown_cluster", "shown_sure",
          "shown_is_most", "map_pca", "map_pca_share", "map_cluster", "map_space")  # fmt: skip


def read_results(folder: Path) -> tuple[dict[str, Any], str]:
    """Return the content of results.json and its checksum.

    Files of earlier versions, without a checksum, are read too.

    Raises
    ------
    ValueError
        If the file is damaged or too large.
    """
    path = folder / RESULTS
    content = _json(path)
    if not isinstance(content, dict):
        raise file_error(path, "a JSON object", type(content).__name__)
    written = content.pop(CHECKSUM, None)
    found = checksum(content)
    if written not in (None, found):
        raise file_error(path, "whole", "another checksum", "Run again, or put its copy back.")
    return content, found


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Return Kingdra's history, a row per iteration; [] where there is none."""
    path = folder / HISTORY_FILE
    if not path.exists():
        return []
    rows = _json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise file_error(path, "a JSON list of objects", type(rows).__name__)
    return rows


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a .csv file with a header, [] where there is no file."""
    if not path.exists():
        return []
    _check_size(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [dict(row) for row in csv.DictReader(file, restval="", restkey="")]
    except (UnicodeDecodeError, csv.Error) as error:
        raise file_error(path, "a .csv file of UTF-8 text", error) from error


def read_data(folder: Path, run: str) -> dict[str, np.ndarray]:
    """Return the arrays of report.npz, {} where there are none of the run with this checksum.

    Raises
    ------
    ValueError
        If the file is damaged, or not what --report writes.
    """
    path = folder / DATA_FILE
    if not path.exists():
        return {}
    names = [name for name in npz_names(path) if name in ARRAYS]
    arrays = dict(zip(names, read_npz(path, names), strict=True))
    problem = _problem(arrays)
    if problem:
        raise file_error(path, "what --report wrote", problem, "Run with --report again.")
    return arrays if str(arrays["run"]) == run else {}


def _problem(arrays: Mapping[str, np.ndarray]) -> str:
    """Return in words what is wrong with the arrays of report.npz, '' where nothing is."""
    lengths: dict[str, int] = {}
    for name, array in arrays.items():
        kinds, n_axes, group = ARRAYS[name]
        if array.dtype.kind not in kinds or array.ndim not in n_axes:
            return f"{array.dtype} of shape {array.shape} as {name!r}"
        if name in ("map_pca", "map_umap") and array.shape[1] != 2:
            return f"shape {array.shape} as {name!r}"
        if group and lengths.setdefault(group, len(array)) != len(array):
            return f"{len(array)} items in {name!r}"
    missing = [name for name in NEEDED if name not in arrays]
    return f"no array {missing[0]!r}" if missing else ""


def column(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """Return the numbers of a column, NaN where there is none."""
    return np.array([as_float(row.get(name)) for row in rows], float)


def as_float(value: Any) -> float:
    """Return a number, or the number that a text says; NaN for anything else."""
    if not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def mapping(value: Any) -> dict[str, Any]:
    """Return a value that is a mapping, {} for anything else: files may come from anywhere."""
    return dict(value) if isinstance(value, Mapping) else {}


def _json(path: Path) -> Any:
    _check_size(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise file_error(path, "a JSON file", error) from error


def _check_size(path: Path) -> None:
    n_bytes = path.stat().st_size
    if n_bytes > MAX_BYTES:
        raise file_error(path, f"a file of at most {MAX_BYTES} bytes", n_bytes)
