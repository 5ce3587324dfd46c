"""Readers for files that come from elsewhere: idx, .jf, .npy and .npz, trusting none of them.

Every header is compared with the size of its file before memory is asked for, so a corrupt or
hostile file costs an error of one line and never more memory than its size allows.
"""

from __future__ import annotations

import gzip
import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

__all__ = ["file_error", "npz_names", "read_idx", "read_jf", "read_npy", "read_npz"]

# Deflate cannot expand its input by more (zlib's technical notes).
MAX_EXPANSION = 1032
# Far above the 47 MB of MNIST's training images.
MAX_BYTES = 1 << 30
# Far above the 13 MB of usps_train.jf; text takes several times its size while it is parsed.
MAX_TEXT_BYTES = 1 << 27
CHUNK_BYTES = 1 << 20

USPS_SIDE = 16
USPS_MAX = 2.0


def file_error(path: Path, constraint: str, got: object, way_out: str = "") -> ValueError:
    """Return the one-line error of a file that is not what it should be.

    Parameters
    ----------
    path : Path
        The file.
    constraint : str
        What the file must be.
    got : object
        What was found instead; white space in it is folded.
    way_out : str, default=""
        One sentence on how to go on; by default, to replace the file.

    Returns
    -------
    ValueError
        To be raised by the caller.
    """
    way_out = way_out or "Replace it by an intact copy: download or write it again."
    found = " ".join(str(got).split())
    return ValueError(f"{str(path)!r} must be {constraint}; got {found}. {way_out}")


def read_idx(path: Path, n_axes: int) -> NDArray[np.uint8]:
    """Return the array of an idx file of unsigned bytes, the format of MNIST.

    The file is a big-endian header, two zero bytes, the type 8, the number of axes and one
    32-bit size per axis, followed by the bytes themselves. Packed by gzip or not is seen from
    the content, whatever the name ends in.

    Parameters
    ----------
    path : Path
        An existing file.
    n_axes : int
        3 for images, 1 for labels.

    Returns
    -------
    ndarray of uint8
        Of the shape that the header declares.

    Raises
    ------
    ValueError
        If the header is another one, sizes are zero or absurd, or there are fewer or more bytes
        than declared.
    """
    with _unpacked(path) as (stream, limit):
        header = stream.read(4 + 4 * n_axes)
        if header[:4] != bytes([0, 0, 8, n_axes]) or len(header) < 4 + 4 * n_axes:
            wanted = f"an idx file of bytes with {n_axes} axes (magic 00 00 08 {n_axes:02d})"
            raise file_error(path, wanted, f"a header {header[:4].hex(' ') or 'of no bytes'}")
        shape = tuple(np.frombuffer(header, dtype=">u4", offset=4).tolist())
        n_bytes = math.prod(shape)
        if not 0 < n_bytes <= limit:
            sizes = f"the sizes {' x '.join(map(str, shape))}"
            raise file_error(path, f"an idx file that declares 1 to {limit} bytes", sizes)
        # One byte more than declared shows left-overs, and makes gzip verify its checksum.
        payload = _read_at_most(stream, n_bytes + 1)
        if len(payload) != n_bytes:
            found = f"{len(payload)} bytes" if len(payload) < n_bytes else "more"
            raise file_error(path, f"an idx file of the {n_bytes} bytes that it declares", found)
    return np.frombuffer(payload, dtype=np.uint8).reshape(shape)


def read_jf(path: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return images and labels of a USPS file in the .jf format.

    A header line, one line per sample (its label, then 256 numbers in 0..2), a closing line
    (SPEC 1.7). The closing line is how a file cut off between two samples is told from a
    complete one.

    Returns
    -------
    images : ndarray of shape (n_samples, 16, 16), float32
        Values as in the file, 0 to 2.
    labels : ndarray of shape (n_samples,), int64
        0 to 9.

    Raises
    ------
    ValueError
        If the file is cut off, damaged, or another kind of file.
    """
    n_columns = 1 + USPS_SIDE**2
    with _unpacked(path) as (stream, limit):
        limit = min(limit, MAX_TEXT_BYTES)
        content = _read_at_most(stream, limit + 1)
    if len(content) > limit:
        raise file_error(path, f"a .jf file of at most {limit} bytes", "more than that")
    lines = content.decode("latin-1").removesuffix("\n").split("\n")
    if len(lines) < 3 or len(lines[0].split()) == n_columns:
        raise file_error(
            path,
            "a .jf file of a header line, samples and a closing line",
            f"{len(lines)} lines, the first {lines[0][:30]!r}",
        )
    if lines[-1].lstrip()[:1].isdigit():
        raise file_error(
            path,
            "a .jf file that ends in a closing line, such as -1",
            f"a sample in its last line {len(lines)}",
        )
    table = _jf_table(path, lines[1:-1], n_columns)
    return table[:, 1:].reshape(-1, USPS_SIDE, USPS_SIDE), table[:, 0].astype(np.int64)


def _jf_table(path: Path, lines: Sequence[str], n_columns: int) -> NDArray[np.float32]:
    """Return the numbers of the sample lines, checked for their number and range."""
    for number, line in enumerate(lines, start=2):
        if len(line.split()) != n_columns:
            raise file_error(
                path,
                f"a .jf file of {n_columns} numbers in each sample line",
                f"{len(line.split())} in line {number}",
            )
    try:
        table = np.loadtxt(lines, dtype=np.float32, comments=None, ndmin=2)
    except ValueError as error:
        raise file_error(path, "a .jf file of numbers", error) from error
    low = np.zeros(n_columns)
    high = np.array([9] + [USPS_MAX] * (n_columns - 1))
    # NaN fails the comparison too.
    is_good = ((table >= low) & (table <= high)).all(axis=1) & (table[:, 0] % 1 == 0)
    if not is_good.all():
        raise file_error(
            path,
            f"a .jf file of labels 0..9 and values 0..{USPS_MAX:g}",
            f"something else in line {int(np.argmin(is_good)) + 2}",
        )
    return table


def read_npy(path: Path) -> NDArray[Any]:
    """Return the array of a .npy file; pickled objects are refused.

    Raises
    ------
    ValueError
        If the file is no .npy file, is cut off, or holds pickled objects.
    """
    with path.open("rb") as stream:
        return _read_array(path, stream, path.stat().st_size, "a .npy file")


def npz_names(path: Path) -> list[str]:
    """Return the names of the arrays in a .npz file, without ".npy", as np.load lists them.

    Raises
    ------
    ValueError
        If the file is no .npz file.
    """
    with _opened_zip(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def read_npz(path: Path, names: Sequence[str]) -> list[NDArray[Any]]:
    """Return the named arrays of a .npz file; pickled objects are refused.

    Parameters
    ----------
    path : Path
        An existing file.
    names : sequence of str
        Names of arrays, without ".npy"; others are not read.

    Returns
    -------
    list of ndarray
        In the order of `names`.

    Raises
    ------
    ValueError
        If the file is no .npz file, lacks a name, is damaged, or an array is a pickled object
        or larger than its packed bytes can hold.
    """
    arrays = []
    with _opened_zip(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        for name in names:
            if name not in members:
                raise file_error(
                    path,
                    f"a .npz file with an array {name!r}",
                    f"the names {', '.join(members) or '(none)'}",
                )
            info = members[name]
            if info.file_size > MAX_EXPANSION * info.compress_size:
                raise file_error(
                    path,
                    "a .npz file of believable sizes",
                    f"{info.file_size} bytes declared for array {name!r}",
                )
            with archive.open(info) as stream:
                arrays.append(_read_array(path, stream, info.file_size, f"array {name!r} intact"))
    return arrays


def _read_array(path: Path, stream: IO[bytes], n_bytes: int, what: str) -> NDArray[Any]:
    """Return one array in the .npy format after comparing its header with n_bytes."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(stream)
        if version not in readers:
            raise ValueError(f"format version {version}")
        shape, _, dtype = readers[version](stream)
        if dtype.hasobject:
            raise ValueError("pickled objects, which can run code when they are read")
        n_declared = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or not dtype.itemsize:
            raise ValueError(f"shape {shape} of {dtype}")
        if n_declared > n_bytes - stream.tell():
            raise ValueError(f"{n_declared} bytes declared and {n_bytes - stream.tell()} there")
        stream.seek(0)
        return cast(NDArray[Any], np.lib.format.read_array(stream, allow_pickle=False))
    except (ValueError, TypeError, SyntaxError, tokenize.TokenError, EOFError) as error:
        raise file_error(path, what, error) from error


@contextmanager
def _opened_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a .npz file; whatever is wrong with the archive becomes one ValueError."""
    with path.open("rb") as raw:
        try:
            with zipfile.ZipFile(raw) as archive:
                yield archive
        # RuntimeError: encrypted, or packed by an unknown method. OSError: an absurd offset.
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError) as error:
            raise file_error(path, "an intact .npz file", error) from error


@contextmanager
def _unpacked(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """Open a file that gzip may have packed; also give the most bytes that it may hold."""
    size = path.stat().st_size
    with path.open("rb") as raw:
        is_packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not is_packed:
            yield raw, min(size, MAX_BYTES)
            return
        try:
            with gzip.GzipFile(fileobj=raw) as stream:
                yield cast(IO[bytes], stream), min(size * MAX_EXPANSION, MAX_BYTES)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise file_error(path, "an intact .gz file", error) from error


def _read_at_most(stream: IO[bytes], n_bytes: int) -> bytes:
    """Read up to n_bytes, asking only for as much memory as there is data."""
    chunks = []
    while n_bytes > 0 and (chunk := stream.read(min(n_bytes, CHUNK_BYTES))):
        chunks.append(chunk)
        n_bytes -= len(chunk)
    return b"".join(chunks)
