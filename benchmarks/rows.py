"""What every benchmark returns: a figure, its yardstick, and their ratio from paired rounds."""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from clustering_common.cli import table

Arm = Callable[[int], Any]
# TensorFlow takes each operation for a long one, to be handed to another thread, until a mean that
# forgets a tenth a run says otherwise: some 90 steps, of up to 20,000 of a training. It matters
# where a step takes milliseconds.
WARM_STEPS = 100


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    name : str
        What was measured.
    value : float
        Ours, in ``unit``: the median of the rounds.
    unit : str
    yardstick : str
        What it is compared with, '' where it stands alone.
    yardstick_value : float or None
        In the same unit.
    ratio : list of float
        Median, least and largest of the rounds' ratios.
    meaning : str
        What the ratio says, such as 'share of the bare rate'.
    peak_mb, before_mb : float or None
        Peak memory of the row's own process, and what it was before what is measured.
    """

    name: str
    value: float
    unit: str
    yardstick: str = ""
    yardstick_value: float | None = None
    ratio: list[float] = field(default_factory=list)
    meaning: str = ""
    peak_mb: float | None = None
    before_mb: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)


def seconds_per_step(arm: Arm, few: int, many: int) -> float:
    """Return the seconds of one step: a long run less a short one, which leaves out the start."""
    times = []
    for n_steps in (few, many):
        begin = time.perf_counter()
        if n_steps:
            arm(n_steps)
        times.append(time.perf_counter() - begin)
    return (times[1] - times[0]) / (many - few)


def paired(
    arms: Mapping[str, Arm], rounds: int, few: int, many: int, warm_steps: int = 1
) -> dict[str, np.ndarray]:
    """Return each arm's seconds a step in every round; in a round all arms run in turn.

    Parameters
    ----------
    arms : mapping of str to callable
        Each runs so many steps and returns when they are done.
    rounds, few, many : int
        Rounds that count; steps of the short and of the long run, the short one 0 for arms without
        a start.
    warm_steps : int, default=1
        Steps, one at least, that each arm runs first, rounded up to rounds, none of which counts.
    """
    for arm in arms.values():
        for _ in range(0, warm_steps, many):
            seconds_per_step(arm, few, many)
    found = [[seconds_per_step(arm, few, many) for arm in arms.values()] for _ in range(rounds)]
    return dict(zip(arms, np.array(found).T, strict=True))


def compared(name: str, ours: np.ndarray, theirs: np.ndarray, **words: str) -> Row:
    """Return the row of paired seconds, in ms; the ratio is ours to theirs."""
    return ratio_row(name, 1e3 * ours, 1e3 * theirs, ours / theirs, "ms", **words)


def ratio_row(
    name: str, ours: np.ndarray, theirs: np.ndarray, ratio: np.ndarray, unit: str, **words: str
) -> Row:
    """Return the row of medians, with the ratio's range."""
    spread = [float(f(ratio)) for f in (np.median, np.min, np.max)]
    return Row(
        name, float(np.median(ours)), unit, ratio=spread,
        yardstick_value=float(np.median(theirs)), **words,
    )  # fmt: skip


def cells(row: Row) -> list[Any]:
    """Return a row as cells of the table."""
    beside = row.yardstick or "-"
    if row.yardstick_value is not None:
        beside = f"{row.yardstick_value:.4g} ({row.yardstick})"
    ratio = "-"
    if row.ratio:
        ratio = f"{row.ratio[0]:.3f}"
        ratio += f" ({row.ratio[1]:.3f} to {row.ratio[2]:.3f})" if len(row.ratio) == 3 else ""
        ratio += f" {row.meaning}"
    return [row.name, f"{row.value:.4g} {row.unit}", beside, ratio]


def as_table(rows: Sequence[Row]) -> str:
    """Return rows as text, with their peak memory where any has one."""
    columns, lines = ["", "ours", "yardstick", "ratio"], [cells(row) for row in rows]
    if any(row.peak_mb is not None for row in rows):
        columns.append("peak MB (before)")
        lines = [[*line, _peak(row)] for line, row in zip(lines, rows, strict=True)]
    return table(columns, lines)


def _peak(row: Row) -> str:
    peak = "-" if row.peak_mb is None else f"{row.peak_mb:.0f}"
    return peak if row.before_mb is None else f"{peak} ({row.before_mb:.0f})"


def main(rows: Callable[[bool], list[Row]]) -> None:
    """Run one benchmark as a command, and print its table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller data")
    print(as_table(rows(parser.parse_args().quick)))
