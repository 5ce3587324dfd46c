"""Random streams: every one grows from a single ``random_state`` and none is global."""

from typing import Any

import numpy as np

MAX_SEED = 2**31 - 1


class SeedStream:
    """Named integer seeds from one ``random_state``.

    Parameters
    ----------
    random_state : None, int, numpy.random.RandomState or numpy.random.Generator
        None draws fresh entropy from the operating system; a generator is advanced by one draw.

    Examples
    --------
    >>> SeedStream(7).seed("kmeans") == SeedStream(7).seed("kmeans")
    True
    """

    def __init__(self, random_state: Any = None):
        self.entropy = _entropy(random_state)

    def seed(self, name: str, index: int = 0) -> int:
        """Return the seed of the stream ``name``, in [0, 2**31 - 1)."""
        key = [*name.encode(), index]
        state = np.random.SeedSequence(self.entropy, spawn_key=tuple(key)).generate_state(1)
        return int(state[0] % MAX_SEED)


def _entropy(random_state: Any) -> int:
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(MAX_SEED))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(MAX_SEED))
    if isinstance(random_state, bool) or not isinstance(random_state, int | np.integer):
        raise TypeError(
            f"random_state must be None, an integer or a NumPy generator; got {random_state!r}. "
            "Pass an integer for a run that can be repeated."
        )
    if random_state < 0:
        raise ValueError(
            f"random_state must be an integer >= 0; got {random_state!r}. Choose another seed."
        )
    return int(random_state)
