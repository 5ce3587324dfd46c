"""One line for every way in which a download fails, and the folders of the downloaders."""

from __future__ import annotations

import http.client
import os
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

__all__ = ["DatasetUnavailableError", "fetched", "keras_folder", "reason"]

T = TypeVar("T")

# What a network, a server and a file that came damaged raise.
FAILURES = (
    OSError,
    ValueError,
    EOFError,
    http.client.HTTPException,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


class DatasetUnavailableError(FileNotFoundError):
    """A data set has no files and its download failed; the text says what to put where."""


def fetched(what: str, fetch: Callable[[], T], way_out: str) -> T:
    """Return what `fetch` gives; if that fails, say so in one line with the way out.

    Parameters
    ----------
    what : str
        What is fetched, the subject of the line.
    fetch : callable
        Takes nothing.
    way_out : str
        A sentence: which files to put where, and where they come from.

    Raises
    ------
    DatasetUnavailableError
        If the network, the server or the file fails; a FileNotFoundError.
    """
    try:
        with warnings.catch_warnings():
            # A failure becomes our own error; scikit-learn's retries need no word.
            warnings.filterwarnings("ignore", message="Retry downloading from url")
            return fetch()
    except Exception as error:
        text = f"{what} can't be downloaded ({reason(error)}). {way_out}"
        raise DatasetUnavailableError(text) from error


def reason(error: Exception) -> str:
    """Return why a download failed, on one line; an error of another kind, a bug, is raised."""
    # keras.utils.get_file raises a bare Exception when the network fails.
    if not isinstance(error, FAILURES) and type(error) is not Exception:
        raise error
    return " ".join(str(error).split()) or type(error).__name__


def keras_folder(kind: str) -> Path:
    """Return the folder where Keras looks for "datasets" or "models" before it downloads."""
    home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    if home.exists() and not os.access(home, os.W_OK):
        home = Path(tempfile.gettempdir()) / ".keras"
    return home / kind
