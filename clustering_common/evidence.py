"""Label-free evidence for a number of clusters, of any estimator that clusters.

No number proves a number of clusters. The evidence here asks whether clusters are compact and
apart, whether another seed finds the same ones, and how sure the estimator is; see ``MEANINGS``.
"""

import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score, davies_bouldin_score, silhouette_score

from clustering_common import cli, files
from clustering_common.callbacks import TrainingDivergedError
from clustering_common.checks import check_number

SAMPLE = 5000  # samples of the silhouette, whose time grows with their square
SURE = 0.9
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


def select_k(
    estimator: Any,
    X: Any,
    ks: Sequence[int],
    *,
    n_seeds: int = 3,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> list[Evidence]:
    """Fit an estimator with each number of clusters and return the evidence, best rank first.

    Parameters
    ----------
    estimator : estimator
        With ``n_clusters`` or ``n_class`` and ``random_state``; it is cloned, not fitted. An
        estimator that pretrains does so once a seed, for all k.
    X : array-like of shape (n_samples, ...)
    ks : sequence of int
        Candidates, at least 2 each.
    n_seeds : int, default=3
        Fits of each candidate, with seeds ``seed``, ``seed + 1``, ...
    seed : int, default=0
    say : callable, optional
        Takes a line of progress.

    Returns
    -------
    list of Evidence

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, or the estimator has no number of clusters.

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> from sklearn.datasets import make_blobs
    >>> X, _ = make_blobs(200, centers=[[0, 0], [9, 0], [0, 9]], random_state=0)
    >>> select_k(KMeans(), X, [2, 3, 4])[0].k
    3
    """
    check_number("n_seeds", n_seeds, integer=True, low=1)
    check_number("seed", seed, integer=True, low=0)
    if not len(ks):
        raise ValueError(f"ks must be numbers of clusters; got {ks!r}. Give two at least.")
    for k in ks:
        check_number("each of ks", k, integer=True, low=2)
        _with_k(estimator, k, seed)
    n_samples = X.shape[0] if hasattr(X, "shape") else len(X)
    if max(ks) >= n_samples:
        raise ValueError(
            f"ks must be below n_samples={n_samples}; got {max(ks)!r}. Leave out the largest."
        )
    sample = np.arange(n_samples)
    if n_samples > SAMPLE:
        sample = np.sort(np.random.default_rng(seed).permutation(n_samples)[:SAMPLE])
    runs: dict[int, list[dict[str, Any]]] = {int(k): [] for k in ks}
    with tempfile.TemporaryDirectory() as folder:
        for one_seed in range(seed, seed + n_seeds):
            ready, space = _pretrained(estimator, X, sample, one_seed, Path(folder))
            for k, found in runs.items():
                found.append(_fitted(_with_k(ready, k, one_seed), X, space, sample))
                say(f"seed {one_seed}, k {k}: silhouette {found[-1]['silhouette']:.3f}")
    return _ranked([_evidence(k, found) for k, found in runs.items()])


def _with_k(estimator: Any, k: int, seed: int) -> Any:
    """Return a clone for so many clusters."""
    params = estimator.get_params(deep=False)
    names = [name for name in ("n_clusters", "n_class") if name in params]
    if not names or "random_state" not in params:
        raise ValueError(
            "estimator must have n_clusters or n_class, and random_state; got "
            f"{type(estimator).__name__}. Choose another estimator."
        )
    changed: dict[str, Any] = {names[0]: int(k), "random_state": seed}
    if names[0] == "n_class" and "fc_layer_sizes" in params:
        changed["fc_layer_sizes"] = (*params["fc_layer_sizes"][:-1], int(k))
    return clone(estimator).set_params(**changed)


def _pretrained(
    estimator: Any, X: Any, sample: np.ndarray, seed: int, folder: Path
) -> tuple[Any, np.ndarray]:
    """Return the estimator with its pretraining done, and a sample in the space of all k."""
    params = estimator.get_params(deep=False)
    if not {"pretrained_weights", "max_iter"} <= set(params):
        rows = X[sample] if hasattr(X, "shape") else np.asarray(X)[sample]
        rows = rows.toarray() if hasattr(rows, "toarray") else np.asarray(rows)
        return estimator, rows.reshape(len(rows), -1)
    first = _with_k(estimator, 2, seed).set_params(max_iter=0).fit(X)
    path = folder / f"seed{seed}.h5"
    first.save(path)
    ready = clone(estimator)
    if params["pretrained_weights"] is None:
        ready.set_params(pretrained_weights=str(path))
    return ready, first.transform(X)[sample]


def _fitted(estimator: Any, X: Any, space: np.ndarray, sample: np.ndarray) -> dict[str, Any]:
    """Fit, and return the measures of one run and its labels; NaN where it diverged."""
    begin = time.monotonic()
    found = dict.fromkeys(("silhouette", "davies_bouldin", "sure", "coverage"), np.nan)
    try:
        labels = np.asarray(estimator.fit(X).labels_)
    except TrainingDivergedError:
        return {**found, "labels": None, "used": 0, "seconds": time.monotonic() - begin}
    seconds = time.monotonic() - begin
    if 2 <= len(np.unique(labels[sample])) < len(sample):
        found["silhouette"] = silhouette_score(space, labels[sample])
        found["davies_bouldin"] = davies_bouldin_score(space, labels[sample])
    if hasattr(estimator, "predict_proba"):
        found["sure"] = float(np.mean(estimator.predict_proba(X).max(axis=1) > SURE))
    history = getattr(estimator, "history_", None)
    if isinstance(history, list) and history and "coverage" in history[-1]:
        found["coverage"] = float(history[-1]["coverage"])
    return {**found, "labels": labels, "used": len(np.unique(labels)), "seconds": seconds}


def _evidence(k: int, runs: Sequence[dict[str, Any]]) -> Evidence:
    """Return the means over the seeds."""
    # Runs that collapsed agree on nothing that is worth it.
    pairs = itertools.combinations(runs, 2)
    agreements = [
        adjusted_rand_score(one["labels"], two["labels"])
        if min(one["used"], two["used"]) > 1
        else np.nan
        for one, two in pairs
    ]
    names = ("silhouette", "davies_bouldin", "sure", "coverage")
    means = {name: float(np.mean([run[name] for run in runs])) for name in names}
    return Evidence(
        k=k,
        stability=float(np.mean(agreements)) if agreements else np.nan,
        used=min(run["used"] for run in runs),
        seconds=sum(run["seconds"] for run in runs),
        **means,
    )


def _ranked(found: list[Evidence]) -> list[Evidence]:
    """Return the evidence with ranks, best first; a measure that nobody has counts for nothing."""
    table = np.array([[-e.silhouette, e.davies_bouldin, -e.stability] for e in found])
    known = ~np.isnan(table).all(axis=0)
    ranks = rankdata(np.where(np.isnan(table), np.inf, table)[:, known], axis=0)
    for evidence, row in zip(found, ranks, strict=True):
        evidence.rank = float(row.mean()) if known.any() else np.nan
    return sorted(found, key=lambda evidence: (evidence.rank, evidence.k))


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
    ks = [evidence.k for evidence in rows]
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    measures = ("silhouette", "davies_bouldin", "stability")
    for axes, name in zip(figure.subplots(1, 3), measures, strict=True):
        values = [getattr(evidence, name) for evidence in rows]
        axes.plot(ks, values, "o-", color="0.6")
        for k in best:
            axes.plot(k, values[ks.index(k)], "o", color="C0")
        better = "lower" if name == "davies_bouldin" else "higher"
        axes.set(title=f"{name.replace('_', '-')} ({better} is better)", xlabel="clusters")
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(f"best by mean rank: {', '.join(map(str, best))}")
    with files.replacing(path) as part:
        figure.savefig(part, format="png", dpi=120)


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
