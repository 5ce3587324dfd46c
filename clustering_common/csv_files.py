"""Numbers and labels from .csv files, read line by line."""

from __future__ import annotations

import csv
import itertools
import logging
import re
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from clustering_common import table_columns
from clustering_common.array_files import file_error

__all__ = ["is_number", "read_csv", "read_csv_labels"]

logger = logging.getLogger("clustering_common")
WHOLE = re.compile(r"[+-]?[0-9]+")
SURE_COLUMNS = 4  # a line 0,1,2,3 is hardly a sample
# A line is taken apart as a whole, at up to 30 bytes a character.
MAX_LINE_CHARACTERS = 1 << 24


def _lines(source: Path, stream: IO[str]) -> Iterator[str]:
    """Yield the lines of a text, none of them longer than can be taken apart."""
    while line := stream.readline(MAX_LINE_CHARACTERS + 1):
        if len(line) > MAX_LINE_CHARACTERS:
            wanted = f"a .csv file of at most {MAX_LINE_CHARACTERS} characters a line"
            raise file_error(source, wanted, "more", "Write one sample a line.")
        yield line


def _csv_rows(source: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line numbers and cells of the lines that are not blank, all equally long."""
    n_columns = 0
    try:
        # utf-8-sig drops the byte order mark that spreadsheets write.
        with source.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(_lines(source, stream))
            for cells in reader:
                if len(cells) < 2 and not "".join(cells).strip():
                    continue
                n_columns = n_columns or len(cells)
                if len(cells) != n_columns:
                    wanted = f"a .csv file of {n_columns} cells in every line, as in its first"
                    found = f"{len(cells)} in line {reader.line_num}"
                    raise file_error(source, wanted, found, "Fill or drop that line.")
                yield reader.line_num, cells
    except (UnicodeDecodeError, csv.Error) as error:
        raise file_error(source, "a .csv file of UTF-8 text", error) from error
    if not n_columns:
        raise file_error(source, "non-empty", "blank lines only")


def is_number(cell: str) -> bool:
    """Tell whether `float` takes a text."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _head(source: Path) -> tuple[list[str], list[str], Iterator[tuple[int, list[str]]]]:
    """Return the cells of the first two lines, the second's [] without one, and all `_csv_rows`."""
    rows = _csv_rows(source)
    two = list(itertools.islice(rows, 2))
    return two[0][1][:], two[1][1][:] if len(two) > 1 else [], itertools.chain(two, rows)


def _n_index(cells: Sequence[str], below: Sequence[str], is_header: bool) -> int:
    """Return how many columns are an index of pandas: the first, without a name in the header."""
    n_empty = next((place for place, cell in enumerate(cells) if cell.strip()), 0)
    rest = cells[n_empty:]
    # With a number in it, and no numbering, it may be a sample whose first values are missing.
    is_header = is_header or not any(map(is_number, rest))
    return n_empty if is_header or _is_numbering(rest, below, has_index=True) else 0


def _is_numbering(cells: Sequence[str], below: Sequence[str], has_index: bool = False) -> bool:
    """Tell whether a line is the header 0,1,...,d-1 that pandas gives to columns without names."""
    if not below or list(cells) != list(map(str, range(len(cells)))):
        return False
    if has_index or len(cells) >= SURE_COLUMNS:
        return True
    # pandas writes 1.0 for a float of one: where whole numbers are short, 0,1 may be a sample.
    return len(cells) > 1 and not any(WHOLE.fullmatch(cell.strip()) for cell in below)


def read_csv(source: Path) -> tuple[Any, Any]:
    """Return the numbers of a .csv file, and its column of labels if a header names one.

    Parameters
    ----------
    source : Path
        An existing file.

    Returns
    -------
    samples : ndarray of shape (n_samples, n_features), float32, or None
        None where there is nothing but labels.
    labels : list of str, or None
        None where no header names a column of them.

    Raises
    ------
    ValueError
        If the file is no text, ragged, blank, or holds anything but numbers beside the labels.

    Notes
    -----
    The first line is a header where a cell names the labels, or where no cell is a number. So are
    what pandas' ``to_csv`` writes for an index and for columns without names: the first columns are
    left out where the header has no name for them, and a line 0,1,...,d-1 is a header. Of two or
    three columns without an index that line is a sample if the next one has a whole number without
    a decimal point, which pandas writes for none of its floats: 0,1 may well be measured.
    """
    head, below, rows = _head(source)
    label_column = table_columns.label_column(source, table_columns.folded(head))
    is_header = label_column is not None or not any(map(is_number, head))
    n_index = _n_index(head, below, is_header)
    is_numbering = not (is_header or n_index) and _is_numbering(head, below)
    if is_numbering:
        logger.info("%r: its first line, the numbers from 0 on, is taken as a header", str(source))
    if is_header or n_index or is_numbering:
        next(rows)
    left_out = [*range(n_index), *([] if label_column is None else [label_column])]
    columns = [column for column in range(len(head)) if column not in left_out]
    values: array[float] = array("f")
    labels: list[str] = []
    known: dict[str, str] = {}  # equal labels are kept once
    for line, cells in rows:
        if label_column is not None:
            label = cells[label_column]
            labels.append(known.setdefault(label, label))
        for column in reversed(left_out):
            del cells[column]
        _extend(source, values, line, cells, columns)
    samples = np.asarray(values, np.float32).reshape(-1, len(columns)) if columns else None
    return samples, labels if label_column is not None else None


def _extend(
    source: Path, values: array[float], line: int, cells: Sequence[str], columns: Sequence[int]
) -> None:
    """Append the numbers of one line's columns, or name the first cell that is none."""
    try:
        values.extend(map(float, cells))
    except ValueError as error:
        position, cell = next((i, c) for i, c in enumerate(cells) if not is_number(c))
        raise file_error(
            source,
            "a .csv file of numbers",
            f"{cell[:60]!r} in line {line}, column {columns[position] + 1}",
            "Correct the cell, drop its line, or drop or name its column 'label' in a header line.",
        ) from error


def read_csv_labels(source: Path) -> tuple[list[str], list[str] | None]:
    """Return the labels in a .csv file that has them alone or under a name, and names of files.

    Which columns these are, `table_columns.places_of_labels` tells.

    Returns
    -------
    labels : list of str
        Equal ones are one object.
    files : list of str, or None
        None without a column of them.

    Raises
    ------
    ValueError
        As `read_csv` does, and where several columns may hold the labels.
    """
    head, below, rows = _head(source)
    names = table_columns.folded(head)
    is_header = table_columns.is_label_header(source, names, below)
    n_index = _n_index(head, below, is_header)
    is_header = is_header or n_index > 0
    names, first = (names, below) if is_header else ([], head)
    first = first or [""] * len(head)
    label, files = table_columns.places_of_labels(source, names, first, range(n_index))
    if is_header:
        next(rows)
    known: dict[str, str] = {}
    labels, paths = [], []
    for _, cells in rows:
        labels.append(known.setdefault(cells[label], cells[label]))
        if files is not None:
            paths.append(cells[files])
    return labels, None if files is None else paths
