"""One run a folder: the second is refused, with the first one's process and start."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from clustering_common.files import unwritable

try:
    import fcntl
except ImportError:  # Windows: runs there are not kept apart
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


@contextlib.contextmanager
def locked(name: str, folder: str | os.PathLike) -> Iterator[None]:
    """Hold ``folder`` inside the block.

    The lock is the operating system's, on an open file: it goes with its process, however that
    ends, so a dead process's file is no hindrance.

    Parameters
    ----------
    name : str
        The argument that named the folder, for the message.
    folder : path-like
        Exists.

    Raises
    ------
    ValueError
        If another run holds it.
    OSError
        If the lock can't be written, in one line that names the folder.
    """
    path = Path(folder) / LOCK
    if fcntl is None:
        yield
        return
    with unwritable(name, path.parent):
        handle = _acquired(name, path)
    try:
        with unwritable(name, path.parent):
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()} {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def holder(folder: str | os.PathLike) -> int | None:
    """Return the process that holds ``folder``, or did so when it was killed; None for none."""
    try:
        return int((Path(folder) / LOCK).read_text().split()[0])
    except (OSError, ValueError, IndexError):  # there is none, or it is just being written
        return None


def _acquired(name: str, path: Path) -> int:
    """Return the open, locked file."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            process, _, start = os.pread(handle, 100, 0).decode(errors="replace").partition(" ")
            os.close(handle)
            raise ValueError(
                f"{name} must be a folder that no other run uses; got {str(path.parent)!r}, which "
                f"process {process or 'unknown'} uses since {start.strip() or 'just now'}. Wait "
                "for it, or choose another folder."
            ) from error
        # The last holder may have removed the file between opening and locking it.
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(handle).st_ino == path.stat().st_ino:
                return handle
        os.close(handle)
