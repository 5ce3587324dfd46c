"""Files of a run may come from anywhere: a report is made of them, or one line names the file."""

import copy
import json

import numpy as np
import pytest

from clustering_common import files, report
from clustering_common.report_files import ARRAYS, read_results
from clustering_common.run_folder import RunFolder
from tests.reporting import RECORD, make_fitted, make_run, make_samples

ODD = [
    None, True, 5, -1, 10**400, 1e400, 1e308, 5e-324, float("nan"), "x", "\ud800", "1e308", [], [1],
    [-5, 5], [0, 0], [[1], 2], ["a", 1], [10**400], {}, {"a": 1}, {"acc": 10**400, "total": [1]},
]  # fmt: skip
CELLS = ("", "nan", "inf", "-1e308", "1e308", "5e-324", "x", "é\x00", "a" * 300, '"', "0,1,2,3,4,5")
CHANGES = {
    "KingdraCluster": {"config": "small", "model": "KingdraCluster", "paper": {"acc": 0.75}},
    "FcDEC-DA": {},
}


def make_whole_run(folder, **changes):
    """Make a run that has all that a page can show."""
    X, labels = make_samples()
    metrics = {**RECORD["metrics"], "members": [{"acc": 0.5}, {"acc": 0.25}]}
    rows = [{"iter": i, "loss": 1.5, "coverage": 0.5, "bucket_sizes": [3, 2]} for i in range(2)]
    files.write_json(folder / "history.json", rows)
    fitted = make_fitted(X, labels, reconstruct=lambda rows: 1 - rows, reconstructed_by="a mirror")
    classes = np.array(["a", "b", "c"])[labels]
    names = [f"{i}.png" for i in range(30)]
    settings = {**RECORD["settings"], "use_pseudo_labels": True}
    more = {"metrics": metrics, "settings": settings, **changes}
    make_run(folder, (X, labels), classes, names, fitted, **more)


@pytest.fixture
def attempt(tmp_path):
    """Return a function that makes the report of a changed folder and puts the folder back."""

    def attempt(name, content):
        path = tmp_path / name
        before = path.read_bytes()
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        try:
            page = report.write_report(tmp_path).read_text()
            assert page.endswith("</html>\n")
            return True
        except (ValueError, FileNotFoundError) as error:
            text = str(error)
            assert type(error) in (ValueError, FileNotFoundError), text
            assert path.name in text and "\n" not in text, text
            return False
        finally:
            path.write_bytes(before)

    return attempt


def places(value, path=()):
    """Yield the place of everything in JSON."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in items:
        yield (*path, key)
        if isinstance(part, dict | list):
            yield from places(part, (*path, key))


def replaced(record, path, value):
    """Return a copy of a record with another value at a path."""
    changed = copy.deepcopy(record)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("FcDEC-DA", "results.json"),
        ("KingdraCluster", "results.json"),
        ("KingdraCluster", "history.json"),
    ],
)
def test_odd_records(tmp_path, attempt, method, name):
    make_whole_run(tmp_path, **CHANGES[method])
    whole = json.loads((tmp_path / name).read_text())
    if name == "results.json":
        del whole["sha256"]
    odd = [*ODD, json.loads("[" * 30 + "]" * 30)]
    for path in places(whole):
        for value in odd:
            attempt(name, json.dumps(replaced(whole, path, value)))
    assert attempt(name, json.dumps(whole)) and not attempt(name, "[" * 10_000)


def variants(array):
    """Yield an array in other shapes, types and values."""
    numbers = np.zeros(array.shape) if array.dtype.kind == "U" else array
    yield from (numbers.astype(kind) for kind in "u8 i8 >i4 i1 u1 f2 f8 ? U3 S3 c16".split())
    yield from (array[None], array[..., None])
    if array.ndim:
        yield from (array[:0], array[:1], np.concatenate([array, array]), array[..., :0])
        yield from (array[..., :2], array[..., :1], np.swapaxes(array, 0, -1))
    if array.dtype.kind == "i":
        yield from (-array - 1, array + 100, np.full_like(array, np.iinfo(array.dtype).max))
    if array.dtype.kind == "f":
        yield from (np.full_like(array, value) for value in (np.nan, np.inf, -3e38, 1e-40))
    if array.dtype.kind == "U":
        code = np.full(array.shape, 0xD800, np.uint32)
        yield from (code.view("<U1"), np.full_like(code, 0x7FFFFFFF).view("<U1"))


@pytest.mark.filterwarnings("ignore:Casting complex", "ignore:invalid value encountered in cast")
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_odd_pictures(tmp_path, attempt):
    make_whole_run(tmp_path)
    with np.load(tmp_path / "report.npz") as file:
        whole = dict(file)
    whole["map_umap"] = whole["map_pca"]
    assert set(whole) == set(ARRAYS)
    run = read_results(tmp_path)[1]
    other = tmp_path / "other.npz"
    for name in set(whole) - {"run"}:
        for array in (None, *variants(whole[name])):
            changed = {**whole, name: array}
            if array is None:
                del changed[name]
            np.savez(other, **changed)
            attempt("report.npz", other.read_bytes())
    assert str(whole["run"]) == run


@pytest.mark.parametrize("name", ["log.csv", "pretrain_log.csv"])
def test_odd_logs(tmp_path, attempt, name):
    make_whole_run(tmp_path)
    lines = (tmp_path / name).read_text().splitlines()
    for row, line in enumerate(lines):
        for column in range(line.count(",") + 1):
            for cell in CELLS:
                cells = line.split(",")
                cells[column] = cell
                attempt(name, "\n".join([*lines[:row], ",".join(cells), *lines[row + 1 :]]))


def test_odd_grids(tmp_path, attempt):
    record = {**RECORD, "paper": {"acc": 0.75}}
    for trial in range(2):
        RunFolder(tmp_path / f"digits/FcDEC/trial{trial}").finish(record)
    lines = ["dataset,method,trials,acc,nmi,ari,time"]
    lines += [f"digits,FcDEC,{trial},0.5,0.25,0.125,60" for trial in range(2)]
    (tmp_path / "results.csv").write_text("\n".join(lines))
    for row in range(3):
        for column in range(7):
            for cell in CELLS:
                cells = lines[row].split(",")
                cells[column] = cell
                changed = [*lines[:row], ",".join(cells), *lines[row + 1 :]]
                attempt("results.csv", "\n".join(changed))
    name = "digits/FcDEC/trial0/results.json"
    for path in places(record):
        for value in ODD:
            attempt(name, json.dumps(replaced(record, path, value)))


def test_damaged_bytes(tmp_path, attempt):
    make_whole_run(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("results.json", "history.json", "report.npz", "log.csv"):
        whole = (tmp_path / name).read_bytes()
        for _ in range(25):
            content = bytearray(whole)
            for place in rng.integers(len(whole), size=rng.integers(1, 4)):
                content[place] = rng.integers(256)
            attempt(name, bytes(content[: rng.integers(len(whole) + 1)]))
            attempt(name, bytes(content))
