"""Runs in processes of their own: what stops the process that gave them stops them too.

A worker is a process that ``multiprocessing`` began, such as joblib's; a thread of a cluster's
worker, whose process is another's, is left alone.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from clustering_common.run_lock import holder
from clustering_common.stopping import STOP, TerminatedError

if TYPE_CHECKING:
    from clustering_common.run_folder import RunFolder

PATIENCE = 60.0  # seconds for the workers' checkpoints, each after a block of steps or a k-means
Result = TypeVar("Result")


class WorkerStop:
    """What a worker does on a signal: stop its run, and begin no other.

    Attributes
    ----------
    is_asked : bool
        Whether a signal came since the last call whose work it did began.
    """

    def __init__(self) -> None:
        self.is_asked = self._is_running = False
        self._call: str | None = None

    def handle(self, signal_number: int, frame: Any = None) -> None:
        """Stop the run, if there is one, at the first signal.

        The next ones are no impatience: a terminal sends to all what the parent passes on.
        """
        if not self.is_asked:
            self.is_asked = True
            if self._is_running:
                STOP.handle(signal_number)

    @contextlib.contextmanager
    def heeded(self, call: str) -> Iterator[None]:
        """Let a signal, or the end of the parent, stop the run in the block.

        ``call`` tells whose run it is: a worker that lives on, as joblib's do, may have been told
        to stop for another's.
        """
        parent = multiprocessing.parent_process()
        if parent is None or threading.current_thread() is not threading.main_thread():
            yield
            return
        if call != self._call:
            self._call, self.is_asked = call, False
        STOP.listen(self.handle)
        STOP.parent = parent.pid
        try:
            self._is_running = True
            if self.is_asked or os.getppid() != parent.pid:
                raise TerminatedError
            yield
        finally:
            self._is_running = False
            if os.getppid() != parent.pid:
                os._exit(128 + signal.SIGTERM)  # nobody waits for it, or would ever end it


WORKER_STOP = WorkerStop()  # of this process, as signals are


def told_to_stop(
    begin: Callable[[], Iterable[Result]], places: Sequence["RunFolder"]
) -> Iterator[Result]:
    """Yield what workers return; where a signal ends that, let them write checkpoints first.

    Parameters
    ----------
    begin : callable
        Gives work to processes and returns what they return.
    places : sequence of RunFolder
        Each held by the worker that runs in it.
    """
    with STOP.after(lambda signal_number: _stop_workers(signal_number, places)):
        yield from begin()


def _stop_workers(signal_number: int, places: Sequence["RunFolder"]) -> str:
    """Pass a signal on to the workers, wait until they are done, and say what they leave."""
    # By their locks: a worker that holds none may not listen yet, and has nothing to lose.
    workers = {place.path: holder(place.path) for place in places}
    workers = {folder: pid for folder, pid in workers.items() if pid in _children()}
    for pid in filter(None, workers.values()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal_number)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and any(
        pid in _children() and holder(folder) == pid for folder, pid in workers.items()
    ):
        time.sleep(0.02)
    n_begun = sum(place.has_begun for place in places)
    return f"checkpoints of {n_begun} run{'s' * (n_begun > 1)}" if n_begun else ""


def _children() -> set[int | None]:
    return {child.pid for child in multiprocessing.active_children()}
