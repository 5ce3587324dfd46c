"""Label-free evidence for a number of clusters, of any estimator that clusters.

No number proves a number of clusters. The evidence here asks whether clusters are compact and
apart, whether another seed finds the same ones, and how sure the estimator is; see
``evidence_report.MEANINGS``.
"""

import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import Pipeline

from clustering_common.checks import check_flag, check_number
from clustering_common.evidence_fits import KeptFits
from clustering_common.evidence_identity import fit_identity
from clustering_common.evidence_report import TABLE, Evidence, write_table
from clustering_common.evidence_seed import OneSeed, with_k

__all__ = ["Evidence", "select_k"]

SAMPLE = 5000  # samples of the silhouette, whose time grows with their square


def select_k(
    estimator: Any,
    X: Any,
    ks: Sequence[int],
    *,
    n_seeds: int = 3,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = True,
) -> list[Evidence]:
    """Fit an estimator with each number of clusters and return the evidence, best rank first.

    Parameters
    ----------
    estimator : estimator
        With ``n_clusters``, ``n_class`` or (mixtures) ``n_components``; it is cloned, not fitted.
        An estimator that pretrains does so once a seed, for all k. Of a pipeline, the last step
        clusters, and what is before it is done once a seed too.
    X : array-like of shape (n_samples, ...)
    ks : sequence of int
        Candidates, at least 2 each.
    n_seeds : int, default=3
        Fits of each candidate, with seeds ``seed``, ``seed + 1``, ...; one where nothing is
        random.
    seed : int, default=0
    say : callable, optional
        Takes a line of progress.
    folder : path, optional
        Gets select_k.csv after each seed, and what each fit found. Those that it has already, of
        the same settings and data, are not fitted again: a stopped search goes on, and more
        candidates or seeds can be asked for.
    resume : bool, default=True
        Whether fits that the folder has count. False does all anew; the others go when the first
        fit has been done.

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
    check_flag("resume", resume)
    n_samples = X.shape[0] if hasattr(X, "shape") else len(X)
    before, clusterer = _parts(estimator)
    _check_ks(clusterer, ks, n_samples)
    sample = np.arange(n_samples)
    if n_samples > SAMPLE:
        sample = np.sort(np.random.default_rng(seed).permutation(n_samples)[:SAMPLE])
    is_random = any(name.endswith("random_state") for name in estimator.get_params())
    seeds = range(seed, seed + (n_seeds if is_random else 1))
    identity = {} if folder is None else fit_identity(before, clusterer, X, sample)
    kept = KeptFits(folder, identity, resume)
    runs: dict[int, list[dict[str, Any]]] = {int(k): [] for k in ks}
    for one_seed in seeds:
        search = OneSeed(before, clusterer, X, sample, one_seed)
        with search:
            for k, found in runs.items():
                found.append(kept.get(one_seed, k) or kept.put(one_seed, k, search.fitted(k)))
                say(f"seed {one_seed}, k {k}: silhouette {found[-1]['silhouette']:.3f}")
        ranked = _ranked([_evidence(k, found) for k, found in runs.items()])
        if folder is not None:
            write_table(Path(folder) / TABLE, ranked)
    return ranked


def _check_ks(clusterer: Any, ks: Sequence[int], n_samples: int) -> None:
    """Raise unless all candidates can be fitted."""
    if not len(ks):
        raise ValueError(f"ks must be numbers of clusters; got {ks!r}. Give two at least.")
    for k in ks:
        check_number("each of ks", k, integer=True, low=2)
        with_k(clusterer, k, 0)
    if max(ks) >= n_samples:
        raise ValueError(
            f"ks must be below n_samples={n_samples}; got {max(ks)!r}. Leave out the largest."
        )


def _parts(estimator: Any) -> tuple[Any, Any]:
    """Return what a pipeline does before it clusters, None where it is none, and the clusterer."""
    if not isinstance(estimator, Pipeline):
        return None, estimator
    return estimator[:-1] if len(estimator) > 1 else None, estimator[-1]


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
