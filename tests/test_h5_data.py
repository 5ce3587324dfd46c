"""HDF5 files and CSR matrices as a user's data: what is read, and what is refused in one line."""

import struct
import tracemalloc

import h5py
import numpy as np
import pytest
import scipy.sparse

from clustering_common import h5_data, sparse_files
from clustering_common.mapped import is_mapped
from clustering_common.user_data import load_user_data

X = np.arange(60, dtype=np.float32).reshape(12, 5)


@pytest.fixture
def write(tmp_path):
    """Write datasets by name, or let a function fill the file."""

    def write(content, name="x.h5", **options):
        with h5py.File(tmp_path / name, "w", **options) as file:
            if callable(content):
                content(file)
            else:
                for key, value in content.items():
                    file[key] = value
        return tmp_path / name

    return write


def raises_line(text, *args, **options):
    with pytest.raises(ValueError, match=text) as caught:
        load_user_data(*args, **options)
    assert "\n" not in str(caught.value) and str(caught.value).count("; got ") == 1


@pytest.mark.parametrize("key", ["x", "X", "data", "anything"])
@pytest.mark.parametrize("labels_key", ["y", "label", None])
def test_names_are_those_of_npz(write, key, labels_key):
    labels = {labels_key: np.arange(12) % 3} if labels_key else {}
    found = load_user_data(write({**labels, key: X}, "x.hdf5"))
    np.testing.assert_array_equal(found.X, X)
    assert found.X.dtype == np.float32
    assert (found.labels is None) == (labels_key is None)
    assert labels_key is None or found.labels.tolist() == [0, 1, 2] * 4


def test_a_key_names_the_samples(write, tmp_path):
    path = write({"x": X, "group/z": 2 * X, "y": np.arange(12), "other": X[:, :2]})
    for key, wanted in (("x", X), ("group/z", 2 * X), ("other", X[:, :2])):
        found = load_user_data(path, data_key=key)
        np.testing.assert_array_equal(found.X, wanted)
        assert found.labels.tolist() == list(range(12))
    np.savez(tmp_path / "x.npz", a=X, b=2 * X)
    np.testing.assert_array_equal(load_user_data(tmp_path / "x.npz", data_key="b").X, 2 * X)
    raises_line("with an array 'c', .*; got the keys other, x, y", path, data_key="c")
    raises_line("'/group' is no array", path, data_key="group")
    raises_line("x.npz' must be .* with an array 'c'", tmp_path / "x.npz", data_key="c")
    np.save(tmp_path / "x.npy", X)
    raises_line("data_key must come with a .npz or .h5 file", tmp_path / "x.npy", data_key="x")


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": (5, 2)},
        {"chunks": (5, 2), "compression": 4},
        {"chunks": (5, 5), "compression": 9, "shuffle": True},
        {"chunks": (50, 3), "shuffle": True, "maxshape": (None, None)},
        {"compression": "gzip"},
    ],
)
@pytest.mark.parametrize("dtype", ["f4", "f8", ">f4", "u1", "i2", "?"])
def test_chunks_and_gzip(write, options, dtype):
    array = (X % 2 if dtype == "?" else X).astype(dtype)
    found = load_user_data(write(lambda file: file.create_dataset("x", data=array, **options)))
    np.testing.assert_allclose(found.X, array / np.float32(255) if dtype == "u1" else array)


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (["b", "a"] * 6, ["b", "a"] * 6),
        (np.array([b"b", b"aa"] * 6), ["b", "aa"] * 6),
        (["3", "1"] * 6, [3, 1] * 6),
        (np.arange(12)[:, None], list(range(12))),
    ],
)
def test_labels(write, labels, wanted):
    assert load_user_data(write({"x": X, "y": labels})).labels.tolist() == wanted
    alone = write({"only": labels}, "labels.h5")
    assert load_user_data(write({"x": X}), alone).labels.tolist() == wanted


@pytest.mark.parametrize("userblock", [0, 512])
def test_labels_of_any_length(write, userblock):
    labels = ["b", "ä", "x" * 999, "ä"] * 3
    path = write({"x": X, "y": labels}, userblock_size=userblock)
    assert load_user_data(path).labels.tolist() == labels
    path = write({"x": X, "y": [*labels[1:], ""]}, userblock_size=userblock)
    raises_line("without missing labels; got none for sample 11", path)
    many = [f"class {i}" for i in range(3000)]  # in several heaps
    path = write({"x": np.zeros((3000, 1)), "y": many}, userblock_size=userblock)
    assert load_user_data(path).labels.tolist() == many


def test_texts_in_chunks_are_refused(write):
    def fill(file):
        file["x"] = X
        file.create_dataset("y", data=list("abcdefghijkl"), chunks=(5,))

    raises_line("texts of shape .* or in chunks; write numbers, or the texts in one", write(fill))


def test_a_damaged_heap_of_texts_is_refused(write):
    # HDF5 would walk it for ever: what is left of the heap has no size.
    path = write({"x": X, "y": list("abcdefghijkl")})
    content = bytearray(path.read_bytes())
    place = content.index(b"GCOL") + 16
    while content[place : place + 2] != bytes(2):
        place += 16 + -(-int.from_bytes(content[place + 8 : place + 16], "little") // 8) * 8
    content[place + 8 : place + 16] = bytes(8)
    path.write_bytes(content)
    raises_line("a damaged heap of texts", path)


def with_heaps(path, heaps, pointers):
    """Append heaps to a file, and let its labels point into them: (length, heap, number)."""
    with h5py.File(path) as file:
        offset = file["y"].id.get_offset()
    content = bytearray(path.read_bytes())
    base = len(content)
    for i, (length, place, index) in enumerate(pointers):
        struct.pack_into("<IQI", content, offset + 16 * i, length, base + place, index)
    content += heaps
    struct.pack_into("<Q", content, 40, len(content))  # end of the file, in its superblock
    path.write_bytes(content)


def heap_head(size, n_bytes):
    """Return the heads of a heap and of its one text."""
    return b"GCOL" + struct.pack("<IQHHIQ", 1, size, 1, 1, 0, n_bytes)


def test_heaps_that_overlap_are_refused(write):
    # Each holds all that follow: kept, they would have a thousand times the bytes of the file.
    n = 2000
    path = write({"x": np.zeros((n, 1)), "y": ["a"] * n}, libver="earliest")
    heaps = b"".join(heap_head(32 * (n - i), 32 * (n - i - 1)) for i in range(n))
    with_heaps(path, heaps, [(1, 32 * i, 1) for i in range(n)])
    tracemalloc.start()
    raises_line("heaps of texts that overlap", path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * path.stat().st_size


def test_beginnings_of_one_long_text_are_refused(write):
    n = 2000
    path = write({"x": np.zeros((n, 1)), "y": ["a"] * n}, libver="earliest")
    heap = heap_head(32 + n, n) + b"x" * n
    with_heaps(path, heap, [(n - i, 0, 1) for i in range(n)])
    raises_line(r"labels of \d{5,} bytes, \d+ for sample", path)
    with_heaps(path, heap, [(n, 0, 1)] * n)
    raises_line("labels of at most 1000 characters; got 2000 for sample 0", path)
    raises_line("got .*labels of 4001 bytes", write({"x": X, "y": ["x" * 4001] * 12}))


def test_equal_texts_are_decoded_once():
    class Raw(bytes):
        decoded = 0

        def decode(self):
            Raw.decoded += 1
            return super().decode()

    assert h5_data._decoded([Raw(b"a"), Raw(b"b"), Raw(b"a")] * 9, 2) == ["a", "b", "a"] * 9
    assert Raw.decoded == 2


@pytest.mark.parametrize("userblock", [0, 512])
def test_a_large_dataset_in_one_piece_stays_in_the_file(write, monkeypatch, userblock):
    monkeypatch.setattr(h5_data, "LARGE_BYTES", 100)
    found = load_user_data(write({"x": X, "y": np.arange(12)}, userblock_size=userblock))
    assert is_mapped(found.X)
    np.testing.assert_array_equal(found.X, X)
    assert found.labels.tolist() == list(range(12))
    for other in (X.astype(np.float64), X.astype(">f4")):
        assert not is_mapped(load_user_data(write({"x": other})).X)
    path = write(lambda file: file.create_dataset("x", data=X, chunks=(5, 2)))
    assert not is_mapped(load_user_data(path).X)


def test_more_than_memory_says_what_can_be_read(write, monkeypatch):
    monkeypatch.setattr(h5_data, "memory_bytes", lambda: 100)
    raises_line("480 bytes, more than memory: only float32", write({"x": X.astype("f8")}))


def test_links_are_refused(write, tmp_path):
    write({"x": X}, "other.h5")

    def linked(link):
        def fill(file):
            file["real"] = X
            file["x"] = link

        return write(fill)

    soft, external = h5py.SoftLink("/real"), h5py.ExternalLink("other.h5", "x")
    for link in (soft, external):
        raises_line("'x' is missing or a link", linked(link))
        raises_line("'x' is missing or a link", linked(link), data_key="x")
    virtual = h5py.VirtualLayout((12, 5), "f4")
    virtual[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (12, 5))
    path = write(lambda file: file.create_virtual_dataset("x", virtual))
    raises_line("'/x' lies in another file", path)
    (tmp_path / "raw").write_bytes(X.tobytes())
    parts = [(str(tmp_path / "raw"), 0, X.nbytes)]
    path = write(lambda file: file.create_dataset("x", (12, 5), "f4", external=parts))
    raises_line("'/x' lies in another file", path)


def test_what_is_not_there_is_not_filled_in(write):
    raises_line("declares 80000 bytes", write(lambda f: f.create_dataset("x", (100, 200), "f4")))
    options = {"chunks": (10, 10), "compression": 4}

    def fill(file):
        file.create_dataset("x", (20, 10), "f4", **options)[:10] = 1

    raises_line("a part of '/x' is missing|chunk", write(fill))


def test_a_small_file_takes_little_memory(write, monkeypatch):
    monkeypatch.setattr(h5_data, "SMALL_BYTES", 10_000)
    zeros = np.zeros((1000, 1000), np.float32)
    path = write(lambda f: f.create_dataset("x", data=zeros, chunks=(1000, 1000), compression=9))
    raises_line("4000000 bytes declared, more than .* to be believed", path)


def test_a_chunk_that_unpacks_to_more_is_refused(write):
    def fill(file):
        dataset = file.create_dataset("x", (10, 10), "f4", chunks=(10, 10), compression=4)
        packed = h5_data.zlib.compress(bytes(10**6))
        dataset.id.write_direct_chunk((0, 0), packed)

    raises_line("a chunk has 401 bytes of 400", write(fill))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({}, r"got the keys \(none\)"),
        ({"group/x": X}, r"got the keys \(none\)"),
        ({"a": X, "b": X}, r"got the keys a, b\. Name them"),
        ({"x": X, "y": np.arange(12), "label": np.arange(12)}, "got the keys label, x, y"),
        ({"y": np.arange(12)}, "got labels only"),
        ({"x": X.astype("c8")}, "has the type complex64"),
        ({"x": ["a", "b"]}, "has the type object"),
        ({"x": np.zeros(12, [("a", "f4")])}, "has the type"),
        ({"x": np.zeros((0, 5), "f4")}, r"got shape \(0, 5\)"),
        ({"x": np.float32(1)}, r"got shape \(\)"),
        ({"x": np.full((3, 2), np.nan, "f4")}, "infinity in 3 of 3 rows"),
        ({"x": h5py.Empty("f4")}, "is no array"),
        ({"x": X, "y": np.arange(11)}, "must be a file of 12 labels"),
        ({"x": X, "y": np.zeros((12, 2), "S3")}, "texts of shape"),
    ],
)
def test_bad_files(write, content, text):
    raises_line(text, write(content))


def test_other_filters_are_refused(write):
    for options in ({"compression": "lzf"}, {"fletcher32": True}):
        path = write(lambda f, o=options: f.create_dataset("x", data=X, chunks=(5, 2), **o))
        raises_line("is packed otherwise than by gzip; use h5repack", path)


def test_no_hdf5_file(tmp_path):
    (tmp_path / "x.h5").write_bytes(b"text")
    raises_line("must be an HDF5 file of plain, whole arrays; got", tmp_path / "x.h5")


# CSR


def save_csr(path, **changes):
    parts = {
        "format": np.array(b"csr"), "shape": np.array([3, 4]), "indptr": np.array([0, 1, 1, 3]),
        "indices": np.array([1, 0, 3], np.int32), "data": np.array([1.0, 2.0, 3.0]), **changes,
    }  # fmt: skip
    np.savez(path, **parts)
    return path


def test_a_csr_matrix_is_read_where_asked(tmp_path):
    matrix = scipy.sparse.random(20, 30, 0.2, "csr", np.float64, 0)
    scipy.sparse.save_npz(tmp_path / "x.npz", matrix)
    found = load_user_data(tmp_path / "x.npz", sparse=True).X
    assert found.format == "csr" and found.dtype == np.float32
    np.testing.assert_array_equal(found.toarray(), matrix.toarray().astype(np.float32))
    raises_line("dense arrays; got a sparse matrix of SciPy", tmp_path / "x.npz")
    own = load_user_data(save_csr(tmp_path / "x.npz"), sparse=True).X
    np.testing.assert_array_equal(own.toarray(), [[0, 1, 0, 0], [0, 0, 0, 0], [2, 0, 0, 3]])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"format": np.array(b"csc")}, "in CSR format; got .*csc"),
        ({"shape": np.array([3, -4])}, "intact CSR matrix of numbers; got shape"),
        ({"shape": np.array([2, 4])}, "got shape"),
        ({"shape": np.array([3, sparse_files.MAX_COLUMNS + 1])}, "got shape"),
        ({"shape": np.array([3, 2**62])}, "got shape"),
        ({"indices": np.array([1, 0, 4])}, "intact CSR matrix"),
        ({"indices": np.array([1, 0, -1])}, "intact CSR matrix"),
        ({"indices": np.array([1.0, 0, 3])}, "indices that are no whole numbers"),
        ({"indices": np.array([1, 0])}, "intact CSR matrix"),
        ({"indptr": np.array([0, 2, 1, 3])}, "intact CSR matrix"),
        ({"indptr": np.array([0, 1, 1, 9])}, "intact CSR matrix"),
        ({"data": np.array([1, np.nan, 3])}, "must be finite; got NaN or infinity in 1 of 3"),
        ({"data": np.array(["a", "b", "c"])}, "values of type"),
        ({"data": np.ones((3, 1))}, "parts of other shapes"),
    ],
)
def test_a_damaged_csr_matrix_is_one_line(tmp_path, changes, text):
    raises_line(text, save_csr(tmp_path / "x.npz", **changes), sparse=True)
