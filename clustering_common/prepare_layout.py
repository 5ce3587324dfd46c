"""Where prepared data lies, in the layout of the authors' zip, and how it is written there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clustering_common import files

__all__ = [
    "FOLDERS",
    "X_NAME",
    "Y_NAME",
    "Say",
    "folder_of",
    "keeps",
    "prepared_image_shape",
    "write_pair",
]

# Takes a line for the user.
Say: TypeAlias = Callable[[str], None]

ROOT = "ens_cluster_datasets"
# The folder of each data set below ROOT, as the configs name it.
FOLDERS = {
    "mnist": "mnist",
    "20news": "20_news",
    "reuters": "reuters",
    "cifar10": "cifar10",
    "stl10": "stl10",
    "usps": "usps",
    "digits": "digits",
    "fmnist": "fmnist",
}
# Height and width of those that are images, and stored as vectors of their pixels.
SIDES = {"mnist": 28, "usps": 16, "digits": 8, "fmnist": 28}
X_NAME = "train_X.npy"
Y_NAME = "train_Y.npy"


def folder_of(name: str, data_dir: Path) -> Path:
    """Return the folder of a data set; it need not exist."""
    return data_dir / ROOT / FOLDERS[name]


def prepared_image_shape(path: str | os.PathLike[str], n_features: int) -> tuple[int, int] | None:
    """Return (height, width) of the vectors in a file of this layout, None for any other file."""
    source = Path(path).expanduser().absolute()
    if source.name != X_NAME or source.parent.parent.name != ROOT:
        return None
    side = SIDES.get(source.parent.name, 0)
    return (side, side) if 0 < side**2 == n_features else None


def keeps(folder: Path, force: bool, say: Say) -> bool:
    """Tell whether both files are there and stay, and say so.

    Labels alone are what an interrupted run leaves, so they count as nothing.

    Raises
    ------
    ValueError
        Unless forced, if there are samples without labels, which no run leaves: they are
        somebody's own.
    """
    has_X, has_Y = ((folder / name).is_file() for name in (X_NAME, Y_NAME))
    if force or not has_X:
        return False
    if not has_Y:
        raise ValueError(
            f"{str(folder)!r} must hold {X_NAME} and {Y_NAME}, or neither; got {X_NAME} alone. "
            f"Add its {Y_NAME}, move it away, or give --force to make both anew."
        )
    say(f"{folder}: kept, both files are there already. --force makes them anew.")
    return True


def write_pair(folder: Path, X: NDArray[Any], Y: NDArray[Any]) -> str:
    """Write samples and labels, each whole or not at all, and return a line that says so.

    Both are written under temporary names first. Old samples go before new labels get their
    name, and new samples get theirs last, so samples never stand beside labels of another run.

    Parameters
    ----------
    folder : Path
        Created if it does not exist.
    X : ndarray of shape (n_samples, n_features)
        Written with its own dtype.
    Y : ndarray of shape (n_samples,)
        Likewise.

    Raises
    ------
    ValueError
        If the folder can't be written to.
    OSError
        If the disk is full; old files are then untouched.
    """
    folder = files.writable_folder("--data-dir", folder)
    target = folder / X_NAME
    with files.replacing(target) as X_path, files.replacing(folder / Y_NAME) as Y_path:
        for path, array in ((X_path, X), (Y_path, Y)):
            with path.open("wb") as stream:
                np.save(stream, array, allow_pickle=False)
        target.unlink(missing_ok=True)
    sizes = f"{X_NAME} {X.shape} {X.dtype}, {Y_NAME} {Y.shape} {Y.dtype}"
    return f"{folder}: wrote {sizes}, {len(np.unique(Y))} classes."
