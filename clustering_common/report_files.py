"""What a report reads from the folder of a run or of a grid."""

import csv
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clustering_common.array_files import file_error, npz_names, read_npz
from clustering_common.record import CHECKSUM, RESULTS, checksum

GRID_FILE, HISTORY_FILE, DATA_FILE = "results.csv", "history.json", "report.npz"
MAX_BYTES = 1 << 26  # of a file that is read whole
MAX_DEPTH = 20  # of JSON within JSON
MAX_COUNT = 1 << 50  # of samples
SMALLEST, LARGEST = 1e-100, 1e100  # what charts can tell from 0, and from infinity
THUMBNAIL = 64  # pixels of an image's longer side
# The arrays of report.npz: kind of dtype, numbers of axes, and which of them are equally long;
# what needs others; and the ids, each smaller than the length of another.
ARRAYS: dict[str, tuple[str, tuple[int, ...], str]] = {
    "run": ("U", (0,), ""), "n_looked_at": ("i", (0,), ""), "sure_mean": ("f", (1,), "clusters"),
    "shown": ("i", (1,), "shown"), "shown_cluster": ("i", (1,), "shown"),
    "shown_sure": ("f", (1,), "shown"), "shown_is_most": ("b", (1,), "shown"),
    "shown_name": ("U", (1,), "shown"), "shown_image": ("u1", (3, 4), "shown"),
    "map_pca": ("f", (2,), "map"), "map_umap": ("f", (2,), "map"),
    "map_cluster": ("i", (1,), "map"), "map_class": ("i", (1,), "map"),
    "map_pca_share": ("f", (0,), ""), "map_space": ("U", (0,), ""),
    "classes": ("U", (1,), "classes"),
    "confusion": ("i", (2,), "classes"), "confusion_class": ("i", (1,), "classes"),
    "confusion_cluster": ("i", (1,), "clusters"), "pair_image": ("u1", (3, 4), "pair"),
    "pair_made": ("u1", (3, 4), "pair"), "pair_by": ("U", (0,), ""),
}  # fmt: skip
NEEDED = ("run", "n_looked_at", "sure_mean", "shown", "shown_cluster", "shown_sure",
          "shown_is_most", "map_pca", "map_pca_share", "map_cluster", "map_space")  # fmt: skip
TOGETHER = {
    "map_class": ("classes",), "confusion": ("classes", "confusion_class", "confusion_cluster"),
    "pair_image": ("pair_made",), "pair_made": ("pair_image",),
}  # fmt: skip
IDS = {
    "shown_cluster": "sure_mean", "map_cluster": "sure_mean", "confusion_cluster": "sure_mean",
    "map_class": "classes", "confusion_class": "classes",
}  # fmt: skip


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
    data, metrics = mapping(content.get("data")), mapping(content.get("metrics"))
    for name, value in (
        ("cluster_sizes", content.get("cluster_sizes")),
        ("shape", data.get("shape")),
    ):
        if value is not None and not _are_counts(value):
            raise file_error(path, f"a record whose {name} are numbers of things", value)
    if not isinstance(metrics.get("members", []), list):
        raise file_error(path, "a record with a list of members", metrics["members"])
    return content, found


def _are_counts(value: Any) -> bool:
    """Return whether a value is a list of integers that something may be counted by."""
    return isinstance(value, list) and all(
        type(item) is int and 0 <= item < MAX_COUNT for item in value
    )


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Return Kingdra's history, a row per iteration; [] where there is none."""
    path = folder / HISTORY_FILE
    if not path.is_file():
        return []
    rows = _json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise file_error(path, "a JSON list of objects", type(rows).__name__)
    for sizes in (row.get("bucket_sizes") for row in rows):
        if sizes is not None and not _are_counts(sizes):
            raise file_error(path, "a history whose bucket_sizes are numbers of samples", sizes)
    return rows


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a .csv file with a header, [] where there is no file."""
    if not path.is_file():
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
    if not path.is_file():
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
        kind, n_axes, group = ARRAYS[name]
        dtype = array.dtype
        if not f"{dtype.kind}{dtype.itemsize}".startswith(kind) or array.ndim not in n_axes:
            return f"{array.dtype} of shape {array.shape} as {name!r}"
        if not _is_shape_of(name, array.shape):
            return f"shape {array.shape} as {name!r}"
        if group and lengths.setdefault(group, len(array)) != len(array):
            return f"{len(array)} items in {name!r}"
        if not _are_values_of(name, array):
            return f"other values in {name!r}"
    needed = {*NEEDED, *(other for name in arrays for other in TOGETHER.get(name, ()))}
    missing = sorted(name for name in needed if name not in arrays)
    return f"no array {missing[0]!r}" if missing else _odd_pair(arrays)


def _is_shape_of(name: str, shape: tuple[int, ...]) -> bool:
    """Return whether an array of report.npz may have a shape."""
    if name.endswith(("_image", "_made")):
        return 0 < min(shape[1:3]) <= max(shape[1:3]) <= THUMBNAIL and shape[3:] in ((), (3,))
    if name in ("map_pca", "map_umap"):
        return shape[0] > 0 and shape[1] == 2
    return name not in ("sure_mean", "classes", "confusion") or min(shape) > 0


def _are_values_of(name: str, array: np.ndarray) -> bool:
    """Return whether an array of report.npz may have its values: finite places, counts, text."""
    if name in ("map_pca", "map_umap"):
        with np.errstate(over="ignore"):
            return bool((abs(array.astype(np.float64)) < LARGEST).all())  # NaN is not
    if array.dtype.kind == "i" and array.size:
        return bool(array.min() >= 0 and array.max() < MAX_COUNT)
    if array.dtype.kind == "U":
        codes = array.astype(array.dtype.newbyteorder("=")).reshape(-1).view(np.uint32)
        return bool((codes <= sys.maxunicode).all())
    return True


def _odd_pair(arrays: Mapping[str, np.ndarray]) -> str:
    """Return in words which two arrays do not belong together, '' where all do."""
    for name, of in IDS.items():
        if name in arrays and (arrays[name] >= len(arrays[of])).any():
            return f"other values in {name!r}"
    if "confusion" in arrays and arrays["confusion"].shape[1] != len(arrays["sure_mean"]):
        return f"shape {arrays['confusion'].shape} as 'confusion'"
    if "pair_made" in arrays and arrays["pair_made"].shape != arrays["pair_image"].shape:
        return f"shape {arrays['pair_made'].shape} as 'pair_made'"
    return ""


def column(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """Return the numbers of a column, NaN where there is none."""
    return np.array([as_float(row.get(name)) for row in rows], float)


def as_float(value: Any) -> float:
    """Return a number, or the number that a text says; NaN for anything else and for infinity.

    What is next to nothing is 0, so that charts may divide by what is not.
    """
    if not isinstance(value, int | float | str):
        return math.nan
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return math.nan
    if not abs(found) < LARGEST:
        return math.nan
    return found if abs(found) > SMALLEST else 0.0


def mapping(value: Any) -> dict[str, Any]:
    """Return a value that is a mapping, {} for anything else: files may come from anywhere."""
    return dict(value) if isinstance(value, Mapping) else {}


def _json(path: Path) -> Any:
    _check_size(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise file_error(path, "a JSON file", error) from error
    level, depth = [content], 0
    while level:
        depth += 1
        level = [part for whole in level for part in _parts(whole)]
    if depth > MAX_DEPTH:
        raise file_error(path, f"a JSON file of at most {MAX_DEPTH} levels", depth)
    return content


def _parts(value: Any) -> Iterable[Any]:
    """Return what is in a JSON list or object."""
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _check_size(path: Path) -> None:
    n_bytes = path.stat().st_size
    if n_bytes > MAX_BYTES:
        raise file_error(path, f"a file of at most {MAX_BYTES} bytes", n_bytes)
