"""Every flag of the command lines with values out of its range: exit code 2 and one line."""

import argparse

import pytest

import main
import run_exp
from clustering_common import cli

TEXTS = ["", "-1", "-0.5", "0", "nan", "inf", "-inf", "1e400", "one", "1.5.2", "9" * 400, "\0"]


def flags(parser):
    """Return (parser's prog, flag, action) of every flag that takes a value."""
    return [
        (parser.prog, max(action.option_strings, key=len), action)
        for action in parser._actions
        if action.option_strings and action.nargs != 0
    ]


COMMANDS = {"main.py": main.command, "run_exp.py": run_exp.command}
ALL = flags(main.build_parser()) + flags(run_exp.build_parser())
PATHS = {"--data", "--data-dir", "--labels", "--save-dir", "--pretrained-weights", "--weights"}


def refused(command, argv, capsys):
    """Return the line of a refused command line, None where the value is in range."""
    with pytest.raises(SystemExit) as stop:
        cli.run(command, argv)
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert not out and len(err.strip().splitlines()) == 1, err
    return err


@pytest.mark.parametrize(
    ("prog", "flag", "action"), [pytest.param(*row, id=f"{row[0]} {row[1]}") for row in ALL]
)
def test_out_of_range_values(prog, flag, action, capsys):
    if flag in PATHS:
        assert action.type is None
        return  # any text may be a path; missing files have tests of their own
    n_refused = 0
    for text in TEXTS:
        # A value in range is not run: what is refused is known before anything is loaded.
        values = [text] if action.nargs is None else ["1", text]
        if action.choices is None and not _is_refused(action, text):
            continue
        if len(values) > 1 and text.startswith("-") and not text[1:2].isdigit():
            continue  # to argparse, another flag
        line = refused(COMMANDS[prog], [f"{flag}={text}"] if len(values) == 1 else [flag, *values],
                       capsys)  # fmt: skip
        assert flag in line, line
        n_refused += 1
    assert n_refused >= 5


def _is_refused(action, text):
    try:
        action.type(text)
    except argparse.ArgumentTypeError:
        return True
    return False


@pytest.mark.parametrize("prog", COMMANDS)
def test_unknown_and_incomplete_flags(prog, capsys):
    for argv in (["--no-such-flag"], ["--seed"], ["--seed", "1", "--seed"], ["a", "b", "c"]):
        assert f"{prog}: error:" in refused(COMMANDS[prog], argv, capsys)
