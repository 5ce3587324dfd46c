"""verbose 0, 1 and 2, and where its lines go."""

import contextlib
import io
import json
import logging

import numpy as np
import pytest

import run_exp
from clustering_common import cli, progress
from dec_da import FcDEC
from kingdra_cluster import KingdraCluster, LadderIM
from tests.marks import LEARNS_LITTLE

pytestmark = [*LEARNS_LITTLE, pytest.mark.usefixtures("uncompiled")]
LADDER = {
    "n_class": 3, "n_iter": 3, "batch_size": 20, "fc_layer_sizes": (4, 3), "random_state": 0,
    "denoising_cost": (10, 1, 0.1), "n_epochs_per_iter": 2, "mi_loss_w_init": 1,
}  # fmt: skip
MAKERS = {
    "FcDEC": lambda verbose: FcDEC(
        3, layer_sizes=(8, 3), pretrain_epochs=3, pretrain_learning_rate=0.1, max_iter=6,
        update_interval=2, tol=0, batch_size=20, random_state=0, verbose=verbose,
    ),
    "KingdraCluster": lambda verbose: KingdraCluster(
        n_en=2, high_th=1, thresh=0, n_epochs_per_iter0=2, verbose=verbose, **LADDER
    ),
    "LadderIM": lambda verbose: LadderIM(verbose=verbose, **LADDER),
}  # fmt: skip
# Lines of each fit, three epochs a phase and two epochs an iteration: first and last, or all.
N_LINES = {"FcDEC": (4, 6), "KingdraCluster": (2, 9), "LadderIM": (2, 9)}


@pytest.fixture(autouse=True)
def own_logger():
    """Give the logger back as it was."""
    logger = progress.logger
    before = logger.level, logger.handlers[:]
    logger.setLevel(logging.NOTSET)
    logger.handlers[:] = []
    yield
    logger.setLevel(before[0])
    logger.handlers[:] = before[1]


@contextlib.contextmanager
def only(*handlers):
    """Let the root logger have these handlers alone, pytest's too not among them."""
    before = logging.root.handlers[:]
    logging.root.handlers[:] = handlers
    try:
        yield
    finally:
        logging.root.handlers[:] = before


@pytest.mark.parametrize("name", MAKERS)
def test_how_much_is_said(name, blobs, capsys):
    lines = []
    for verbose in (0, 1, 2, True):
        with only():
            MAKERS[name](verbose).fit(blobs)
        out, err = capsys.readouterr()
        assert out == "" and "\r" not in err
        # What else may come is a warning of empty clusters.
        lines.append([line for line in err.splitlines() if " left" in line])
    silent, some, all_of_it, like_one = lines
    assert silent == []
    assert (len(some), len(all_of_it)) == N_LINES[name]
    assert len(like_one) == len(some)
    assert all("at most 0:0" in line and "loss " in line for line in all_of_it)


def test_nothing_is_said_after_somebody_else_was_verbose(blobs, capsys):
    with only():
        MAKERS["FcDEC"](1).fit(blobs)
        assert capsys.readouterr().err
        MAKERS["FcDEC"](0).fit(blobs)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("is_set_up_first", [True, False])
def test_the_applications_handlers_get_each_line_once(is_set_up_first, blobs, capsys):
    """Also where logging is set up after a first fit was seen on standard error."""
    if not is_set_up_first:
        with only():
            MAKERS["FcDEC"](1).fit(blobs)
        capsys.readouterr()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
    with only(handler):
        MAKERS["FcDEC"](1).fit(blobs)
    assert capsys.readouterr() == ("", "")
    lines = stream.getvalue().splitlines()
    assert len(lines) == len(set(lines)) == N_LINES["FcDEC"][0]
    assert all(line.startswith("clustering_common INFO ") for line in lines)


def test_a_level_that_was_set_stays(blobs, capsys):
    progress.logger.setLevel(logging.ERROR)
    with only():
        MAKERS["FcDEC"](2).fit(blobs)
    assert capsys.readouterr().err == ""
    assert progress.logger.level == logging.ERROR


def test_a_stream_that_is_gone_ends_no_run(blobs, monkeypatch):
    gone = io.StringIO()
    gone.close()
    monkeypatch.setattr("sys.stderr", gone)
    with only():
        MAKERS["FcDEC"](1).fit(blobs)


@pytest.mark.parametrize(("verbose", "n_epoch_lines"), [(0, 0), (1, 0), (2, 4)])
def test_a_config_tells_each_iteration_once(
    verbose, n_epoch_lines, tmp_path, monkeypatch, capsys, handlers
):
    monkeypatch.chdir(tmp_path)
    np.save("X.npy", np.random.default_rng(0).uniform(size=(60, 6)).astype(np.float32))
    content = {**LADDER, "training_path": "X.npy", "model": "LadderIM", "n_iter": 2}
    content.pop("random_state")
    (tmp_path / "small.json").write_text(json.dumps(content))
    with only():
        assert cli.run(run_exp.command, ["small.json", "-v", str(verbose)]) == 0
    out, err = capsys.readouterr()
    told = [line for line in out.splitlines() if line.startswith("iteration ")]
    assert len(told) == (2 if verbose else 0)
    assert all("loss " in line and "left" in line for line in told)
    assert len([line for line in err.splitlines() if "epoch " in line]) == n_epoch_lines
    assert "LadderIM: iteration" not in err
