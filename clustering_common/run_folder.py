"""The folder of one run: its results, and until they are there its checkpoints."""

import contextlib
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clustering_common import files
from clustering_common.checkpoints import CheckpointFolder
from clustering_common.run_lock import locked
from clustering_common.run_state import EVERY

logger = logging.getLogger("clustering_common")
RESULTS = "results.json"


class RunFolder:
    """Where a run writes, alone.

    Parameters
    ----------
    path : path-like
        Made if it is missing.
    resume : bool, default=False
        Whether to go on from the folder's checkpoints; otherwise the run starts anew.
    every : float, default=60.0
        Seconds between two checkpoints at least.

    Raises
    ------
    ValueError
        If the folder can't be written to.
    """

    def __init__(self, path: Any, *, resume: bool = False, every: float = EVERY):
        self.path = files.writable_folder("--save-dir", path)
        self.resume, self.every = resume, every

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints of the training are."""
        return self.path / "checkpoints"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other runs out; drop the checkpoints of an earlier run that is not resumed."""
        with locked("--save-dir", self.path):
            files.remove_parts(self.path)
            if not self.resume and self.checkpoints.is_dir():
                if CheckpointFolder(self.checkpoints).paths():
                    logger.warning(
                        "%s: checkpoints of an unfinished run are dropped; --resume would go on "
                        "from them",
                        self.path,
                    )
                shutil.rmtree(self.checkpoints)
            yield

    def finished(self, identity: dict[str, Any]) -> dict[str, Any] | None:
        """Return the record of the run if it is to be resumed and is finished.

        Raises
        ------
        ValueError
            If the folder holds another run's results, or those of an older version.
        """
        path = self.path / RESULTS
        if not self.resume or self.checkpoints.is_dir() or not path.exists():
            return None
        theirs = _read(path).get("identity")
        if not isinstance(theirs, dict):
            raise ValueError(
                f"--save-dir must hold results of this version to be resumed; got "
                f"{str(self.path)!r}, written by another. Leave --resume out to start anew."
            )
        for name in sorted({*theirs, *identity}):
            if theirs.get(name) != identity.get(name):
                raise ValueError(
                    f"--save-dir must be this run's own to be resumed; got {str(self.path)!r}, "
                    f"whose run has {name}={theirs.get(name)!r} where this one has "
                    f"{identity.get(name)!r}. Use the same settings and data, or leave --resume "
                    "out to start anew."
                )
        logger.info("%s: finished before; nothing is run again", self.path)
        return _read(path)

    def finish(self, record: dict[str, Any]) -> dict[str, Any]:
        """Write the record, then remove the checkpoints; return the record as it is read again."""
        files.write_json(self.path / RESULTS, record)
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        return _read(self.path / RESULTS)


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a results.json."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path.name} must be whole; got {str(path)!r} ({error}). Leave --resume out to start "
            "anew."
        ) from error
    return content if isinstance(content, dict) else {}
