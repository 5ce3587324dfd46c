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

from clustering_common.datasets import DatasetUnavailableError

__all__ = ["fetched", "keras_folder"]

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
        # keras.utils.get_file raises a bare Exception when the network fails.
        if not isinstance(error, FAILURES) and type(error) is not Exception:
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        text = f"{what} can't be downloaded ({reason}). {way_out}"
        raise DatasetUnavailableError(text) from error


def keras_folder(kind: str) -> Path:
    """Return the folder where Keras looks for "datasets" or "models" before it downloads."""
    home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    if home.exists() and not os.access(home, os.W_OK):
        home = Path(tempfile.gettempdir()) / ".keras"
    return home / kind
