"""What each fit of a search for a number of clusters found, kept so that the search can go on."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from clustering_common.checkpoints import (
    Checkpoint,
    DamagedError,
    read_checkpoint,
    write_checkpoint,
)
from clustering_common.files import writable_folder
from clustering_common.identity import check_same_run

__all__ = ["KeptFits"]

FITS = "fits"  # folder of them


class KeptFits:
    """The fits in a folder, by seed and number of clusters.

    Parameters
    ----------
    folder : path-like or None
        None keeps nothing.
    identity : dict
        What the fits share.
    resume : bool, default=True
        Whether the fits that the folder has count. Otherwise they go when the first new one has
        been done: a search that could do none leaves them.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None,
        identity: dict[str, Any],
        resume: bool = True,
    ):
        self.folder = None
        if folder is not None:
            self.folder = writable_folder("folder", Path(folder) / FITS)
        self.identity, self._has_own = identity, resume

    def get(self, seed: int, k: int) -> dict[str, Any] | None:
        """Return what a fit found, None where it is to be done.

        Raises
        ------
        ValueError
            If the fit that the folder has is of other settings or data.
        """
        if self.folder is None or not self._has_own or not self._path(seed, k).exists():
            return None
        try:
            found = read_checkpoint(self._path(seed, k))
        except DamagedError:
            return None
        check_same_run("folder", self.folder, found.values["identity"], self.identity)
        labels = found.arrays["labels"] if found.values["has_labels"] else None
        return {**found.values["measures"], "labels": labels}

    def put(self, seed: int, k: int, found: dict[str, Any]) -> dict[str, Any]:
        """Keep what a fit found, and return it."""
        if self.folder is not None:
            if not self._has_own:
                self._clear(self.folder)
            labels = found["labels"]
            values = {
                "identity": self.identity,
                "measures": {name: value for name, value in found.items() if name != "labels"},
                "has_labels": labels is not None,
            }
            arrays = {"labels": np.empty(0, int) if labels is None else labels}
            write_checkpoint(self._path(seed, k), Checkpoint(values, arrays))
            self._has_own = True
        return found

    def _path(self, seed: int, k: int) -> Path:
        folder = self.folder or Path()
        return folder / f"seed-{seed}-k-{k}.state"

    @staticmethod
    def _clear(folder: Path) -> None:
        for path in folder.glob("seed-*-k-*.state"):
            path.unlink(missing_ok=True)
