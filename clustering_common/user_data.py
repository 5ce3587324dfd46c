"""Load a user's own samples, and labels where there are any: arrays, tables, images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clustering_common.aligned import aligned, aligned_empty
from clustering_common.array_files import file_error, npz_names, read_npy, read_npz
from clustering_common.checks import check_finite
from clustering_common.csv_files import read_csv, read_csv_labels
from clustering_common.h5_data import read_h5
from clustering_common.image_files import load_images
from clustering_common.mapped import LARGE_BYTES, is_mapped, map_npy
from clustering_common.named_arrays import chosen_names
from clustering_common.parquet_files import read_parquet, read_parquet_labels
from clustering_common.prepare_layout import prepared_image_shape
from clustering_common.sparse_files import SPARSE_NAMES, read_csr
from clustering_common.user_labels import checked_labels, labels_by_name

__all__ = ["UserData", "image_shape", "load_user_data"]

H5_SUFFIXES = (".h5", ".hdf5")
NAMED_SUFFIXES = (".npz", *H5_SUFFIXES)
SUFFIXES = (".csv", ".npy", ".parquet", *NAMED_SUFFIXES)
TABLES = {".csv": (read_csv, read_csv_labels), ".parquet": (read_parquet, read_parquet_labels)}


class UserData(NamedTuple):
    """Samples and, where known, their classes.

    Attributes
    ----------
    X : ndarray of shape (n, d), (n, height, width) or (n, height, width, channels), float32
        Vectors or images; uint8 files are divided by 255. A CSR matrix where one was asked for.
    labels : ndarray of shape (n,), or None
        Integers (int64) or strings; for scores only.
    names : list of str, or None
        Of the files, where each sample is one.
    image_shape : tuple of int, or None
        (height, width) or (height, width, 3) of samples that are images; vectors are only where
        `python -m clustering_common.prepare` made them of images.
    """

    X: Any
    labels: NDArray[Any] | None
    names: list[str] | None = None
    image_shape: tuple[int, ...] | None = None


def image_shape(shape: Sequence[int]) -> tuple[int, ...] | None:
    """Return the shape of the images in an array of ``shape``, None of what can't be shown.

    Examples
    --------
    >>> image_shape((50, 28, 20)), image_shape((50, 28, 20, 1)), image_shape((50, 28, 20, 3))
    ((28, 20), (28, 20), (28, 20, 3))
    >>> image_shape((50, 784)) is None
    True
    """
    sides, channels = tuple(map(int, shape[1:3])), tuple(map(int, shape[3:]))
    if len(sides) < 2 or channels not in ((), (1,), (3,)):
        return None
    return (*sides, 3) if channels == (3,) else sides


def load_user_data(
    path: str | os.PathLike[str],
    labels_path: str | os.PathLike[str] | None = None,
    *,
    image_size: int | Sequence[int] | None = None,
    colour: str | None = None,
    data_key: str | None = None,
    sparse: bool = False,
) -> UserData:
    """Return the samples of a file or a folder, with labels from the same or another file.

    - A folder: its PNG and JPEG images, those of its folders too (`image_files.load_images`).
    - .npy: one array of samples.
    - .npz and .h5 (.hdf5): samples under the key x, X or data, or as the only array beside the
      labels, or under `data_key`; labels under y, labels, label or target.
    - .csv: numbers between commas, one sample a line. A first line without any number, or with
      a column named label or labels, is a header; that column holds the labels.
    - .parquet: columns of numbers, and labels in a column of one of these names; wants pyarrow.
      The index of a pandas table is left out.

    Parameters
    ----------
    path : path
        Samples: vectors (n, d), images (n, height, width) or (n, height, width, channels).
        uint8 is divided by 255 but in tables; any other kind keeps its values and becomes float32.
        A .npy file, or a dataset in one piece of a .h5 file, of float32, of a gigabyte and more,
        stays a file (np.memmap).
    labels_path : path, default=None
        Labels, one for each sample, alone in a file of the same kinds or in a column named label,
        labels, y or target. They take the place of labels found in `path`. Where `path` is a
        folder and a table of labels names the files too, each label goes to its file; all others
        go with the samples in order, images in that of their names.
    image_size, colour : optional
        Of a folder's images, as `image_files.load_images` takes them.
    data_key : str, default=None
        Which array of a .npz or .h5 file has the samples; of a .h5 also "group/name".
    sparse : bool, default=False
        Whether a .npz file of scipy.sparse.save_npz is taken too, as a CSR matrix.

    Returns
    -------
    UserData
        `X`, and `labels`, `names` and `image_shape`, None if there are none.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    ImportError
        For a .parquet file without pyarrow.
    ValueError
        If a file is of an unknown kind, empty, damaged or ambiguous, holds pickled objects,
        anything but numbers, NaN or infinity, or if the labels are not as many as the samples.

    Notes
    -----
    What pandas' ``to_csv`` writes by default is understood: the first columns are its index where
    the header has no name for them, and are left out; a first line 0,1,...,d-1 is a header. Of two
    or three columns without an index it is a sample if the next line has a whole number without a
    decimal point. Any other .csv whose header holds numbers alone looks like one more sample: name
    a column, or drop the line. An index that has a name is a feature: ``to_csv(index=False)``.

    Examples
    --------
    >>> from clustering_common.user_data import load_user_data
    >>> data = load_user_data("samples.csv")  # doctest: +SKIP
    >>> data.X.shape, data.labels is None  # doctest: +SKIP
    ((150, 4), True)
    """
    names, labels = None, None
    if Path(path).expanduser().is_dir():
        _check_absent("data_key", data_key, "a .npz or .h5 file")
        samples, names = load_images(path, image_size=image_size, colour=colour or "auto")
    else:
        for name, value in (("image_size", image_size), ("colour", colour)):
            _check_absent(name, value, "a folder of images")
        source = _check_path("path", path)
        if source.suffix.lower() not in NAMED_SUFFIXES:
            _check_absent("data_key", data_key, "a .npz or .h5 file")
        samples, labels = _read(source, data_key, sparse)
        if samples is None:
            raise file_error(source, "a file with samples", "labels only", "Add the samples to it.")
        samples = _check_samples(source, samples)
    if labels_path is not None:
        source = _check_path("labels_path", labels_path)
        labels = _read_labels(source, names)
    if labels is not None:
        labels = checked_labels(source, labels, samples.shape[0])
    shown = image_shape(samples.shape) or prepared_image_shape(path, samples.shape[1])
    return UserData(samples, labels, names, shown)


def _check_absent(name: str, value: object, wanted: str) -> None:
    """Raise ValueError if an argument was given that this kind of data has no use for."""
    if value is not None:
        raise ValueError(f"{name} must come with {wanted}; got {value!r}. Leave it out.")


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


def _read(source: Path, data_key: str | None, sparse: bool) -> tuple[Any, Any]:
    """Return samples and labels of a file, None for what it lacks."""
    suffix = source.suffix.lower()
    if suffix in TABLES:
        return TABLES[suffix][0](source)
    if suffix in H5_SUFFIXES:
        return read_h5(source, data_key)
    if suffix == ".npz":
        return _read_npz(source, data_key, sparse)
    if source.stat().st_size > LARGE_BYTES:
        samples = map_npy(source)
        if samples.dtype == np.float32 and samples.flags.c_contiguous:
            return samples, None
    return read_npy(source), None


def _read_labels(source: Path, names: list[str] | None) -> Any:
    """Return the labels of a file that has them alone, or under their name.

    Those of a table with names of files are in the order of ``names``, where samples have some.
    """
    suffix = source.suffix.lower()
    if suffix in TABLES:
        labels, files = TABLES[suffix][1](source)
        if names is None or files is None:
            return labels
        return labels_by_name(source, labels, files, names)
    if suffix in H5_SUFFIXES:
        return read_h5(source, wants_labels=True)[1]
    if suffix == ".npz":
        _, name = chosen_names(source, npz_names(source), wants_labels=True)
        return read_npz(source, [str(name)])[0]
    return read_npy(source)


def _read_npz(source: Path, data_key: str | None, sparse: bool) -> tuple[Any, Any]:
    """Return the arrays of a .npz file that hold samples and labels."""
    names = npz_names(source)
    if set(names) >= SPARSE_NAMES and data_key is None:
        if sparse:
            return read_csr(source), None
        way_out = "Save matrix.toarray() instead, or give the matrix to KingdraCluster's fit."
        raise file_error(source, "a file of dense arrays", "a sparse matrix of SciPy", way_out)
    chosen = chosen_names(source, names, data_key)
    arrays = read_npz(source, [name for name in chosen if name is not None])
    return arrays[0] if chosen[0] else None, arrays[-1] if chosen[1] else None


def _check_samples(source: Path, samples: Any) -> Any:
    """Return samples as float32 of a usable shape, without NaN and infinity."""
    if hasattr(samples, "indptr"):
        return samples  # of `read_csr`, checked
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
        return np.divide(samples, np.float32(255), out=aligned_empty(samples.shape))
    with np.errstate(over="ignore"):  # becomes infinite, which the check reports
        converted = aligned(samples, np.float32)
    check_finite(str(source), converted)
    return converted
