"""Evidence for numbers of clusters as a table, a .csv file and a picture."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from clustering_common import cli, files

__all__ = ["COLUMNS", "TABLE", "Evidence", "plot", "report", "write_table"]

TABLE = "select_k.csv"
MEANINGS = """\
The first two are taken on the embedding before clustering, without one on the data itself.
silhouette      -1 to 1, higher is better: samples are nearer to their own cluster than to the next.
davies_bouldin  0 up, lower is better: spread of clusters against the distance between them.
stability       0 to 1, higher is better: other seeds find the same clusters (mean ARI of pairs).
sure            share of samples whose cluster has a probability above 0.9.
coverage        share of samples that Kingdra's members agree on (pseudo-labels), else empty.
used            clusters that are not empty, the fewest of all seeds.
rank            mean rank by the first three; the candidates come in its order, best first."""
COLUMNS = (
    "k", "rank", "silhouette", "davies_bouldin", "stability", "sure", "coverage", "used", "seconds",
)  # fmt: skip
PANELS = {
    "silhouette": "silhouette (higher is better)",
    "davies_bouldin": "Davies-Bouldin (lower is better)",
    "stability": "stability (higher is better)",
}
SHADES = ("#08519c", "#3182bd", "#6baed6")


@dataclass
class Evidence:
    """What speaks for one number of clusters: means over the seeds.

    Attributes
    ----------
    k : int
    silhouette, davies_bouldin : float
        On the embedding before clustering where the estimator pretrains one, else on the data:
        the same for all k. NaN where there is but one cluster.
    stability : float
        Mean adjusted Rand index of all pairs of seeds; NaN for one seed.
    sure : float
        Share of samples whose largest probability exceeds 0.9; NaN without ``predict_proba``.
    coverage : float
        Of pseudo-labels, of Kingdra; NaN for the others.
    used : int
        Clusters that are not empty, the fewest of all seeds.
    seconds : float
        Of all seeds together.
    rank : float
        Mean rank among the candidates by the first three measures; 1 is best in all.
    """

    k: int
    silhouette: float
    davies_bouldin: float
    stability: float
    sure: float
    coverage: float
    used: int
    seconds: float
    rank: float = field(default=np.nan)


def write_table(path: Path, found: Sequence[Evidence]) -> None:
    """Write the evidence as .csv, a line a candidate, best first."""
    files.write_csv(path, COLUMNS, [asdict(evidence) for evidence in found])


def plot(found: Sequence[Evidence], path: Path) -> None:
    """Draw the three measures over k, the three best candidates marked, as a PNG.

    Raises
    ------
    ImportError
        Without matplotlib.
    """
    from matplotlib.figure import Figure

    best = [evidence.k for evidence in found[:3]]
    rows = sorted(found, key=lambda evidence: evidence.k)
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        _draw(axes, [(evidence.k, getattr(evidence, name)) for evidence in rows], best)
        axes.set_title(title, fontsize=10, loc="left")
    figure.suptitle(f"Best by mean rank: {', '.join(map(str, best))}", fontsize=12)
    with files.replacing(path) as part:
        figure.savefig(part, format="png", dpi=120)


def _draw(axes: Any, points: Sequence[tuple[int, float]], best: Sequence[int]) -> None:
    """Draw one measure; the first of the best is the darkest, and their numbers stand by them."""
    axes.plot(*zip(*points, strict=True), "o-", color="0.65", linewidth=1.2, markersize=4, zorder=1)
    values = dict(points)
    for k, shade in zip(best, SHADES, strict=False):
        axes.plot(k, values[k], "o", color=shade, markersize=9, zorder=2)
        axes.annotate(
            str(k), (k, values[k]), xytext=(0, 8), textcoords="offset points", ha="center",
            color=shade, fontsize=10, fontweight="bold",
        )  # fmt: skip
    axes.set_xlabel("number of clusters")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.margins(x=0.06, y=0.18)
    axes.grid(axis="y", color="0.9", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)


def report(found: Sequence[Evidence]) -> str:
    """Return the table, and what it means in words."""
    rows = [[asdict(evidence)[name] for name in COLUMNS] for evidence in found]
    best = [evidence.k for evidence in found[:3]]
    words = f"Best by mean rank: {best[0]}"
    if len(best) > 1:
        words += f", then {' and '.join(map(str, best[1:]))}"
    words += ". Look at these first; where the measures disagree, the data has no one answer."
    if any(evidence.used < evidence.k for evidence in found[:3]):
        words += " Of these, some seeds left clusters empty (used below k): count what is used."
    if np.isnan(found[0].rank):
        words = "No measure is known for any of them: every run was one cluster or diverged."
    shown = [[None if value != value else value for value in row] for row in rows]
    return "\n".join([cli.table(COLUMNS, shown), "", MEANINGS, "", words])
