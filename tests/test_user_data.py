import numpy as np
import pandas
import pytest
import scipy.sparse

from clustering_common import array_files, csv_files, user_labels
from clustering_common.user_data import load_user_data


@pytest.fixture
def write(tmp_path):
    def write(content, name):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.write_text(content)
        elif isinstance(content, dict):
            np.savez(path, **content)
        else:
            np.save(path, content)
        return path

    return write


def check(data, X, labels=None):
    assert data.X.dtype == np.float32
    assert data.X.flags.c_contiguous
    np.testing.assert_array_equal(data.X, np.asarray(X, dtype=np.float32))
    if labels is None:
        assert data.labels is None
    else:
        assert data.labels.tolist() == labels


# Arrays


@pytest.mark.parametrize("shape", [(3, 4), (1, 1), (3, 4, 5), (3, 4, 5, 2)])
@pytest.mark.parametrize("dtype", ["f4", ">f8", "i8", "?", "f2"])
def test_npy_keeps_values(write, shape, dtype):
    array = (np.arange(np.prod(shape)).reshape(shape) % 7).astype(dtype)
    check(load_user_data(str(write(array, "x.npy"))), array)


def test_uint8_is_scaled(write):
    array = np.array([[0, 51], [255, 1]], dtype=np.uint8)
    check(load_user_data(write(array, "x.npy")), [[0, 0.2], [1, 1 / 255]])
    check(load_user_data(write({"x": array}, "x.npz")), [[0, 0.2], [1, 1 / 255]])


def test_fortran_order(write):
    array = np.arange(6.0).reshape(2, 3)
    check(load_user_data(write(np.asfortranarray(array), "x.npy")), array)


def test_suffix_in_capitals(write):
    path = write(np.ones((2, 2)), "x.npy")
    check(load_user_data(path.rename(path.with_name("x.NPY"))), np.ones((2, 2)))


@pytest.mark.parametrize("key", ["x", "X", "data", "anything"])
@pytest.mark.parametrize("labels_key", ["y", "labels", "label", "target", None])
def test_npz(write, key, labels_key):
    X = np.arange(6.0).reshape(3, 2)
    labels = {labels_key: np.array([2, 0, 1], dtype=np.uint8)} if labels_key else {}
    data = load_user_data(write({**labels, key: X}, "x.npz"))
    check(data, X, [2, 0, 1] if labels_key else None)
    assert labels_key is None or data.labels.dtype == np.int64


def test_npz_with_other_arrays_beside_a_known_key(write):
    X = np.ones((2, 2))
    check(load_user_data(write({"x": X, "weights": X, "ids": X}, "x.npz")), X)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.array([3, 1]), [3, 1]),
        (np.array([[3], [1]]), [3, 1]),
        (np.array([3.0, 1.0]), [3, 1]),
        (np.array([True, False]), [1, 0]),
        (np.array(["b", " a"]), ["b", "a"]),
        (np.array(["3", "1.0"]), [3, 1]),
        (np.array(["0.5", "1"]), ["0.5", "1"]),
    ],
)
def test_labels_of_their_own(write, labels, expected):
    path = write({"x": np.ones((2, 2)), "y": np.array([7, 7])}, "x.npz")
    check(load_user_data(path, write(labels, "y.npy")), np.ones((2, 2)), expected)
    check(load_user_data(path, write({"only": labels}, "y.npz")), np.ones((2, 2)), expected)
    both = {"x": np.ones(9), "z": np.ones(9), "y": labels}
    check(load_user_data(path, write(both, "y.npz")), np.ones((2, 2)), expected)


# Text


CSV = {
    "plain": ("1,2\n3,4\n", [[1, 2], [3, 4]], None),
    "no last line end": ("1,2\n3,4", [[1, 2], [3, 4]], None),
    "one column": ("1\n2\n", [[1], [2]], None),
    "blank lines, spaces": ("\n 1 , 2\n\n3,4e-1\n  \n", [[1, 2], [3, 0.4]], None),
    "windows": ("1,2\r\n3,-4\r\n", [[1, 2], [3, -4]], None),
    "quoted": ('"1","2"\n"3","4"\n', [[1, 2], [3, 4]], None),
    "header": ("width,height\n1,2\n3,4\n", [[1, 2], [3, 4]], None),
    "label last": ("a,b,label\n1,2,5\n3,4,0\n", [[1, 2], [3, 4]], [5, 0]),
    "label first": ("Label,0,1\ncat,2,3\ndog,4,5\n", [[2, 3], [4, 5]], ["cat", "dog"]),
    "label between": ("a, LABEL ,b\n1,7,2\n3,8,4\n", [[1, 2], [3, 4]], [7, 8]),
    "labels": ("labels,a\n1,0\n", [[0]], [1]),
    "coordinates": ("x,y\n1,7\n3,8\n", [[1, 7], [3, 8]], None),
    "coordinates, label": ("x,y,label\n1,7,0\n3,8,0\n", [[1, 7], [3, 8]], [0, 0]),
    "target": ("a,target\n1,0\n", [[1, 0]], None),
}


@pytest.mark.parametrize(("text", "X", "labels"), CSV.values(), ids=CSV)
def test_csv(write, text, X, labels):
    check(load_user_data(write(text, "x.csv")), X, labels)


def frame(labels=None, **options):
    """Return what pandas writes of two samples."""
    table = pandas.DataFrame([[0.5, 1.0, 2.0], [3.0, 4.0, 5.0]], **options)
    return table if labels is None else table.assign(label=labels)


@pytest.mark.parametrize("labels", [None, ["cat", "dog"]])
@pytest.mark.parametrize("columns", [None, ["a", "b", "c"]])
@pytest.mark.parametrize("index", [None, [7, 5], ["p", "q"], [["p", "q"], [1, 2]], False])
def test_csv_of_pandas(write, labels, columns, index):
    table = frame(labels, columns=columns, index=index or None)
    text = table.to_csv(index=index is not False)
    check(load_user_data(write(text, "x.csv")), [[0.5, 1, 2], [3, 4, 5]], labels)


NUMBERED = {
    "two floats": ("0,1\n0.5,1.0\n", [[0.5, 1]]),
    "four": ("0,1,2,3\n5,6,7,8\n", [[5, 6, 7, 8]]),
    "one with an index": (",0\n3,7\n", [[7]]),
    "one": ("0\n0.5\n", [[0], [0.5]]),
    "whole numbers": ("0,1\n1,0\n", [[0, 1], [1, 0]]),
    "short numbers": ("0,1,2\n0.5,1,.25\n", [[0, 1, 2], [0.5, 1, 0.25]]),
    "nothing below": ("0,1,2,3\n", [[0, 1, 2, 3]]),
    "from one": ("1,2,3,4\n5,6,7,8\n", [[1, 2, 3, 4], [5, 6, 7, 8]]),
    "with points": ("0.0,1.0\n0.5,2.5\n", [[0, 1], [0.5, 2.5]]),
}


@pytest.mark.parametrize(("text", "X"), NUMBERED.values(), ids=NUMBERED)
def test_csv_whose_first_line_counts(write, text, X):
    check(load_user_data(write(text, "x.csv")), X)


@pytest.mark.parametrize("name", ["y", "Target"])
def test_it_is_said_that_labels_may_be_learned_from(write, caplog, name):
    load_user_data(write(f"a,{name}\n1,0\n", "x.csv"))
    load_user_data(write("x,y\n1,0\n", "points.csv"))
    load_user_data(write("a,y,label\n1,0,0\n", "z.csv"))
    (line,) = caplog.messages
    assert f"x.csv': the column {name.lower()} is taken as a feature; named label, it is" in line


def test_csv_with_a_byte_order_mark(write):
    content = "label,a\nä,1\n".encode("utf-8-sig")
    check(load_user_data(write(content, "x.csv")), [[1]], ["ä"])


def test_csv_of_labels(write):
    path = write("1,2\n3,4\n", "x.csv")
    for text in (
        "5\n6\n", "label\n5\n6\n", "id,label\nx,5\ny,6\n", "5\r\n\r\n6", "y\n5\n6\n",
        "id,target\n0,5\n1,6\n", "x,y,label\n0,0,5\n0,0,6\n", ",0\n0,5\n1,6\n", ",kind\n0,5\n1,6\n",
        "a.png,5\nb.png,6\n", "file,kind\na.png,5\nb.png,6\n",
    ):  # fmt: skip
        check(load_user_data(path, write(text, "y.csv")), [[1, 2], [3, 4]], [5, 6])
    check(load_user_data(path, write("cat\ndog\n", "y.csv")), [[1, 2], [3, 4]], ["cat", "dog"])


@pytest.mark.parametrize("seed", range(5))
def test_csv_and_npy_agree(write, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=rng.integers(1, 20, size=2)).astype(np.float32)
    labels = rng.integers(5, size=len(X))
    lines = ["label," + ",".join(f"c{i}" for i in range(X.shape[1]))]
    lines += [f"{k}," + ",".join(map(repr, row.tolist())) for k, row in zip(labels, X, strict=True)]
    data = load_user_data(write("\n".join(lines), "x.csv"))
    check(data, X, labels.tolist())
    check(load_user_data(write(X, "x.npy"), write(labels, "y.npy")), X, labels.tolist())


# Errors


def raises_line(text, *paths, error=ValueError):
    with pytest.raises(error, match=text) as caught:
        load_user_data(*paths)
    message = str(caught.value)
    assert "\n" not in message
    assert message.count("; got ") == 1
    assert message.endswith((".", ")."))


def test_missing_file(tmp_path, write):
    text = r"^path must be an existing file; got '.*/none.npy'\. Check its spelling and folder\.$"
    raises_line(text, tmp_path / "none.npy", error=FileNotFoundError)
    raises_line(r"must be a folder with images; got none", tmp_path)
    path = write(np.ones((2, 2)), "x.npy")
    raises_line(r"^labels_path must be an existing", path, tmp_path / "y", error=FileNotFoundError)


def test_unknown_suffix(write):
    raises_line(
        r"x.mat' must be .* kinds .csv, .npy, .parquet, .npz, .h5, .hdf5; got '.mat'\.",
        write("x", "x.mat"),
    )
    raises_line(r"; got ''\. Save the array with np.save\.", write("x", "x"))


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.csv"])
def test_empty_file(write, name):
    raises_line(r"' must be non-empty; got 0 bytes\.", write(b"", name))


def test_damaged_arrays(write, tmp_path):
    good = write(np.ones((9, 9)), "good.npy").read_bytes()
    raises_line(
        "must be a .npy file; got 648 bytes declared and 638 there", write(good[:-10], "x.npy")
    )
    raises_line("must be a .npy file; got EOF: reading magic", write(b"text", "x.npy"))
    good = write({"x": np.ones((9, 9))}, "good.npz").read_bytes()
    raises_line("must be an intact .npz file; got ", write(good[:-10], "x.npz"))


def test_pickles_are_refused(tmp_path, write):
    np.save(tmp_path / "x.npy", np.array([[{}]]), allow_pickle=True)
    raises_line("must be a .npy file; got pickled objects", tmp_path / "x.npy")
    np.savez(tmp_path / "x.npz", x=np.array([[{}]]))
    raises_line("array 'x' intact; got pickled objects", tmp_path / "x.npz")
    np.save(tmp_path / "y.npy", np.array(["a", "b"], object))
    text = r"pickled objects, .*\. Save labels as text or integers, astype\(str\)"
    raises_line(text, write(np.ones((2, 2)), "good.npy"), tmp_path / "y.npy")


def test_ambiguous_keys(write):
    ones = np.ones((2, 2))
    text = r"got the keys {}\. Name them x or X or data, and y or labels or label or target\."
    raises_line(text.format("a, b"), write({"a": ones, "b": ones}, "x.npz"))
    raises_line(text.format("x, data"), write({"x": ones, "data": ones}, "x.npz"))
    raises_line(text.format("y, labels"), write({"y": ones, "labels": ones}, "x.npz"))
    raises_line(text.format(r"\(none\)"), write({}, "x.npz"))
    raises_line("must be a file with samples; got labels only", write({"y": ones}, "x.npz"))
    two = write({"x": ones, "y": np.ones(2), "label": np.ones(2)}, "x.npz")
    raises_line(text.format("x, y, label"), two)
    good = write(ones, "x.npy")
    raises_line(text.format("a, b"), good, write({"a": ones, "b": ones}, "y.npz"))


def test_sparse_matrices_are_refused(tmp_path):
    scipy.sparse.save_npz(tmp_path / "x.npz", scipy.sparse.csr_matrix(np.eye(3)))
    raises_line("dense arrays; got a sparse matrix of SciPy. Save ", tmp_path / "x.npz")


@pytest.mark.parametrize("shape", [(3,), (), (2, 2, 2, 2, 2), (0, 3), (3, 0)])
def test_shapes(write, shape):
    raises_line(r"must be an array of shape .*; got shape \(", write(np.ones(shape), "x.npy"))


@pytest.mark.parametrize("dtype", ["c8", "U3", "M8[s]"])
def test_kinds(write, dtype):
    raises_line("array of numbers; got dtype ", write(np.zeros((2, 2), dtype), "x.npy"))


def test_not_finite(write):
    X = np.ones((5, 2))
    X[[1, 3], 0] = np.nan, np.inf
    text = r"x\.{} must be finite; got NaN or infinity in 2 of 5 rows, the first is row 1\. "
    raises_line(text.format("npy"), write(X, "x.npy"))
    rows = "\n".join(",".join(map(str, row)) for row in X.tolist())
    raises_line(text.format("csv"), write(rows, "x.csv"))
    # Too large for float32.
    raises_line("infinity in 1 of 1 rows", write(np.array([[1e39]]), "x.npy"))
    raises_line("infinity in 1 of 1 rows", write("1e39,1\n", "x.csv"))
    raises_line("infinity in 1 of 1 rows", write("1e400,1\n", "x.csv"))


BAD_CSV = {
    "blank": ("\n \n", "must be non-empty; got blank lines only"),
    "header only": ("a,b\n", r"got shape \(0, 2\)"),
    "ragged": ("1,2\n3\n", r"of 2 cells in every line, as in its first; got 1 in line 2\. Fill"),
    "longer": ("a,b\n1,2\n\n1,2,3\n", "got 3 in line 4"),
    "word": ("1,2\n3,four\n", "must be a .csv file of numbers; got 'four' in line 2, column 2"),
    "empty cell": ("1,2\n\n,4\n", "got '' in line 3, column 1"),
    "word in the first line": ("1,x\n3,4\n", "got 'x' in line 1, column 2"),
    "word after labels": ("a,label,b\n1,cat,x\n", "got 'x' in line 2, column 3"),
    "word before labels": ("a,label,b\nx,cat,1\n", "got 'x' in line 2, column 1"),
    "semicolons": ("1;2\n3;4\n", "got '3;4' in line 2, column 1"),
    "two labels": (
        "a,labels,label\n1,2,3\n",
        "at most one column of labels; got the columns labels, label",
    ),
    "a word below an index": (",a,b\n0,1,x\n", "got 'x' in line 2, column 3"),
    "a first value missing": (",5\n3,4\n", "got '' in line 1, column 1"),
    "labels only": ("label\n1\n", "must be a file with samples; got labels only"),
    "missing label": ("a,label\n1,0\n2,\n", "without missing labels; got none for sample 1"),
    "nan label": ("a,label\n1,NaN\n", "without missing labels; got none for sample 0"),
}


@pytest.mark.parametrize(("text", "message"), BAD_CSV.values(), ids=BAD_CSV)
def test_bad_csv(write, text, message):
    raises_line(message, write(text, "x.csv"))


def test_csv_that_is_no_text(write):
    raises_line("must be a .csv file of UTF-8 text; got ", write(b"1,\xff\xfe\n", "x.csv"))
    raises_line("must be a .csv file of UTF-8 text; got ", write("1" * 200_000, "x.csv"))


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (np.ones(3), r"must be a file of 2 labels, one a sample; got labels of shape \(3,\)"),
        (np.eye(2), r"got labels of shape \(2, 2\)\. .* argmax\(axis=1\)"),
        (np.array([0.5, 1]), "whole numbers or strings; got float64 labels such as 0.5"),
        (np.array([np.nan, 1]), "got float64 labels such as nan"),
        (np.array([np.inf, 1]), "got float64 labels such as inf"),
        (np.array([b"a", b"b"]), r"got \|S1 labels such as b'a'\. Number the classes"),
        (np.array([2**60, 1]), "got int64 labels such as 1152921504606846976"),
        (np.array(["", "b"]), "without missing labels; got none for sample 0"),
    ],
)
def test_bad_labels(write, labels, text):
    raises_line(text, write(np.ones((2, 2)), "x.npy"), write(labels, "y.npy"))


def test_bad_csv_of_labels(write):
    path = write(np.ones((2, 2)), "x.npy")
    text = r"y.csv' must be a .csv file with one column, .*; got 2 columns\. Keep or name one"
    raises_line(text, path, write("1,2\n3,4\n", "y.csv"))
    raises_line(r"got labels of shape \(1,\)", path, write("1\n", "y.csv"))
    raises_line("got 1 in line 2", path, write("id,label\n1\n", "y.csv"))


# Hostile sizes


def test_one_long_label_does_not_lengthen_all_of_them(write):
    # As an array of strings, 20,000 x 130,000 characters of 4 bytes: 10 GB.
    lines = ["a,label", *["1,cat"] * 20_000, "1," + "x" * 130_000]
    text = r"labels of at most 1000 characters; got 130000 for sample 20000\. Give the classes"
    raises_line(text, write("\n".join(lines), "x.csv"))
    path = write(np.ones((20_001, 1)), "x.npy")
    labels = "\n".join(line.split(",")[1] for line in lines[1:])
    raises_line(text, path, write(labels, "y.csv"))
    # Whole numbers are kept as such, however they are written.
    labels = labels.replace("x" * 130_000, "0" * 129_999 + "7").replace("cat", "3")
    assert load_user_data(path, write(labels, "y.csv")).labels[-2:].tolist() == [3, 7]


def test_long_labels_of_many_samples(write, monkeypatch):
    monkeypatch.setattr(user_labels, "MAX_LABELS_BYTES", 4 * 3 * 5)
    path = write(np.ones((3, 1)), "x.npy")
    check(load_user_data(path, write("a\nbcdef\na", "y.csv")), np.ones((3, 1)), ["a", "bcdef", "a"])
    text = "labels of at most 5 characters; got 6 for sample 1"
    raises_line(text, path, write("a\nbcdefg\na", "y.csv"))
    raises_line(text, path, write(np.array(["a", "bcdefg", "a"]), "y.npy"))


def test_a_csv_line_without_end(write, monkeypatch):
    monkeypatch.setattr(csv_files, "MAX_LINE_CHARACTERS", 8)
    check(load_user_data(write("1,2,3,4\n5,6,7,8\n", "x.csv")), [[1, 2, 3, 4], [5, 6, 7, 8]])
    raises_line("at most 8 characters a line; got more", write("1,2,3,4,5\n", "x.csv"))


def test_a_long_cell_is_not_repeated_in_full(write):
    raises_line(f"got '{'x' * 60}' in line 2, column 1", write("1\n" + "x" * 9999, "x.csv"))


def test_too_much_for_memory_is_saved_to_be_read_by_blocks(write, monkeypatch):
    path, both = write(np.ones((9, 9)), "x.npy"), write({"x": np.ones((9, 9))}, "x.npz")
    monkeypatch.setattr(array_files, "memory_bytes", lambda: 600)
    raises_line(r"got 648 bytes of memory needed, more than 600\. Save it by np.save as fl", path)
    raises_line(
        r"got 776 bytes declared .* Write it with np.save as float32, which is read block", both
    )


def test_packed_zeros_are_refused(write, tmp_path, monkeypatch):
    monkeypatch.setattr(array_files, "SMALL_BYTES", 100_000)
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((1000, 90), np.uint8))
    raises_line("got 360000 bytes of memory needed, more than 100000", tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", x=np.zeros((1000, 90), np.uint8))
    check(load_user_data(tmp_path / "x.npz"), np.zeros((1000, 90)))
