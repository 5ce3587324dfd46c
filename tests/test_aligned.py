import gzip

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from clustering_common import datasets, user_data
from clustering_common.aligned import aligned, aligned_empty, is_aligned, single_precision
from clustering_common.datasets import load_dataset
from clustering_common.user_data import load_user_data

SIZES = (50, 1_000, 20_003)  # a small array of NumPy's is aligned by chance, one time in four


def arrays():
    """Return arrays that are not aligned, by kind."""
    beside = aligned_empty((601,))[1:].reshape(200, 3)
    beside[...] = np.random.default_rng(0).random((200, 3))
    return {
        "C": beside,
        "F": np.asfortranarray(beside),
        "every second row": np.repeat(beside, 2, axis=0)[::2],
        "integers": (9 * beside).astype(np.int32)[1:],
        "text": beside.astype("U9"),
    }


@pytest.mark.parametrize("kind", arrays())
def test_aligned_is_a_copy_of_what_is_not(kind):
    array = arrays()[kind]
    for dtype in (None, np.float64):
        found = aligned(array, dtype)
        assert is_aligned(found)
        assert found.dtype == (dtype or array.dtype)
        np.testing.assert_array_equal(found, array.astype(dtype) if dtype else array)


def test_aligned_is_the_array_itself_unless_a_copy_is_wanted():
    array = aligned(arrays()["C"])
    assert aligned(array) is array
    assert aligned(array, np.float32) is array
    copy = aligned(array, copy=True)
    assert is_aligned(copy)
    assert not np.shares_memory(copy, array)
    assert aligned(np.empty((0, 3)), np.float32).shape == (0, 3)


def test_single_precision_copies_only_what_must_be(tmp_path):
    single = arrays()["C"]
    for other in (
        single, single.tolist(), single.astype(complex), np.ma.array(single), pd.DataFrame(single)
    ):  # fmt: skip
        assert single_precision(other) is other
    np.save(tmp_path / "x.npy", single.astype(np.float64))
    must_be = [single.astype(dtype) for dtype in (np.float64, np.float16, np.uint8, np.bool_)]
    must_be += [arrays()["F"], np.load(tmp_path / "x.npy", mmap_mode="r")]
    for array in must_be:
        found = single_precision(array)
        assert type(found) is np.ndarray
        assert found.dtype == np.float32
        assert is_aligned(found)
        np.testing.assert_array_equal(found, array.astype(np.float32))


def write_h5(path, X, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=X, **options)


def write_images(folder, X):
    folder.mkdir(exist_ok=True)
    side = int(np.sqrt(X.size))
    pixels = X.ravel()[: side**2].reshape(side, side).astype(np.uint8)
    for name in ("a.png", "b.png"):
        Image.fromarray(pixels).save(folder / name)


WRITERS = {
    "x.npy": np.save,
    "f.npy": lambda path, X: np.save(path, np.asfortranarray(X)),
    "x.npz": lambda path, X: np.savez(path, x=X),
    "packed.npz": lambda path, X: np.savez_compressed(path, x=X),
    "x.csv": lambda path, X: np.savetxt(path, X, delimiter=","),
    "x.h5": write_h5,
    "chunks.h5": lambda path, X: write_h5(path, X, chunks=(7, 2)),
    "gzip.h5": lambda path, X: write_h5(path, X, compression="gzip"),
    "x.parquet": lambda path, X: pd.DataFrame(X, columns=list("abcdefg")).to_parquet(path),
    "images": write_images,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int64])
def test_loaded_samples_are_aligned(name, dtype, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(user_data, "aligned", lambda *args: read.append(args[0]) or aligned(*args))
    for n_numbers in SIZES:
        X = (9 * np.random.default_rng(0).random((n_numbers // 7, 7))).astype(dtype)
        WRITERS[name](tmp_path / name, X)
        assert is_aligned(load_user_data(tmp_path / name).X)
    if name not in ("f.npy", "x.csv"):  # what the readers return is not copied either
        assert all(map(is_aligned, read))


def test_loaded_data_sets_are_aligned(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(datasets, "aligned", lambda *args: read.append(args[0]) or aligned(*args))
    rng = np.random.default_rng(0)
    for n_images in (2, 30, 500):
        for kind, shape in (("images-idx3", (n_images, 7, 5)), ("labels-idx1", (n_images,))):
            bytes_ = rng.integers(0, 9, shape, np.uint8).tobytes()
            header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
            for part in ("train", "t10k"):
                path = tmp_path / f"{part}-{kind}-ubyte.gz"
                path.write_bytes(gzip.compress(header + bytes_))
        assert is_aligned(load_dataset("mnist", tmp_path).images)
    assert all(map(is_aligned, read))  # not copied for it
    digits = load_dataset("digits")
    assert is_aligned(digits.images)
    assert is_aligned(digits.vectors)
