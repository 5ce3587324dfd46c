"""Checks of what a saved estimator says of itself, before anything is made of it."""

import math
import os
from typing import Any

import numpy as np

from clustering_common.checks import check_sizes

FORMAT = 1
KNOWN = {"format", "class", "params", "sample_shape", "feature_names"}
MAX_FEATURES = 1 << 31
# Phases that a history of DEC-DA has; Kingdra's is one list.
PHASES = {"pretrain", "cluster"}


class Unusable(ValueError):
    """What is wrong with a saved state; the text has no path yet."""


def check_state(
    config: Any, arrays: dict[str, np.ndarray], cls: Any, path: str | os.PathLike
) -> None:
    """Raise ValueError unless ``cls.save`` can have written these values and arrays.

    Parameters
    ----------
    config : object
        What JSON gave.
    arrays : dict of ndarray
    cls : type
        The estimator's class.
    path : path-like
        For the message.

    Raises
    ------
    ValueError
        In one line that names the path and what is wrong.
    """
    try:
        _check_config(config, cls)
        params = _checked_params(config["params"], cls)
        check_sample_shape(config["sample_shape"])
        _check_feature_names(config["feature_names"], math.prod(config["sample_shape"]))
        _check_values(config, is_phased="pretrain_epochs" in params)
        _check_arrays(arrays, params)
    except (ValueError, TypeError) as error:
        problem = str(error).removesuffix(".")
        raise ValueError(
            f"path must be a file that {cls.__name__}.save wrote; got {str(path)!r}: "
            f"{problem if len(problem) < 400 else problem[:400] + '...'}. "
            "Load it with the class and version that saved it."
        ) from error


def check_arrays(
    arrays: dict[str, np.ndarray], params: dict[str, Any], path: str | os.PathLike
) -> None:
    """Raise ValueError unless learned arrays of a file are those of so many clusters and members.

    Parameters
    ----------
    arrays : dict of ndarray
        Some of labels_, pseudo_labels_ and member_mapping_.
    params : dict
        n_clusters or n_class, and n_en where there are members.
    path : path-like
        For the message.
    """
    try:
        _check_arrays(arrays, params)
    except Unusable as error:
        raise ValueError(
            f"path must be a weight file made for these settings; got {str(path)!r}: {error}. "
            "Use the settings that it was saved with."
        ) from error


def check_sample_shape(sample_shape: Any) -> None:
    """Raise TypeError or ValueError unless ``sample_shape`` is a usable shape of one sample."""
    check_sizes("sample_shape", sample_shape)
    if math.prod(map(int, sample_shape)) > MAX_FEATURES:
        raise ValueError(
            f"sample_shape must be of at most {MAX_FEATURES} numbers; got {sample_shape!r}. "
            "Give the shape of one sample, without n_samples."
        )


def _check_config(config: Any, cls: Any) -> None:
    """Raise unless the settings are complete and of this class and version."""
    if not isinstance(config, dict) or not set(config) >= KNOWN:
        raise Unusable("its settings are incomplete")
    if config["format"] != FORMAT:
        raise Unusable(f"it has format {config['format']!r}, this version reads {FORMAT}")
    if config["class"] != cls.__name__:
        raise Unusable(f"it was saved by {config['class']}")
    known = set(cls._get_param_names())
    if not isinstance(config["params"], dict) or not set(config["params"]) <= known:
        raise Unusable("it has settings that this version does not know")


def _checked_params(saved: dict[str, Any], cls: Any) -> dict[str, Any]:
    """Return all parameters of the estimator that can be made of those that were saved."""
    estimator = cls(**tuples(saved))
    estimator._check_arguments()
    params = estimator.get_params()
    for name, default in cls().get_params().items():
        if isinstance(default, bool) and not isinstance(params[name], bool):
            raise Unusable(f"{name} is {params[name]!r}")
    seed = params.get("random_state")
    if seed is not None and not _is_count(seed):
        raise Unusable(f"random_state is {seed!r}")
    weights = params.get("pretrained_weights")
    if not isinstance(weights, str | None):
        raise Unusable(f"pretrained_weights is {weights!r}")
    return params


def tuples(params: dict[str, Any]) -> dict[str, Any]:
    """Return parameters with tuples in the place of JSON's lists."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in params.items()}


def _check_feature_names(names: Any, n_features: int) -> None:
    """Raise unless there are no names or one for each feature."""
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not is_list or len(names) not in (0, n_features):
        raise Unusable(f"its feature_names are no list of {n_features} texts")


def _check_values(config: dict[str, Any], is_phased: bool) -> None:
    """Raise unless the learned values have the form that fit gives them."""
    history = config.get("history_", {name: [] for name in PHASES} if is_phased else [])
    if is_phased and (not isinstance(history, dict) or set(history) != PHASES):
        raise Unusable("its history_ has other phases")
    for rows in history.values() if is_phased else [history]:
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise Unusable("its history_ is no list of rows")
    if not _is_count(config.get("n_iter_", 0)):
        raise Unusable(f"its n_iter_ is {config['n_iter_']!r}")
    if not isinstance(config.get("termination_condition_", ""), str):
        raise Unusable("its termination_condition_ is no text")
    seconds = config.get("seconds_", {})
    if not isinstance(seconds, dict) or not all(
        isinstance(value, int | float) for value in seconds.values()
    ):
        raise Unusable("its seconds_ are no numbers")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check_arrays(arrays: dict[str, np.ndarray], params: dict[str, Any]) -> None:
    """Raise unless the learned arrays are labels and mappings of so many clusters."""
    n_clusters = params.get("n_clusters", params.get("n_class", 0))
    lengths = set()
    for name, lowest in (("labels_", 0), ("pseudo_labels_", -1)):
        labels = arrays.get(name)
        if labels is None:
            continue
        lengths.add(len(labels) if labels.ndim == 1 else -1)
        if labels.ndim != 1 or labels.dtype.kind not in "iu" or not labels.size:
            raise Unusable(f"its {name} are {labels.dtype} of shape {labels.shape}")
        if labels.min() < lowest or labels.max() >= n_clusters:
            raise Unusable(f"its {name} are not all in {lowest}..{n_clusters - 1}")
    if len(lengths) > 1:
        raise Unusable("its labels_ and pseudo_labels_ are not equally many")
    mapping = arrays.get("member_mapping_")
    if mapping is None:
        return
    shape = (params.get("n_en", 1), n_clusters)
    if mapping.shape != shape or mapping.dtype.kind not in "iu":
        raise Unusable(f"its member_mapping_ is {mapping.dtype} of shape {mapping.shape}")
    if (np.sort(mapping, axis=1) != np.arange(n_clusters)).any():
        raise Unusable("its member_mapping_ does not rename each cluster once")
