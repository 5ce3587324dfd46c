"""Peak memory of training, in processes of their own: on arrays in files, and on arrays."""

import subprocess
import sys

import numpy as np
import pytest

from clustering_common import backend

# Memory of the process itself: pages of the file that the system keeps are not its own.
PEAK = """
import sys, threading, time
import numpy as np

peak, done = [0], threading.Event()

def watch():
    while not done.is_set():
        lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
        peak[0] = max(peak[0], int(lines["RssAnon"].split()[0]))
        time.sleep(0.02)

path, n_samples = sys.argv[1], int(sys.argv[2])
X = np.load(path, mmap_mode="r")
if n_samples < len(X):
    X = np.array(X[:n_samples])
watcher = threading.Thread(target=watch)
watcher.start()
"""
END = """
assert model.labels_.shape == (n_samples,)
done.set()
watcher.join()
print(peak[0] / 1024)
"""
FCDEC = """
from dec_da import FcDEC
model = FcDEC(
    10, layer_sizes=(64, 10), pretrain_epochs=1, max_iter=140, tol=0, random_state=0
).fit(X, checkpoint_dir=f"{path}.run{n_samples}")
print(model.seconds_, file=sys.stderr)
"""
KINGDRA = """
from kingdra_cluster import KingdraCluster
model = KingdraCluster(
    4, n_en=2, high_th=1, low_th=0, thresh=0, n_iter=2, n_epochs_per_iter0=1, n_epochs_per_iter=1,
    fc_layer_sizes=(20, 4), denoising_cost=(10, 1, 0.1), random_state=0,
).fit(X)
assert model.predict_proba(X).shape == (n_samples, 4)
"""

FITS = """
import sys
import numpy as np
from clustering_common.aligned import aligned
from dec_da import FcDEC

def peak():
    return int(next(line for line in open("/proc/self/status") if "VmHWM" in line).split()[1])

def fit(X):
    FcDEC(
        10, layer_sizes=(16, 10), pretrain_epochs=1, max_iter=4, update_interval=2, tol=0,
        random_state=0,
    ).fit(X)

n_samples, order = int(sys.argv[1]), sys.argv[2]
X = np.random.default_rng(0).random((n_samples, 2_000), np.float32)
X = aligned(X) if order == "aligned" else np.asarray(X, order=order)
fit(X[:512])  # what the engine needs for itself
open("/proc/self/clear_refs", "w").write("5")
before = peak()
for _ in range(3):
    fit(X)
print((peak() - before) * 1024 / X.nbytes)
"""


def write_blobs(path, n_samples, n_features, n_blobs):
    """Write float32 samples around some centres, block by block."""
    rng = np.random.default_rng(0)
    centers = rng.random((n_blobs, n_features), np.float32)
    noise = rng.random((4096, n_features), np.float32)
    shape = (n_samples, n_features)
    with open(path, "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, n_samples, len(noise)):
            n_rows = min(len(noise), n_samples - start)
            block = centers[rng.integers(n_blobs, size=n_rows)] * 0.8
            file.write((block + 0.2 * np.roll(noise, start // 4096, axis=1)[:n_rows]).tobytes())


def peak_megabytes(code, path, n_samples):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PEAK + code + END, str(path), str(n_samples)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("code", "shape", "n_blobs", "most"),
    [(FCDEC, (2_000_000, 784), 10, 2048), (KINGDRA, (100_000, 3_000), 4, 300)],
    ids=["6 GB, FcDEC", "1.2 GB, Kingdra"],
)
def test_a_large_file_needs_little_more_than_a_small_one(tmp_path, code, shape, n_blobs, most):
    path = tmp_path / "x.npy"
    try:
        write_blobs(path, *shape, n_blobs)
        few, many = (peak_megabytes(code, path, n) for n in (1_000, shape[0]))
    finally:
        path.unlink()
    assert many - few < most, (few, many)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("order", "most"), [("aligned", 0.4), ("C", 0.4 if backend.joins_rows() else 1.4), ("F", 1.4)]
)
def test_fits_hold_the_data_once_more_unless_they_can_take_it(order, most):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FITS, "50_000", order],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert float(done.stdout.split()[-1]) < most
