"""What stops a grid stops the processes that work for it, with their checkpoints."""

import multiprocessing
import os
import signal
import threading
import time
from types import SimpleNamespace

import pytest

from clustering_common import workers
from clustering_common.checkpoints import CheckpointFolder
from clustering_common.run_folder import RunFolder
from clustering_common.stopping import STOP, TerminatedError
from dec_da import FcDEC
from tests.marks import LEARNS_LITTLE
from tests.working import work

pytestmark = LEARNS_LITTLE


@pytest.fixture
def at_work(tmp_path):
    """Start a worker in a folder; return both."""
    started = []

    def at_work(**options):
        folder = tmp_path / "trial0"
        folder.mkdir()
        process = multiprocessing.get_context("spawn").Process(
            target=work, args=(folder,), kwargs=options
        )
        process.start()
        started.append(process)
        while not (folder / "begun").exists():
            assert process.is_alive()
            time.sleep(0.01)
        return process, RunFolder(folder)

    yield at_work
    for process in started:
        process.kill()
        process.join()


def signalled(*signals):
    """Yield results until signals come: the first at once, the next while it is seen to."""
    yield 1
    if signals[1:]:
        threading.Timer(0.3, os.kill, (os.getpid(), signals[1])).start()
    STOP.handle(signals[0])


def test_workers_are_told_and_waited_for(at_work, tmp_path):
    process, place = at_work()
    places = [place, RunFolder(tmp_path / "not begun")]
    found = []
    with pytest.raises(TerminatedError, match=r"^checkpoints of 1 run$"):
        found.extend(workers.told_to_stop(lambda: signalled(signal.SIGTERM), places))
    assert place.has_begun and not (place.path / ".lock").exists()
    process.join(10)
    assert process.exitcode == 1  # what multiprocessing makes of an exception


def test_a_second_signal_waits_for_no_worker(at_work, handlers):
    process, place = at_work(is_deaf=True)
    STOP.listen()
    begin = time.monotonic()
    with pytest.raises(TerminatedError):
        list(workers.told_to_stop(lambda: signalled(signal.SIGTERM, signal.SIGTERM), [place]))
    assert time.monotonic() - begin < workers.PATIENCE / 2
    assert process.is_alive() and not place.has_begun


def test_a_worker_that_is_killed_is_not_waited_for(at_work):
    process, place = at_work(is_deaf=True)
    threading.Timer(0.3, process.kill).start()
    begin = time.monotonic()
    with pytest.raises(TerminatedError, match=r"^$"):
        list(workers.told_to_stop(lambda: signalled(signal.SIGTERM), [place]))
    assert time.monotonic() - begin < workers.PATIENCE / 2


@pytest.fixture
def as_worker(monkeypatch, handlers):
    """Make this process a worker, and return what leaves it without its parent."""
    monkeypatch.setattr(workers, "WORKER_STOP", workers.WorkerStop())
    parent = SimpleNamespace(pid=os.getppid())
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: parent)

    def exit_(code):
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", exit_)
    yield lambda: monkeypatch.setattr(os, "getppid", lambda: 1)
    STOP.parent = None


def test_a_worker_whose_parent_is_gone_stops(as_worker, blobs, tmp_path, uncompiled):
    model = FcDEC(3, layer_sizes=(8, 3), pretrain_epochs=3, max_iter=2, random_state=0)
    with pytest.raises(SystemExit) as left, workers.WORKER_STOP.heeded("a call"):
        as_worker()
        model.fit(blobs, checkpoint_dir=tmp_path)
    assert left.value.code == 143 and isinstance(left.value.__context__, TerminatedError)
    assert CheckpointFolder(tmp_path).newest().values["step"] == 1
    with pytest.raises(SystemExit), workers.WORKER_STOP.heeded("a call"):
        pytest.fail("it began another")


def test_a_worker_that_was_told_to_stop_begins_nothing(as_worker):
    with workers.WORKER_STOP.heeded("a call"):
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # idle: nothing is raised into what waits for work
    with pytest.raises(TerminatedError), workers.WORKER_STOP.heeded("a call"):
        pytest.fail("it began another")
    with workers.WORKER_STOP.heeded("a later call"):  # for which nobody told it to stop
        pass


def test_workers_that_have_begun_are_told_while_others_are_given_work(at_work):
    process, place = at_work()

    def begin():
        """Be stopped with one worker at work, and more work to give."""
        STOP.handle(signal.SIGTERM)

    with pytest.raises(TerminatedError, match=r"^checkpoints of 1 run$"):
        list(workers.told_to_stop(begin, [place]))
    process.join(10)


def test_what_is_no_worker_of_ours_is_left_alone(as_worker, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)

    def run():
        with workers.WORKER_STOP.heeded("a call"):
            pass

    thread = threading.Thread(target=run)  # of a cluster's worker
    thread.start()
    thread.join()
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: None)
    run()
    assert signal.getsignal(signal.SIGTERM) is before and STOP.parent is None
