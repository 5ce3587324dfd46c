"""Seconds and peak memory of the agreement graph, each run in a process of its own.

Usage: python -m benchmarks.agreement_graph [--repeats 3] [--only TEXT] [--json FILE]

Inputs: "realistic" members mostly agree, "unrelated" members vote at random, so nearly every
tuple is distinct. Peak is the high-water mark of the whole process, "start" the mark just
before the call: interpreter, libraries and the votes themselves.

The yardstick of the first case is the pairwise definition, which finds the same buckets; the others
are too large for it and stand beside the first case's time a sample: what linear growth would be.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.memory import peak_mb
from benchmarks.rows import Row
from kingdra_cluster.agreement_graph import agreement_buckets

N_CLASS = 10
# votes, n_samples, n_members, low_th, high_th
CASES = [
    ("realistic", 16_000, 10, 1, 9),
    ("realistic", 70_000, 10, 1, 9),
    ("realistic", 70_000, 10, 2, 8),
    ("realistic", 70_000, 10, 4, 5),
    ("realistic", 1_000_000, 10, 1, 9),
    ("realistic", 1_000_000, 10, 2, 8),
    ("realistic", 1_000_000, 10, 4, 5),
    ("unrelated", 70_000, 10, 1, 9),
    ("unrelated", 70_000, 10, 2, 8),
    ("unrelated", 70_000, 10, 4, 5),
    ("unrelated", 70_000, 10, 9, 4),
    ("unrelated", 1_000_000, 10, 1, 9),
    ("unrelated", 1_000_000, 10, 2, 8),
    ("unrelated", 20_000, 20, 4, 10),
    # Far from any use: unrelated samples exceed such thresholds by chance.
    ("unrelated", 70_000, 10, 0, 3),
]
PAIRWISE = CASES[0]
# Of each size one, and the hardest of 70,000.
QUICK = [CASES[i] for i in (0, 1, 4, 9)]


def realistic_votes(n_samples, n_members, rng):
    """Return votes and sureness of members that mostly agree.

    Each member finds the true class with probability 0.97 (easy) to 0.85 (hard sample), the
    difficulty being beta(1, 3); its errors go to the sample's confusable class in four of
    five cases, else anywhere. Hard samples are seldom sure.
    """
    truth = rng.integers(0, N_CLASS, n_samples)
    confusable = (truth + rng.choice([1, 3, 5], n_samples)) % N_CLASS
    difficulty = rng.beta(1, 3, n_samples)
    votes = np.empty((n_members, n_samples), dtype=np.int64)
    for row in votes:
        wrong = rng.random(n_samples) > 0.97 - 0.12 * difficulty
        anywhere = rng.random(n_samples) < 0.2
        error = np.where(anywhere, rng.integers(0, N_CLASS, n_samples), confusable)
        row[:] = np.where(wrong, error, truth)
    return votes, rng.random(n_samples) > difficulty


def unrelated_votes(n_samples, n_members, rng):
    """Return votes drawn uniformly, four of five samples sure."""
    votes = rng.integers(0, N_CLASS, (n_members, n_samples))
    return votes, rng.random(n_samples) < 0.8


VOTES = {"realistic": realistic_votes, "unrelated": unrelated_votes}
N_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, np.uint8)


def pairwise_buckets(votes, sure, n_class, low_th, high_th, block=256):
    """Return the buckets as the definition reads, from all pairs of samples.

    H and W are matrices of bits, a row a sample, made a block of rows at a time.
    """
    n_samples = len(sure)
    votes = votes.astype(np.int8)
    high = np.empty((n_samples, -(-n_samples // 8)), np.uint8)
    low = np.empty_like(high)
    for start in range(0, n_samples, block):
        part = slice(start, start + block)
        agreement = sum((member[part, None] == member).view(np.int8) for member in votes)
        high[part] = np.packbits((agreement > high_th) & sure[part, None], axis=1)
        low[part] = np.packbits(agreement > low_th, axis=1)
    buckets = []
    while len(buckets) < n_class and high.any():
        sizes = N_BITS[high].sum(axis=1)
        bucket = np.flatnonzero(np.unpackbits(high[sizes.argmax()], count=n_samples))
        buckets.append(bucket)
        near = np.bitwise_or.reduce(low[bucket], axis=0)
        high[np.unpackbits(near, count=n_samples).astype(bool)] = 0
        high &= np.packbits(high.any(axis=1))
    return buckets + [np.empty(0, np.int64)] * (n_class - len(buckets))


def timed(call):
    """Return the seconds of a call and what it returned."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def run_once(name, n_samples, n_members, low_th, high_th, with_pairwise=False):
    """Return what one call costs, as a dict; where asked, what the pairwise way takes too."""
    votes, sure = VOTES[name](n_samples, n_members, np.random.default_rng(0))
    thresholds = {"n_class": N_CLASS, "low_th": low_th, "high_th": high_th}

    def ours():
        return agreement_buckets(votes, sure, **thresholds)

    before = peak_mb()
    seconds, buckets = timed(ours)
    found = {
        "seconds": seconds,
        "peak_mb": peak_mb(),
        "before_mb": before,
        "n_tuples": len(np.unique(votes.T, axis=0)),
        "sizes": [len(bucket) for bucket in buckets],
    }
    if with_pairwise:
        # So short that the first call alone tells little, and other rows are compared with it.
        found["seconds"] = statistics.median([seconds, *(timed(ours)[0] for _ in range(4))])
        found["pairwise_seconds"], wanted = timed(
            lambda: pairwise_buckets(votes, sure, **thresholds)
        )
        check_equal(buckets, wanted)
    return found


def check_equal(buckets, wanted):
    """Raise RuntimeError unless both ways found the same buckets."""
    if [bucket.tolist() for bucket in buckets] != [bucket.tolist() for bucket in wanted]:
        raise RuntimeError("The agreement graph and the pairwise way differ in their buckets.")


def measure(case, repeats):
    """Return one row: the case and the runs in fresh processes."""
    runs = []
    for i in range(repeats):
        one = json.dumps([*case, case == PAIRWISE and i == 0])  # the slow way once
        command = [sys.executable, "-m", "benchmarks.agreement_graph", "--one", one]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout))
    names = ("votes", "n_samples", "n_members", "low_th", "high_th")
    row = dict(zip(names, case, strict=True))
    row.update({key: runs[0][key] for key in ("n_tuples", "sizes")})
    row["pairwise_seconds"] = runs[0].get("pairwise_seconds")
    row["seconds"] = [round(run["seconds"], 4) for run in runs]
    row["peak_mb"] = [round(run["peak_mb"]) for run in runs]
    row["before_mb"] = [round(run["before_mb"]) for run in runs]
    return row


def table_line(row):
    """Return the row as a line of a Markdown table."""
    seconds = row["seconds"]
    return (
        f"| {row['votes']} | {row['n_samples']:,} x {row['n_members']} "
        f"| {row['low_th']} / {row['high_th']} | {row['n_tuples']:,} "
        f"| {statistics.median(seconds):.2f} ({min(seconds):.2f}-{max(seconds):.2f}) "
        f"| {max(row['peak_mb'])} | {max(row['before_mb'])} |"
    )


def rows(quick):
    """Return a row for each of some cases, the first against the pairwise way."""
    found = []
    for case in QUICK if quick else CASES:
        run = measure(case, 1 if quick else 3)
        votes, n_samples, n_members, low_th, high_th = case
        seconds = statistics.median(run["seconds"])
        if case == PAIRWISE:
            first, beside = seconds / n_samples, run["pairwise_seconds"]
            yardstick, ratio, meaning = "all pairs of samples", beside / seconds, "times as fast"
        else:
            beside = first * n_samples
            yardstick, ratio, meaning = "first row's a sample", seconds / beside, "as long a sample"
        name = f"{votes} votes, {n_samples:,} x {n_members}, thresholds {low_th}/{high_th}"
        found.append(
            Row(
                name, seconds, "s", yardstick, beside, [ratio], meaning,
                max(run["peak_mb"]), max(run["before_mb"]),
            )
        )  # fmt: skip
    return found


def main(arguments=None):
    """Print one table row per case; write all figures to a file where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="run the cases whose name holds this text")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one is not None:
        print(json.dumps(run_once(*options.one)))
        return
    print("| votes | samples x members | low / high | tuples | seconds (range) | peak MB | start |")
    print("|---|---|---|---|---|---|---|", flush=True)
    rows = []
    for case in CASES:
        if options.only in f"{case[0]} {case[1]}":
            rows.append(measure(case, options.repeats))
            print(table_line(rows[-1]), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
