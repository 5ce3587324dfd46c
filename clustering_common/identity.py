"""What tells runs and their data apart: hashes, versions, and the check that two are the same.

Nothing here needs an engine.
"""

import hashlib
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np

from clustering_common.data_pass import look_through


def data_hash(array: Any) -> str:
    """Return the SHA-256 of an array's or a CSR matrix's values, shape and type.

    Values first: their hash holds for any shape, and is kept of data in a file (`look_through`).
    """
    if hasattr(array, "indptr"):
        parts = "".join(map(data_hash, (array.data, array.indices, array.indptr)))
        return hashlib.sha256(f"{array.shape}{parts}".encode()).hexdigest()
    array = np.ascontiguousarray(array)
    found = look_through(array)
    if found is not None:
        digest = found.digest.copy()
    elif array.dtype.kind in "biuf":
        digest = hashlib.sha256(array.data)
    else:
        digest = hashlib.sha256("\0".join(map(str, array.tolist())).encode())
    digest.update(f"{array.shape}{array.dtype}".encode())
    return digest.hexdigest()


def file_hash(path: Any) -> str:
    """Return the SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def own_version() -> str | None:
    """Return the version of this library, None where it is not installed."""
    return version("deep-clustering")


def version(name: str) -> str | None:
    """Return the version of an installed package, None of one that is not."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def names_hash(names: Sequence[str]) -> str:
    """Return the SHA-256 of the names of all samples, in their order."""
    return hashlib.sha256("\0".join(names).encode()).hexdigest()


def check_same_run(name: str, folder: Any, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """Raise ValueError unless two identities are the same.

    Parameters
    ----------
    name : str
        The argument that named ``folder``.
    """
    for key in sorted({*theirs, *ours}):
        if theirs.get(key) != ours.get(key):
            raise ValueError(
                f"{name} must be this run's own to go on from; got {str(folder)!r}, whose run has "
                f"{key} {theirs.get(key)!r} where this one has {ours.get(key)!r}. Use the same "
                "settings and data, or another folder."
            )
