"""Weight files whose names have variable length, as h5py writes lists of texts."""

import resource

import h5py
import numpy as np
import pytest

from clustering_common import h5_names
from clustering_common.h5_files import open_weights

NAMES = ["encoder_0", "encoder_1", "clustering"]
HEAD = 16  # bytes of a heap of texts, and of each object in it


@pytest.fixture
def classic(tmp_path):
    """Return a file of Keras's layout with names of variable length."""
    path = tmp_path / "classic.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = NAMES
        for name in NAMES:
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/kernel:0"]
            group[f"{name}/kernel:0"] = np.ones((3, 2), np.float32)
        assert h5py.check_string_dtype(file.attrs.get_id("layer_names").dtype).length is None
    return path


def damaged(path, edit):
    content = bytearray(path.read_bytes())
    edit(content)
    path.write_bytes(content)


def endless(content):
    """Let the first heap's first object be one without a number, of no size."""
    place = content.index(b"GCOL") + HEAD
    content[place : place + HEAD] = bytes(HEAD)


def endless_text(content):
    """Let the first name be four gigabytes long."""
    heap = content.index(b"GCOL").to_bytes(8, "little")
    place = content.index((9).to_bytes(4, "little") + heap)
    content[place : place + 4] = b"\xf0\xff\xff\xff"


def test_names_are_read(classic):
    with open_weights(classic) as file:
        assert list(file.layers) == NAMES
        assert [d.shape for d in file.layers["clustering"]] == [(3, 2)]


def test_the_current_folder_s_modules_are_not_run(classic, tmp_path, monkeypatch):
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name in ("json", "resource", "h5py"):
        (folder / f"{name}.py").write_text(f"open('{name} was run', 'w')\nraise SystemExit(1)\n")
    monkeypatch.chdir(folder)
    with open_weights(classic) as file:
        assert list(file.layers) == NAMES
    assert not list(folder.glob("* was run"))


@pytest.mark.parametrize("edit", [endless, endless_text])
def test_damaged_names_neither_hang_nor_take_memory(classic, edit, monkeypatch):
    monkeypatch.setattr(h5_names, "SECONDS", 3)
    damaged(classic, edit)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with (
        pytest.raises(
            ValueError, match=r"weights must be a whole .* \(its lists of names can't be"
        ),
        open_weights(classic),
    ):
        pass
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_more_names_than_a_network_has(classic, monkeypatch):
    monkeypatch.setattr(h5_names, "MAX_OUTPUT", 50)
    with pytest.raises(ValueError, match=r"its lists of names"), open_weights(classic):
        pass


def test_links_to_other_files_are_not_followed(classic, tmp_path):
    other = tmp_path / "other.h5"
    classic.rename(other)
    with h5py.File(classic, "w") as file:
        file.attrs["layer_names"] = NAMES
        for name in NAMES:
            file[name] = h5py.ExternalLink(str(other), f"/{name}")
    with (
        pytest.raises(ValueError, match=r"'encoder_0' is missing or a link"),
        open_weights(classic),
    ):
        pass
