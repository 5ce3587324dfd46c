"""Samples and labels from HDF5 files, opened without trust: links and other files are refused."""

from __future__ import annotations

import itertools
import math
import mmap
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from clustering_common.aligned import aligned_empty
from clustering_common.array_files import MAX_EXPANSION, SMALL_BYTES, file_error, memory_bytes
from clustering_common.h5_files import (
    DAMAGE,
    MAX_NAMES,
    check_array,
    check_is_there,
    member,
)
from clustering_common.mapped import LARGE_BYTES
from clustering_common.named_arrays import chosen_names
from clustering_common.user_labels import MAX_LABEL_CHARACTERS

__all__ = ["read_h5"]

DEFLATE, SHUFFLE = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE
POINTER = np.dtype([("length", "<u4"), ("address", "<u8"), ("index", "<u4")])  # of a text
MAX_LABEL_BYTES = 4 * MAX_LABEL_CHARACTERS  # in UTF-8


def read_h5(source: Path, key: str | None = None, wants_labels: bool = False) -> tuple[Any, Any]:
    """Return the datasets of an HDF5 file that hold samples and labels, None for what it lacks.

    A large dataset of float32 that lies in one piece, neither chunked nor packed, stays in the
    file (np.memmap); any other is read whole. Packed by gzip, shuffled before or not, it may be
    ``MAX_EXPANSION`` times as large as its packed bytes.

    Parameters
    ----------
    source : Path
        An existing file.
    key : str, default=None
        Name of the samples, such as "features" or "group/features"; by default as
        `named_arrays.chosen_names` finds them among the datasets outside of groups.
    wants_labels : bool, default=False
        Whether labels are wanted, and no samples.

    Raises
    ------
    ValueError
        If the file is damaged, its datasets are ambiguous, links, in other files, packed otherwise,
        or larger than the file can hold or memory.
    """
    with _opened(source) as file:
        names = _dataset_names(file)
        if key is not None and key not in names and _has(file, key):
            names.append(key)
    samples, labels = chosen_names(source, names, key, wants_labels)
    with _opened(source) as file:
        return (
            None if samples is None else _numbers(source, member(file, samples)),
            None if labels is None else _labels(source, member(file, labels)),
        )


@contextmanager
def _opened(source: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file; whatever is wrong with it is one ValueError line."""
    try:
        with h5py.File(source, "r") as file:
            yield file
    except (*DAMAGE, ValueError, RecursionError, zlib.error) as error:
        reason = str(error) or type(error).__name__
        raise file_error(source, "an HDF5 file of plain, whole arrays", reason) from error


def _dataset_names(file: h5py.File) -> list[str]:
    """Return the names on the file's top that are no groups; links count, to be refused by name."""
    if len(file) > MAX_NAMES:
        raise OSError(f"{len(file)} names, more than {MAX_NAMES}")
    return [
        name
        for name in file
        if not isinstance(file.get(name, getlink=True), h5py.HardLink)
        or isinstance(file[name], h5py.Dataset)
    ]


def _has(file: h5py.File, key: str) -> bool:
    """Tell whether a path leads to something in this file."""
    try:
        member(file, key)
    except KeyError:
        return False
    return True


def _numbers(source: Path, dataset: Any) -> NDArray[Any]:
    """Return an array of numbers, as an np.memmap where it is large and can be one."""
    check_array(dataset, "biuf")
    if 0 in dataset.shape:
        return np.empty(dataset.shape, dataset.dtype)
    settings = dataset.id.get_create_plist()
    if settings.get_nfilters():
        return _unpacked(dataset, _allowed_bytes(dataset))
    check_is_there(dataset)
    n_bytes = 4 * dataset.size
    if settings.get_layout() == h5py.h5d.CONTIGUOUS and dataset.dtype == np.dtype("<f4"):
        if n_bytes > LARGE_BYTES:
            return np.memmap(source, "<f4", "r", dataset.id.get_offset(), dataset.shape)
    if max(n_bytes, dataset.nbytes) > memory_bytes():
        raise OSError(
            f"{dataset.nbytes} bytes, more than memory: only float32 that is neither chunked nor "
            "packed is read a part at a time"
        )
    if dataset.chunks and math.prod(dataset.chunks) * dataset.dtype.itemsize > _file_bytes(dataset):
        raise OSError(f"{dataset.name!r} has chunks larger than the file")
    array = aligned_empty(dataset.shape, dataset.dtype)
    dataset.read_direct(array)
    return array


def _file_bytes(dataset: h5py.Dataset) -> int:
    return dataset.file.id.get_filesize()


def _allowed_bytes(dataset: h5py.Dataset) -> int:
    """Return how many bytes a packed dataset may have in memory."""
    n_packed = min(dataset.id.get_storage_size(), _file_bytes(dataset))
    return min(memory_bytes(), max(SMALL_BYTES, MAX_EXPANSION * n_packed))


def _unpacked(dataset: h5py.Dataset, limit: int) -> NDArray[Any]:
    """Return a dataset packed by gzip, chunk by chunk: HDF5 would unpack a chunk to any size."""
    settings = dataset.id.get_create_plist()
    filters = [settings.get_filter(place)[0] for place in range(settings.get_nfilters())]
    if not set(filters) <= {DEFLATE, SHUFFLE} or len(filters) > 2:
        raise OSError(f"{dataset.name!r} is packed otherwise than by gzip; use h5repack -f GZIP=4")
    n_chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize
    n_bytes = max(dataset.nbytes, 4 * dataset.size)
    grid = [-(-size // step) for size, step in zip(dataset.shape, dataset.chunks, strict=True)]
    if max(n_bytes, n_chunk) > limit or math.prod(grid) > _file_bytes(dataset):
        raise OSError(f"{max(n_bytes, n_chunk)} bytes declared, more than {limit} to be believed")
    array = aligned_empty(dataset.shape, dataset.dtype)
    for place in itertools.product(*map(range, grid)):
        offset = tuple(n * step for n, step in zip(place, dataset.chunks, strict=True))
        info = dataset.id.get_chunk_info_by_coord(offset)
        if info.byte_offset is None or info.size > _file_bytes(dataset):
            raise OSError(f"a part of {dataset.name!r} is missing")
        skipped, raw = dataset.id.read_direct_chunk(offset)
        used = [code for n, code in enumerate(filters) if not skipped >> n & 1]
        values = _plain_bytes(raw, used, n_chunk, dataset.dtype.itemsize)
        chunk = np.frombuffer(values, dataset.dtype).reshape(dataset.chunks)
        target = array[tuple(slice(begin, None) for begin in offset)]
        inside = tuple(
            slice(min(n, step)) for n, step in zip(target.shape, chunk.shape, strict=True)
        )
        target[inside] = chunk[inside]
    return array


def _plain_bytes(raw: bytes, filters: list[int], n_bytes: int, itemsize: int) -> bytes:
    """Return the bytes of a chunk before its filters, or raise unless there are ``n_bytes``."""
    for code in reversed(filters):
        if code == DEFLATE:
            unpacker = zlib.decompressobj()
            raw = unpacker.decompress(raw, n_bytes + 1)
        elif len(raw) == n_bytes:  # shuffled: all first bytes, then all second ones, ...
            raw = np.frombuffer(raw, np.uint8).reshape(itemsize, -1).T.tobytes()
    if len(raw) != n_bytes:
        raise OSError(f"a chunk has {len(raw)} bytes of {n_bytes}")
    return raw


def _labels(source: Path, dataset: Any) -> Any:
    """Return labels as an array of numbers, or a list of texts of which equal ones are one."""
    check_array(dataset, "biufOS")
    text = h5py.check_string_dtype(dataset.dtype)
    if text is None:
        return _numbers(source, dataset)
    settings = dataset.id.get_create_plist()
    if dataset.ndim != 1 or settings.get_layout() != h5py.h5d.CONTIGUOUS:
        raise OSError(
            f"{dataset.name!r} has texts of shape {dataset.shape}, or in chunks; write numbers, or "
            "the texts in one piece"
        )
    check_is_there(dataset)
    return _decoded(
        _long_texts(source, dataset) if text.length is None else dataset[()].tolist(),
        _file_bytes(dataset),
    )


def _decoded(texts: Iterable[bytes], limit: int) -> list[str]:
    """Return texts, equal ones as one: all that differ together have ``limit`` bytes at most.

    In an intact file each of them stands somewhere; in another one, a long text may be the source
    of as many as it has beginnings.
    """
    known: dict[bytes, str] = {}
    found: list[str] = []
    n_bytes = 0
    for raw in texts:
        if raw not in known:
            n_bytes += len(raw)
            if n_bytes > limit or len(raw) > MAX_LABEL_BYTES:
                raise OSError(f"labels of {n_bytes} bytes, {len(raw)} for sample {len(found)}")
            known[raw] = raw.decode()
        found.append(known[raw])
    return found


def _long_texts(source: Path, dataset: h5py.Dataset) -> Iterator[bytes]:
    """Yield texts of variable length: HDF5 believes any length, and walks a damaged heap for ever.

    In place of each stands how long it is, the address of a heap, and its number there.
    """
    file = dataset.file.id.get_create_plist()
    n_bytes = len(dataset) * POINTER.itemsize
    if file.get_sizes() != (8, 8) or n_bytes > dataset.id.get_storage_size():
        raise OSError(f"{dataset.name!r} has texts of another kind")
    with open(source, "rb") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as content:
        offset = dataset.id.get_offset()
        pointers = np.frombuffer(content[offset : offset + n_bytes], POINTER)
        heaps: dict[int, dict[int, bytes]] = {}
        end = 0
        for address in np.unique(pointers["address"][pointers["length"] > 0]).tolist():
            begin = address + file.get_userblock()
            if begin < end:  # each would keep the other's texts
                raise OSError("heaps of texts that overlap")
            heaps[address], end = _heap(content, begin)
        for length, address, index in pointers.tolist():
            yield heaps[address].get(index, b"")[:length] if length else b""


def _heap(content: mmap.mmap, begin: int) -> tuple[dict[int, bytes], int]:
    """Return the texts of the global heap that begins here, by number, and where it ends."""
    if content[begin : begin + 4] != b"GCOL":
        raise OSError("texts that lead nowhere")
    texts: dict[int, bytes] = {}
    place, end = begin + 16, min(begin + _number(content, begin + 8, 8), len(content))
    while place + 16 <= end:
        # An object has a head of 16 bytes; the one without a number is what is left.
        index, size = _number(content, place, 2), _number(content, place + 8, 8)
        step = 16 + -(-size // 8) * 8 if index else size
        if not 16 <= step <= end - place:
            raise OSError("a damaged heap of texts")
        if index:
            texts[index] = content[place + 16 : place + 16 + size]
        place += step
    return texts, end


def _number(content: mmap.mmap, place: int, n_bytes: int) -> int:
    """Return the number that stands at a place of the file."""
    return int.from_bytes(content[place : place + n_bytes], "little")
