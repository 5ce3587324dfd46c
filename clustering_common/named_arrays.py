"""Which of the named arrays in a file are the samples, and which the labels."""

from collections.abc import Sequence
from pathlib import Path

from clustering_common.array_files import file_error

__all__ = ["DATA_NAMES", "chosen_names"]

DATA_NAMES = ("x", "X", "data")
LABEL_NAMES = ("y", "labels", "label", "target")
MAX_SHOWN = 20  # of a file's names in a message


def chosen_names(
    source: Path, names: Sequence[str], key: str | None = None, wants_labels: bool = False
) -> tuple[str | None, str | None]:
    """Return the names of samples and labels, None for what the file lacks or nobody wants.

    Samples are ``key`` where it is given, else x, X or data, else the only array beside the labels;
    labels are y, labels, label or target, and where only labels are wanted, the only array.

    Raises
    ------
    ValueError
        If that leaves none or several.
    """
    labels = [name for name in names if name in LABEL_NAMES and name != key]
    others = [name for name in names if name not in LABEL_NAMES]
    samples = [name for name in names if name in DATA_NAMES] or others
    if key is not None:
        samples = [name for name in names if name == key]
    if wants_labels:
        samples, labels = [], labels or others
    if max(len(samples), len(labels)) != 1 or (key is not None and not samples):
        wanted = f"a {source.suffix} file with one array of samples and at most one of labels"
        way_out = f"Name them {' or '.join(DATA_NAMES)}, and {' or '.join(LABEL_NAMES)}."
        if key is not None:
            wanted = f"a {source.suffix} file with an array {key!r}, and at most one of labels"
            way_out = "Give data_key the name of one of them."
        shown = [*names[:MAX_SHOWN], "..."] if len(names) > MAX_SHOWN else names
        raise file_error(source, wanted, f"the keys {', '.join(shown) or '(none)'}", way_out)
    return samples[0] if samples else None, labels[0] if labels else None
