"""The authors' zip of data sets: what is unpacked, what is refused."""

import stat
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest

from clustering_common import prepare_zip
from clustering_common.prepare_layout import write_pair
from clustering_common.prepare_zip import unpack
from tests.preparing import arrays_in, make_zip, names_in, npy, pair, quiet, two_sets


@pytest.fixture
def zip_path(tmp_path):
    return tmp_path / "ens_cluster_datasets.zip"


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.mark.parametrize("top", ["ens_cluster_datasets/", "", "a/b/"])
def test_the_zip_is_unpacked(zip_path, out, top):
    others = {f"{top}mnist/": "", f"__MACOSX/{top}mnist/._train_X.npy": "x", "README": "x"}
    make_zip(zip_path, {**others, **two_sets(top), f"{top}other/train_X.npy": b""})
    said = []
    unpack(zip_path, out, said.append)
    X, Y = pair()
    np.testing.assert_array_equal(arrays_in(out, "mnist")[0], X)
    np.testing.assert_array_equal(arrays_in(out, "mnist")[1], Y)
    # Arrays keep their own kind.
    assert [a.dtype for a in arrays_in(out, "20_news")] == [np.float64, np.int32]
    assert names_in(out) == ["ens_cluster_datasets"]
    assert names_in(out / "ens_cluster_datasets") == ["20_news", "mnist"]
    assert names_in(out / "ens_cluster_datasets" / "mnist") == ["train_X.npy", "train_Y.npy"]
    assert len(said) == 2


def test_one_data_set_of_the_zip(zip_path, out):
    make_zip(zip_path, two_sets())
    unpack(zip_path, out, quiet, name="20news")
    assert names_in(out / "ens_cluster_datasets") == ["20_news"]
    with pytest.raises(ValueError, match="must be a zip with stl10; got mnist, 20news"):
        unpack(zip_path, out, quiet, name="stl10")


def test_the_zip_writes_over_files_only_when_forced(zip_path, out):
    make_zip(zip_path, two_sets())
    write_pair(out / "ens_cluster_datasets" / "mnist", *pair(4))
    said = []
    unpack(zip_path, out, said.append)
    assert len(arrays_in(out, "mnist")[0]) == 4
    assert len(arrays_in(out, "20_news")[0]) == 6
    assert ["kept" in line for line in said] == [True, False]
    unpack(zip_path, out, quiet, force=True)
    assert len(arrays_in(out, "mnist")[0]) == 6


HOSTILE = (
    "../mnist/train_X.npy",
    "ens_cluster_datasets/../../mnist/train_X.npy",
    "/tmp/mnist/train_X.npy",
    "\\mnist\\train_X.npy",
    "a\\..\\..\\mnist\\train_X.npy",
    "C:\\mnist\\train_X.npy",
    "C:/mnist/train_X.npy",
    "..",
    "x/..",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_leave_the_folder_are_refused(zip_path, out, name):
    make_zip(zip_path, {**two_sets(), name: npy(pair()[0])})
    with pytest.raises(ValueError, match="names that stay inside its folder; got ") as caught:
        unpack(zip_path, out, quiet)
    assert repr(name) in str(caught.value)
    assert names_in(out) == []


def absurd_size(content):
    place = content.rindex(b"PK\5\6") + 12
    content[place : place + 4] = b"\xfe\xff\xff\xff"


def no_utf8(content):
    for place in (content.index("é".encode()), content.rindex("é".encode())):
        content[place : place + 2] = b"\xff\xfe"


@pytest.mark.parametrize("damage", [absurd_size, no_utf8])
def test_a_damaged_directory_names_the_zip(zip_path, out, damage):
    make_zip(zip_path, {**two_sets(), "mnist/é.npy": b""})
    content = bytearray(zip_path.read_bytes())
    damage(content)
    zip_path.write_bytes(content)
    with pytest.raises(ValueError, match=r"must be an intact zip; got .* Get ens_c") as caught:
        unpack(zip_path, out, quiet)
    assert str(zip_path) in str(caught.value)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(zip_path, out, kind):
    info = zipfile.ZipInfo("ens_cluster_datasets/mnist/train_X.npy")
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(zip_path, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(ValueError, match="without links and devices; got 'ens_cluster"):
        unpack(zip_path, out, quiet)
    assert names_in(out) == []


def test_a_name_twice_is_refused(zip_path, out):
    members = two_sets()
    make_zip(zip_path, {**members, "other/mnist/train_X.npy": npy(pair()[0])})
    with pytest.raises(ValueError, match=r"one train_X.npy for mnist; got .* and another"):
        unpack(zip_path, out, quiet)
    # Without its suffix, as read_npz looks it up.
    make_zip(zip_path, {**members, "ens_cluster_datasets/mnist/train_X": npy(pair()[0])})
    with pytest.raises(ValueError, match=r"one train_X.npy for mnist; got .* and another"):
        unpack(zip_path, out, quiet)


def test_a_bomb_is_refused_before_it_is_read(zip_path, out, monkeypatch):
    X = np.zeros((1000, 1000), np.float64)
    members = {"mnist/train_X.npy": npy(X), "mnist/train_Y.npy": npy(np.zeros(1000, int))}
    make_zip(zip_path, members)
    monkeypatch.setattr(prepare_zip, "MAX_BYTES", 1_000_000)
    with pytest.raises(ValueError, match="at most 1000000 bytes; got 8000128 bytes declared"):
        unpack(zip_path, out, quiet)
    assert names_in(out) == []


def changed_directory(zip_path, name, **changes):
    """Change what the zip's directory says of a member."""
    offsets = {"compress_size": 20, "file_size": 24}
    content = bytearray(zip_path.read_bytes())
    start = content.index(name.encode(), content.index(b"PK\1\2")) - 46
    for key, value in changes.items():
        place = start + offsets[key]
        content[place : place + 4] = value.to_bytes(4, "little")
    zip_path.write_bytes(content)


def test_a_size_that_deflate_cannot_reach_is_refused(zip_path, out):
    make_zip(zip_path, two_sets())
    changed_directory(zip_path, "ens_cluster_datasets/mnist/train_X.npy", file_size=10**9)
    with pytest.raises(ValueError, match="believable sizes; got 1000000000 bytes"):
        unpack(zip_path, out, quiet)
    assert names_in(out) == []


def test_members_that_share_bytes_are_refused(zip_path, out):
    make_zip(zip_path, two_sets())
    changed_directory(zip_path, "ens_cluster_datasets/mnist/train_X.npy", compress_size=10**6)
    with pytest.raises(ValueError, match="as large as its members"):
        unpack(zip_path, out, quiet)


def test_a_full_disk_is_told_before_writing(zip_path, out, monkeypatch):
    make_zip(zip_path, two_sets())
    usage = types.SimpleNamespace(free=100)
    monkeypatch.setattr(prepare_zip.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ValueError, match="at most 100 bytes, as free"):
        unpack(zip_path, out, quiet)
    # What is kept needs no room.
    write_pair(out / "ens_cluster_datasets" / "mnist", *pair())
    write_pair(out / "ens_cluster_datasets" / "20_news", *pair())
    unpack(zip_path, out, quiet)


X_IN_ZIP = "'ens_cluster_datasets/mnist/train_X'"
Y_IN_ZIP = "'ens_cluster_datasets/mnist/train_Y'"


@pytest.mark.parametrize(
    ("X", "Y", "text"),
    [
        (np.zeros((6, 2, 2)), np.zeros(6), rf"in {X_IN_ZIP}; got float64 of shape \(6, 2, 2\)"),
        (np.zeros((0, 2)), np.zeros(0), rf"in {X_IN_ZIP}; got float64 of shape \(0, 2\)"),
        (np.full((6, 2), "a"), np.zeros(6), rf"in {X_IN_ZIP}; got <U1"),
        (np.zeros((6, 2)), np.zeros(5), rf"6 numbers, one a sample, in {Y_IN_ZIP}; got .*\(5,\)"),
        (np.zeros((6, 2)), np.zeros((6, 2)), rf"in {Y_IN_ZIP}; got float64 of shape \(6, 2\)"),
        (np.full((6, 2), None), np.zeros(6), rf"array {X_IN_ZIP} intact; got pickled objects"),
        (np.zeros((6, 2)), np.full(6, None), rf"array {Y_IN_ZIP} intact; got pickled objects"),
    ],
)
def test_arrays_of_another_kind_are_refused(zip_path, out, X, Y, text):
    top = "ens_cluster_datasets/mnist/train_"
    make_zip(zip_path, {f"{top}X.npy": npy(X), f"{top}Y.npy": npy(Y)})
    with pytest.raises(ValueError, match=text):
        unpack(zip_path, out, quiet)
    assert names_in(out) == []


def test_a_column_of_labels_is_taken(zip_path, out):
    X, Y = pair()
    make_zip(zip_path, {"mnist/train_X.npy": npy(X), "mnist/train_Y.npy": npy(Y[:, np.newaxis])})
    unpack(zip_path, out, quiet)
    assert arrays_in(out, "mnist")[1].shape == (6, 1)


def test_damaged_and_incomplete_zips(zip_path, out):
    members = two_sets()
    content = make_zip(zip_path, members, zipfile.ZIP_STORED).read_bytes()
    for damaged in (b"no zip", b"", content[: len(content) // 2]):
        zip_path.write_bytes(damaged)
        with pytest.raises(ValueError, match="must be an intact zip; got "):
            unpack(zip_path, out, quiet)
    # A bit within the last number of the samples.
    place = content.index(pair()[0].tobytes()) + 71
    zip_path.write_bytes(content[:place] + b"\xaa" + content[place + 1 :])
    with pytest.raises(ValueError, match="Bad CRC-32"):
        unpack(zip_path, out, quiet)
    del members["ens_cluster_datasets/mnist/train_Y.npy"]
    make_zip(zip_path, members)
    with pytest.raises(ValueError, match=r"train_Y.npy for mnist; got only train_X.npy"):
        unpack(zip_path, out, quiet)
    make_zip(zip_path, {"a.txt": "x"})
    with pytest.raises(ValueError, match=r"for NAME of .*; got 'a.txt'"):
        unpack(zip_path, out, quiet)
    make_zip(zip_path, {})
    with pytest.raises(ValueError, match="got an empty one"):
        unpack(zip_path, out, quiet)
    with pytest.raises(FileNotFoundError, match=r"got 'none.zip'"):
        unpack(Path("none.zip"), out, quiet)
    assert names_in(out) == []
