"""What two searches for a number of clusters must share for a fit of one to count for the other."""

import functools
import os
import pickle
import uuid
from collections.abc import Iterator, Set
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import joblib
import numpy as np
from scipy.sparse import csr_matrix, issparse

from clustering_common.evidence_seed import number_name
from clustering_common.identity import data_hash, file_hash, own_version

UNLIKE = ("random_state", "verbose")  # the search's own, or nothing that a fit depends on
PLAIN = (str, bytes, bool, int, float, complex, type(None))
# What pickle raises on what it can't write.
UNPICKLED = (pickle.PicklingError, TypeError, AttributeError, ValueError, RuntimeError, OSError)


def fit_identity(before: Any, clusterer: Any, X: Any, sample: np.ndarray) -> dict[str, Any]:
    """Return what two searches must share: all but the number of clusters and the seeds.

    Settings of all steps, files of weights and arrays by their content, functions by their names
    and code (not by that of others that they call); data; the rows that are measured; engine and
    version.

    Parameters
    ----------
    before : Pipeline or None
        Steps before the clusterer.
    clusterer : estimator
    X : array-like
    sample : ndarray of int
    """
    own = dict(_settings(clusterer))
    own.pop(number_name(clusterer))
    if number_name(clusterer) == "n_class" and "fc_layer_sizes" in own:  # ends with the number
        own["fc_layer_sizes"] = _described(tuple(clusterer.fc_layer_sizes)[:-1])
    steps = {} if before is None else dict(_settings(before))
    return {
        "class": _class(clusterer),
        **{f"setting {name}": value for name, value in own.items()},
        **{f"earlier {name}": value for name, value in steps.items()},
        "X": _content(X if isinstance(X, np.ndarray) or issparse(X) else np.asarray(X)),
        "columns": repr(list(X.columns)) if hasattr(X, "columns") else None,
        "sample": data_hash(sample),
        "engine": _engine([clusterer] if before is None else [*before, clusterer]),
        "version": own_version(),
    }


def _engine(steps: list[Any]) -> str | None:
    """Return the engine of Keras, None where nothing but scikit-learn takes part."""
    if all(isinstance(step, str) or _class(step).startswith("sklearn.") for step in steps):
        return None
    import keras  # here, because it takes seconds, and says so

    return str(keras.backend.backend())


def _settings(estimator: Any) -> Iterator[tuple[str, str]]:
    """Yield names and values of all settings, those of settings too, but for `UNLIKE`."""
    params = estimator.get_params()
    known = {id(value) for value in params.values() if hasattr(value, "get_params")}
    for name, value in params.items():
        last = name.split("__")[-1]
        if last in UNLIKE:
            continue
        if last == "pretrained_weights" and isinstance(value, str | os.PathLike):
            yield name, file_hash(value) if Path(value).is_file() else repr(value)
        else:
            yield name, _described(value, known)


def _described(value: Any, known: Set[int] = frozenset()) -> str:
    """Return a text that is another for another value.

    What is ``known`` is named alone: estimators whose settings have names of their own, and
    functions that call themselves.
    """
    of = functools.partial(_described, known=known)
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({', '.join(map(of, value))})"
    if isinstance(value, dict):
        return f"dict({', '.join(f'{of(k)}: {of(v)}' for k, v in value.items())})"
    if isinstance(value, functools.partial):
        return f"partial({of([value.func, value.args, value.keywords])})"
    if hasattr(value, "get_params") and not isinstance(value, type):
        return _class(value) + ("" if id(value) in known else of(value.get_params(deep=False)))
    if callable(value) and hasattr(value, "__name__"):
        return _function(value, known)
    return _content(value)


def _function(value: Any, known: Set[int]) -> str:
    """Return name and code of a function, a method or a class, and what it is bound to."""
    text = f"{getattr(value, '__module__', None)}.{getattr(value, '__qualname__', value.__name__)}"
    of = functools.partial(_described, known={*known, id(value)})
    owner = getattr(value, "__self__", None)
    if id(value) in known:
        return text
    if owner is not None and not isinstance(owner, ModuleType):
        text += f" of {of(owner)}"
    function = getattr(value, "__func__", value)
    if isinstance(function, FunctionType):
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
        bound = of([function.__defaults__, function.__kwdefaults__, cells])
        text += f" {joblib.hash(_code(function.__code__), 'sha1')} {bound}"
    elif hasattr(function, "__wrapped__"):  # cached or compiled
        text += f" {of(function.__wrapped__)}"
    return text


def _code(code: CodeType) -> tuple[Any, ...]:
    """Return what code does, without where it stands."""
    constants: list[Any] = []
    for one in code.co_consts:
        if isinstance(one, CodeType):
            one = _code(one)
        elif isinstance(one, frozenset):  # in no order
            one = sorted(map(repr, one))
        constants.append(one)
    return code.co_code, code.co_names, code.co_varnames, repr(constants)


def _content(value: Any) -> str:
    """Return a hash of an array, a matrix or any object; what has none equals nothing else."""
    if isinstance(value, joblib.Memory):
        return repr(value)
    matrix: Any = value  # csr_matrix takes any, which its types do not say
    if issparse(value):
        return f"{type(value).__name__} {data_hash(csr_matrix(matrix))}"
    if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        return data_hash(value)
    try:
        return f"{_class(value)} {joblib.hash(value, 'sha1')}"
    except UNPICKLED:
        return f"{_class(value)} {uuid.uuid4()}"


def _class(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
