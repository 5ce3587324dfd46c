"""What an estimator asks of its samples: their shape, and that they are finite numbers."""

from typing import Any

import numpy as np
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from clustering_common.aligned import single_precision
from clustering_common.checks import check_finite
from clustering_common.mapped import stays_in_file
from dec_da.augmentation import image_shape


class SampleLayout:
    """Abstract: keeps the shape of a sample and brings samples into the network's layout."""

    # What the estimator has.
    aug_pretrain: bool
    aug_cluster: bool
    n_features_in_: int

    def _input_shape(self, sample_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the network's input shape for samples of ``sample_shape``, or raise."""
        raise NotImplementedError

    def _fitted_input(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return self._validated(X, reset=False)

    def _validated(self, X: Any, reset: bool) -> np.ndarray:
        """Return ``X`` as finite float32 in the network's layout; ``reset`` learns the shape."""
        X = single_precision(X) if reset and not stays_in_file(X) else X
        # Only of lists: NumPy must not be asked about other array-likes.
        n_axes = np.ndim(X) if isinstance(X, list | tuple) else getattr(X, "ndim", 2)
        dtype = "numeric" if stays_in_file(X) else np.float32  # a copy of a file might not fit
        if n_axes > 2:
            X = check_array(X, dtype=dtype, allow_nd=True, ensure_all_finite=False)
            if reset:
                self.__dict__.pop("feature_names_in_", None)
        else:
            X = validate_data(self, X, dtype=dtype, reset=reset, ensure_all_finite=False)
        check_finite("X", X)
        if reset:
            return X.reshape(len(X), *self._set_sample_shape(X.shape[1:]))
        same = X.shape[1:] == self._sample_shape or (
            X[0].size == self.n_features_in_ and image_shape(X.shape[1:]) == self._image_shape
        )
        if not same:
            raise ValueError(
                f"X must be samples of shape {self._sample_shape}; got {X.shape[1:]}. "
                "Bring X into the shape that fit saw."
            )
        return X.reshape(len(X), *self._input_shape(self._sample_shape))

    def _set_sample_shape(self, sample_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Keep the shape of a sample and return the network's input shape."""
        self._sample_shape = tuple(map(int, sample_shape))
        self.n_features_in_ = int(np.prod(sample_shape))
        self._image_shape = image_shape(self._sample_shape)
        if self._image_shape is None and (self.aug_pretrain or self.aug_cluster):
            asked = "aug_pretrain" if self.aug_pretrain else "aug_cluster"
            raise ValueError(
                f"{asked} must be False for samples of shape {self._sample_shape}; got True. "
                "Only images can be augmented: a vector is one when its length is a square (grey) "
                "or three times a square (RGB)."
            )
        return self._input_shape(self._sample_shape)
