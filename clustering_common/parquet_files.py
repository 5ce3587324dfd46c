"""Numbers and labels from .parquet files, read by pyarrow a batch of rows at a time."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clustering_common import table_columns
from clustering_common.aligned import aligned_empty
from clustering_common.array_files import MAX_EXPANSION, SMALL_BYTES, file_error, memory_bytes

__all__ = ["read_parquet", "read_parquet_labels"]

BATCH_NUMBERS = 1 << 22  # read at a time
INDEX = re.compile(r"__index_level_\d+__")  # what pandas calls an index without a name


def read_parquet(source: Path) -> tuple[Any, Any]:
    """Return the numbers of a .parquet file, and its column of labels if there is one.

    As `csv_files.read_csv` reads tables: numbers keep their values, a missing one becomes NaN, the
    column named label or labels holds the labels. An index of pandas is left out, named or not.

    Parameters
    ----------
    source : Path
        An existing file.

    Returns
    -------
    samples : ndarray of shape (n_samples, n_features), float32, or None
        None where there is nothing but labels.
    labels : list of str, or None

    Raises
    ------
    ImportError
        Without pyarrow.
    ValueError
        If the file is damaged, declares more than its size can be believed to hold, or has columns
        that are neither numbers nor labels.
    """
    with _opened(source) as file:
        columns, label = _columns(source, file)
        for column in columns:
            _check_number(source, file.schema_arrow.field(column))
        _check_size(source, file, len(columns))
        n_rows = file.metadata.num_rows
        samples = aligned_empty((n_rows, len(columns)))
        labels: list[str] = []
        known: dict[str, str] = {}
        begin = 0
        for batch in _batches(file):
            rows = samples[begin : begin + batch.num_rows]
            for place, column in enumerate(columns):
                rows[:, place] = _values(batch.column(column))
            if label is not None:
                labels += _texts(batch.column(label), known)
            begin += batch.num_rows
        if begin != n_rows:
            raise file_error(source, "a whole .parquet file", f"{begin} rows of {n_rows}")
    return samples if columns else None, labels if label is not None else None


def read_parquet_labels(source: Path) -> tuple[list[str], list[str] | None]:
    """Return labels, and names of files where a column has them, as `csv_files.read_csv_labels`.

    Raises as `read_parquet` does, and where several columns may hold the labels.
    """
    with _opened(source) as file:
        _check_size(source, file, 1)
        names = table_columns.folded(file.schema_arrow.names)
        label, files = table_columns.places_of_labels(
            source, names, _first_texts(file), _index(file)
        )
        labels: list[str] = []
        paths: list[str] = []
        known: dict[str, str] = {}
        for batch in _batches(file):
            labels += _texts(batch.column(label), known)
            if files is not None:
                paths += _texts(batch.column(files), known)
    return labels, None if files is None else paths


def _first_texts(file: Any) -> list[str]:
    """Return the first row's cells of the columns of texts, '' for all others."""
    import pyarrow.types as kinds

    texts = [""] * len(file.schema_arrow.names)
    for row in itertools.islice(file.iter_batches(batch_size=1, use_threads=False), 1):
        for place, field in enumerate(row.schema):
            kind = field.type.value_type if kinds.is_dictionary(field.type) else field.type
            if kinds.is_string(kind) or kinds.is_large_string(kind):
                texts[place] = next(iter(_texts(row.column(place), {})), "")
    return texts


@contextmanager
def _opened(source: Path) -> Iterator[Any]:
    """Open a .parquet file; whatever pyarrow says of it is one ValueError line."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError(
            f"pyarrow must be installed to read {str(source)!r}; got none. "
            "Install it: python -m pip install pyarrow."
        ) from error
    # ArrowInvalid is a ValueError, as ours are: it says what else went wrong by its class.
    damage = (pa.ArrowException, OSError, MemoryError, OverflowError, UnicodeError)
    try:
        whole = pq.ParquetFile(source)
        texts = [f.name for f in whole.schema_arrow if _is_text(f.type)]
        whole.close()
        # As numbers into a list of distinct texts, however long these are.
        with pq.ParquetFile(source, read_dictionary=texts) as file:
            yield file
    except damage as error:
        reason = str(error) or type(error).__name__
        raise file_error(source, "an intact .parquet file", reason) from error


def _is_text(kind: Any) -> bool:
    """Tell whether a column holds texts, of whatever kind its writer calls them."""
    import pyarrow.types as kinds

    tests = (kinds.is_string, kinds.is_large_string, kinds.is_binary, kinds.is_large_binary)
    return any(test(kind) for test in tests)


def _columns(source: Path, file: Any) -> tuple[list[int], int | None]:
    """Return the places of the columns of numbers, and of the labels."""
    names = table_columns.folded(file.schema_arrow.names)
    label = table_columns.label_column(source, names)
    left_out = {label, *_index(file)}
    return [place for place in range(len(names)) if place not in left_out], label


def _index(file: Any) -> set[int]:
    """Return the places of the columns that pandas wrote for its index."""
    try:
        said = file.schema_arrow.pandas_metadata
    except (ValueError, RecursionError):  # damaged: then there is no more than the columns' names
        said = None
    listed = said.get("index_columns") if isinstance(said, dict) else None
    named = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    names = enumerate(file.schema_arrow.names)
    return {place for place, name in names if name in named or INDEX.fullmatch(name)}


def _check_number(source: Path, field: Any) -> None:
    """Raise ValueError unless a column holds numbers."""
    import pyarrow.types as kinds

    tests = (kinds.is_integer, kinds.is_floating, kinds.is_boolean, kinds.is_null)
    if not any(test(field.type) for test in tests):
        wanted = "a .parquet file of numbers"
        way_out = "Turn the column into numbers, drop it, or name it 'label'."
        found = f"{field.type} in column {field.name[:60]!r}"
        raise file_error(source, wanted, found, way_out)


def _check_size(source: Path, file: Any, n_columns: int) -> None:
    """Raise ValueError if the file declares more numbers than it can be believed to hold."""
    n_bytes = 4 * max(0, file.metadata.num_rows) * max(1, n_columns)
    # Each batch is read with all its columns.
    limit = min(memory_bytes(), max(SMALL_BYTES, MAX_EXPANSION * source.stat().st_size))
    groups = (file.metadata.row_group(n) for n in range(file.metadata.num_row_groups))
    largest = max((group.total_byte_size for group in groups), default=0)
    if max(n_bytes, largest) > limit or file.metadata.num_rows < 0:
        found = f"{max(n_bytes, largest)} bytes declared, more than {limit}"
        way_out = "Save the numbers with np.save, block by block, if it is intact."
        raise file_error(source, "a .parquet file of believable size", found, way_out)


def _batches(file: Any) -> Iterator[Any]:
    """Yield all rows, some at a time."""
    n_rows = max(1, BATCH_NUMBERS // max(1, len(file.schema_arrow.names)))
    yield from file.iter_batches(batch_size=n_rows, use_threads=False)


def _values(column: Any) -> NDArray[np.float32]:
    """Return a column of numbers in single precision, NaN where one is missing."""
    import pyarrow as pa

    return column.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)


def _texts(column: Any, known: dict[str, str]) -> list[str]:
    """Return labels as texts, '' where one is missing; equal ones are one object in ``known``."""
    import pyarrow as pa

    if not isinstance(column, pa.DictionaryArray):
        column = column.dictionary_encode()
    texts = [text or "" for text in column.dictionary.cast(pa.string()).to_pylist()]
    names = [known.setdefault(text, text) for text in texts]
    places = column.indices.to_pylist()
    return ["" if place is None else names[place] for place in places]
