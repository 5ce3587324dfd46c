"""Saving, loading and pickling of the estimators, without pickle in any file of ours."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from clustering_common import backend, weights
from clustering_common.saved_state import (
    FORMAT,
    check_sample_shape,
    check_state,
    tuples,
)
from clustering_common.seeds import SeedStream


@contextlib.contextmanager
def unchanged_on_failure(estimator: Any) -> Iterator[None]:
    """Give the estimator back as it was when its learning fails or is interrupted."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


class SavedClusterer:
    """Abstract: an estimator with a ``_network`` that can be written to a file and read again."""

    # Learned attributes that a file keeps: what JSON can hold, and arrays.
    learned_values: tuple[str, ...] = ("history_", "n_iter_", "termination_condition_", "seconds_")
    learned_arrays: tuple[str, ...] = ("labels_",)
    # What the estimator has.
    feature_names_in_: np.ndarray
    get_params: Any
    _check_arguments: Any
    _least_size: Any  # weights and layers of a network at least, from the settings alone
    _make_network: Any
    _network: Any
    _sample_shape: tuple[int, ...]
    _set_network: Any
    _set_sample_shape: Any

    def save(self, path: str | os.PathLike) -> None:
        """Write the fitted estimator to one ``.h5`` file, a classic Keras weight file as well."""
        check_is_fitted(self)
        params = self.get_params()
        if not isinstance(params["random_state"], int | np.integer | None):
            params["random_state"] = None  # a generator's state is no setting
        if params.get("pretrained_weights") is not None:
            params["pretrained_weights"] = str(params["pretrained_weights"])
        config = {
            "format": FORMAT,
            "class": type(self).__name__,
            "params": params,
            "sample_shape": self._sample_shape,
            "feature_names": list(getattr(self, "feature_names_in_", [])),
            **{name: getattr(self, name) for name in self.learned_values if hasattr(self, name)},
        }
        arrays = {name: getattr(self, name) for name in self.learned_arrays if hasattr(self, name)}
        weights.write_weights(path, self._network.layers, config=config, arrays=arrays)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Any:
        """Return the fitted estimator that `save` wrote.

        Raises
        ------
        ValueError
            If the file is damaged, was saved by another class, or holds what no `save` writes.
        """
        config, arrays = weights.read_extras(path)
        if config is None:
            raise ValueError(
                f"path must be a file that save() wrote; got {str(path)!r}, which holds weights "
                "alone. Use load_weights(path, sample_shape) of an estimator with its settings."
            )
        check_state(config, arrays, cls, path)
        estimator = cls(**tuples(config["params"]))
        estimator.load_weights(path, tuple(config["sample_shape"]))
        if config["feature_names"]:
            estimator.feature_names_in_ = np.array(config["feature_names"], object)
        for source, names in ((config, cls.learned_values), (arrays, cls.learned_arrays)):
            for name in names:
                if name in source:
                    setattr(estimator, name, source[name])
        return estimator

    def load_weights(self, path: str | os.PathLike, sample_shape: tuple[int, ...]) -> Any:
        """Make the estimator ready to predict from a classic ``.h5`` weight file.

        What else it predicts with comes along from a file that `save` wrote; where another lacks
        it, a warning says what is assumed.

        Parameters
        ----------
        path : path-like
            What only reconstruction needs may be missing.
        sample_shape : tuple of int
            Shape of one sample, such as (784,) or (28, 28, 1).

        Returns
        -------
        self

        Raises
        ------
        FileNotFoundError, ValueError, TypeError
            If there is no such file, it is damaged or made for other settings, or an argument is
            out of range. Nothing is replaced then.
        """
        self._check_arguments()
        check_sample_shape(sample_shape)
        # On a copy first: a file that does not fit leaves this estimator as it is.
        copy: Any = clone(self)
        input_shape = copy._set_sample_shape(tuple(sample_shape))
        weights.check_can_hold(path, *self._least_size(input_shape))
        learned = self._learned_beside(path)
        network = copy._make_network(input_shape, SeedStream(0))
        weights.load_weights(path, network.layers, optional=network.optional_layers)
        self._set_sample_shape(tuple(sample_shape))
        self._set_network(network)
        vars(self).update(learned)
        return self

    def _learned_beside(self, path: str | os.PathLike) -> dict[str, Any]:
        """Return the attributes beside the weights that `predict` needs, from a weight file."""
        return {}

    def __getstate__(self) -> dict[str, Any]:
        """Return the state with the network as plain arrays."""
        state: dict[str, Any] = dict(super().__getstate__())  # type: ignore[call-overload]
        if "_network" in state:
            layers = state["_network"].layers
            state["_network"] = [
                backend.to_numpy(weight) for layer in layers for weight in layer.weights
            ]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Rebuild the network from plain arrays."""
        state = dict(state)
        arrays = state.pop("_network", None)
        super().__setstate__(state)  # type: ignore[misc]
        if arrays is not None:
            network = self._make_network(self._set_sample_shape(self._sample_shape), SeedStream(0))
            variables = [weight for layer in network.layers for weight in layer.weights]
            for variable, array in zip(variables, arrays, strict=True):
                variable.assign(array)
            self._set_network(network)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_network")
