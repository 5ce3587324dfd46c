"""What both command lines share: one-line errors, exit codes, quiet engines, plain tables."""

import argparse
import contextlib
import logging
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from clustering_common.record import MEASURES
from clustering_common.stopping import STOP, TerminatedError

BAD_INPUT = 2
MAX_INTEGER = 10**9  # of a flag without a bound of its own: engines crash beyond their integers
EXPECTED = (ValueError, TypeError, OSError, ImportError)
# How NumPy, TensorFlow, JAX and PyTorch say it. By name: no engine is imported to ask it.
MEMORY_ERRORS = {"MemoryError", "ResourceExhaustedError", "OutOfMemoryError"}
MEMORY_TEXTS = ("RESOURCE_EXHAUSTED", "OOM when allocating", "Dst tensor is not initialized")
MEMORY_AMOUNT = re.compile(
    r"Unable to allocate [^\n]*|OOM when allocating tensor with shape\[[\d,]*\]"
    r"|(?i:out of memory allocating|tried to allocate) [\d.,]+ \w+"
)
MEMORY_HINT = (
    "Lower the batch size, the number of clusters, of members or of samples, or use a larger "
    "machine."
)


class OneLineParser(argparse.ArgumentParser):
    """An ``ArgumentParser`` whose errors are one line and exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Exit with the message alone; ``--help`` tells the rest."""
        self.exit(BAD_INPUT, f"{self.prog}: error: {message}. See {self.prog} --help.\n")

    @property
    def flags(self) -> dict[str, str]:
        """The long form of each flag, by the name of its value among the arguments."""
        return {
            action.dest: max(action.option_strings, key=len)
            for action in self._actions
            if action.option_strings
        }


def number(
    kind: type[int] | type[float],
    low: float | None = None,
    strict: bool = False,
    high: float | None = None,
) -> Callable[[str], Any]:
    """Return an argparse type for a finite number from ``low`` (left out if strict) to ``high``.

    Without ``high`` integers end at `MAX_INTEGER`.
    """
    high = MAX_INTEGER if high is None and kind is int else high
    bound = "" if low is None else f" {'>' if strict else '>='} {low:g}"
    bound += "" if high is None else f"{' and' if bound else ''} <= {high:g}"
    words = f"{'an integer' if kind is int else 'a number'}{bound}"
    return lambda text: _parsed(text, kind, lambda value: _within(value, low, high, strict), words)


def path(text: str) -> str:
    """Return a path that an argument names: any but the empty one, which means no path."""
    if not text:
        raise argparse.ArgumentTypeError("must be a path; got ''")
    return text


def _parsed(text: str, kind: type, is_allowed: Callable[[float], bool], words: str) -> Any:
    """Return the number that ``text`` says, or raise with what it must be."""
    try:
        value = kind(text)
    except (ValueError, OverflowError):
        value = None
    if value is None or not _is_finite(value) or not is_allowed(value):
        raise argparse.ArgumentTypeError(f"must be {words}; got {text!r}")
    return value


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def _within(value: float, low: float | None, high: float | None, strict: bool) -> bool:
    if low is not None and (value < low or (strict and value == low)):
        return False
    return high is None or value <= high


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Add --precision."""
    parser.add_argument(
        "--precision",
        choices=("float32", "tf32", "bfloat16"),
        default="float32",
        help="of training's products on a GPU; bfloat16 needs KERAS_BACKEND=jax; default: float32",
    )


def add_devices(parser: argparse.ArgumentParser) -> None:
    """Add --devices."""
    parser.add_argument(
        "--devices",
        type=number(int, 1),
        default=1,
        metavar="N",
        help="GPUs of this machine to train on: DEC-DA spreads each mini-batch over them, Kingdra "
        "its members (with KERAS_BACKEND=jax); default: 1",
    )


def add_resume(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a run that may be stopped."""
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the checkpoints in the save-dir; what is finished is not run again",
    )
    parser.add_argument(
        "--checkpoint-every",
        type=number(float, 0),
        default=60.0,
        metavar="SECONDS",
        help="between two checkpoints at least; 0 is as often as can be (default: 60)",
    )


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add --report."""
    parser.add_argument(
        "--report",
        action="store_true",
        help="leave report.html in the save-dir, a page with curves, clusters and samples; with "
        "--resume, of a finished run too",
    )


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


@contextlib.contextmanager
def naming(names: Mapping[str, str]) -> Iterator[None]:
    """Let the errors of a block name what the user typed.

    Parameters
    ----------
    names : mapping
        From what messages call it, such as an argument of a constructor, to the flag.
    """
    try:
        yield
    except EXPECTED as error:
        if len(error.args) == 1 and isinstance(error.args[0], str):
            error.args = (renamed(error.args[0], names),)
        raise


def renamed(message: str, names: Mapping[str, str]) -> str:
    """Return a message with its subject, and all that only code is called, under other names.

    Names that are also plain words count as the subject alone, what is quoted or part of a path
    never.

    Examples
    --------
    >>> names = {"tol": "--tol", "max_iter": "--maxiter"}
    >>> renamed("tol must be a number >= 0; got 'tol'. 0 trains for max_iter steps.", names)
    "--tol must be a number >= 0; got 'tol'. 0 trains for --maxiter steps."
    """
    subject, must, rest = message.partition(" must ")
    start = names[subject] + must if must and subject in names else ""
    code = {name for name in names if name.isidentifier() and not re.fullmatch("[a-z]+", name)}
    quoted_or_name = r"(?<!\w)'[^']*'|(?<!\w)\"[^\"]*\"|(?<![\w./-])[A-Za-z_]\w*(?![\w/=]|\.\w)"
    return start + re.sub(
        quoted_or_name,
        lambda match: names[match[0]] if match[0] in code else match[0],
        rest if start else message,
    )


def run(
    command: Callable[[Sequence[str] | None], None],
    argv: Sequence[str] | None = None,
    *,
    memory_hint: str = MEMORY_HINT,
) -> int:
    """Run a command line and return its exit code.

    Bad input, or too little memory, is one line on standard error and 2, Ctrl-C 130, SIGTERM 143;
    anything else is a bug and keeps its traceback.

    Parameters
    ----------
    command : callable
        Takes ``argv``.
    argv : sequence of str, optional
        Those of the process by default.
    memory_hint : str
        What to do when memory runs out, one sentence.
    """
    prog = os.path.basename(sys.argv[0])
    STOP.listen()
    try:
        command(argv)
    except Exception as error:
        if is_out_of_memory(error):
            amount = MEMORY_AMOUNT.search(str(error))
            text = f"ran out of memory{f' ({amount[0]})' if amount else ''}. {memory_hint}"
        elif isinstance(error, EXPECTED):
            text = " ".join(str(error).split()) or type(error).__name__
        else:
            raise
        sys.stderr.write(f"{prog}: error: {text}\n")
        return BAD_INPUT
    except KeyboardInterrupt as stop:
        sys.stderr.write(_stopped(prog, "interrupted", stop))
        return 128 + signal.SIGINT
    except TerminatedError as stop:
        sys.stderr.write(_stopped(prog, "terminated", stop))
        return 128 + signal.SIGTERM
    return 0


def _stopped(prog: str, how: str, stop: BaseException) -> str:
    """Return the line of a run that a signal stopped."""
    rest = f"; {stop}: --resume goes on from there" if str(stop) else ""
    return f"{prog}: {how}{rest}\n"


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether the host or the device of any engine had too little memory."""
    names = {cls.__name__ for cls in type(error).__mro__}
    return bool(names & MEMORY_ERRORS) or any(text in str(error) for text in MEMORY_TEXTS)


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
    return ", ".join(f"{name}={scores[name]:.4f}" for name in MEASURES)
