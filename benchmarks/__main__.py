"""All benchmarks as one command: figures beside yardsticks that are measured in the same run.

python -m benchmarks [--only NAME ...] [--quick] [--json FILE]
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.alone import measured, measured_alone
from benchmarks.rows import as_table
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
SEED = 0


def main() -> None:
    """Measure, print each table as it is done, and write the JSON where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", default=NAMES,
                        help=f"of {', '.join(NAMES)}")  # fmt: skip
    parser.add_argument(
        "--quick",
        action="store_true",
        help="fewer rounds, smaller data, no peak memory",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for all figures")
    args = parser.parse_args()
    about = {**environment(), "seed": SEED, "quick": args.quick}
    print(f"{about['device']}, commit {about['commit']}")
    found: dict[str, list[dict[str, Any]]] = {}
    peaks: dict[str, float | None] = {}
    begin = time.monotonic()
    for name in args.only:
        rows, peaks[name] = measured(name, quick=True) if args.quick else measured_alone(name)
        found[name] = [row.as_dict() for row in rows]
        peak = f", peak memory {peaks[name]:,.0f} MB" if peaks[name] else ""
        print(f"\n{name}{peak}\n{as_table(rows)}", flush=True)
        if args.json:
            record = {**about, "peak_mb": peaks, "rows": found}
            args.json.write_text(json.dumps(record, indent=2) + "\n")
    print(f"\n{time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
