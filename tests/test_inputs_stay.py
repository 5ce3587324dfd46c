"""What a run reads, and what an unfinished run left, outlives a run that can't begin."""

import json

import numpy as np
import pytest

import main
import run_exp
from clustering_common.checkpoints import CheckpointFolder
from clustering_common.samples_file import SAMPLES_FILE
from dec_da.run_files import MODEL_FILE
from tests.commands import outcome

SMALL = ["--n-clusters", "3", "--layer-sizes", "8", "5", "--pretrain-epochs", "1", "--maxiter", "2"]


@pytest.fixture
def folder(blobs, tmp_path):
    """A folder with data and labels by the names of a run's own files."""
    np.savetxt(tmp_path / SAMPLES_FILE, blobs, delimiter=",")
    np.save(tmp_path / "labels.npy", np.arange(45) % 3)
    np.save(tmp_path / "x.npy", blobs)
    return tmp_path


@pytest.fixture
def refused(folder, capsys, handlers):
    """Check that a command ends with one line that names a flag, and changes no file."""

    def refused(program, *argv, text):
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        code, out, err = outcome(program, argv, capsys)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert text in err
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before

    return refused


REPLACED = "must not be a file that the run replaces; got "


@pytest.mark.parametrize(
    ("data", "labels", "flag"),
    [(SAMPLES_FILE, None, "--data"), ("x.npy", "labels.npy", "--labels")],
)
def test_main_refuses_to_replace_what_it_reads(refused, folder, data, labels, flag):
    given = ["--data", folder / data, *(["--labels", folder / labels] if labels else [])]
    refused(main, *given, *SMALL, "-d", folder, text=f"{flag} {REPLACED}")


def test_weights_that_the_run_would_replace_are_refused(refused, folder, capsys):
    given = ["--data", folder / "x.npy", *SMALL, "-d", folder / "run"]
    assert outcome(main, given, capsys)[0] == 0
    weights = folder / "run" / MODEL_FILE
    text = f"--pretrained-weights {REPLACED}"
    refused(main, *given, "--pretrained-weights", weights, text=text)
    with_own = [*given, "--pretrained-weights", folder / "run" / "ae_weights.h5"]
    assert outcome(main, with_own, capsys)[0] == 0
    assert outcome(main, [*with_own, "--resume"], capsys)[0] == 0


@pytest.mark.parametrize("key", ["training_path", "ground_truth_path"])
def test_a_config_names_no_file_that_its_run_replaces(refused, folder, key):
    names = {"training_path": "x.npy", "ground_truth_path": "y.npy"}
    np.save(folder / "y.npy", np.arange(45) % 3)
    config = {**names, key: {"training_path": SAMPLES_FILE}.get(key, "labels.npy"), "n_class": 3}
    config |= {"fc_layer_sizes": [8, 3], "denoising_cost": [1, 1, 1]}
    (folder / "own.json").write_text(json.dumps(config))
    argv = [folder / "own.json", "--data-dir", folder, "-d", folder]
    refused(run_exp, *argv, text=f"{key} {REPLACED}")


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--n-clusters", "46"], "--n-clusters must be at most n_samples=45"),
        (["--pretrained-weights", "other.h5"], "--pretrained-weights"),
    ],
)
def test_checkpoints_stay_where_no_run_can_begin(refused, folder, capsys, monkeypatch, argv, text):
    given = ["--data", folder / "x.npy", "-d", folder / "run"]
    other = ["--n-clusters", "3", "--layer-sizes", "4", "2", *SMALL[5:], "-d", folder / "other"]
    assert outcome(main, [*given[:2], *other], capsys)[0] == 0
    (folder / "other" / "ae_weights.h5").rename(folder / "other.h5")
    monkeypatch.chdir(folder)
    with monkeypatch.context() as patch:  # an unfinished run is one whose checkpoints stay
        patch.setattr(CheckpointFolder, "clear", lambda self: None)
        assert outcome(main, [*given, *SMALL], capsys)[0] == 0
    assert CheckpointFolder(folder / "run" / "checkpoints").paths()
    refused(main, *given, *SMALL, *argv, text=text)
