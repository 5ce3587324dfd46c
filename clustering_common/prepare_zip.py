"""Unpack the authors' zip, trusting neither its names nor its sizes."""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from numpy.typing import NDArray

from clustering_common.array_files import ZIP_ERRORS
from clustering_common.dataset_files import file_error, read_npz
from clustering_common.prepare_layout import (
    FOLDERS,
    X_NAME,
    Y_NAME,
    Say,
    folder_of,
    keeps,
    write_pair,
)

__all__ = ["unpack"]

ZIP_NAME = "ens_cluster_datasets.zip"
WAY_OUT = (
    f"Get {ZIP_NAME} from the release 'clustering_datasets' of "
    "https://github.com/divamgupta/datasets again."
)
# Four times the largest array of the paper, 60,000 x 2,048 numbers of 8 bytes.
MAX_BYTES = 4 * 60_000 * 2048 * 8
# The files of one data set, train_X.npy and train_Y.npy.
Pair: TypeAlias = dict[str, zipfile.ZipInfo]


def unpack(
    path: Path,
    data_dir: Path,
    say: Say,
    *,
    name: str | None = None,
    force: bool = False,
) -> None:
    """Write the data sets of the authors' zip to `data_dir`/ens_cluster_datasets.

    Only <name>/train_X.npy and train_Y.npy of the known names are read, whatever folder they are
    in; nothing is written but to these names below `data_dir`, and only arrays that were read
    whole, with their own dtype.

    Parameters
    ----------
    path : Path
        The zip.
    data_dir : Path
        An existing folder.
    say : callable
        Takes a line for each data set.
    name : str, default=None
        Only this data set, by its name in ``FOLDERS``; by default all that are there.
    force : bool, default=False
        Whether to write over files that are there.

    Raises
    ------
    FileNotFoundError
        If there is no such zip.
    ValueError
        If a name in it leads out of its folder, is a link or occurs twice, sizes are absurd or
        more than the disk has free, the data set or half of it is missing, or an array is
        damaged, pickled or of a wrong shape.
    """
    if not path.is_file():
        raise FileNotFoundError(f"The zip must be an existing file; got {str(path)!r}. {WAY_OUT}")
    pairs = _pairs(path, _members(path))
    if name is not None and name not in pairs:
        found = ", ".join(pairs) or "none of the known names"
        raise file_error(path, f"a zip with {name}", found, f"Choose one that it has. {WAY_OUT}")
    chosen = {key: pairs[key] for key in ([name] if name else pairs)}
    wanted = {
        key: pair for key, pair in chosen.items() if not keeps(folder_of(key, data_dir), force, say)
    }
    _check_sizes(path, [info for pair in wanted.values() for info in pair.values()], data_dir)
    for key, pair in wanted.items():
        say(write_pair(folder_of(key, data_dir), *_read_pair(path, pair)))


def _members(path: Path) -> list[zipfile.ZipInfo]:
    """Return what a zip lists, after checking each name and kind."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (ValueError, *ZIP_ERRORS) as error:  # an absurd size is a ValueError
        raise file_error(path, "an intact zip", error, WAY_OUT) from error
    for info in members:
        parts = re.split(r"[/\\]", info.filename)
        is_absolute = not parts[0] or ":" in parts[0]
        if is_absolute or ".." in parts:
            wanted = "a zip of names that stay inside its folder"
            raise file_error(path, wanted, repr(info.filename), WAY_OUT)
        # The upper half holds the mode where the zip was made on Unix, else 0.
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            wanted = "a zip of files and folders, without links and devices"
            raise file_error(path, wanted, repr(info.filename), WAY_OUT)
    return members


def _pairs(path: Path, members: Sequence[zipfile.ZipInfo]) -> dict[str, Pair]:
    """Return the files of each known data set, by its name."""
    # read_npz looks arrays up without their suffix.
    counts = Counter(info.filename.removesuffix(".npy") for info in members)
    names = {folder: name for name, folder in FOLDERS.items()}
    pairs: dict[str, Pair] = {}
    for info in members:
        place = PurePosixPath(info.filename)
        name = names.get(place.parent.name)
        if name is None or place.name not in (X_NAME, Y_NAME) or info.is_dir():
            continue
        pair = pairs.setdefault(name, {})
        if place.name in pair or counts[info.filename.removesuffix(".npy")] > 1:
            found = f"{info.filename!r} and another"
            raise file_error(path, f"a zip with one {place.name} for {name}", found, WAY_OUT)
        pair[place.name] = info
    for name, pair in pairs.items():
        if len(pair) == 1:
            wanted = f"a zip with {X_NAME} and {Y_NAME} for {name}"
            raise file_error(path, wanted, f"only {next(iter(pair))}", WAY_OUT)
    if not pairs:
        wanted = f"a zip of NAME/{X_NAME} and NAME/{Y_NAME} for NAME of {', '.join(names)}"
        found = ", ".join(repr(info.filename) for info in members[:3]) or "an empty one"
        raise file_error(path, wanted, found, WAY_OUT)
    return pairs


def _check_sizes(path: Path, members: Sequence[zipfile.ZipInfo], data_dir: Path) -> None:
    """Raise if the members can't be as large as the zip says, or don't fit on the disk."""
    # Members that share bytes make a small zip unpack to anything.
    if sum(info.compress_size for info in members) > path.stat().st_size:
        found = "members that together are larger"
        raise file_error(path, "a zip as large as its members", found, WAY_OUT)
    largest = max((info.file_size for info in members), default=0)
    if largest > MAX_BYTES:
        found = f"{largest} bytes declared"
        raise file_error(path, f"a zip of arrays of at most {MAX_BYTES} bytes", found, WAY_OUT)
    n_bytes = sum(info.file_size for info in members)
    n_free = shutil.disk_usage(data_dir).free
    if n_bytes > n_free:
        way_out = "Free some space, or choose another --data-dir."
        raise file_error(path, f"a zip of at most {n_free} bytes, as free", n_bytes, way_out)


def _read_pair(path: Path, pair: Pair) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return samples and labels of one data set, checked."""
    names = [pair[name].filename.removesuffix(".npy") for name in (X_NAME, Y_NAME)]
    X, Y = read_npz(path, names)
    if X.dtype.kind not in "biuf" or X.ndim != 2 or not X.size:
        wanted = f"a zip with numbers of shape (n_samples, n_features) in {names[0]!r}"
        raise file_error(path, wanted, f"{X.dtype} of shape {X.shape}", WAY_OUT)
    # One column of labels is read by a run as well as a vector.
    if Y.dtype.kind not in "biuf" or Y.shape not in ((len(X),), (len(X), 1)):
        wanted = f"a zip with {len(X)} numbers, one a sample, in {names[1]!r}"
        raise file_error(path, wanted, f"{Y.dtype} of shape {Y.shape}", WAY_OUT)
    return X, Y
