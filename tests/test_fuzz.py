"""Every loader against files that were damaged at random: a documented error or a clean read."""

import gzip
import json
import re
import resource
import subprocess
import sys
import time
import zipfile

import h5py
import keras
import numpy as np
import pytest
import scipy.sparse
from PIL import Image

from clustering_common.backend import to_numpy
from clustering_common.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from clustering_common.dataset_files import read_idx, read_jf, read_npz
from clustering_common.datasets import Dataset
from clustering_common.files import write_csv, write_json
from clustering_common.image_files import load_images
from clustering_common.prepare_zip import unpack
from clustering_common.run_folder import RunFolder
from clustering_common.run_state import run_identity
from clustering_common.user_data import load_user_data
from clustering_common.weights import write_weights
from dec_da import FcDEC, grid, grid_table, pretraining
from kingdra_cluster import LadderIM
from kingdra_cluster.configs import read_config

pytestmark = pytest.mark.filterwarnings("ignore")
N_MUTATIONS = 50  # of each kind of file
MAX_SECONDS = 10
MAX_GROWTH = 2**20  # KiB of memory: 1 GB
DOCUMENTED = (ValueError, FileNotFoundError)


def damaged(content, rng):
    """Return ``content`` cut, with bits flipped, with two parts swapped, doubled, or emptied.

    Or of brackets beyond a parser's stack, or with a number beyond all floats.
    """
    how = rng.integers(8)
    data = bytearray(content)
    if how == 0:
        return bytes(data[: rng.integers(len(data))])
    if how == 1 and rng.random() < 0.2:
        return b""
    if how == 2:
        middle = len(data) // 2
        return bytes(data[middle:] + data[:middle])
    if how == 3:
        begin, end = sorted(rng.integers(len(data), size=2))
        return bytes(data[:end] + data[begin:])
    if how == 6:
        return b"[" * 100_000
    numbers = list(re.finditer(rb"\d+", content))
    if how == 7 and numbers:
        begin, end = numbers[rng.integers(len(numbers))].span()
        return bytes(data[:begin] + b"9" * 400 + data[end:])
    # Headers are where a flipped bit asks for the most memory: half of the flips hit them.
    reach = min(len(data), 200) if how == 4 else len(data)
    for place in rng.integers(reach, size=rng.integers(1, 9)):
        data[place] ^= 1 << rng.integers(8)
    return bytes(data)


def vectors():
    return np.random.default_rng(0).random((20, 16)).astype(np.float32)


def make_h5(path):
    FcDEC(2, layer_sizes=(4, 2), pretrain_epochs=1, max_iter=1, random_state=0).fit(vectors()).save(
        path
    )


def make_ladder(path):
    model = LadderIM(2, fc_layer_sizes=(4, 2), denoising_cost=(1, 1, 1), n_iter=1, random_state=0)
    model.fit(vectors()).save(path)


def make_npz(path):
    np.savez_compressed(path, X=vectors(), y=np.arange(20) % 2)


def make_csv(path):
    lines = [",".join([*map(str, row), str(i % 2)]) for i, row in enumerate(vectors())]
    path.write_text("\n".join([",".join([*(f"f{i}" for i in range(16)), "label"]), *lines]) + "\n")


def make_parquet(path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    table = pandas.DataFrame(vectors()).rename(columns=str)
    table.assign(label=["cat", "dog"] * 10).rename_axis("id").to_parquet(path, index=True)


def make_datasets(path):
    with h5py.File(path, "w") as file:
        file["x"], file["y"] = vectors(), ["cat", "dog"] * 10


def make_packed(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=vectors(), chunks=(7, 5), compression=4, shuffle=True)
        file["y"] = np.arange(20) % 2


def make_csr(path):
    scipy.sparse.save_npz(path, scipy.sparse.csr_matrix(vectors() * (vectors() > 0.5)))


def make_idx(path):
    images = np.random.default_rng(0).integers(256, size=(20, 8, 8), dtype=np.uint8)
    header = bytes([0, 0, 8, 3]) + np.array(images.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + images.tobytes()))


def make_jf(path):
    rows = np.random.default_rng(0).integers(0, 9, size=(5, 256)) / 4
    lines = [f"{i} " + " ".join(f"{v:g}" for v in row) for i, row in enumerate(rows)]
    path.write_text("\n".join(["10 256", *lines, "-1"]) + "\n")


def make_zip(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in (("X", np.ones((20, 784), np.float32)), ("Y", np.arange(20) % 10)):
            np.save(path.parent / "part.npy", array)
            archive.write(path.parent / "part.npy", f"mnist/train_{name}.npy")
    (path.parent / "part.npy").unlink()


def make_image(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)).save(path)


def make_config(path):
    path.write_text(json.dumps({"dataset": "digits", "n_class": 10, "fc_layer_sizes": [30, 10]}))


def make_results(path):
    identity = {"class": "FcDEC", "n_clusters": 3}
    RunFolder(path.parent).finish({"identity": identity, "metrics": {"final": {"acc": 0.5}}})


def trial(path):
    """Return the trial of a grid whose folder has the file."""
    dataset = Dataset(vectors().reshape(20, 4, 4, 1), np.arange(20) % 2, "digits")
    return grid.Cell("FcDEC", dataset, RunFolder(path.parent, resume=True), 0, 0, {})


def make_diverged(path):
    cell = trial(path)
    identity = run_identity(cell.estimator, cell.task.X, cell.task.labels)
    note = {"pixels": {"acc": 0.5}, "seconds": 1.5, "problem": "The loss became nan."}
    write_json(path, {"identity": identity, **note})


def make_pretraining(path):
    layer = keras.layers.Dense(2)
    layer.build((None, 4))
    write_weights(path.with_name("ae_weights.h5"), [layer])
    write_csv(path.with_name("pretrain_log.csv"), ["loss"], [{"loss": 0.25}, {"loss": 0.125}])
    write_json(path.with_name("results.json"), {"seconds": {"pretrain": 1.5}})


def make_checkpoint(path):
    write_checkpoint(path, Checkpoint({"phase": "pretrain", "step": 3}, {"w": vectors()}))


def comparable(loaded):
    """Return what was loaded from a file of ours so that it can be compared."""
    if isinstance(loaded, Checkpoint):
        return loaded.values, {name: array.tolist() for name, array in loaded.arrays.items()}
    return loaded if isinstance(loaded, dict) else contents(loaded)


def contents(model):
    """Return all that a fitted estimator keeps, comparable: its weights and what it learned."""
    learned = sorted({*model.learned_values, *model.learned_arrays} & set(vars(model)))
    return [
        *(to_numpy(weight).tolist() for layer in model._network.layers for weight in layer.weights),
        *(np.asarray(getattr(model, name)).tolist() for name in learned),
        model.get_params(),
        model._sample_shape,
    ]


def unpacked(path):
    unpack(path, path.parent / "data", lambda line: None, force=True)


def read_results(path):
    return RunFolder(path.parent, resume=True).finished({"class": "FcDEC", "n_clusters": 3})


def told(found, path):
    """Return what was found; for what tells of nothing, a run goes on without it."""
    if found is None:
        raise ValueError(f"{path.name} tells of nothing")
    return found


def read_diverged(path):
    return grid_table.with_means([told(trial(path).finished_row(), path)], 1)


def read_pretraining(path):
    return told(pretraining.of_run(path.parent), path)


KINDS = {
    "model.h5": (make_h5, FcDEC.load),
    "ladder.h5": (make_ladder, LadderIM.load),
    "weights.h5": (make_h5, lambda path: FcDEC(2, layer_sizes=(4, 2)).load_weights(path, (16,))),
    "x.npy": (lambda path: np.save(path, vectors()), load_user_data),
    "x.npz": (make_npz, load_user_data),
    "mnist.npz": (make_npz, lambda path: read_npz(path, ["X", "y"])),
    "x.csv": (make_csv, load_user_data),
    "x.parquet": (make_parquet, load_user_data),
    "x.h5": (make_datasets, load_user_data),
    "packed.hdf5": (make_packed, load_user_data),
    "csr.npz": (make_csr, lambda path: load_user_data(path, sparse=True)),
    "x.png": (make_image, lambda path: load_images(path.parent, image_size=4)),
    "x.jpg": (make_image, lambda path: load_images(path.parent, image_size=4)),
    "images.gz": (make_idx, lambda path: read_idx(path, 3)),
    "usps_train.jf": (make_jf, read_jf),
    "sets.zip": (make_zip, unpacked),
    "config.json": (make_config, read_config),
    "results.json": (make_results, read_results),
    "diverged.json": (make_diverged, read_diverged),
    "shared/results.json": (make_pretraining, read_pretraining),
    "pretrain_log.csv": (make_pretraining, read_pretraining),
    "checkpoint-000001.state": (make_checkpoint, read_checkpoint),
}


# What of a damaged file is read at all is what was written. Other formats have no checksum.
OURS = {"model.h5", "ladder.h5", "weights.h5", "results.json", "checkpoint-000001.state"}


@pytest.mark.parametrize("name", KINDS)
def test_damaged_files(name, tmp_path):
    make, load = KINDS[name]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    make(path)
    whole = path.read_bytes()
    (tmp_path / "data").mkdir()
    is_ours = name in OURS
    original = comparable(load(path)) if is_ours else load(path)
    rng = np.random.default_rng(len(name))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    n_refused = 0
    for _ in range(N_MUTATIONS):
        content = damaged(whole, rng)
        path.write_bytes(content)
        begin = time.monotonic()
        try:
            loaded = load(path)
            assert not is_ours or comparable(loaded) == original
        except DOCUMENTED as error:
            n_refused += 1
            assert len(str(error).splitlines()) == 1, str(error)
            assert path.name in str(error) or str(path.parent) in str(error), str(error)
        assert time.monotonic() - begin < MAX_SECONDS
        assert path.read_bytes() == content
    assert n_refused > N_MUTATIONS // 4
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MAX_GROWTH


BOMB = """
import gzip, io, resource, struct, sys, zipfile
import numpy as np
from pathlib import Path
from clustering_common.dataset_files import read_idx, read_jf
from clustering_common.user_data import load_user_data

folder = Path(sys.argv[1])

def pack(name, head, piece, n_pieces):
    with gzip.open(folder / name, "wb", 1) as file:
        file.write(head)
        for _ in range(n_pieces):
            file.write(piece)

zeros = bytes(1 << 20)
pack("images.gz", bytes([0, 0, 8, 3]) + struct.pack(">3I", 16384, 256, 256), zeros, 1024)
pack("usps.jf", b"", b"ab\\n" * (1 << 18), 500)
with zipfile.ZipFile(folder / "x.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
    with archive.open("x.npy", "w", force_zip64=True) as file:
        head = io.BytesIO()
        header = {"descr": "|u1", "fortran_order": False, "shape": (1024, 1 << 20)}
        np.lib.format.write_array_header_1_0(head, header)
        file.write(head.getvalue())
        for _ in range(1024):
            file.write(zeros)
(folder / "x.csv").write_text("a,label\\n" + "1,cat\\n" * 20000 + "1," + "x" * 130000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
calls = [(lambda p: read_idx(p, 3), "images.gz"), (read_jf, "usps.jf"),
         (load_user_data, "x.npz"), (load_user_data, "x.csv")]
for call, name in calls:
    try:
        call(folder / name)
    except ValueError as error:
        print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_bombs_take_little_memory(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", BOMB, str(tmp_path)], capture_output=True, text=True, check=True
    )
    *errors, megabytes = done.stdout.splitlines()
    assert len(errors) == 4
    assert int(megabytes) < 100


def test_a_loader_never_unpickles(tmp_path):
    class Trap:
        def __reduce__(self):
            return (exec, ("raise SystemExit('unpickled')",))

    path = tmp_path / "x.npy"
    np.save(path, np.array([Trap()], object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"x\.npy"):
        load_user_data(path)
