"""Which column of a table holds labels, by what it is called."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from clustering_common.array_files import file_error

__all__ = ["folded", "label_column"]

logger = logging.getLogger("clustering_common")
LABEL_NAMES = ("label", "labels")
# Labels too, but where there are samples beside them they may as well be measurements.
VAGUE_NAMES = ("y", "target")


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
