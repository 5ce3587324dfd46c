"""What it costs two cores to change numbers that the other one changed last.

A training step changes every weight, on whichever core is free, and the next one reads it on both.
Cores of one cache hardly feel that; where a host lays them apart, each with a last cache of its
own, such numbers come at a tenth of the speed, and `benchmarks.training_step` shows it. A host may
move them at any time, hence the arms, which run in turns with a step's.
"""

import os
import threading
from collections.abc import Callable

import numpy as np

from benchmarks.rows import Arm

N_NUMBERS = 1_664_510  # in each of three arrays, 20 MB: weights, momenta and gradients of FcDEC


def arms() -> dict[str, Arm]:
    """Return two arms whose step changes two of three arrays, half of them on each of two cores.

    'own half': a core always the same half. 'halves in turns': the one that the other core changed
    in the step before. None where a thread can't be tied to a core, or where there is but one.
    """
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        return {}
    arrays = np.zeros((3, N_NUMBERS), np.float32)
    return {
        "own half": lambda n_steps: _on_two_cores(arrays, n_steps, in_turns=False),
        "halves in turns": lambda n_steps: _on_two_cores(arrays, n_steps, in_turns=True),
    }


def _on_two_cores(arrays: np.ndarray, n_steps: int, in_turns: bool) -> None:
    """Add one array to the next, and that to the third, so many times."""
    barrier, halves = threading.Barrier(2), np.array_split(arrays, 2, axis=1)

    def work(core: int, first: int) -> None:
        """Do one core's part; the system's identity 0 is the thread that asks."""
        os.sched_setaffinity(0, {core})
        for step in range(n_steps):
            gradients, momenta, weights = halves[(first + step * in_turns) % 2]
            np.add(momenta, gradients, out=momenta)
            np.add(weights, momenta, out=weights)
            barrier.wait()

    _together(
        [
            lambda core=core, first=first: work(core, first)
            for first, core in enumerate(sorted(os.sched_getaffinity(0))[:2])
        ]
    )


def _together(tasks: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
