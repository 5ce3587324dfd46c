"""HDF5 weight files, opened without trust: what is not plain data of this very file is refused.

A file is read only after its names, links and sizes were checked, and, where it has one, its
checksum. Files of ours have one; classic files of Keras and of the authors' release have none.
"""

import hashlib
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from clustering_common.h5_names import LongNames

__all__ = [
    "CHECKSUM", "DAMAGE", "MAX_NAMES", "WeightFile", "check_array", "check_is_there", "checksum",
    "member", "open_weights",
]  # fmt: skip

CHECKSUM = "sha256"
CONFIG = "config"
MAX_NAMES = 1000  # a network has some tens of layers
MAX_NAME_BYTES = 1 << 28
# What h5py raises on damaged files. ValueError is left out where our own may pass.
DAMAGE = (
    OSError, KeyError, RuntimeError, AttributeError, TypeError, UnicodeError, OverflowError,
    MemoryError, IndexError, NotImplementedError,
)  # fmt: skip


@dataclass(frozen=True)
class WeightFile:
    """What a weight file holds, checked but not yet read.

    Attributes
    ----------
    layers : dict of list of h5py.Dataset
        The weights of each layer that has any, in the file's order.
    extras : dict of h5py.Dataset
        What an estimator keeps beside its weights; empty for weights alone.
    """

    layers: dict[str, list[h5py.Dataset]]
    extras: dict[str, h5py.Dataset]

    @property
    def n_weights(self) -> int:
        """How many numbers the layers have."""
        return sum(math.prod(d.shape) for datasets in self.layers.values() for d in datasets)


@contextmanager
def open_weights(path: str | os.PathLike) -> Iterator[WeightFile]:
    """Open a weight file for reading; whatever is wrong with it is one ValueError line.

    Parameters
    ----------
    path : path-like

    Yields
    ------
    WeightFile
        Its datasets can be read inside the block. All of them together are no larger than the
        file, lie in it, and have the checksum that was written with them.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, or no plain file of Keras weights.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"weights must be an existing .h5 file; got {str(path)!r}. "
            "Train a model first: main.py writes ae_weights.h5 and model_final.h5 to --save-dir."
        )
    try:
        with h5py.File(path, "r") as file:
            yield _checked(file)
    except DAMAGE as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ValueError(
            f"weights must be a whole HDF5 file of Keras weights; got {str(path)!r} ({reason}). "
            "The file is damaged or of another kind: copy it again or train anew."
        ) from error


def checksum(file: h5py.File) -> str:
    """Return the SHA-256 of all weights and extras: names, types, shapes and bytes, in order."""
    return _digest(_contents(file, sys.maxsize))


def _checked(file: h5py.File) -> WeightFile:
    """Return the content of an open file, after all checks."""
    try:
        contents = _contents(file, file.id.get_filesize())
        expected = _expected(file)
        if expected is None and contents.extras:
            raise OSError("a saved estimator without its checksum")
        if expected is not None and expected != _digest(contents):
            raise OSError("its checksum differs")
    except (ValueError, RecursionError) as error:
        raise OSError(str(error)) from error
    return contents


def _expected(file: h5py.File) -> str | None:
    """Return the checksum that a file of ours carries."""
    if CHECKSUM not in file.attrs:
        return None
    entry = file.attrs.get_id(CHECKSUM)
    if entry.shape != () or entry.dtype != np.dtype("S64"):
        raise OSError("its checksum is damaged")
    return bytes(file.attrs[CHECKSUM]).decode()


def _digest(contents: WeightFile) -> str:
    """Return the SHA-256 of contents, reading one dataset at a time."""
    digest = hashlib.sha256()
    named = [(name, d) for name, datasets in contents.layers.items() for d in datasets]
    for name, dataset in [*named, *sorted(contents.extras.items())]:
        value = dataset[()]
        head = f"{name}\n{dataset.name}\n{dataset.dtype.str}\n{dataset.shape}\n"
        digest.update(head.encode())
        digest.update(value if isinstance(value, bytes) else np.ascontiguousarray(value).data)
    return digest.hexdigest()


def _contents(file: h5py.File, limit: int) -> WeightFile:
    """Return layers and extras of a file whose datasets may have ``limit`` bytes in all."""
    root = member(file, "model_weights") if "model_weights" in file else file
    layers: dict[str, list[h5py.Dataset]] = {}
    long_names = LongNames(file.filename)
    for name in _names(root, "layer_names", long_names):
        group = member(root, name)
        names = _names(group, "weight_names", long_names)
        weights = [member(group, weight) for weight in names]
        for dataset in weights:
            _check_plain(dataset, "fiu")
        if weights:
            layers[name] = weights
    extras = _extras(file)
    every = [*(d for datasets in layers.values() for d in datasets), *extras.values()]
    # Two names may lead to one dataset: their sum counts.
    n_bytes = sum(math.prod(dataset.shape) * dataset.dtype.itemsize for dataset in every)
    if n_bytes > limit:
        raise OSError(f"{n_bytes} bytes declared in a file of {limit}")
    return WeightFile(layers, extras)


def _extras(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Return what a file of ours keeps beside the weights."""
    if "estimator" not in file:
        return {}
    group = member(file, "estimator")
    if len(group) > MAX_NAMES:
        raise OSError(f"{len(group)} entries beside the weights")
    extras = {name: member(group, name) for name in group}
    for name, dataset in extras.items():
        is_text = name == CONFIG
        # Of variable length it would be of type O: see `h5_names` for what HDF5 makes of these.
        _check_plain(dataset, "S" if is_text else "biuf")
        if is_text and dataset.shape != ():
            raise OSError("its settings are no text")
    return extras


def member(group: Any, path: str) -> Any:
    """Return what a path leads to in this file; KeyError for links, soft or to elsewhere."""
    for part in path.split("/"):
        if not part or not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise KeyError(f"{path!r} is missing or a link")
        group = group[part]
    return group


def _check_plain(dataset: Any, kinds: str) -> None:
    """Raise unless a dataset is an array of one of the kinds that lies in this file as it is."""
    check_array(dataset, kinds)
    # A filter may unpack to any size. Nothing that is not there is filled in.
    if dataset.id.get_create_plist().get_nfilters():
        raise OSError(f"{dataset.name!r} is packed; unpack it with h5repack -f NONE")
    check_is_there(dataset)


def check_array(dataset: Any, kinds: str) -> None:
    """Raise OSError or TypeError unless a dataset is an array of one of the kinds in this file."""
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise TypeError(f"{dataset.name!r} is no array")
    if dataset.is_virtual or dataset.external:
        raise OSError(f"{dataset.name!r} lies in another file")
    if dataset.dtype.kind not in kinds or (dataset.dtype.metadata and not set(kinds) & set("OS")):
        raise TypeError(f"{dataset.name!r} has the type {dataset.dtype}")


def check_is_there(dataset: h5py.Dataset) -> None:
    """Raise OSError unless the file has all bytes of a dataset that is not packed."""
    n_bytes = math.prod(dataset.shape) * dataset.dtype.itemsize
    if n_bytes > dataset.id.get_storage_size() and dataset.dtype.kind != "O":
        raise OSError(f"{dataset.name!r} declares {n_bytes} bytes and has fewer")


def _names(group: Any, attribute: str, long_names: LongNames) -> list[str]:
    """Return the names that an attribute lists."""
    if attribute not in group.attrs:
        raise KeyError(f"no attribute {attribute!r}")
    entry = group.attrs.get_id(attribute)
    if len(entry.shape) != 1 or entry.shape[0] > MAX_NAMES:
        raise OSError(f"the attribute {attribute!r} has the shape {entry.shape}")
    if not entry.shape[0]:
        return []
    text = h5py.check_string_dtype(entry.dtype)
    if text is None or entry.shape[0] * (text.length or 0) > MAX_NAME_BYTES:
        raise OSError(f"the attribute {attribute!r} is no list of names")
    if text.length is None:
        return long_names.of(group.name, attribute)
    return [name.decode() for name in group.attrs[attribute]]
