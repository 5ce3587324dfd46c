"""The table that a grid ends with."""

from dec_da import grid_table


def row(method, trial, acc):
    names = {"dataset": "usps", "method": method, "trials": trial}
    return {**names, "acc": acc, "nmi": 0.5, "ari": 0.25, "time": 60.0, "kmeans_acc": 0.5,
            "problem": ""}  # fmt: skip


def test_one_trial_has_no_deviation():
    rows = grid_table.with_means([row("FcDEC", 0, 0.5)], 1)
    assert [one["trials"] for one in rows] == [0, "mean", "std"]
    line = grid_table.summary(rows).splitlines()[1]
    assert line.split()[:6] == ["usps", "FcDEC", "0.500", "0.500", "0.250", "0.500"]


def test_trials_have_mean_and_deviation():
    rows = grid_table.with_means([row("FcDEC", 0, 0.5), row("FcDEC", 1, 0.7)], 2)
    assert "0.600 ± 0.100  0.500 ± 0.000" in grid_table.summary(rows)
