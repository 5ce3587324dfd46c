"""The table of a grid of runs: a row per trial, means and deviations, the paper's figures."""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from clustering_common import cli
from clustering_common.record import MEASURES
from dec_da import presets

__all__ = ["summary"]

COLUMNS = ("dataset", "method", "trials", *MEASURES, "time")
KMEANS, PROBLEM = "kmeans_acc", "problem"
MEANS = ("mean", "std")


def with_means(rows: Sequence[dict[str, Any]], n_trials: int) -> list[dict[str, Any]]:
    """Return the rows, each cell's followed by its mean and standard deviation.

    A cell with a diverged trial has no mean: leaving that trial out would flatter it. Neither has
    one whose first ``n_trials`` are not all done; more of them count where there are more.
    """
    found: list[dict[str, Any]] = []
    cells = itertools.groupby(rows, key=lambda row: (row["dataset"], row["method"]))
    for trials in (list(trials) for _, trials in cells):
        found += trials
        for name, function in (("mean", np.mean), ("std", np.std)):
            values = {
                key: float(function([row[key] for row in trials]))
                for key in (*MEASURES, KMEANS, "time")
            }
            if {row["trials"] for row in trials}.issuperset(range(n_trials)):
                found.append({**trials[0], "trials": name, **values, PROBLEM: ""})
    return found


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table that a grid ends with.

    Mean and deviation of each cell, of one trial its figure alone; beside it k-means on the pixels,
    the mean of as many trials: what any method must beat; and the paper's figures.
    """
    lines = []
    trials = [row for row in rows if row["trials"] not in MEANS]
    n_trials = Counter((row["dataset"], row["method"]) for row in trials)
    for mean, std in zip(
        [row for row in rows if row["trials"] == "mean"],
        [row for row in rows if row["trials"] == "std"],
        strict=True,
    ):
        paper = presets.paper_figures(mean["method"], mean["dataset"])
        is_one = n_trials[mean["dataset"], mean["method"]] == 1
        lines.append(
            [mean["dataset"], mean["method"]]
            + [f"{mean[key]:.3f}" + ("" if is_one else f" ± {std[key]:.3f}") for key in MEASURES]
            + [f"{mean[KMEANS]:.3f}"]
            + [f"{paper[key]:.3f}" if paper else "-" for key in ("acc", "nmi")]
            + [f"{mean['time']:.0f} s"]
        )
    columns = ["data set", "method", *MEASURES, "k-means acc", "paper acc", "paper nmi", "time"]
    problems = [f"Warning: {row[PROBLEM]}" for row in rows if row[PROBLEM]]
    return "\n".join([cli.table(columns, lines), *problems])
