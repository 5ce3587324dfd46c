"""What a report is made from: files of this run, of another, of an earlier version, damaged."""

import numpy as np
import pytest

from clustering_common import cli, report
from clustering_common.run_folder import RunFolder
from tests.reporting import RECORD, Reader, make_run, make_samples


@pytest.fixture
def samples():
    return make_samples()


def test_a_folder_without_pictures_and_one_of_another_run(tmp_path, samples):
    assert "This folder has no report.npz of this run" in make_run(tmp_path)
    assert not report.is_current(tmp_path)
    make_run(tmp_path, samples)
    assert report.is_current(tmp_path)
    before = (tmp_path / "report.html").read_text()
    assert report.write_report(tmp_path).read_text() == before and "Map" in before
    RunFolder(tmp_path).finish({**RECORD, "seed": 5})
    assert not report.is_current(tmp_path)
    assert "no report.npz of this run" in report.write_report(tmp_path).read_text()


def test_results_of_an_earlier_version(tmp_path):
    # No checksum, and next to nothing that is known now.
    (tmp_path / "results.json").write_text('{"method": "FcDEC", "dataset": "mnist", "metrics": 3}')
    text = Reader(report.write_report(tmp_path).read_text()).text
    assert "FcDEC on mnist" in text


def damage_npz(folder):
    content = bytearray((folder / "report.npz").read_bytes())
    content[len(content) // 2] ^= 255
    (folder / "report.npz").write_bytes(content)


def other_npz(folder):
    with np.load(folder / "report.npz") as arrays:
        changed = {**arrays, "shown_sure": np.zeros(3)}
    np.savez(folder / "report.npz", **changed)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda f: (f / "results.json").unlink(), "FOLDER must hold results.json of a finished"),
        (lambda f: (f / "results.json").write_text("{"), "results.json' must be a JSON file"),
        (lambda f: (f / "results.json").write_text("[]"), "results.json' must be a JSON object"),
        (
            lambda f: (f / "results.json").write_text('{"seed": 1, "sha256": "0"}'),
            "results.json' must be whole",
        ),
        (lambda f: (f / "log.csv").write_bytes(b"iter\n\xff"), "log.csv' must be a .csv file"),
        (damage_npz, "report.npz' must be"),
        (other_npz, "report.npz' must be what --report wrote; got 3 items in 'shown_sure'"),
    ],
)
def test_damaged_folders_are_one_line(tmp_path, samples, capsys, handlers, damage, text):
    make_run(tmp_path, samples)
    damage(tmp_path)
    assert cli.run(report.command, [str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and text in err


def test_the_command(tmp_path, samples, capsys, handlers):
    make_run(tmp_path, samples)
    (tmp_path / "report.html").unlink()
    assert cli.run(report.command, [str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"Written to {tmp_path / 'report.html'}.\n"
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert cli.run(report.command, [str(tmp_path / "none")]) == 2
    assert "FOLDER must be an existing folder" in capsys.readouterr().err
