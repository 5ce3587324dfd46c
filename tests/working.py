"""A worker as tests start it, without an engine."""

import os
import signal
import time

from clustering_common.run_lock import locked
from clustering_common.stopping import STOP
from clustering_common.workers import WORKER_STOP


def work(folder, is_deaf=False):
    """Hold a folder, "train" in it until a signal comes, and leave a "checkpoint" some time later.

    One that is deaf goes on for ever.
    """
    with WORKER_STOP.heeded("a call"), locked("--save-dir", folder), STOP.deferred():
        (folder / "begun").touch()
        while is_deaf or not STOP.is_asked:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)  # as a terminal does that tells all
        time.sleep(0.1)
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "checkpoint-000001.state").touch()
