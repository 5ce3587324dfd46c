"""The report of one run: what its files tell, on one page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clustering_common import report_pictures as pictures
from clustering_common.record import MEASURES
from clustering_common.report_charts import SHARES, Series, line_chart
from clustering_common.report_files import (
    as_float,
    column,
    mapping,
    read_data,
    read_history,
    read_results,
    read_rows,
)
from clustering_common.report_html import (
    Sections,
    duration,
    number,
    plural,
    score,
    settings,
    shown,
    table,
    text,
    tiles,
    warnings_box,
)

SMALL, LARGE = 0.05, 0.6  # of an even share, and of all samples: a cluster worth a warning
FEW_STEPS = 4
NO_PICTURES = (
    "This folder has no report.npz of this run, so samples, the map and the confusion matrix are "
    "left out. The command of the run with --resume --report adds them."
)


def run_page(folder: Path) -> str:
    """Return the page of a run from the files in its folder.

    Raises
    ------
    ValueError
        If one of them is damaged.
    """
    record, checksum = read_results(folder)
    history = read_history(folder) if "config" in record else []
    arrays = read_data(folder, checksum)
    page = Sections()
    page.add("Scores", _scores(record), "Of the final labels; ground truth is used here alone.")
    page.add("Curves", _curves(folder, history))
    page.add("Pseudo-labels", _pseudo_labels(history), _pseudo_note(history))
    sizes = cluster_sizes(record)
    page.add("Sizes of clusters", pictures.sizes(sizes, arrays), pictures.sizes_note(arrays))
    if arrays:
        page.add("Samples", pictures.samples(arrays), pictures.samples_note(arrays))
        page.add("Map", pictures.maps(arrays), pictures.maps_note(arrays))
        page.add("Reconstructions", pictures.pairs(arrays), pictures.pairs_note(arrays))
        page.add("Confusion matrix", pictures.matrix(arrays), pictures.matrix_note(arrays))
    else:
        page.add("Pictures", f'<p class="note">{text(NO_PICTURES, None)}</p>')
    page.add("Settings", _settings(record))
    top = warnings_box(warnings(record, history)) + _tiles(record)
    footer = f"Made from {folder.resolve().name}/results.json and the files beside it."
    return page.page(title_of(record), _subtitle(record), top, footer)


def title_of(record: Mapping[str, Any]) -> str:
    """Return the name of a run: its method and its data."""
    if "config" in record:
        return f"{shown(record.get('model'))}, {shown(record['config'])}"
    return f"{shown(record.get('method'))} on {shown(record.get('dataset'))}"


def _subtitle(record: Mapping[str, Any]) -> str:
    shape = mapping(record.get("data")).get("shape") or ["?"]
    parts = [f"{shown(shape[0])} samples of {' x '.join(map(str, shape[1:]))}"]
    if "seed" in record:
        parts.append(f"seed {record['seed']}")
    parts.append(
        f"{shown(record.get('n_iter'))} iterations, stopped by "
        f"{shown(record.get('termination_condition'))}"
    )
    return ", ".join(parts)


def cluster_sizes(record: Mapping[str, Any]) -> list[int]:
    """Return how many samples each cluster has."""
    sizes = record.get("cluster_sizes")
    if not isinstance(sizes, list) or not all(isinstance(size, int) for size in sizes):
        return []
    return sizes


def _tiles(record: Mapping[str, Any]) -> str:
    final, sizes = mapping(mapping(record.get("metrics")).get("final")), cluster_sizes(record)
    items = [(name.upper(), score(final.get(name)), "") for name in MEASURES] if final else []
    if sizes:
        n_used = sum(size > 0 for size in sizes)
        items.append(("Samples", f"{sum(sizes):,}", ""))
        items.append(("Clusters", str(n_used), f"of {len(sizes)}" if n_used < len(sizes) else ""))
    seconds = as_float(mapping(record.get("seconds")).get("total"))
    if np.isfinite(seconds):
        items.append(("Time", duration(seconds), ""))
    return tiles(items)


def _scores(record: Mapping[str, Any]) -> str:
    """Return the table of scores, '' where there are no labels."""
    metrics = mapping(record.get("metrics"))
    if not metrics.get("final"):
        return ""
    name = record.get("method") or ("Ensemble" if metrics.get("members") else record.get("model"))
    named = [
        ("k-means on the raw data", metrics.get("kmeans_pixels") or metrics.get("kmeans")),
        ("k-means on the embedding", metrics.get("kmeans_embedding")),
    ]
    members = metrics.get("members") or []
    if len(members) > 1:
        named += [(f"member {i}", member) for i, member in enumerate(members, start=1)]
    named.append((shown(name), metrics["final"]))
    if record.get("paper"):
        named.append(("the paper's figure", record["paper"]))
    rows = [
        [text(label), *(text(score(mapping(found).get(key))) for key in MEASURES)]
        for label, found in named
        if found
    ]
    return table(["", *map(str.upper, MEASURES)], rows)


def _curves(folder: Path, history: Sequence[Mapping[str, Any]]) -> str:
    pretrain, log = read_rows(folder / "pretrain_log.csv"), read_rows(folder / "log.csv")
    charts = []
    if pretrain:
        loss = Series("loss", column(pretrain, "epoch"), column(pretrain, "loss"))
        charts.append(line_chart("Loss of pretraining", [loss], "epoch"))
    rows, unit = (history, "round") if history else (log, "training step")
    steps = column(rows, "iter") + (1 if history else 0)
    if rows:
        loss = Series("loss", steps, column(rows, "loss"))
        charts.append(line_chart("Loss of clustering", [loss], unit))
        parts = [name for name in rows[0] if name.endswith(("_loss", "_kl"))]
        parts += [name for name in ("sup_loss",) if history and name in rows[-1]]
        named = [Series(name, steps, column(rows, name)) for name in dict.fromkeys(parts)]
        charts.append(line_chart("Parts of the loss", named, unit))
        scores = [Series(name.upper(), steps, column(rows, name)) for name in MEASURES]
        charts.append(line_chart("Scores", scores, unit, SHARES))
        empty = column(rows, "n_empty_clusters")
        if np.nansum(empty):
            lines = [Series("empty clusters", steps, empty)]
            charts.append(line_chart("Empty clusters", lines, unit))
    return f'<div class="charts">{"".join(charts)}</div>' if any(charts) else ""


def _pseudo_labels(history: Sequence[Mapping[str, Any]]) -> str:
    """Return the charts of what Kingdra's members agree on, '' where nothing is taught."""
    if not any("coverage" in row for row in history):
        return ""
    rounds = column(history, "iter") + 1
    names = {
        "coverage": "coverage", "pseudo_acc": "accuracy of the pseudo-labels",
        "member_agreement": "agreement of the members",
    }  # fmt: skip
    shares = [Series(words, rounds, column(history, name)) for name, words in names.items()]
    found = [row.get("bucket_sizes") for row in history]
    sizes = [sorted(one, reverse=True) if isinstance(one, list) else [] for one in found]
    n_buckets, largest = max(map(len, sizes)), max((one[0] for one in sizes if one), default=0)
    table_of_sizes = np.full((len(sizes), n_buckets), np.nan)
    for row, one in zip(table_of_sizes, sizes, strict=True):
        row[: len(one)] = one
    buckets = [
        Series(_bucket(i, n_buckets), rounds, table_of_sizes[:, i]) for i in range(n_buckets)
    ]
    charts = [
        line_chart("Pseudo-label coverage", shares, "round", SHARES),
        line_chart("Sizes of the buckets", buckets, "round", (0.0, float(largest))),
    ]
    return f'<div class="charts">{"".join(charts)}</div>'


def _bucket(position: int, n_buckets: int) -> str:
    if position in (0, n_buckets - 1):
        return "largest" if position == 0 else "smallest"
    return f"{position + 1}."


def _pseudo_note(history: Sequence[Mapping[str, Any]]) -> str:
    note = "Coverage is the share of samples that have a pseudo-label; a bucket is what one class "
    note += "is taught with, from the largest to the smallest."
    n_reused = sum(bool(row.get("reused_buckets")) for row in history)
    if n_reused:
        note += f" In {plural(n_reused, 'round')} a bucket was empty, and an earlier set was "
        note += "taught again."
    return note


def warnings(record: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what a reader should know before all else, a sentence each."""
    sizes, lines = cluster_sizes(record), []
    if record.get("empty_clusters"):
        empty = [str(k) for k, size in enumerate(sizes) if not size]
        which = f" (number {', '.join(empty)})" if 0 < len(empty) <= 20 else ""
        lines.append(f"{_capital(shown(record['empty_clusters']))}{which}.")
    lines += _uneven(sizes) + _few_steps(record, sum(sizes))
    metrics = mapping(record.get("metrics"))
    own = as_float(mapping(metrics.get("final")).get("acc"))
    simple = mapping(metrics.get("kmeans_pixels") or metrics.get("kmeans"))
    if as_float(simple.get("acc")) > own:
        lines.append(
            f"k-means on the raw data has an ACC of {score(simple['acc'])}, more than this run's "
            f"{score(own)}."
        )
    asked = mapping(record.get("settings")).get("use_pseudo_labels")
    if asked and history and not any(as_float(row.get("coverage")) > 0 for row in history):
        lines.append("No round found pseudo-labels: the members were never taught.")
    return lines


def _uneven(sizes: Sequence[int]) -> list[str]:
    """Return sentences on clusters that are far larger or smaller than the others."""
    lines, n_samples = [], sum(sizes)
    largest = max(sizes, default=0)
    if len(sizes) > 2 and LARGE * n_samples < largest < n_samples:
        share = 100 * largest / n_samples
        lines.append(f"Cluster {sizes.index(largest)} holds {share:.0f} % of all samples.")
    small = [k for k, size in enumerate(sizes) if 0 < size < SMALL * n_samples / len(sizes)]
    for k in small[:5]:
        lines.append(
            f"Cluster {k} holds {plural(sizes[k], 'sample')}, less than a twentieth of an even "
            "share."
        )
    if len(small) > 5:
        lines.append(f"{len(small) - 5} more clusters are as small.")
    return lines


def _few_steps(record: Mapping[str, Any], n_samples: int) -> list[str]:
    """Return a sentence where a batch is so large that an epoch is next to no training."""
    batch_size = mapping(record.get("settings")).get("batch_size")
    if not isinstance(batch_size, int) or not 0 < n_samples < FEW_STEPS * batch_size:
        return []
    n_steps = plural(max(1, n_samples // batch_size), "training step")
    return [
        f"In batches of {batch_size}, an epoch of {plural(n_samples, 'sample')} is {n_steps}: "
        "a smaller batch size trains more."
    ]


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _settings(record: Mapping[str, Any]) -> str:
    """Return settings, data, time and environment."""
    data = {**mapping(record.get("data")), "name": record.get("dataset")}
    seconds = {
        name: f"{number(as_float(value))} s"
        for name, value in mapping(record.get("seconds")).items()
    }
    around = {name: record.get(name) for name in ("device", "commit", "command")}
    groups = {
        "": {**mapping(record.get("settings")), "seed": record.get("seed")},
        "Data": {name: value for name, value in data.items() if value is not None},
        "Time": seconds,
        "Made with": {**mapping(record.get("versions")), **around},
    }
    return "\n".join(
        (f"<h3>{text(name)}</h3>" if name else "") + settings(values)
        for name, values in groups.items()
        if values
    )
