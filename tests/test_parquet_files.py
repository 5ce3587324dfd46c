"""Tables in .parquet files: as those in .csv files."""

import sys

import numpy as np
import pandas
import pytest
from PIL import Image

from clustering_common import parquet_files
from clustering_common.user_data import load_user_data

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def write(tmp_path):
    def write(table, name="x.parquet", **options):
        if isinstance(table, pandas.DataFrame):
            table.to_parquet(tmp_path / name, **options)
        else:
            pq.write_table(pa.table(table), tmp_path / name, **options)
        return tmp_path / name

    return write


def raises_line(text, *args):
    with pytest.raises(ValueError, match=text) as caught:
        load_user_data(*args)
    assert "\n" not in str(caught.value) and str(caught.value).count("; got ") == 1


def check(found, X, labels=None):
    assert found.X.dtype == np.float32 and found.X.flags.c_contiguous
    np.testing.assert_array_equal(found.X, np.asarray(X, np.float32))
    assert (found.labels if labels is None else found.labels.tolist()) == labels


def test_numbers_of_all_kinds_keep_their_values(write):
    table = {
        "a": np.array([1, 2], np.uint8), "b": np.array([-3, 2**40], np.int64), "c": [0.5, 1e-3],
        "d": [True, False], "e": np.array([1, 2], np.float16),
    }  # fmt: skip
    check(load_user_data(write(table)), [[1, -3, 0.5, 1, 1], [2, 2**40, 1e-3, 0, 2]])


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (["cat", " dog", "cat"], ["cat", "dog", "cat"]),
        ([3, 1, 3], [3, 1, 3]),
        ([3.0, 1.0, 3.0], [3, 1, 3]),
        (["3", "1", "03"], [3, 1, 3]),
        ([True, False, True], ["true", "false", "true"]),
        (pandas.Categorical(["b", "a", "b"]), ["b", "a", "b"]),
        (pandas.Categorical([7, 5, 7]), [7, 5, 7]),
    ],
)
@pytest.mark.parametrize("name", ["label", "Labels"])
def test_a_column_of_labels(write, name, labels, wanted):
    table = pandas.DataFrame({"a": [1.0, 2, 3], name: labels, "b": [4, 5, 6]})
    check(load_user_data(write(table)), [[1, 4], [2, 5], [3, 6]], wanted)
    samples = write(table[["a"]], "samples.parquet")
    check(load_user_data(samples, write(table)), [[1], [2], [3]], wanted)
    check(load_user_data(samples, write(table[[name]])), [[1], [2], [3]], wanted)
    unnamed = write(table[[name]].rename(columns={name: "z"}))
    check(load_user_data(samples, unnamed), [[1], [2], [3]], wanted)


def test_many_rows_and_row_groups(write, monkeypatch):
    monkeypatch.setattr(parquet_files, "BATCH_NUMBERS", 60)
    rng = np.random.default_rng(0)
    X, labels = rng.normal(size=(500, 4)).astype(np.float32), rng.integers(5, size=500)
    table = pandas.DataFrame(X).rename(columns=str).assign(label=np.array(list("abcde"))[labels])
    for options in ({}, {"row_group_size": 70}, {"compression": "gzip"}):
        found = load_user_data(write(table, **options))
        check(found, X, np.array(list("abcde"))[labels].tolist())


def test_other_names_mean_labels_only_where_there_is_nothing_else(write):
    samples = write({"x": [1, 2], "y": [3, 4]}, "samples.parquet")
    check(load_user_data(samples), [[1, 3], [2, 4]])
    for name in ("y", "target"):
        labels = write({"id": [7, 8], name: ["a", "b"]})
        check(load_user_data(samples, labels), [[1, 3], [2, 4]], ["a", "b"])


INDICES = {
    "without a name": ["p", "q"],
    "numbers": pandas.Index([1000, 1001], name="id"),
    "texts": pandas.Index(["p", "q"], name="id"),
    "dates": pandas.date_range("2020", periods=2, name="t"),
    "two levels": pandas.MultiIndex.from_tuples([(1, "p"), (2, "q")], names=["id", None]),
}


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_an_index_of_pandas_is_no_feature(write, index):
    table = pandas.DataFrame({"a": [1.0, 2], "b": [3, 4]}, index=index)
    check(load_user_data(write(table)), [[1, 3], [2, 4]])
    samples = write({"c": [5, 6]}, "samples.parquet")
    check(load_user_data(samples, write(table[["b"]])), [[5], [6]], [3, 4])


@pytest.mark.parametrize(
    "said",
    [
        b"", b"\xff", b"{", b"[1]", b"null", b"[" * 200_000, b"9" * 5000, b'{"index_columns": 3}',
        b'{"index_columns": {"a": 1}}', b'{"index_columns": [3, null, ["a"], {"kind": "range"}]}',
    ],
)  # fmt: skip
def test_damaged_words_of_pandas_are_passed_over(write, said):
    table = pa.table({"a": [1, 2], "b": [3, 4]}).replace_schema_metadata({b"pandas": said})
    check(load_user_data(write(table)), [[1, 3], [2, 4]])


def test_labels_of_images_go_by_the_files_names(write, tmp_path):
    names = [f"{k}.png" for k in range(11)]
    for name in names:
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / name)
    table = pandas.DataFrame({"file": names, "label": [name[:-4] for name in names]})
    wanted = [int(name[:-4]) for name in sorted(names)]
    for same in (table, table.set_index("file"), table.rename(columns={"file": "photo"}),
                 table.set_index("file").rename_axis(None)):  # fmt: skip
        assert load_user_data(tmp_path, write(same)).labels.tolist() == wanted
    raises_line("none for '0.png'", tmp_path, write(table[1:]))
    assert load_user_data(tmp_path, write(table[["label"]])).labels.tolist() == list(range(11))


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"a": ["x", "y"], "b": [1, 2]}, "of numbers; got .*string.* in column 'a'. Turn"),
        ({"a": [[1, 2], [3, 4]]}, r"got list.* in column 'a'"),
        ({"a": [1, None], "b": [1, 2]}, "NaN or infinity in 1 of 2 rows, the first is row 1"),
        ({"a": [1.0, np.inf]}, "NaN or infinity in 1 of 2 rows"),
        ({"a": [1, 2], "labels": [1, 2], "label": [1, 2]}, "at most one column of labels; got the"),
        ({"label": [1, 2]}, "got labels only"),
        ({"a": [1, 2], "label": ["a", None]}, "without missing labels; got none for sample 1"),
        ({"a": [1, 2], "label": [1, None]}, "without missing labels; got none for sample 1"),
        ({"a": [1, 2], "label": [[1], [2]]}, "must be an intact .parquet file; got"),
        ({"a": np.zeros(0)}, r"got shape \(0, 1\)"),
    ],
)
def test_bad_tables(write, table, text):
    raises_line(text, write(table))


def test_bad_labels(write):
    samples = write({"a": [1, 2]}, "samples.parquet")
    raises_line("with one column, or with one named label; got 2 columns", samples,
                write({"a": [1, 2], "b": [1, 2]}))  # fmt: skip
    raises_line("must be a file of 2 labels", samples, write({"y": [1, 2, 3]}))


def test_damaged_files(write, tmp_path):
    content = write({"a": np.arange(100.0)}).read_bytes()
    for part in (b"text", content[:-20], content[100:], b"PAR1" + bytes(50) + b"PAR1"):
        (tmp_path / "x.parquet").write_bytes(part)
        raises_line("must be an intact .parquet file; got", tmp_path / "x.parquet")


def test_a_small_file_takes_little_memory(write, monkeypatch):
    # Runs of one value: 8 MB of numbers in some hundred bytes.
    path = write({"a": np.zeros(2_000_000, np.float32)})
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(parquet_files, "SMALL_BYTES", 1_000_000)
    raises_line("believable size; got 8000000 bytes declared", path)
    long = write({"a": np.zeros(3000), "label": ["x" * 100_000] * 3000})
    raises_line("labels of at most 1000 characters; got 100000 for sample 0", long)


@pytest.mark.parametrize("kind", ["string", "large_string", "binary", "large_binary"])
def test_texts_of_all_kinds_are_read_as_numbers_of_distinct_ones(write, kind):
    # polars writes large_string. Whole, these would be 300 MB.
    path = write({"a": np.zeros(3000), "label": pa.array(["x" * 100_000] * 3000).cast(kind)})
    before = pa.total_allocated_bytes()
    with parquet_files._opened(path) as file:
        (batch,) = parquet_files._batches(file)
        assert pa.types.is_dictionary(batch.schema.field("label").type)
        assert pa.total_allocated_bytes() - before < 10_000_000
    raises_line("labels of at most 1000 characters; got 100000 for sample 0", path)
    path = write({"a": [1, 2, 3], "label": pa.array(["ä", "b", "ä"]).cast(kind)})
    check(load_user_data(path), [[1], [2], [3]], ["ä", "b", "ä"])


def test_without_pyarrow_one_line_says_what_to_install(write, monkeypatch):
    path = write({"a": [1, 2]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"^pyarrow must be installed .* pip install pyarrow\.$"):
        load_user_data(path)
