"""What ``verbose`` says of a fit: lines through the ``logging`` module.

The logger is ``clustering_common``; its children ``clustering_common.dec_da`` and
``clustering_common.kingdra_cluster`` belong to the methods. There are no bars and no carriage
returns, so a log file reads as a terminal does.
"""

import contextlib
import logging
import math
import sys
import time
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import keras

__all__ = ["Progress", "show_progress"]

logger = logging.getLogger("clustering_common")
EVERY = 5.0  # seconds between two lines at verbose=1


class Progress(keras.callbacks.Callback):
    """Say epoch, losses and time left.

    Parameters
    ----------
    phase : str
        Name of the phase, '' for none.
    unit : str, default='epoch'
        What an epoch of the callbacks is called.
    verbose : int, default=1
        0 says nothing, 1 a line every five seconds, the first and the last in any case, 2 every
        line.
    names : sequence of str, optional
        What is said of the logs, in this order; all numbers by default.
    say : callable, optional
        Takes a line; the logger by default.
    """

    def __init__(
        self,
        phase: str,
        unit: str = "epoch",
        *,
        verbose: int = 1,
        names: Sequence[str] | None = None,
        say: Callable[[str], None] = logger.info,
    ):
        super().__init__()
        self.start_of_line = f"{phase}: {unit}" if phase else unit
        self.verbose, self.names, self.say = verbose, names, say

    def on_train_begin(self, logs: Any = None) -> None:
        """Note the time."""
        self._start, self._shown, self._first = time.monotonic(), -math.inf, -1

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Say a line when it is due."""
        now, n_epochs = time.monotonic(), self.params["epochs"]
        self._first = epoch if self._first < 0 else self._first
        is_last = epoch + 1 >= n_epochs or self.model.stop_training
        is_due = self.verbose > 1 or is_last or now - self._shown >= EVERY
        if not self.verbose or not is_due:
            return
        self._shown = now
        left = (now - self._start) / (epoch + 1 - self._first) * (n_epochs - epoch - 1)
        known = logs or {}
        names = known if self.names is None else self.names
        values = [f"{n} {number(known[n])}" for n in names if isinstance(known.get(n), Real)]
        count = f"{self.start_of_line} {epoch + 1}/{n_epochs}"
        self.say(", ".join([count, *values, f"at most {clock(left)} left"]))


def number(value: Any) -> str:
    """Return a number in four digits, a whole one in all of its own.

    Examples
    --------
    >>> number(20000.0), number(0.123456)
    ('20000', '0.1235')
    """
    return f"{value:.4g}" if value % 1 or abs(value) > 1e9 else f"{value:.0f}"


def clock(seconds: float) -> str:
    """Return seconds as h:mm:ss or m:ss.

    Examples
    --------
    >>> clock(75), clock(3600)
    ('1:15', '1:00:00')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class FallbackHandler(logging.Handler):
    """Standard error, for as long as the application has no handler of its own.

    What is set up later, by ``logging.basicConfig`` say, takes its place: no line comes twice.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line unless somebody else does."""
        if self._is_heard_elsewhere(record.name):
            return
        # A terminal or file that is gone must not end a run.
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()

    def _is_heard_elsewhere(self, name: str) -> bool:
        one: logging.Logger | None = logging.getLogger(name)
        while one is not None:
            if any(handler is not self for handler in one.handlers):
                return True
            one = one.parent if one.propagate else None
        return False


def show_progress(verbose: int) -> None:
    """Let lines of progress be seen if ``verbose`` > 0.

    They go to the application's handlers, without any to standard error. A level that somebody set
    for the logger stays.
    """
    if not verbose:
        return
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    if not any(isinstance(handler, FallbackHandler) for handler in logger.handlers):
        logger.addHandler(FallbackHandler())
