"""A user's labels: one a sample, as whole numbers or as texts of bounded length."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clustering_common.array_files import file_error
from clustering_common.csv_files import is_number

__all__ = ["checked_labels", "distinct", "labels_by_name"]

# Of a label, and of all of them as an array, whose every item is as long as the longest.
MAX_LABEL_CHARACTERS = 1000
MAX_LABELS_BYTES = 1 << 28


def checked_labels(source: Path, labels: Any, n_samples: int) -> NDArray[Any]:
    """Return one label a sample: int64 where all are whole numbers, otherwise strings.

    Parameters
    ----------
    source : Path
        The file that they are from, for messages.
    labels : ndarray or list of str
    n_samples : int

    Raises
    ------
    ValueError
        If they are not as many as the samples, missing, too long, or neither of the two.
    """
    # A list is text: as an array, all of it would be as long as the longest.
    vector: Any = np.empty(len(labels), "U1") if isinstance(labels, list) else labels
    if vector.ndim == 2 and vector.shape[1] == 1:
        vector = vector[:, 0]
    if vector.shape != (n_samples,):
        found = f"labels of shape {vector.shape}"
        way_out = "Check that both belong together; turn one-hot rows into ids by argmax(axis=1)."
        raise file_error(source, f"a file of {n_samples} labels, one a sample", found, way_out)
    if vector.dtype.kind == "U":
        return _text_labels(source, labels if isinstance(labels, list) else vector)
    if vector.dtype.kind not in "biuf" or not _are_whole(vector):
        found = f"{vector.dtype} labels such as {vector[0]}"
        wanted = "a file of labels that are whole numbers or strings"
        raise file_error(source, wanted, found, "Number the classes.")
    return vector.astype(np.int64)


def labels_by_name(
    source: Path, labels: Sequence[str], files: Sequence[str], names: Sequence[str]
) -> list[str]:
    """Return the label of each file of a folder, from a table of labels and names in any order.

    Parameters
    ----------
    source : Path
        The table, for messages.
    labels, files : sequence of str
        Of its lines. "./a.png" is a.png, as `samples_file.write_samples` writes names.
    names : sequence of str
        Of the files in the folder.

    Raises
    ------
    ValueError
        If a file is named twice, or in the table or the folder alone.
    """
    found: dict[str, str] = {}
    known = set(names)
    for file, label in zip(files, labels, strict=True):
        name = _known_name(file, known)
        if name is None:
            raise _names_error(source, f"one for {file[:60]!r}, which is not in it")
        if name in found:
            raise _names_error(source, f"two for {name[:60]!r}")
        found[name] = label
    missing = [name for name in names if name not in found]
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise _names_error(source, f"none for {missing[0][:60]!r}{others}")
    return [found[name] for name in names]


def _names_error(source: Path, got: str) -> ValueError:
    wanted = "a table with one line for each image of the folder"
    way_out = "Correct the names, or drop their column: lines then go with the images in order."
    return file_error(source, wanted, got, way_out)


def _known_name(file: str, known: Collection[str]) -> str | None:
    """Return the name that a table means, None for one that is not known."""
    plain = file.strip()
    # A backslash may be Windows' own, or part of a name.
    ways = (file, *(str(PurePosixPath(way)) for way in (plain, plain.replace("\\", "/"))))
    return next((way for way in ways if way in known), None)


def _text_labels(source: Path, labels: list[str] | NDArray[np.str_]) -> NDArray[Any]:
    """Return the labels as int64 if all of them read as whole numbers."""
    names, ids = distinct(labels)
    missing = [k for k, name in enumerate(names) if name.lower() in ("", "nan")]
    if missing:
        found = f"none for sample {int(np.argmax(np.isin(ids, missing)))}"
        way_out = "Fill it in or drop that sample."
        raise file_error(source, "a file without missing labels", found, way_out)
    if all(map(is_number, names)):
        numbers = np.array(list(map(float, names)))
        if _are_whole(numbers):
            return numbers.astype(np.int64)[ids]
    longest = max(map(len, names))
    if longest > MAX_LABEL_CHARACTERS or 4 * longest * len(ids) > MAX_LABELS_BYTES:
        sample = int(np.argmax(ids == int(np.argmax(list(map(len, names))))))
        most = min(MAX_LABEL_CHARACTERS, MAX_LABELS_BYTES // (4 * len(ids)))
        found = f"{longest} for sample {sample}"
        way_out = "Give the classes short names or numbers."
        raise file_error(source, f"a file of labels of at most {most} characters", found, way_out)
    return np.array(names)[ids]


def distinct(labels: list[str] | NDArray[np.str_]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the distinct labels without outer white space, and the place of each one's."""
    places: dict[str, int] = {}
    stripped = (str(label).strip() for label in labels)
    ids = (places.setdefault(label, len(places)) for label in stripped)
    vector = np.fromiter(ids, np.int64, len(labels))
    return list(places), vector


def _are_whole(numbers: NDArray[Any]) -> bool:
    """Tell whether all numbers are whole, and small enough for float64 to be exact."""
    values = numbers.astype(np.float64)
    return bool(np.all((np.abs(values) < 2**53) & (np.trunc(values) == values)))
