"""The folder of one run: its results, and until they are there its checkpoints."""

import contextlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clustering_common import files
from clustering_common.checkpoints import CheckpointFolder
from clustering_common.identity import check_same_run, names_hash
from clustering_common.record import CHECKSUM, RESULTS, checksum
from clustering_common.run_lock import locked
from clustering_common.run_state import EVERY
from clustering_common.stopping import TerminatedError

logger = logging.getLogger("clustering_common")


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
    needed : sequence of str
        What a finished run has left beside its results.json.

    Raises
    ------
    ValueError
        If the folder can't be written to.
    """

    def __init__(
        self, path: Any, *, resume: bool = False, every: float = EVERY, needed: Sequence[str] = ()
    ):
        self.path = files.writable_folder("--save-dir", path)
        self.resume, self.every, self.needed = resume, every, tuple(needed)

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints of the training are."""
        return self.path / "checkpoints"

    @property
    def has_begun(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return bool(CheckpointFolder(self.checkpoints).paths())

    def check_inputs(self, inputs: Mapping[str, Any], written: Iterable[str]) -> None:
        """Raise ValueError if the run would remove or replace a file that it reads.

        Parameters
        ----------
        inputs : mapping of str to path-like or None
            What the user gave, by the name of the flag or key.
        written : iterable of str
            Names of the files in this folder that the run removes or writes.
        """
        there = [path for path in (self.path / name for name in written) if path.exists()]
        for name, given in inputs.items():
            source = Path(given).expanduser() if given else None
            if source and source.exists() and any(path.samefile(source) for path in there):
                raise ValueError(
                    f"{name} must not be a file that the run replaces; got {str(given)!r}, where a "
                    f"run in {str(self.path)!r} writes its own. Give another --save-dir, or rename "
                    "the file."
                )

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other runs out; drop the checkpoints of an earlier run that is not resumed."""
        found = CheckpointFolder(self.checkpoints)
        with locked("--save-dir", self.path):
            files.remove_parts(self.path)
            if not self.resume and found.paths():
                logger.warning(
                    "%s: checkpoints of an unfinished run are dropped; --resume would go on from "
                    "them",
                    self.path,
                )
                found.clear()
            try:
                yield
            except (KeyboardInterrupt, TerminatedError) as stop:
                # Outside training there is no checkpoint to wait for, but the last one is there.
                if str(stop) or not found.paths():
                    raise
                raise type(stop)(f"checkpoint in {str(self.checkpoints)!r}") from stop

    def finished(self, identity: dict[str, Any]) -> dict[str, Any] | None:
        """Return the record of the run if it is to be resumed and is finished.

        Raises
        ------
        ValueError
            If the folder holds another run's results, or those of an older version.
        """
        path = self.path / RESULTS
        if not self.resume or not path.exists():
            return None
        record = _read(path)
        theirs = record.get("identity")
        if not isinstance(theirs, dict):
            raise ValueError(
                f"--save-dir must hold results of this version to be resumed; got "
                f"{str(self.path)!r}, written by another. Leave --resume out to start anew."
            )
        if theirs != identity and CheckpointFolder(self.checkpoints).paths():
            return None  # of the run before; the checkpoints say whose they are
        check_same_run("--save-dir", self.path, theirs, identity)
        if not all((self.path / name).exists() for name in self.needed):
            logger.warning("%s: files of the finished run are gone; it runs again", self.path)
            return None
        CheckpointFolder(self.checkpoints).clear()  # of a run that was killed while it did so
        logger.info("%s: finished before; nothing is run again", self.path)
        return record

    @contextlib.contextmanager
    def only(self) -> Iterator[None]:
        """Keep other runs out, and leave checkpoints as they are."""
        with locked("--save-dir", self.path):
            yield

    def check_names(self, names: Sequence[str]) -> None:
        """Raise ValueError if the folder holds the results of a run on files of other names."""
        path = self.path / RESULTS
        identity = _read(path).get("identity") if path.exists() else None
        if isinstance(identity, dict) and identity.get("names") != names_hash(names):
            raise ValueError(
                f"--save-dir must be a folder without another run's results; got "
                f"{str(self.path)!r}. Give a folder of its own for these files."
            )

    def check_checkpoints(self, identity: dict[str, Any]) -> None:
        """Raise ValueError if the folder holds checkpoints of another run than ``identity``'s."""
        found = CheckpointFolder(self.checkpoints).newest()
        if found is not None:
            check_same_run("--save-dir", self.path, found.values["identity"], identity)

    def finish(self, record: dict[str, Any]) -> dict[str, Any]:
        """Write the record, then remove the checkpoints; return the record as it is read again.

        All files are on the disk before the record says so, and before the checkpoints go: a power
        cut leaves one or the other.
        """
        content = json.loads(json.dumps(record, default=files.plain))
        files.to_disk(self.path)
        files.write_json(self.path / RESULTS, {**content, CHECKSUM: checksum(content)}, True)
        CheckpointFolder(self.checkpoints).clear()
        return content


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a results.json, {} where it is of another version."""
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict) or CHECKSUM not in content:
            return {}
        found = content.pop(CHECKSUM)
        if found != checksum(content):
            raise ValueError("its checksum differs")
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path.name} must be whole; got {str(path)!r} ({error}). Leave --resume out to start "
            "anew."
        ) from error
    return content
