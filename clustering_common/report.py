"""Reports: one page of HTML for a run or a grid, without scripts and without the network.

python -m clustering_common.report FOLDER
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from clustering_common import cli, files
from clustering_common.record import RESULTS
from clustering_common.report_data import Fitted, write_data
from clustering_common.report_files import DATA_FILE, GRID_FILE, read_data, read_results
from clustering_common.report_grid import PAGE_FILE, grid_page, run_folders
from clustering_common.report_page import run_page
from clustering_common.user_data import UserData

__all__ = ["write_report"]  # for users; the rest is for the runners

FILES = (DATA_FILE, PAGE_FILE)


def write_report(folder: str | os.PathLike) -> Path:
    """Write report.html of a run or a grid from the files in its folder; return its path.

    Parameters
    ----------
    folder : path-like
        Of a finished run of main.py or run_exp.py (results.json), or of a grid (results.csv), all
        of whose runs get their report too. What only the trained estimator could tell, samples,
        the map, the confusion matrix, is in the report.npz that a run with --report leaves.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or neither of the two files is in it.
    ValueError
        If a file in it is damaged.

    Examples
    --------
    >>> from clustering_common.report import write_report
    >>> write_report("results/digits")  # doctest: +SKIP
    PosixPath('results/digits/report.html')
    """
    place = Path(folder)
    if not place.is_dir():
        raise FileNotFoundError(
            f"FOLDER must be an existing folder; got {str(folder)!r}. Check its spelling."
        )
    if (place / RESULTS).is_file():
        return _written(place, run_page(place))
    if not (place / GRID_FILE).is_file():
        raise FileNotFoundError(
            f"FOLDER must hold {RESULTS} of a finished run or {GRID_FILE} of a grid; got "
            f"{str(folder)!r}. Give the --save-dir of a run of main.py or run_exp.py."
        )
    for path in run_folders(place):
        _written(path, run_page(path))
    return write_grid_report(place)


def write_run_report(
    folder: Path,
    estimator: Any,
    data: UserData,
    fitted_of: Callable[[Any], Fitted],
    model_file: str,
) -> Path:
    """Write report.npz and report.html of a finished run; return the path of the page.

    Parameters
    ----------
    folder : Path
        Of the run, with its results.json.
    estimator : estimator
        Of the run; one that is not fitted is loaded from the folder.
    data : UserData
        What the run learned from.
    fitted_of : callable
        From the fitted estimator to what a report asks of it.
    model_file : str
        Name of the file in the folder that has the estimator.
    """
    if not hasattr(estimator, "labels_"):
        estimator = type(estimator).load(folder / model_file)
    run, fitted = read_results(folder)[1], fitted_of(estimator)
    write_data(folder, run, data.X, fitted, data.labels, data.names, data.image_shape)
    return write_report(folder)


def write_grid_report(folder: Path) -> Path:
    """Write report.html of a grid, which compares its runs, and leave theirs as they are."""
    return _written(folder, grid_page(folder))


def is_current(folder: Path) -> bool:
    """Return whether a run's folder has its report, with pictures of that very run."""
    if not (folder / PAGE_FILE).is_file():
        return False
    try:
        return bool(read_data(folder, read_results(folder)[1]))
    except ValueError:  # damaged: it is made anew
        return False


def _written(folder: Path, page: str) -> Path:
    path = folder / PAGE_FILE
    with files.replacing(path) as part:
        part.write_text(page, encoding="utf-8")
    return path


def build_parser() -> cli.OneLineParser:
    """Return the parser."""
    parser = cli.OneLineParser(
        prog="python -m clustering_common.report",
        description="Write report.html of a finished run or grid from the files in its folder.",
    )
    parser.add_argument("folder", type=cli.path, metavar="FOLDER", help="--save-dir of the run")
    return parser


def command(argv: Sequence[str] | None = None) -> None:
    """Write the report and say where it is."""
    args = build_parser().parse_args(argv)
    sys.stdout.write(f"Written to {write_report(args.folder)}.\n")


if __name__ == "__main__":
    sys.exit(cli.run(command))
