"""Signals that wait until a run has written its checkpoint."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any, NoReturn


class TerminatedError(BaseException):
    """SIGTERM, as an exception that no handler for errors catches."""


class StopRequest:
    """A signal that waits for a run to see to it.

    Attributes
    ----------
    signal_number : int or None
        The signal that came, if any.
    parent : int, optional
        The process that this one works for, whose end counts as SIGTERM.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self.parent: int | None = None
        self._is_deferring = False
        self._message: Callable[[], str] = str
        self._first: Callable[[int], str] | None = None

    def listen(self, handler: Callable[..., None] | None = None) -> None:
        """Take SIGTERM and SIGINT from now on: for a command line, which owns its process."""
        for number in (signal.SIGTERM, signal.SIGINT):
            # What nohup or a shell's "&" made deaf to a signal stays so.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, handler or self.handle)

    def handle(self, signal_number: int, frame: Any = None) -> None:
        """Note the signal where a run will see to it; else, or the second time, raise at once."""
        if self._is_deferring and self.signal_number is None:
            self.signal_number = signal_number
            return
        first, self._first = self._first, None
        self._raise(signal_number, first(signal_number) if first else "")

    @contextlib.contextmanager
    def after(self, first: Callable[[int], str]) -> Iterator[None]:
        """Let a signal that raises at once in the block wait for what is to be done first.

        ``first`` takes the signal's number and returns what is to be said; a second signal ends it.
        """
        self._first = first
        try:
            yield
        finally:
            self._first = None

    @property
    def is_asked(self) -> bool:
        """Whether a signal waits, or should have come from a parent that is gone."""
        if self.parent not in (None, os.getppid()) and self.signal_number is None:
            self.signal_number = signal.SIGTERM
        return self.signal_number is not None

    @contextlib.contextmanager
    def deferred(self, message: Callable[[], str] = str) -> Iterator[None]:
        """Let a signal wait for `raise_if_any`, or the end of the block, an error's too.

        ``message`` gives the text of what `raise_if_any` raises.
        """
        self._is_deferring, self._message = True, message
        try:
            yield
            self.raise_if_any()
        except Exception as error:
            # Who handles the error, as a grid does, would otherwise go on.
            if self.signal_number is not None:
                self._raise(self.signal_number, cause=error)
            raise
        finally:
            self._is_deferring, self.signal_number, self._message = False, None, str

    def raise_if_any(self) -> None:
        """Raise what the waiting signal means, if one waits."""
        if self.signal_number is not None:
            self._raise(self.signal_number, self._message())

    def _raise(
        self, signal_number: int, message: str = "", cause: Exception | None = None
    ) -> NoReturn:
        kind = KeyboardInterrupt if signal_number == signal.SIGINT else TerminatedError
        raise kind(message) from cause


STOP = StopRequest()  # signals belong to the process, and so does this
