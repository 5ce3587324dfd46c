"""Command lines as tests run them: in this process."""

from clustering_common import cli


def outcome(program, argv, capsys):
    """Return exit code, standard output and standard error of a program's ``command``."""
    try:
        code = cli.run(program.command, [str(arg) for arg in argv])
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()
