"""What both command lines share: one-line errors, exit codes, quiet engines, plain tables."""

import argparse
import contextlib
import logging
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

BAD_INPUT = 2
EXPECTED = (ValueError, TypeError, OSError, MemoryError, ImportError)


class OneLineParser(argparse.ArgumentParser):
    """An ``ArgumentParser`` whose errors are one line and exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Exit with the message alone; ``--help`` tells the rest."""
        self.exit(BAD_INPUT, f"{self.prog}: error: {message}. See {self.prog} --help.\n")


def number(
    kind: type[int] | type[float],
    low: float | None = None,
    strict: bool = False,
    high: float | None = None,
) -> Callable[[str], Any]:
    """Return an argparse type for a finite number from ``low`` (left out if strict) to ``high``."""
    bound = "" if low is None else f" {'>' if strict else '>='} {low:g}"
    bound += "" if high is None else f"{' and' if bound else ''} <= {high:g}"
    words = f"{'an integer' if kind is int else 'a number'}{bound}"

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except (ValueError, OverflowError):
            value = None
        if value is None or not _is_finite(value) or not _within(value, low, high, strict):
            raise argparse.ArgumentTypeError(f"must be {words}; got {text!r}")
        return value

    return parse


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def _within(value: float, low: float | None, high: float | None, strict: bool) -> bool:
    if low is not None and (value < low or (strict and value == low)):
        return False
    return high is None or value <= high


@contextlib.contextmanager
def quiet_start() -> Iterator[None]:
    """Keep the engines' start-up chatter off standard error; Python's own errors still come."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # A grid makes a network for each run; TensorFlow takes that for needless compiling.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    sys.stderr.flush()
    saved = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def run(command: Callable[[Sequence[str] | None], None], argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    Bad input is one line on standard error and 2, Ctrl-C 130, SIGTERM 143; anything else is a bug
    and keeps its traceback.
    """
    prog = os.path.basename(sys.argv[0])
    signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        command(argv)
    except EXPECTED as error:
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"{prog}: error: {text}", file=sys.stderr)  # noqa: T201
        return BAD_INPUT
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)  # noqa: T201
        return 128 + signal.SIGINT
    except TerminatedError:
        print(f"{prog}: terminated", file=sys.stderr)  # noqa: T201
        return 128 + signal.SIGTERM
    return 0


class TerminatedError(BaseException):
    """SIGTERM, as an exception that no handler for errors catches."""


def _raise_terminated(*_: Any) -> NoReturn:
    raise TerminatedError


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return rows as text in aligned columns; floats with four decimals, None as a dash.

    Examples
    --------
    >>> print(table(["method", "acc"], [["FcDEC", 0.5], ["k-means", None]]))
    method      acc
    FcDEC    0.5000
    k-means       -
    """
    cells = [list(columns)] + [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    lines = []
    for row in cells:
        first = row[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([first, *rest]).rstrip())
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def score_line(scores: dict[str, float]) -> str:
    """Return the closing line of a run.

    Examples
    --------
    >>> score_line({"acc": 0.985, "nmi": 0.96, "ari": 0.967})
    'acc=0.9850, nmi=0.9600, ari=0.9670'
    """
    return ", ".join(f"{name}={scores[name]:.4f}" for name in ("acc", "nmi", "ari"))
