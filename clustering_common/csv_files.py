"""Numbers and labels from .csv files, read line by line."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from clustering_common import table_columns
from clustering_common.array_files import file_error

__all__ = ["is_number", "read_csv", "read_csv_labels"]

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
        None where no header names a column of them: label or labels.

    Raises
    ------
    ValueError
        If the file is no text, ragged, blank, or holds anything but numbers beside the labels.
    """
    rows = _csv_rows(source)
    line, cells = next(rows)
    n_columns = len(cells)
    label_column = table_columns.label_column(source, table_columns.folded(cells))
    is_header = label_column is not None or not any(map(is_number, cells))
    values: array[float] = array("f")
    labels: list[str] = []
    known: dict[str, str] = {}  # equal labels are kept once
    if not is_header:
        _extend(source, values, line, cells)
    for line, cells in rows:
        if label_column is not None:
            label = cells.pop(label_column)
            labels.append(known.setdefault(label, label))
        _extend(source, values, line, cells, label_column)
    if label_column is None:
        return np.asarray(values, dtype=np.float32).reshape(-1, n_columns), None
    if n_columns == 1:
        return None, labels
    return np.asarray(values, dtype=np.float32).reshape(-1, n_columns - 1), labels


def _extend(
    source: Path, values: array[float], line: int, cells: list[str], skipped: int | None = None
) -> None:
    """Append the numbers of one line, or name the first cell that is none."""
    try:
        values.extend(map(float, cells))
    except ValueError as error:
        position, cell = next((i, c) for i, c in enumerate(cells) if not is_number(c))
        column = position + 1 + (skipped is not None and position >= skipped)
        raise file_error(
            source,
            "a .csv file of numbers",
            f"{cell[:60]!r} in line {line}, column {column}",
            "Correct the cell, drop its line, or drop or name its column 'label' in a header line.",
        ) from error


def read_csv_labels(source: Path) -> list[str]:
    """Return the only column of a .csv file, or the one that a header names, as texts.

    Equal ones are one object. Raises ValueError as `read_csv` does, and where there are several
    columns and none is named.
    """
    rows = _csv_rows(source)
    _, cells = next(rows)
    column = table_columns.label_column(source, table_columns.folded(cells), is_alone=True)
    if column is None and len(cells) > 1:
        wanted = "a .csv file with one column, or with one named label in a header line"
        raise file_error(source, wanted, f"{len(cells)} columns", "Keep or name one column.")
    known: dict[str, str] = {}
    labels = [] if column is not None else cells
    return labels + [known.setdefault(c[column or 0], c[column or 0]) for _, c in rows]
