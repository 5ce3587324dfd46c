"""Sparse input is never made dense as a whole: peak memory, in processes of their own."""

import subprocess
import sys

import pytest

CODE = """
import resource, sys
import numpy as np, scipy.sparse
from kingdra_cluster import KingdraCluster

n_samples = int(sys.argv[1])
rng = np.random.default_rng(0)
X = scipy.sparse.random(100_000, 2_000, 0.01, "csr", np.float32, rng)[:n_samples]
model = KingdraCluster(
    4, n_en=3, high_th=2, low_th=0, thresh=0, n_iter=1, n_epochs_per_iter0=1,
    fc_layer_sizes=(20, 4), denoising_cost=(10, 1, 0.1), random_state=0,
).fit(X)
assert model.predict_proba(X).shape == (n_samples, 4)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def peak_megabytes(n_samples):
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(n_samples)], capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


@pytest.mark.slow
def test_a_large_sparse_matrix_needs_little_more_than_a_small_one():
    few, many = peak_megabytes(1_000), peak_megabytes(100_000)
    # dense, the matrix alone would take 800 MB
    assert many - few < 300, (few, many)
