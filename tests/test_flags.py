"""Every flag of the command lines with values out of its range: exit code 2 and one line."""

import pytest

import main
import run_exp
from clustering_common import cli, select_k

# Python takes an integer of this length for a number, engines and ranges do not.
HUGE = str(10**21)
NEVER = ["", "-1", "-0.5", "nan", "inf", "-inf", "1e400", "one", "1.5.2", "9" * 400, "\0"]
# What each kind of flag refuses, and what it takes at the edge of its range.
KINDS = {
    "whole from 0": ([*NEVER, "0.5", "1e1", str(10**9 + 1), HUGE], ["0", "1", str(10**9)]),
    "whole from 1": ([*NEVER, "0", "0.5", "1e1", str(10**9 + 1), HUGE], ["1", "2", str(10**9)]),
    "1 to 1000": ([*NEVER, "0", "0.5", "1e1", "1001", HUGE], ["1", "1000"]),
    "candidates": (
        [*NEVER, "1", "0.5", "1001", "2-1001", "5-4", f"2-{HUGE}", f"{HUGE}-2", HUGE],
        ["2", "2-15", "1000"],
    ),
    "seed of main.py": ([*NEVER, "0.5", str(2**32), HUGE], ["0", str(2**32 - 1)]),
    "seed": ([*NEVER, "0.5", str(2**31 + 1), HUGE], ["0", str(2**31)]),
    "image side": ([*NEVER, "0", "0.5", "4097", HUGE], ["1", "4096"]),
    "above 0": ([*NEVER, "0", "-0"], ["1e-30", "1"]),
    "from 0": (NEVER, ["0", "1e-30", "60"]),
    "choice": ([*NEVER, "0", "mnist2"], []),
    "path": ([""], ["a", "no/such file"]),
    "name": ([], ["a.b", "a=1"]),  # what is wrong with it shows later
}
SHARED = {
    "--save-dir": "path", "--data-dir": "path", "--verbose": "whole from 0",
    "--checkpoint-every": "from 0", "--pretrain-epochs": "whole from 0",
    "--maxiter": "whole from 0", "--precision": "choice",
    "--devices": "whole from 1",
}  # fmt: skip
FLAGS = {
    "main.py": {
        **SHARED, "--method": "choice", "--dataset": "choice", "--optimizer": "choice",
        "--pretrain-optimizer": "choice", "--seed": "seed of main.py", "--data": "path",
        "--labels": "path", "--weights": "path", "--pretrained-weights": "path",
        "--n-clusters": "whole from 1", "--layer-sizes": "whole from 1",
        "--batch-size": "whole from 1", "--update-interval": "whole from 1",
        "--pretrain-lr": "above 0", "--lr": "above 0", "--alpha": "above 0", "--tol": "from 0",
        "--image-size": "image side", "--colour": "choice", "--data-key": "path",
    },
    "run_exp.py": {
        **SHARED, "--seed": "seed", "--methods": "choice", "--datasets": "choice",
        "--trials": "1 to 1000", "--jobs": "1 to 1000",
    },
    "python -m clustering_common.select_k": {
        "--data": "path", "--data-key": "path", "--dataset": "name", "--data-dir": "path",
        "--image-size": "image side", "--k": "candidates", "--estimator": "name", "--set": "name",
        "--seeds": "1 to 1000", "--seed": "seed", "--save-dir": "path",
    },
}  # fmt: skip
COMMANDS = {
    "main.py": main,
    "run_exp.py": run_exp,
    "python -m clustering_common.select_k": select_k,
}
ALL = [(prog, flag, kind) for prog, kinds in FLAGS.items() for flag, kind in kinds.items()]


def refused(prog, argv, capsys):
    """Return the line of a refused command line."""
    with pytest.raises(SystemExit) as stop:
        cli.run(COMMANDS[prog].command, argv)
    assert stop.value.code == 2, argv
    out, err = capsys.readouterr()
    assert not out and len(err.strip().splitlines()) == 1, err
    return err


@pytest.mark.parametrize("prog", COMMANDS)
def test_the_table_has_every_flag(prog):
    actions = COMMANDS[prog].build_parser()._actions
    taking = [action for action in actions if action.option_strings and action.nargs != 0]
    assert {max(action.option_strings, key=len) for action in taking} == set(FLAGS[prog])


@pytest.mark.parametrize(("prog", "flag", "kind"), ALL)
def test_values_out_of_range_are_refused_in_one_line(prog, flag, kind, capsys):
    for text in KINDS[kind][0]:
        assert flag in refused(prog, [f"{flag}={text}"], capsys), text


@pytest.mark.parametrize(("prog", "flag", "kind"), ALL)
def test_values_at_the_edge_are_taken(prog, flag, kind):
    for text in KINDS[kind][1]:
        COMMANDS[prog].build_parser().parse_args([f"{flag}={text}"])


@pytest.mark.parametrize("prog", COMMANDS)
def test_unknown_and_incomplete_flags(prog, capsys):
    for argv in (["--no-such-flag"], ["--seed"], ["--seed", "1", "--seed"], ["a", "b", "c"]):
        assert f"{prog}: error:" in refused(prog, argv, capsys)
