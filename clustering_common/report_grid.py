"""The report of a grid: its runs beside each other, data set by data set."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from clustering_common.record import MEASURES, RESULTS
from clustering_common.report_charts import SHARES, Scale, Series, colour_of, line_chart, tick
from clustering_common.report_files import (
    GRID_FILE,
    as_float,
    column,
    mapping,
    read_results,
    read_rows,
)
from clustering_common.report_html import (
    Sections,
    duration,
    plural,
    score,
    settings,
    table,
    text,
    warnings_box,
)

PAGE_FILE = "report.html"
MEANS = ("mean", "std")
STRIP_WIDTH, STRIP_HEIGHT = 400, 30
NOTE = (
    "A dot is a trial, the bar their mean; the dashed line is k-means on the raw data, the diamond "
    "the paper's mean."
)


def run_folders(folder: Path) -> list[Path]:
    """Return the folders of a grid's runs that are finished, in the order of results.csv."""
    paths = [_place(folder, row) for row in _trials(folder)]
    return [path for path in paths if path is not None and (path / RESULTS).is_file()]


def _trials(folder: Path) -> list[dict[str, str]]:
    return [row for row in read_rows(folder / GRID_FILE) if row.get("trials") not in MEANS]


def _place(folder: Path, row: Mapping[str, str]) -> Path | None:
    """Return the folder of a trial, None for a name that leads out of the grid's."""
    names = (row.get("dataset", ""), row.get("method", ""), f"trial{row.get('trials', '')}")
    path = folder.joinpath(*names)
    try:
        is_within = path.resolve().is_relative_to(folder.resolve())
        return path if is_within and path.is_dir() else None
    except (OSError, ValueError):  # too long for a name, or with a zero in it
        return None


class MethodRuns:
    """A method on a data set: its trials' rows and records.

    Attributes
    ----------
    dataset, method : str
    rows : list of dict
        Of results.csv.
    found : list of (Path, dict)
        Folders and records of the trials that are there.
    """

    def __init__(self, folder: Path, rows: Sequence[dict[str, str]]):
        self.dataset, self.method = rows[0].get("dataset", ""), rows[0].get("method", "")
        self.rows = list(rows)
        places = [_place(folder, row) for row in rows]
        there = [path for path in places if path is not None and (path / RESULTS).is_file()]
        self.found = [(path, read_results(path)[0]) for path in there]

    def values(self, name: str) -> np.ndarray:
        """Return a measure of each trial, as results.csv has it."""
        return column(self.rows, name)

    def figure(self, *keys: str) -> float:
        """Return the mean of a number in the records, NaN where one lacks it."""
        numbers = []
        for _, record in self.found:
            value: Any = record
            for key in keys:
                value = mapping(value).get(key)
            numbers.append(as_float(value))
        return float(np.mean(numbers)) if numbers else np.nan


def grid_page(folder: Path) -> str:
    """Return the page that compares the runs of a grid.

    Raises
    ------
    ValueError
        If one of its files is damaged.
    """
    rows = sorted(_trials(folder), key=lambda row: row.get("dataset", ""))
    groups = itertools.groupby(rows, lambda row: (row.get("dataset", ""), row.get("method", "")))
    cells = [MethodRuns(folder, list(group)) for _, group in groups]
    page = Sections()
    for dataset, group in itertools.groupby(cells, lambda cell: cell.dataset):
        here = list(group)
        body = f"{_strips(here)}{_table(here)}{_curves(here)}"
        page.add(dataset or "?", body, NOTE)
    page.add("Runs", _runs(folder, cells), "Each trial with its seed; a link leads to its report.")
    page.add("Settings that all runs share", settings(_shared(cells)))
    n_datasets = len({cell.dataset for cell in cells})
    words = f"{plural(len(rows), 'run')}: {plural(len({c.method for c in cells}), 'method')} on "
    words += plural(n_datasets, "data set")
    footer = f"Made from {folder.resolve().name}/results.csv and the results.json of each run."
    return page.page("Grid of runs", words, warnings_box(_warnings(cells)), footer)


def _warnings(cells: Sequence[MethodRuns]) -> list[str]:
    lines = []
    for cell in cells:
        name = f"{cell.method} on {cell.dataset}"
        for path, record in cell.found:
            if record.get("empty_clusters"):
                lines.append(f"{name}, {path.name}: {record['empty_clusters']}.")
        for row in cell.rows:
            if not np.isfinite(as_float(row.get("acc"))):
                lines.append(f"{name}, trial{row.get('trials')}: diverged, it has no scores.")
    return lines


def _strips(cells: Sequence[MethodRuns]) -> str:
    """Return each method's trials on the axis of ACC, one below the other."""
    known = np.concatenate([cell.values("acc") for cell in cells])
    known = np.append(known, [cell.figure("metrics", "kmeans_pixels", "acc") for cell in cells])
    known = _shares(np.append(known, [cell.figure("paper", "acc") for cell in cells]))
    if not len(known):
        return ""
    low = max(0.0, float(np.floor(known.min() * 20 - 0.5) / 20))
    high = min(1.0, float(np.ceil(known.max() * 20 + 0.5) / 20))
    across = Scale(low, high, 8, STRIP_WIDTH - 8)
    rows = [
        f"<span>{text(cell.method)}</span>{_strip(cell, across, colour_of(i, len(cells)))}"
        for i, cell in enumerate(cells)
    ]
    ticks = "".join(
        f'<text x="{float(across(value)):.1f}" y="12" text-anchor="middle">{tick(value)}</text>'
        for value in across.ticks()
    )
    rows.append(f'<span class="soft">ACC</span><svg viewBox="0 0 {STRIP_WIDTH} 16">{ticks}</svg>')
    return f'<div class="strips">{"".join(rows)}</div>'


def _shares(values: np.ndarray) -> np.ndarray:
    """Return the numbers that have a place on the axis of ACC."""
    return values[(values >= 0) & (values <= 1)]


def _strip(cell: MethodRuns, across: Scale, colour: str) -> str:
    middle, parts = STRIP_HEIGHT / 2, []
    for value in across.ticks():
        parts.append(f'<path class="grid" d="M{float(across(value)):.1f} 0V{STRIP_HEIGHT}"/>')
    simple = cell.figure("metrics", "kmeans_pixels", "acc")
    if 0 <= simple <= 1:
        x = float(across(simple))
        parts.append(
            f'<path class="axis" stroke-dasharray="3 3" d="M{x:.1f} 2V{STRIP_HEIGHT - 2}"/>'
        )
    values = _shares(cell.values("acc"))
    dots = "".join(f"M{x:.1f} {middle}h0" for x in across(values))
    parts.append(
        f'<path class="points" stroke="{colour}" stroke-width="9" stroke-opacity="0.6" d="{dots}"/>'
    )
    if len(values):
        x = float(across(values.mean()))
        parts.append(
            f'<path d="M{x:.1f} 5V{STRIP_HEIGHT - 5}" stroke="{colour}" stroke-width="3"/>'
        )
    paper = cell.figure("paper", "acc")
    if 0 <= paper <= 1:
        x = float(across(paper))
        parts.append(
            f'<path d="M{x - 5:.1f} {middle}l5 -6l5 6l-5 6z" fill="none" stroke="var(--ink)" '
            'stroke-width="1.5"/>'
        )
    words = text(f"ACC of {cell.method}: {', '.join(map(score, values.tolist()))}")
    size = f"0 0 {STRIP_WIDTH} {STRIP_HEIGHT}"
    return f'<svg viewBox="{size}" role="img" aria-label="{words}">{"".join(parts)}</svg>'


def _table(cells: Sequence[MethodRuns]) -> str:
    """Return mean and deviation of each cell, the best of each measure marked.

    One trial has no deviation.
    """
    means = {name: [_mean(cell.values(name)) for cell in cells] for name in MEASURES}
    rows = []
    for i, cell in enumerate(cells):
        row = [text(cell.method), str(len(cell.rows))]
        for name in MEASURES:
            values = cell.values(name)
            spread = f" ± {score(float(np.std(values)))}" if len(values) > 1 else ""
            content = f"{score(means[name][i])}{spread}"
            is_best = means[name][i] == max(means[name], key=lambda m: -1.0 if m != m else m)
            row.append(f'<td class="best">{content}</td>' if is_best else content)
        row.append(score(cell.figure("metrics", "kmeans_pixels", "acc")))
        row.append(score(cell.figure("paper", "acc")))
        seconds = _mean(cell.values("time"))
        row.append(duration(seconds) if np.isfinite(seconds) else "-")
        rows.append(row)
    columns = ["Method", "Trials", *map(str.upper, MEASURES), "k-means ACC", "Paper ACC", "Time"]
    return table(columns, rows)


def _mean(values: np.ndarray) -> float:
    """Return the mean, NaN where a trial has none: leaving it out would flatter the method."""
    return float(np.mean(values)) if len(values) else np.nan


def _curves(cells: Sequence[MethodRuns]) -> str:
    """Return ACC and loss over the training of each method's first trial."""
    charts = []
    for title, name, y_range in (("ACC", "acc", SHARES), ("Loss of clustering", "loss", None)):
        series = []
        for i, cell in enumerate(cells):
            log = read_rows(cell.found[0][0] / "log.csv") if cell.found else []
            colour = colour_of(i, len(cells))
            series.append(Series(cell.method, column(log, "iter"), column(log, name), colour))
        chart = line_chart(f"{title}, first trial", series, "training step", y_range)
        charts.append(chart)
    return f'<div class="charts below">{"".join(charts)}</div>' if any(charts) else ""


def _runs(folder: Path, cells: Sequence[MethodRuns]) -> str:
    rows = []
    for cell in cells:
        for path, record in cell.found:
            final = mapping(mapping(record.get("metrics")).get("final"))
            name = text(f"{cell.dataset}, {cell.method}, {path.name}")
            if (path / PAGE_FILE).is_file():
                target = quote((path.relative_to(folder) / PAGE_FILE).as_posix())
                name = f'<a href="{text(target, None)}">{name}</a>'
            seconds = as_float(mapping(record.get("seconds")).get("total"))
            scores = [score(final.get(measure)) for measure in MEASURES]
            time = duration(seconds) if np.isfinite(seconds) else "-"
            rows.append([name, text(record.get("seed")), *scores, text(record.get("n_iter")), time])
    columns = ["Run", "Seed", *map(str.upper, MEASURES), "Iterations", "Time"]
    return table(columns, rows) if rows else ""


def _shared(cells: Sequence[MethodRuns]) -> dict[str, Any]:
    """Return the settings that have one value in all runs."""
    found = [mapping(record.get("settings")) for cell in cells for _, record in cell.found]
    if not found:
        return {}
    return {
        name: value
        for name, value in found[0].items()
        if all(name in one and one[name] == value for one in found)
    }
