"""What it costs two CPUs to change numbers that the other one changed last.

A training step changes every weight, on whichever CPU is free, and the next one reads it on both.
Where CPUs share a cache, halves changed in turns take about as long as each CPU's own: 0.9 to 1 of
that time. Two times and more is what CPUs give that have no cache in common. A virtual machine's
may change from one to the other within minutes, whatever it says of its caches, hence the arms,
which run in turns with a step's (`benchmarks.training_step`).
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.rows import Arm

N_NUMBERS = 2 * 1_665_110  # FcDEC's weights and their momenta: 13 MB


def arms() -> dict[str, Arm]:
    """Return arms 'own' and 'turns', whose step changes an array, a half of it on each CPU.

    'own': a CPU always the same half. 'turns': the one that the other CPU changed in the step
    before. None where a thread can't be tied to a CPU, or on a machine of one or of many.
    """
    if not _can_tie():
        return {}
    array = np.ones(N_NUMBERS, np.float32)  # written, as zeros would have no memory of their own
    return {
        "own": lambda n_steps: change(array, n_steps, in_turns=False),
        "turns": lambda n_steps: change(array, n_steps, in_turns=True),
    }


def _can_tie() -> bool:
    if not hasattr(os, "sched_setaffinity") or len(allowed := os.sched_getaffinity(0)) != 2:
        return False
    try:
        os.sched_setaffinity(0, allowed)
    except OSError:  # some containers forbid it
        return False
    return True


def change(array: np.ndarray, n_steps: int, in_turns: bool) -> None:
    """Add 1 to the array so many times, in two threads that are each tied to one CPU."""
    barrier, halves = threading.Barrier(2), np.array_split(array, 2)

    def work(first: int, cpu: int) -> None:
        """Do one CPU's part."""
        try:
            os.sched_setaffinity(0, {cpu})  # of the thread that asks
            for step in range(n_steps):
                half = halves[(first + step * in_turns) % 2]
                np.add(half, 1, out=half)
                barrier.wait()
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(work, range(2), sorted(os.sched_getaffinity(0))))
