"""Readers for the files of the papers' data sets, idx and .jf, that trust nothing in them.

Both formats are known in advance, so a file has a largest size, whatever it declares: a corrupt or
hostile one costs an error of one line and little memory, packed or not.
"""

from __future__ import annotations

import gzip
import math
import zlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from clustering_common.array_files import file_error, fill, npz_names, read_npy, read_npz

__all__ = ["MAX_BYTES", "file_error", "npz_names", "read_idx", "read_jf", "read_npy", "read_npz"]

# MNIST's training images take 47 MB.
MAX_BYTES = 1 << 26
# Deflate cannot expand its input by more (zlib's technical notes).
DEFLATE_EXPANSION = 1032
# usps_train.jf has 7,291 samples; a line of it some 2,000 characters.
MAX_JF_SAMPLES = 1 << 15
MAX_LINE_BYTES = 1 << 14

USPS_SIDE = 16
USPS_MAX = 2.0
N_COLUMNS = 1 + USPS_SIDE**2


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
        payload = np.empty(n_bytes, np.uint8)
        n_read = fill(stream, payload)
        # One byte more than declared shows left-overs, and makes gzip verify its checksum.
        if n_read < n_bytes or stream.read(1):
            found = f"{n_read} bytes" if n_read < n_bytes else "more"
            raise file_error(path, f"an idx file of the {n_bytes} bytes that it declares", found)
    return payload.reshape(shape)


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
    values = array("f")
    n_lines, first, pending = 0, "", ""
    with _unpacked(path) as (stream, _):
        for n_lines, line in enumerate(_lines(path, stream), start=1):
            # Only the next line tells that one is not the closing line.
            if n_lines == 1:
                first = line
            elif n_lines > 2:
                values.extend(_jf_row(path, n_lines - 1, pending))
            if n_lines == 2 and len(first.split()) == N_COLUMNS:
                break
            pending = line
    if n_lines < 3:
        wanted = "a .jf file of a header line, samples and a closing line"
        found = f"{n_lines} lines{' or more' * (n_lines > 1)}, the first {first[:30]!r}"
        raise file_error(path, wanted, found)
    if pending.lstrip()[:1].isdigit():
        wanted = "a .jf file that ends in a closing line, such as -1"
        raise file_error(path, wanted, f"a sample in its last line {n_lines}")
    table = np.asarray(values, dtype=np.float32).reshape(-1, N_COLUMNS)
    return table[:, 1:].reshape(-1, USPS_SIDE, USPS_SIDE), table[:, 0].astype(np.int64)


def _lines(path: Path, stream: IO[bytes]) -> Iterator[str]:
    """Yield the lines of a .jf file, none of them longer and no more of them than it can have."""
    for _ in range(MAX_JF_SAMPLES + 2):
        line = stream.readline(MAX_LINE_BYTES + 1)
        if len(line) > MAX_LINE_BYTES:
            raise file_error(path, f"a .jf file of at most {MAX_LINE_BYTES} bytes a line", "more")
        if not line:
            return
        yield line.decode("latin-1").removesuffix("\n")
    if stream.read(1):
        raise file_error(path, f"a .jf file of at most {MAX_JF_SAMPLES} samples", "more")


def _jf_row(path: Path, number: int, line: str) -> list[float]:
    """Return the numbers of a sample line, checked for their count and range."""
    cells = line.split()
    if len(cells) != N_COLUMNS:
        wanted = f"a .jf file of {N_COLUMNS} numbers in each sample line"
        raise file_error(path, wanted, f"{len(cells)} in line {number}")
    try:
        row = list(map(float, cells))
    except ValueError as error:
        raise file_error(path, "a .jf file of numbers", f"{error} in line {number}") from error
    # NaN fails the comparison too.
    if row[0] not in range(10) or not all(0 <= value <= USPS_MAX for value in row[1:]):
        wanted = f"a .jf file of labels 0..9 and values 0..{USPS_MAX:g}"
        raise file_error(path, wanted, f"something else in line {number}")
    return row


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
                yield cast(IO[bytes], stream), min(size * DEFLATE_EXPANSION, MAX_BYTES)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise file_error(path, "an intact .gz file", error) from error
