"""Signals that wait until a run has written its checkpoint."""

import contextlib
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
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._is_deferring = False
        self._message: Callable[[], str] = str

    def listen(self) -> None:
        """Take SIGTERM and SIGINT from now on: for a command line, which owns its process."""
        for number in (signal.SIGTERM, signal.SIGINT):
            # What nohup or a shell's "&" made deaf to a signal stays so.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self.handle)

    def handle(self, signal_number: int, frame: Any = None) -> None:
        """Note the signal where a run will see to it; else, or the second time, raise at once."""
        if self._is_deferring and self.signal_number is None:
            self.signal_number = signal_number
            return
        self._raise(signal_number)

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
