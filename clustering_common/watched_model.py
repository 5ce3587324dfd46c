"""What a callback may do with a model in training: read, set, save and load its weights."""

import os
from typing import Any

import keras

from clustering_common import backend, weights


class WatchedModel(keras.Model):
    """Abstract: a ``keras.Model`` whose data is no weight, and whose weight files are classic.

    A file that ``keras.callbacks.ModelCheckpoint(..., save_weights_only=True)`` writes is one for
    ``load_weights`` or ``pretrained_weights`` of the estimators.

    Attributes
    ----------
    resident : list of keras.Variable
        Arrays kept on the device that no training step changes: data, targets.
    weights_were_set : bool
        Whether a callback replaced the weights.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.resident: list[Any] = []
        self.weights_were_set = False

    def weight_layers(self) -> list[keras.layers.Layer]:
        """Return all layers with weights, in the order of the weight files."""
        raise NotImplementedError

    @property
    def weights(self) -> list[Any]:
        """All weights: what is resident is none, and would make every copy as large as the data."""
        held = {id(variable) for variable in getattr(self, "resident", ())}
        return [weight for weight in super().weights if id(weight) not in held]

    def set_weights(self, weights: Any) -> None:
        """Replace all weights, as ``keras.callbacks.EarlyStopping`` does with the best ones."""
        super().set_weights(weights)
        self.weights_were_set = True

    def save_weights(
        self, filepath: str | os.PathLike, overwrite: bool = True, max_shard_size: Any = None
    ) -> None:
        """Write a classic weight file (`clustering_common.weights`), whole or not at all."""
        if not overwrite and os.path.exists(filepath):
            raise ValueError(
                f"filepath must be a new file; got {str(filepath)!r}. Choose another name."
            )
        backend.sync(self)
        weights.write_weights(filepath, self.weight_layers())

    def load_weights(self, filepath: str | os.PathLike, **kwargs: Any) -> None:
        """Load what `save_weights` wrote."""
        weights.load_weights(filepath, self.weight_layers())
        self.weights_were_set = True

    def save(self, filepath: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Raise ValueError: a model in training holds the data and is no model to keep."""
        raise ValueError(
            f"save_weights_only must be True for a model in training; got {str(filepath)!r} for "
            "all of it. Use ModelCheckpoint('best.weights.h5', save_weights_only=True), or save() "
            "of the estimator after fit."
        )
