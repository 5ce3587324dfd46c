"""Which columns of a table hold labels or names of files, by what they are called."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from clustering_common.array_files import file_error
from clustering_common.image_files import SUFFIXES

__all__ = ["folded", "is_label_header", "label_column", "places_of_labels"]

logger = logging.getLogger("clustering_common")
LABEL_NAMES = ("label", "labels")
# Labels too, but where there are samples beside them they may as well be measurements.
VAGUE_NAMES = ("y", "target")
FILE_NAMES = ("file", "filename", "file_name")


def folded(names: Sequence[str]) -> list[str]:
    """Return the names of columns as they are compared."""
    return [name.strip().lower() for name in names]


def label_column(source: Path, names: Sequence[str], *, is_alone: bool = False) -> int | None:
    """Return the place of the column whose name says that it holds labels, None without one.

    Parameters
    ----------
    source : Path
        The table, for messages.
    names : sequence of str
        Of all columns, `folded`.
    is_alone : bool, default=False
        Whether there are no samples in the table: y and target mean labels then, where no column
        is named label or labels.

    Raises
    ------
    ValueError
        If there are several.

    Notes
    -----
    Among samples, a column y is a feature: points have an x and a y. It is said of those that are
    more likely labels, as nothing else would tell that they are learned from.
    """
    clear, vague = ([k for k, name in enumerate(names) if name in known]
                    for known in (LABEL_NAMES, VAGUE_NAMES))  # fmt: skip
    found = clear or (vague if is_alone else [])
    if len(found) > 1:
        wanted = f"a {source.suffix.lower()} file with at most one column of labels"
        columns = f"the columns {', '.join(names[place] for place in found)}"
        raise file_error(source, wanted, columns, "Rename or drop the others.")
    if not found and vague and "x" not in names:
        text = "%r: the column %s is taken as a feature; named label, it is for scores alone"
        logger.warning(text, str(source), names[vague[0]])
    return found[0] if found else None


def places_of_labels(
    source: Path, names: Sequence[str], first: Sequence[str], index: Collection[int]
) -> tuple[int, int | None]:
    """Return the places of the labels and of the names of files in a table of labels.

    Labels are in the column so named, else in the only one beside the index and the names of files.
    These are in the first other column that is called file, filename or file_name, else in the
    first whose first cell ends as the name of an image does.

    Parameters
    ----------
    source : Path
        The table, for messages.
    names : sequence of str
        Of all columns, `folded`; empty where there is no header.
    first : sequence of str
        The texts of the first sample.
    index : collection of int
        The places of an index that pandas wrote.

    Returns
    -------
    labels : int
    files : int or None
        None without names of files.

    Raises
    ------
    ValueError
        If no column or several may hold the labels.
    """
    label = label_column(source, names, is_alone=True)
    others = [place for place in range(len(first)) if place != label] if len(first) > 1 else []
    named = [place for place in others if names and names[place] in FILE_NAMES]
    found = named or [place for place in others if _is_image_name(first[place])]
    files = found[0] if found else None
    if label is None:
        left = [place for place in range(len(first)) if place != files and place not in index]
        if len(left) != 1:
            wanted = f"a {source.suffix.lower()} file with one column, or with one named label"
            found_columns = f"{len(first)} columns"
            raise file_error(source, wanted, found_columns, "Keep or name one column.")
        label = left[0]
    return label, files


def is_label_header(source: Path, names: Sequence[str], below: Sequence[str]) -> bool:
    """Tell whether the first line of a table of labels names its columns.

    It does where it names the labels, or where only the line below has the name of an image in it.
    """
    if label_column(source, names, is_alone=True) is not None:
        return True
    has_files = any(map(_is_image_name, below)) and not any(map(_is_image_name, names))
    return len(names) > 1 and has_files


def _is_image_name(text: str) -> bool:
    return text.strip().lower().endswith(SUFFIXES)
