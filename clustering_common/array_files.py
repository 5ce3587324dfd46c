"""Readers of arrays, .npy and .npz, that trust nothing in a file.

What a header declares is compared with what the file can hold before memory is asked for, so a
corrupt or hostile file costs an error of one line and no more memory than its size allows.
"""

from __future__ import annotations

import io
import math
import os
import struct
import sys
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clustering_common.aligned import aligned_empty

__all__ = [
    "believable_header", "file_error", "fill", "memory_bytes", "npz_names", "read_array",
    "read_npy", "read_npz",
]  # fmt: skip

# Deflate packs zeros 1032 times, real data seldom more than 50 times. What is packed better than
# this may still take SMALL_BYTES in memory.
MAX_EXPANSION = 100
SMALL_BYTES = 1 << 26
MAX_HEADER_BYTES = 10_000
MAX_FOUND_CHARACTERS = 300
CHUNK_BYTES = 1 << 20
# Bytes of a header's length, and its reader, by the version of the format.
HEADERS = {
    (1, 0): (2, np.lib.format.read_array_header_1_0),
    (2, 0): (4, np.lib.format.read_array_header_2_0),
}
# What the parsers of Python and NumPy raise on a header. MemoryError: their stack is full.
HEADER_ERRORS = (
    ValueError, TypeError, SyntaxError, tokenize.TokenError, LookupError, AttributeError,
    ArithmeticError, MemoryError, RecursionError,
)  # fmt: skip
# RuntimeError: encrypted, or packed by an unknown method. OSError: an absurd offset.
ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, UnicodeError, struct.error,
    OverflowError, MemoryError,
)  # fmt: skip
Header: TypeAlias = tuple[tuple[int, ...], bool, "np.dtype[Any]"]
REPLACE = "Replace it by an intact copy: download or write it again."
NO_OBJECTS = "Save labels as text or integers, astype(str) or astype(int), and samples as float32."
BY_BLOCKS = "Save it by np.save as float32 in C order, which is then read block by block."


class ArrayError(ValueError):
    """What is wrong with an array that another copy of it would not mend, and what would."""

    def __init__(self, reason: str, way_out: str):
        super().__init__(reason)
        self.way_out = way_out


def file_error(path: Path, constraint: str, got: object, way_out: str = "") -> ValueError:
    """Return the one-line error of a file that is not what it should be.

    Parameters
    ----------
    path : Path
        The file.
    constraint : str
        What the file must be.
    got : object
        What was found instead; white space in it is folded, and a long text cut.
    way_out : str, default=""
        One sentence on how to go on; by default that of an ``ArrayError``, or to replace the file.

    Returns
    -------
    ValueError
        To be raised by the caller.
    """
    way_out = way_out or getattr(got, "way_out", "") or REPLACE
    found = " ".join(str(got).split())
    found = found if len(found) <= MAX_FOUND_CHARACTERS else found[:MAX_FOUND_CHARACTERS] + "..."
    return ValueError(f"{str(path)!r} must be {constraint}; got {found}. {way_out}")


def fill(stream: IO[bytes], array: NDArray[Any]) -> int:
    """Read into a contiguous array until it is full or the stream ends; return the bytes read."""
    target = array.reshape(-1).view(np.uint8)
    n_bytes = 0
    # In pieces: memory that no byte has come for is never touched.
    while part := stream.read(min(CHUNK_BYTES, len(target) - n_bytes)):
        target[n_bytes : n_bytes + len(part)] = np.frombuffer(part, np.uint8)
        n_bytes += len(part)
    return n_bytes


def read_array(stream: IO[bytes], n_bytes: int, limit: int | None = None) -> NDArray[Any]:
    """Return the array in the .npy format that begins here; pickled objects are refused.

    For any file with such arrays in it. The stream is left right behind the array.

    Parameters
    ----------
    stream : binary stream
        At the first byte of the array's header.
    n_bytes : int
        How many bytes there are from here to the end of the file.
    limit : int, default=None
        Most bytes that the array may take in memory, as it is or as float32; by default, the
        memory of this computer.

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError
        If the header is damaged, or declares objects or more bytes than there are. The text is
        the reason alone: the caller names the file.
    """
    shape, is_fortran, dtype = believable_header(stream, n_bytes)
    n_declared = math.prod(shape) * dtype.itemsize
    # Numbers become float32 sooner or later.
    n_needed = max(n_declared, 4 * math.prod(shape) if dtype.kind in "biuf" else 0)
    limit = memory_bytes() if limit is None else limit
    if n_needed > limit:
        way_out = BY_BLOCKS if n_needed > memory_bytes() else ""
        raise ArrayError(f"{n_needed} bytes of memory needed, more than {limit}", way_out)
    try:
        flat = aligned_empty((math.prod(shape),), dtype)
        array = flat.reshape(shape[::-1]).T if is_fortran else flat.reshape(shape)
    except (MemoryError, ValueError) as error:
        raise ValueError(f"shape {shape} of {dtype}") from error
    n_read = fill(stream, flat)
    if n_read < n_declared:
        raise ValueError(f"{n_declared} bytes declared and {n_read} there")
    return array


def believable_header(stream: IO[bytes], n_bytes: int) -> Header:
    """Return shape, whether in Fortran order, and dtype of an array that the bytes can hold.

    Raises ValueError with the reason alone otherwise, and for pickled objects.
    """
    (shape, is_fortran, dtype), n_header = _read_header(stream)
    if dtype.hasobject:
        raise ArrayError("pickled objects, which can run code when they are read", NO_OBJECTS)
    if dtype.kind == "V" or not dtype.itemsize or min(shape, default=0) < 0:
        raise ValueError(f"shape {shape} of {dtype}")
    if max(shape, default=0) > sys.maxsize:
        raise ValueError(f"shape {shape}")
    n_declared, n_there = math.prod(shape) * dtype.itemsize, n_bytes - n_header
    if n_declared > n_there:
        raise ValueError(f"{n_declared} bytes declared and {n_there} there")
    return shape, is_fortran, dtype


def _read_header(stream: IO[bytes]) -> tuple[Header, int]:
    """Return shape, whether in Fortran order, and dtype; and the bytes that said so."""
    try:
        version = np.lib.format.read_magic(stream)
        if version not in HEADERS:
            raise ValueError(f"format version {version}")
        n_digits, reader = HEADERS[version]
        size = stream.read(n_digits)
        length = int.from_bytes(size, "little")
        if length > MAX_HEADER_BYTES:
            raise ValueError(f"a header of {length} bytes")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a hostile header makes Python's parser say
            header = reader(io.BytesIO(size + stream.read(length)))
    except HEADER_ERRORS as error:
        raise ValueError(str(error) or "an unreadable header") from error
    return header, np.lib.format.MAGIC_LEN + n_digits + length


def memory_bytes() -> int:
    """Return the bytes of memory of this computer, or no limit where that can't be known."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return sys.maxsize


def read_npy(path: Path) -> NDArray[Any]:
    """Return the array of a .npy file; pickled objects are refused.

    Raises
    ------
    ValueError
        If the file is no .npy file, is cut off, larger than memory, or holds pickled objects.
    """
    with path.open("rb") as stream:
        try:
            return read_array(stream, path.stat().st_size)
        except ValueError as error:
            raise file_error(path, "a .npy file", error) from error


def npz_names(path: Path) -> list[str]:
    """Return the names of the arrays in a .npz file, without ".npy", as np.load lists them.

    Raises
    ------
    ValueError
        If the file is no .npz file.
    """
    with _opened_zip(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def read_npz(path: Path, names: Sequence[str], max_bytes: int | None = None) -> list[NDArray[Any]]:
    """Return the named arrays of a .npz file; pickled objects are refused.

    Parameters
    ----------
    path : Path
        An existing file.
    names : sequence of str
        Names of arrays, without ".npy"; others are not read.
    max_bytes : int, default=None
        Most bytes of one array, where its size is known in advance; by default, this computer's
        memory. Beyond ``SMALL_BYTES``, a packed array may be at most ``MAX_EXPANSION`` times as
        large as its packed bytes, in memory as float32.

    Returns
    -------
    list of ndarray
        In the order of `names`.

    Raises
    ------
    ValueError
        If the file is no .npz file, lacks a name, is damaged, or an array is a pickled object
        or larger than its packed bytes can be believed to hold.
    """
    arrays = []
    with _opened_zip(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        for name in names:
            if name not in members:
                found = f"the names {', '.join(members) or '(none)'}"
                raise file_error(path, f"a .npz file with an array {name!r}", found)
            arrays.append(_read_member(path, archive, members[name], max_bytes))
    return arrays


def _read_member(
    path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, max_bytes: int | None
) -> NDArray[Any]:
    """Return one array of a .npz file."""
    name = info.filename.removesuffix(".npy")
    limit = memory_bytes()
    if info.compress_type != zipfile.ZIP_STORED:
        n_packed = min(info.compress_size, path.stat().st_size)
        limit = min(limit, max(SMALL_BYTES, MAX_EXPANSION * n_packed))
    found = f"{info.file_size} bytes declared for array {name!r}"
    if info.file_size > limit:
        way_out = "Write it with np.save as float32, which is read block by block, if it is intact."
        raise file_error(path, "a .npz file of believable sizes", found, way_out)
    if info.file_size > (max_bytes or limit) + MAX_HEADER_BYTES:
        raise file_error(path, f"a .npz file of arrays of at most {max_bytes} bytes", found)
    # Only these two unpack no more than they are asked for; np.savez knows no others.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        found = f"method {info.compress_type} for array {name!r}"
        raise file_error(path, "a .npz file packed by deflate or not at all", found)
    try:
        with archive.open(info) as stream:
            array = read_array(stream, info.file_size, limit)
            # The last read makes zipfile verify its checksum.
            if stream.read(1):
                raise ValueError("more bytes than declared")
            return array
    except ValueError as error:
        raise file_error(path, f"a .npz file with array {name!r} intact", error) from error


@contextmanager
def _opened_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a .npz file; whatever is wrong with the archive becomes one ValueError."""
    with path.open("rb") as raw:
        try:
            try:
                archive = zipfile.ZipFile(raw)
            except ValueError as error:  # an absurd offset too
                raise zipfile.BadZipFile(str(error)) from error
            with archive:
                yield archive
        except ZIP_ERRORS as error:
            reason = str(error) or type(error).__name__
            raise file_error(path, "an intact .npz file", reason) from error
