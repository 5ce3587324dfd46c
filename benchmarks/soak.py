"""Repeated fits in one process, and whether memory stays where it was.

python -m benchmarks.soak [--minutes 30]
"""

import argparse
import itertools
import time
import warnings
from pathlib import Path

from sklearn.datasets import load_digits

from clustering_common.backend import device_name
from dec_da import ConvDEC, FcDCN, FcDEC, FcIDEC
from kingdra_cluster import KingdraCluster, LadderIM

PAGE_MB = 4096 / 1e6


def resident_mb() -> float:
    """Return this process's resident memory (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_MB


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    X = load_digits().data / 16
    short = {"pretrain_epochs": 2, "max_iter": 30, "update_interval": 10}
    makers = [
        *(
            lambda seed, cls=cls: cls(
                10, aug_pretrain=True, aug_cluster=True, random_state=seed, **short
            )
            for cls in (FcDEC, FcIDEC, FcDCN, ConvDEC)
        ),
        lambda seed: KingdraCluster(
            10, n_en=3, high_th=2, n_iter=2, fc_layer_sizes=(100, 10),
            denoising_cost=(1, 1, 1), random_state=seed,
        ),
        lambda seed: LadderIM(
            10, n_iter=2, fc_layer_sizes=(100, 10), denoising_cost=(1, 1, 1), random_state=seed
        ),
    ]  # fmt: skip
    print(device_name(), flush=True)
    end, third, shown = time.monotonic() + 60 * args.minutes, 0.0, 0.0
    for n_rounds in itertools.count(1):
        # A round fits each estimator once: the third round stands for the third fit of each.
        for make in makers:
            make(n_rounds).fit(X).predict(X)
        now = resident_mb()
        if n_rounds == 3:
            third = now
        if time.monotonic() - shown > 60:
            shown = time.monotonic()
            print(f"round {n_rounds}: {now:.0f} MB", flush=True)
        if time.monotonic() > end and n_rounds > 3:
            break
    print(
        f"{n_rounds} rounds of {len(makers)} fits: {third:.0f} MB after the third, "
        f"{now:.0f} MB at the end, ratio {now / third:.3f}"
    )


if __name__ == "__main__":
    main()
