"""The parts of a run's report that show its clusters: sizes, samples, map, matrix."""

from collections.abc import Mapping, Sequence

import numpy as np

from clustering_common.report_charts import colour_of, map_chart, swatch
from clustering_common.report_html import image, plural, score, text

Arrays = Mapping[str, np.ndarray]
STRONG = 80  # per cent: where the text of a cell turns light
MAX_BARS = 200
SMALL_SIDE = 40  # pixels: images up to this size are enlarged pixel by pixel


def sizes(counts: Sequence[int], arrays: Arrays) -> str:
    """Return a bar a cluster, with its mean probability where that is known."""
    largest, total = max(counts, default=0), sum(counts)
    sure = arrays.get("sure_mean", np.empty(0))
    parts = []
    for k, size in enumerate(counts[:MAX_BARS]):
        width = 100 * size / largest if largest else 0
        share = f"{100 * size / total:.1f} %" if size else "empty"
        is_known = k < len(sure) and np.isfinite(sure[k])
        colour = colour_of(k, len(counts))
        parts.append(
            f'<div class="bar{"" if size else " empty"}"><span>Cluster {k}</span>'
            f'<span class="track"><i style="width:{width:.1f}%;background:{colour}"></i></span>'
            f"<b>{size:,}</b><small>{share}</small>"
            f"<small>{f'{sure[k]:.2f}' if is_known else ''}</small></div>"
        )
    if not parts:
        return ""
    rest = len(counts) - MAX_BARS
    more = f'<p class="note">And {plural(rest, "more cluster")}.</p>' if rest > 0 else ""
    return f'<div class="bars">{"".join(parts)}</div>{more}'


def sizes_note(arrays: Arrays) -> str:
    """Return how to read the bars."""
    words = "Samples in each cluster and their share of all"
    return words + ("; then their mean probability of belonging there." if arrays else ".")


def samples(arrays: Arrays) -> str:
    """Return the most and the least confident samples of each cluster."""
    cluster, n_clusters = arrays["shown_cluster"], len(arrays["sure_mean"])
    cards = []
    for k in np.unique(cluster):
        own = np.flatnonzero(cluster == k)
        is_most = arrays["shown_is_most"][own]
        parts = [
            f"<p>{words}</p>{_shown(arrays, own[kind], int(k))}"
            for words, kind in (("Most confident", is_most), ("Least confident", ~is_most))
            if kind.any()
        ]
        colour = colour_of(int(k) % n_clusters, n_clusters)
        cards.append(
            f'<div class="cluster" style="border-color:{colour}"><h3>Cluster {k}</h3>'
            f"{''.join(parts)}</div>"
        )
    return f'<div class="clusters{_enlarged(arrays)}">{"".join(cards)}</div>'


def _enlarged(arrays: Arrays, name: str = "shown_image") -> str:
    """Return the class of small images, whose pixels may be seen."""
    is_small = name in arrays and max(arrays[name].shape[1:3]) <= SMALL_SIDE
    return " pixels" if is_small else ""


def _shown(arrays: Arrays, own: np.ndarray, k: int) -> str:
    """Return some samples as images, or as a list where they are none."""
    names = arrays.get("shown_name")
    items = []
    for i in own:
        name = f"sample {arrays['shown'][i]}" if names is None else str(names[i])
        sure = f"{arrays['shown_sure'][i]:.2f}"
        if "shown_image" in arrays:
            picture = image(arrays["shown_image"][i], f"{name}, cluster {k}, {sure}")
            items.append(f"<div>{picture}{sure}</div>")
        else:
            items.append(f"<li><span>{text(name)}</span><span>{sure}</span></li>")
    if "shown_image" in arrays:
        return f'<div class="thumbs">{"".join(items)}</div>'
    return f'<ul class="rows">{"".join(items)}</ul>'


def samples_note(arrays: Arrays) -> str:
    """Return how the samples were chosen."""
    n_looked_at = plural(int(arrays["n_looked_at"]), "sample")
    return (
        f"Of {n_looked_at}, those with the largest and those with the smallest probability of "
        "belonging to their cluster; the number is that probability."
    )


def maps(arrays: Arrays) -> str:
    """Return the embedding in the plane, coloured by cluster, and by class where known."""
    cluster = arrays["map_cluster"]
    names = [str(k) for k in range(len(arrays["sure_mean"]))]
    charts = []
    for key, words in (("map_pca", "PCA"), ("map_umap", "UMAP")):
        if key not in arrays:
            continue
        charts.append(map_chart(f"{words}, by cluster", arrays[key], cluster, names))
        if "map_class" in arrays and len(arrays["classes"]) <= 50:
            classes = [str(name) for name in arrays["classes"]]
            charts.append(
                map_chart(f"{words}, by class", arrays[key], arrays["map_class"], classes)
            )
    return f'<div class="charts wide">{"".join(charts)}</div>'


def maps_note(arrays: Arrays) -> str:
    """Return what the maps show."""
    n_points, share = len(arrays["map_pca"]), 100 * float(arrays["map_pca_share"])
    return (
        f"The {arrays['map_space']} of {plural(n_points, 'sample')}, in two dimensions. The two "
        f"principal components show {share:.0f} % of its variance; what lies together here may be "
        "apart in the others."
    )


def pairs(arrays: Arrays) -> str:
    """Return samples above what the autoencoder makes of them, '' where there is none."""
    if "pair_image" not in arrays:
        return ""
    parts = [
        f"<div>{image(given, 'sample')}{image(made, 'its reconstruction')}</div>"
        for given, made in zip(arrays["pair_image"], arrays["pair_made"], strict=True)
    ]
    return f'<div class="pairs{_enlarged(arrays, "pair_image")}">{"".join(parts)}</div>'


def pairs_note(arrays: Arrays) -> str:
    """Return whose reconstructions they are."""
    return f"Above a sample, below what {arrays.get('pair_by', 'the autoencoder')} makes of it."


def matrix(arrays: Arrays) -> str:
    """Return how many samples of each class are in each cluster, '' without labels."""
    if "confusion" not in arrays:
        return ""
    counts, n_matched = arrays["confusion"], min(arrays["confusion"].shape)
    n_clusters = len(arrays["sure_mean"])
    head = "".join(
        f'<th scope="col">{swatch(colour_of(int(k) % n_clusters, n_clusters))}{k}</th>'
        for k in arrays["confusion_cluster"]
    )
    rows = []
    for i, (class_id, row) in enumerate(zip(arrays["confusion_class"], counts, strict=False)):
        name = str(arrays["classes"][class_id % len(arrays["classes"])])
        total = max(1, int(row.sum()))
        cells = "".join(
            _cell(int(count), 100 * int(count) / total, i == j < n_matched)
            for j, count in enumerate(row)
        )
        rows.append(f'<tr><th scope="row" title="{text(name)}">{text(name, 16)}</th>{cells}</tr>')
    return (
        '<div class="scroll"><table class="matrix"><thead><tr><th></th>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(count: int, share: float, is_hit: bool) -> str:
    kinds = [name for name, is_so in (
        ("zero", not count), ("strong", share > STRONG), ("hit", is_hit)
    ) if is_so]  # fmt: skip
    names = f' class="{" ".join(kinds)}"' if kinds else ""
    return f'<td{names} style="--share:{share:.0f}">{count}</td>'


def matrix_note(arrays: Arrays) -> str:
    """Return how to read the matrix, and the accuracy that it shows."""
    if "confusion" not in arrays:
        return ""
    counts = arrays["confusion"]
    matched, total = int(np.trace(counts)), max(1, int(counts.sum()))
    acc = score(matched / total)
    return (
        "Rows are classes, columns clusters in the order of their best one-to-one match. The "
        f"outlined cells hold {matched:,} of {plural(total, 'sample')}: ACC {acc}."
    )
