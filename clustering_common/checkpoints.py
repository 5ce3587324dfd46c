"""Checkpoints of a run: whole files with a checksum, the last two kept."""

import contextlib
import hashlib
import json
import logging
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from clustering_common.array_files import read_array
from clustering_common.files import plain, replacing
from clustering_common.run_lock import LOCK

MAGIC = b"deep-clustering checkpoint\n"
FORMAT = 1
KEPT = 2
UNREADABLE = (
    ValueError, KeyError, IndexError, TypeError, EOFError, OverflowError, MemoryError,
    RecursionError,
)  # fmt: skip
MAX_HEADER = 2**28  # bytes of JSON; a damaged length must not ask for more memory
NAME = re.compile(r"checkpoint-(\d{6,})\.state")
PARTS = re.compile(r"\.checkpoint-\d{6,}\.state\.\w+\.part")
logger = logging.getLogger("clustering_common")


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
    """A checkpoint file can't be used."""


class DamagedError(CheckpointError):
    """A checkpoint file is not what was written."""


class Kept(dict):
    """What a checkpoint keeps, by name; a missing name is the file's fault."""

    def __missing__(self, name: str) -> Any:
        raise CheckpointError(
            f"checkpoint_dir must hold checkpoints of this version; got one without {name!r}. "
            "Use the version that wrote it, or another folder."
        )


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
    DamagedError
        If the file is not whole.
    CheckpointError
        If it is of another version of this library.
    """
    with open(path, "rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise DamagedError(f"{str(path)!r} is no checkpoint of this library")
        wanted = file.read(32)
        digest = hashlib.sha256()
        while part := file.read(2**20):
            digest.update(part)
        if digest.digest() != wanted:
            raise DamagedError(f"{str(path)!r} is damaged: its checksum differs")
        file.seek(len(MAGIC) + 32)
        try:
            return _parsed(file)
        except UNREADABLE as error:
            raise CheckpointError(
                f"checkpoint_dir must hold checkpoints of this version; got {str(path)!r} "
                f"({error or type(error).__name__}). Use the version that wrote it, or another "
                "folder."
            ) from error


def _parsed(file: BinaryIO) -> Checkpoint:
    length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER:
        raise ValueError(f"its header is said to have {length} bytes")
    header = json.loads(file.read(length))
    if header["format"] != FORMAT:
        raise ValueError(f"it has format {header['format']!r}, this version reads {FORMAT}")
    end = os.fstat(file.fileno()).st_size
    arrays = {name: read_array(file, end - file.tell()) for name in header["names"]}
    if not isinstance(header["values"], dict):
        raise TypeError("its values have no names")
    return Checkpoint(Kept(header["values"]), Kept(arrays))


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
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)

    def paths(self) -> list[Path]:
        """Return the checkpoint files, oldest first."""
        if not self.folder.is_dir():
            return []
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
        """Return the newest checkpoint that is whole, None where there is no file.

        Raises
        ------
        CheckpointError
            If none is whole, or the newest that is can't be used.
        OSError
            If one can't be read; it may be another time.
        """
        paths = self.paths()
        for path in reversed(paths):
            try:
                return read_checkpoint(path)
            except DamagedError as error:
                logger.warning("%s; an earlier one is looked for", error)
        if paths:
            raise CheckpointError(
                f"checkpoint_dir must hold a whole checkpoint to go on from; got "
                f"{str(self.folder)!r}, where all {len(paths)} are damaged. Remove them to start "
                "anew."
            )
        return None

    def clear(self) -> None:
        """Remove the checkpoints, and the folder if nothing else is in it.

        Only for who holds the folder above: no run may be using this one.
        """
        if not self.folder.is_dir():
            return
        for path in self.paths():
            path.unlink(missing_ok=True)
        for path in self.folder.iterdir():
            if PARTS.fullmatch(path.name) or path.name == LOCK:  # what a killed run left
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()
