"""Checks of arguments: one clear line that names the argument, the value and the way out."""

import math
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any

import numpy as np

from clustering_common.data_pass import bad_rows


def check_number(
    name: str,
    value: object,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    strict: bool = False,
    integer: bool = False,
    hint: str = "",
) -> None:
    """Raise when ``value`` is no finite number in the range.

    Parameters
    ----------
    name : str
        The argument as the user knows it.
    value : object
        What the user gave.
    low, high : float
        Bounds, both included unless ``strict``, which leaves out ``low``.
    integer : bool
        Whether only whole numbers will do.
    hint : str
        The way out, one sentence.

    Raises
    ------
    TypeError
        If ``value`` is no number of that kind.
    ValueError
        If it is out of range, NaN or infinite.
    """
    kind = Integral if integer else Real
    what = "an integer" if integer else "a number"
    bound = f" {'>' if strict else '>='} {low:g}" if low > -math.inf else ""
    bound += (" and" if bound else "") + f" <= {high:g}" if high < math.inf else ""
    message = f"{name} must be {what}{bound}; got {value!r}. {hint or f'Choose another {name}.'}"
    if isinstance(value, bool | np.bool_) or not isinstance(value, kind):
        raise TypeError(message)
    try:
        number = float(value)  # type: ignore[arg-type]
    except OverflowError:  # an integer beyond all floats
        number = math.inf
    if not math.isfinite(number) or number < low or number > high or (strict and number == low):
        raise ValueError(message)


def check_flag(name: str, value: object) -> None:
    """Raise TypeError when ``value`` is neither True nor False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False; got {value!r}. Choose one of these.")


def check_verbose(value: object) -> None:
    """Raise unless ``value`` is 0, 1, 2 or more, True or False."""
    if not isinstance(value, bool | np.bool_):
        check_number("verbose", value, integer=True, low=0)


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Raise ValueError when ``value`` is none of ``choices``."""
    if value not in choices:
        known = ", ".join(map(str, choices))
        raise ValueError(f"{name} must be one of {known}; got {value!r}. Choose one of these.")


def check_finite(name: str, values: np.ndarray) -> None:
    """Raise ValueError when ``values`` holds NaN or infinity, with the first row that does."""
    n_bad, first_bad = bad_rows(values)
    if n_bad:
        raise ValueError(
            f"{name} must be finite; got NaN or infinity in {n_bad} of {len(values)} rows, the "
            f"first is row {first_bad}. "
            "Drop these rows or impute their values (sklearn.impute.SimpleImputer)."
        )


def check_sizes(name: str, sizes: Any) -> None:
    """Raise unless ``sizes`` is a list or tuple of integers >= 1."""
    if not isinstance(sizes, list | tuple | np.ndarray) or not len(sizes):
        raise TypeError(
            f"{name} must be a list or tuple of integers >= 1; got {sizes!r}. "
            "Give the units of each layer."
        )
    for size in sizes:
        check_number(f"each of {name}", size, integer=True, low=1)
