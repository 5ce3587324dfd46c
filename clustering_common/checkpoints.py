"""Checkpoints of a run: whole files with a checksum, the last two kept."""

import hashlib
import json
import os
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from clustering_common.files import plain, replacing

MAGIC = b"deep-clustering checkpoint\n"
FORMAT = 1
KEPT = 2
MAX_HEADER = 2**28  # bytes of JSON; a damaged length must not ask for more memory
NAME = re.compile(r"checkpoint-(\d{6,})\.state")


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on.

    Attributes
    ----------
    values : dict
        What JSON can hold.
    arrays : dict of ndarray
    """

    values: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


class CheckpointError(ValueError):
    """A checkpoint file is damaged, or of another version or run."""


def write_checkpoint(path: str | os.PathLike, checkpoint: Checkpoint) -> None:
    """Write one checkpoint, whole or not at all.

    The file is a line of text, the SHA-256 of the rest, the length of a JSON header, the header,
    and the arrays as ``.npy``, one after the other; nothing is pickled.
    """
    header = {"format": FORMAT, "names": list(checkpoint.arrays), "values": checkpoint.values}
    text = json.dumps(header, default=plain).encode()
    with replacing(path, durable=True) as temporary, open(temporary, "w+b") as file:
        file.write(MAGIC + bytes(32))
        hashed = _Hashed(file)
        hashed.write(len(text).to_bytes(8, "little") + text)
        for array in checkpoint.arrays.values():
            np.lib.format.write_array(hashed, np.asarray(array), allow_pickle=False)
        file.seek(len(MAGIC))
        file.write(hashed.digest.digest())


def read_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Return what `write_checkpoint` wrote.

    Raises
    ------
    CheckpointError
        If the file is damaged, or of another version of this library.
    """
    with open(path, "rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise CheckpointError(f"{str(path)!r} is no checkpoint of this library")
        wanted = file.read(32)
        digest = hashlib.sha256()
        while part := file.read(2**20):
            digest.update(part)
        if digest.digest() != wanted:
            raise CheckpointError(f"{str(path)!r} is damaged: its checksum differs")
        file.seek(len(MAGIC) + 32)
        try:
            return _parsed(file)
        except (ValueError, KeyError, TypeError, EOFError) as error:
            raise CheckpointError(f"{str(path)!r} can't be read: {error}") from error


def _parsed(file: BinaryIO) -> Checkpoint:
    length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER:
        raise ValueError(f"its header is said to have {length} bytes")
    header = json.loads(file.read(length))
    if header["format"] != FORMAT:
        raise ValueError(
            f"it has format {header['format']!r}, this version reads {FORMAT}; go on with the "
            "version that wrote it, or start anew"
        )
    arrays = {name: np.lib.format.read_array(file, allow_pickle=False) for name in header["names"]}
    return Checkpoint(header["values"], arrays)


class _Hashed:
    """A file that keeps the checksum of what is written to it."""

    def __init__(self, file: BinaryIO):
        self.file, self.digest = file, hashlib.sha256()

    def write(self, data: Any) -> int:
        """Write and hash ``data``."""
        self.digest.update(data)
        return self.file.write(data)


class CheckpointFolder:
    """The numbered checkpoints of one run.

    Parameters
    ----------
    folder : path-like
        Made if it is missing.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def paths(self) -> list[Path]:
        """Return the checkpoint files, oldest first."""
        found = [(NAME.fullmatch(path.name), path) for path in self.folder.iterdir()]
        return [path for _, path in sorted((int(m[1]), path) for m, path in found if m)]

    def write(self, checkpoint: Checkpoint) -> Path:
        """Write the next checkpoint, then drop all but the last two."""
        paths = self.paths()
        number = int(NAME.fullmatch(paths[-1].name)[1]) + 1 if paths else 1  # type: ignore[index]
        path = self.folder / f"checkpoint-{number:06d}.state"
        write_checkpoint(path, checkpoint)
        for old in paths[: -(KEPT - 1)]:
            old.unlink(missing_ok=True)
        return path

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole, None where there is none."""
        for path in reversed(self.paths()):
            try:
                return read_checkpoint(path)
            except (CheckpointError, OSError) as error:
                warnings.warn(f"{error}; the one before it is used.", UserWarning, stacklevel=3)
        return None
