"""A benchmark in a process of its own, which starts no engine before it is asked to."""

import importlib
import multiprocessing
import warnings
from concurrent.futures import ProcessPoolExecutor

from benchmarks.memory import peak_mb
from benchmarks.rows import Row

PARENTS = ("agreement_graph", "scaling")  # start processes of their own for each row


def measured(name: str, quick: bool) -> tuple[list[Row], float | None]:
    """Return the rows of a benchmark and the peak memory of this process, in MB.

    None where that would not be the benchmark's own: if quick, one process runs all of them, and
    some start processes for their rows, which have the peaks.
    """
    warnings.simplefilter("ignore")  # of runs too short to cluster anything
    rows = importlib.import_module(f"benchmarks.{name}").rows(quick)
    return rows, None if quick or name in PARENTS else peak_mb()


def measured_alone(name: str) -> tuple[list[Row], float | None]:
    """Return what `measured` does in a process of its own, whose peak no other benchmark made."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as pool:
        return pool.submit(measured, name, False).result()
