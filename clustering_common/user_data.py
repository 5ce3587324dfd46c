"""Load a user's own samples, and labels where there are any: arrays, tables, images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clustering_common.array_files import (
    file_error,
    npz_names,
    read_npy,
    read_npz,
)
from clustering_common.checks import check_finite
from clustering_common.csv_files import LABEL_NAMES, is_number, read_csv, read_csv_labels
from clustering_common.image_files import load_images
from clustering_common.mapped import LARGE_BYTES, is_mapped, map_npy

__all__ = ["UserData", "load_user_data"]

SUFFIXES = (".csv", ".npy", ".npz")
DATA_NAMES = ("x", "X", "data")
# Of a label, and of all of them as an array, whose every item is as long as the longest.
MAX_LABEL_CHARACTERS = 1000
MAX_LABELS_BYTES = 1 << 28
# Names of the arrays that scipy.sparse.save_npz writes.
SPARSE_NAMES = {"indices", "indptr", "format", "shape", "data"}


class UserData(NamedTuple):
    """Samples and, where known, their classes.

    Attributes
    ----------
    X : ndarray of shape (n, d), (n, height, width) or (n, height, width, channels), float32
        Vectors or images; uint8 files are divided by 255.
    labels : ndarray of shape (n,), or None
        Integers (int64) or strings; for scores only.
    names : list of str, or None
        Of the files, where each sample is one.
    """

    X: NDArray[np.float32]
    labels: NDArray[Any] | None
    names: list[str] | None = None


def load_user_data(
    path: str | os.PathLike[str],
    labels_path: str | os.PathLike[str] | None = None,
    *,
    image_size: int | Sequence[int] | None = None,
    colour: str = "auto",
) -> UserData:
    """Return the samples of a file or a folder, with labels from the same or another file.

    - A folder: its PNG and JPEG images, those of its folders too (`image_files.load_images`).
    - .npy: one array of samples.
    - .npz: samples under the key x, X or data, or as the only array beside the labels; labels
      under y, labels, label or target.
    - .csv: numbers between commas, one sample a line. A first line without any number, or with
      a column named label, labels, y or target, is a header; that column holds the labels.

    Parameters
    ----------
    path : path
        Samples: vectors (n, d), images (n, height, width) or (n, height, width, channels).
        uint8 is divided by 255; any other kind keeps its values and becomes float32. A .npy file
        of float32, of a gigabyte and more, stays a file (np.memmap).
    labels_path : path, default=None
        Labels, one for each sample, alone in a file of the same kinds. They take the place of
        labels found in `path`.
    image_size, colour : optional
        Of a folder's images, as `image_files.load_images` takes them.

    Returns
    -------
    UserData
        `X`, and `labels` and `names`, None if there are none.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    ValueError
        If a file is of an unknown kind, empty, damaged or ambiguous, holds pickled objects,
        anything but numbers, NaN or infinity, or if the labels are not as many as the samples.

    Notes
    -----
    A .csv whose header holds only numbers looks like one more sample: name a column, or drop
    the line. .npz files of scipy.sparse are refused; give sparse matrices to `fit` directly.

    Examples
    --------
    >>> from clustering_common.user_data import load_user_data
    >>> X, labels, names = load_user_data("samples.csv")  # doctest: +SKIP
    """
    names, labels = None, None
    if Path(path).expanduser().is_dir():
        samples, names = load_images(path, image_size=image_size, colour=colour)
    else:
        if image_size is not None:
            raise ValueError(
                f"image_size must come with a folder of images; got {image_size!r}. Leave it out."
            )
        source = _check_path("path", path)
        samples, labels = _read(source)
        if samples is None:
            raise file_error(source, "a file with samples", "labels only", "Add the samples to it.")
        samples = _check_samples(source, samples)
    if labels_path is not None:
        source = _check_path("labels_path", labels_path)
        _, labels = _read(source, wants_labels=True)
    if labels is not None:
        labels = _check_labels(source, labels, len(samples))
    return UserData(samples, labels, names)


def _check_path(name: str, path: str | os.PathLike[str]) -> Path:
    """Return the path of a non-empty file of a known kind."""
    source = Path(path).expanduser()
    if not source.is_file():
        raise FileNotFoundError(
            f"{name} must be an existing file; got {str(source)!r}. Check its spelling and folder."
        )
    if source.suffix.lower() not in SUFFIXES:
        kinds = f"a file of one of the kinds {', '.join(SUFFIXES)}"
        raise file_error(source, kinds, repr(source.suffix), "Save the array with np.save.")
    if not source.stat().st_size:
        raise file_error(source, "non-empty", "0 bytes")
    return source


def _read(source: Path, wants_labels: bool = False) -> tuple[Any, Any]:
    """Return samples and labels of a file, None for what it lacks."""
    suffix = source.suffix.lower()
    if suffix == ".npy":
        if wants_labels:
            return None, read_npy(source)
        if source.stat().st_size > LARGE_BYTES:
            samples = map_npy(source)
            if samples.dtype == np.float32 and samples.flags.c_contiguous:
                return samples, None
        return read_npy(source), None
    if suffix == ".npz":
        return _read_npz(source, wants_labels)
    return (None, read_csv_labels(source)) if wants_labels else read_csv(source)


def _read_npz(source: Path, wants_labels: bool) -> tuple[Any, Any]:
    """Return the arrays of a .npz file that hold samples and labels."""
    names = npz_names(source)
    if set(names) >= SPARSE_NAMES:
        way_out = "Save matrix.toarray() instead, or give the matrix to fit."
        raise file_error(source, "a file of dense arrays", "a sparse matrix of SciPy", way_out)
    labels = [name for name in names if name in LABEL_NAMES]
    others = [name for name in names if name not in LABEL_NAMES]
    samples = [name for name in names if name in DATA_NAMES] or others
    if wants_labels:
        samples, labels = [], labels or others
    if max(len(samples), len(labels)) != 1:
        wanted = "a .npz file with one array of samples and at most one of labels"
        way_out = f"Name them {' or '.join(DATA_NAMES)}, and {' or '.join(LABEL_NAMES)}."
        raise file_error(source, wanted, f"the keys {', '.join(names) or '(none)'}", way_out)
    arrays = read_npz(source, [*samples, *labels])
    return arrays[0] if samples else None, arrays[-1] if labels else None


def _check_samples(source: Path, samples: NDArray[Any]) -> NDArray[np.float32]:
    """Return samples as float32 of a usable shape, without NaN and infinity."""
    if samples.dtype.kind not in "biuf":
        way_out = "Convert it with astype(np.float32) and save it again."
        raise file_error(source, "an array of numbers", f"dtype {samples.dtype}", way_out)
    if samples.ndim not in (2, 3, 4) or not samples.size:
        wanted = "an array of shape (n, d), (n, height, width) or (n, height, width, channels)"
        found = f"shape {samples.shape}"
        raise file_error(source, f"{wanted} without zeros", found, "Reshape and save it again.")
    if is_mapped(samples):
        check_finite(str(source), samples)
        return samples
    if samples.dtype == np.uint8:
        return np.divide(samples, np.float32(255), dtype=np.float32)
    with np.errstate(over="ignore"):  # becomes infinite, which the check reports
        converted = np.ascontiguousarray(samples, dtype=np.float32)
    check_finite(str(source), converted)
    return converted


def _check_labels(source: Path, labels: Any, n_samples: int) -> NDArray[Any]:
    """Return one label a sample: int64 where all are whole numbers, otherwise strings."""
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


def _text_labels(source: Path, labels: list[str] | NDArray[np.str_]) -> NDArray[Any]:
    """Return the labels as int64 if all of them read as whole numbers."""
    names, ids = _distinct(labels)
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


def _distinct(labels: list[str] | NDArray[np.str_]) -> tuple[list[str], NDArray[np.int64]]:
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
