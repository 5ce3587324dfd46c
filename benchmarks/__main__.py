"""All benchmarks as one command: figures beside yardsticks that are measured in the same run.

python -m benchmarks [--only NAME ...] [--quick] [--json FILE]
"""

import argparse
import importlib
import json
import multiprocessing
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.memory import peak_mb
from benchmarks.rows import Row, as_table
from clustering_common.results import environment

# Each is a module with ``rows(quick)``.
NAMES = (
    "training_step",
    "plain_keras",
    "ladder_step",
    "agreement_graph",
    "inference",
    "scaling",
    "checkpoint",
)
PARENTS = ("agreement_graph", "scaling")
SEED = 0


def measured(name: str, quick: bool) -> tuple[list[Row], float | None]:
    """Return the rows of a benchmark and the peak memory of this process, in MB.

    None for those that start processes of their own, whose peaks are in their rows.
    """
    warnings.simplefilter("ignore")  # of runs too short to cluster anything
    rows = importlib.import_module(f"benchmarks.{name}").rows(quick)
    return rows, None if name in PARENTS else peak_mb()


def measured_alone(name: str, quick: bool) -> tuple[list[Row], float | None]:
    """Return what `measured` does in a process of its own, whose peak no other benchmark made."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as pool:
        return pool.submit(measured, name, quick).result()


def main() -> None:
    """Measure, print each table as it is done, and write the JSON where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", default=NAMES,
                        help=f"of {', '.join(NAMES)}")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller data")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for all figures")
    args = parser.parse_args()
    about = {**environment(), "seed": SEED, "quick": args.quick}
    print(f"{about['device']}, commit {about['commit']}")
    found: dict[str, list[dict[str, Any]]] = {}
    peaks: dict[str, float | None] = {}
    begin = time.monotonic()
    for name in args.only:
        rows, peaks[name] = measured_alone(name, args.quick)
        found[name] = [row.as_dict() for row in rows]
        peak = "" if peaks[name] is None else f", peak memory {peaks[name]:,.0f} MB"
        print(f"\n{name}{peak}\n{as_table(rows)}", flush=True)
        if args.json:
            record = {**about, "peak_mb": peaks, "rows": found}
            args.json.write_text(json.dumps(record, indent=2) + "\n")
    print(f"\n{time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
