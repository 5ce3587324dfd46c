"""Files are written whole or not at all: to a temporary name first, then renamed."""

import csv
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

PART = re.compile(r"\..+\.[a-z0-9_]{8}\.part")  # as tempfile names them for `replacing`


@contextmanager
def replacing(path: str | os.PathLike, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` when the block succeeds.

    Parameters
    ----------
    path : path-like
    durable : bool, default=False
        Whether the content is on the disk before the rename, so that it survives a power cut.

    Raises
    ------
    OSError
        As writing or renaming does, in one line that names ``path``; whatever stood there is then
        untouched. FileNotFoundError if its folder does not exist.
    """
    target = Path(path)
    with _naming(target):
        handle, name = tempfile.mkstemp(
            prefix=f".{target.name}.", suffix=".part", dir=target.parent
        )
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            # mkstemp makes files private; a result is as readable as any other new file.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            if durable:
                _sync(temporary)
            temporary.replace(target)
            if durable:
                _sync_folder(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


def to_disk(folder: Path) -> None:
    """Bring the files in a folder to the disk, so that they survive a power cut.

    Those that can be written; not what is in folders below. Others' files may be among them.
    """
    for path in folder.iterdir():
        try:
            file = open(path, "r+b") if path.is_file() else None
        except OSError:
            continue  # gone since, or others': ours were written a moment ago
        if file is not None:
            with file, _naming(path):
                os.fsync(file.fileno())
    _sync_folder(folder)


def _sync(path: Path) -> None:
    """Bring the content of a file to the disk."""
    with open(path, "r+b") as file:  # Windows wants a file that may be written
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _naming(target: Path) -> Iterator[None]:
    """Let an error about the temporary file name ``target``, the path that the user gave."""
    beside = os.path.join(os.path.abspath(target.parent), f".{target.name}.")
    temporary = re.compile(re.escape(beside) + r"\w+\.part")
    try:
        yield
    except OSError as error:
        # A write that fails names no file at all.
        if not temporary.search(str(error)) and (error.filename or not error.errno):
            raise
        if not target.parent.exists():
            folder = str(target.parent)
            constraint, problem = "in a folder that exists", f", and {folder!r} does not exist"
            way_out = "Make that folder first."
        else:
            reason = temporary.sub(str(target), error.strerror or str(error))
            constraint, problem = "a file that can be written", f" ({reason})"
            way_out = "Choose another path, free space on its disk or change its permissions."
        raise type(error)(
            f"path must be {constraint}; got {str(target)!r}{problem}. {way_out}"
        ) from error


def remove_parts(folder: Path) -> None:
    """Remove temporary files that a killed run left; only for who holds the folder's lock."""
    for path in folder.glob(".*.part"):
        if PART.fullmatch(path.name):
            path.unlink(missing_ok=True)


def writable_folder(name: str, path: str | os.PathLike) -> Path:
    """Return ``path`` as a folder that exists and can be written to, creating it.

    Raises
    ------
    ValueError
        In one line that names the argument ``name``, if it can't be.
    """
    folder = Path(path)
    try:
        with unwritable(name, path):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
    except OSError as error:
        raise ValueError(str(error)) from error.__cause__
    return folder


@contextmanager
def unwritable(name: str, path: str | os.PathLike) -> Iterator[None]:
    """Let an error of the system name the folder ``path``, given as the argument ``name``."""
    try:
        yield
    except OSError as error:
        raise type(error)(
            f"{name} must be a folder that can be written to; got {str(path)!r} "
            f"({error.strerror or error}). Choose another folder, free space on its disk or change "
            "its permissions."
        ) from error


def write_json(path: str | os.PathLike, content: Any, durable: bool = False) -> None:
    """Write ``content`` as indented JSON; NumPy numbers and arrays become plain ones."""
    with replacing(path, durable) as temporary:
        temporary.write_text(json.dumps(content, indent=1, default=plain) + "\n")


def write_csv(path: str | os.PathLike, columns: Sequence[str], rows: Any) -> None:
    """Write rows, each a mapping from column to value; a missing value stays empty."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def write_array(path: str | os.PathLike, array: np.ndarray) -> None:
    """Write ``array`` as .npy, never pickled."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.save(file, array, allow_pickle=False)


def plain(value: Any) -> Any:
    """Return what JSON can hold of ``value``: NumPy numbers and arrays become plain ones."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)
