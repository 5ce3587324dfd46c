"""The arguments of the five methods: what may be given, and the paper's own in its place."""

from dataclasses import dataclass
from typing import Any

from sklearn.base import clone

from clustering_common.backend import PRECISIONS
from clustering_common.checks import check_choice, check_flag, check_number, check_verbose
from clustering_common.seeds import SeedStream

RESOLVED = ("optimizer", "learning_rate", "pretrain_optimizer", "pretrain_learning_rate")
USUAL_RATES = {"sgd": 0.01, "adam": 0.001, "adamw": 0.001, "rmsprop": 0.001}  # Keras's own
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")


@dataclass(frozen=True)
class MethodSettings:
    """The paper's settings of one method (SPEC 1.2 and 1.5)."""

    clustering_weight: float
    reconstruction_weight: float
    optimizer: str
    learning_rate: float
    pretrain_optimizer: str
    pretrain_learning_rate: float


class MethodArguments:
    """Abstract: an estimator that checks its arguments and fills in the paper's."""

    settings: MethodSettings
    # What the estimator has.
    get_params: Any
    _check_to_fit: Any
    _check_n_samples: Any
    pretrained_weights: Any
    n_clusters: int
    alpha: float
    batch_size: int
    update_interval: int
    pretrain_epochs: int
    max_iter: int
    tol: float
    verbose: int
    aug_pretrain: bool
    aug_cluster: bool
    precision: str

    def _check_layers(self) -> None:
        """Raise unless the arguments of the network's layers are usable."""
        raise NotImplementedError

    def check(self, sample_shape: tuple[int, ...], n_samples: int | None = None) -> None:
        """Raise, as `fit` would, unless all arguments and samples of this shape are usable.

        Parameters
        ----------
        sample_shape : tuple of int
        n_samples : int, optional
            Whether so many are enough is checked too, and whether ``pretrained_weights`` fit.
        """
        self._check_to_fit()
        copy = clone(self)
        input_shape = copy._set_sample_shape(tuple(sample_shape))
        if n_samples is not None:
            self._check_n_samples(n_samples)
        if n_samples is not None and self.pretrained_weights is not None:
            copy._load_pretrained(copy._make_network(input_shape, SeedStream(0)))

    def resolved_params(self) -> dict[str, Any]:
        """Return all parameters, with the paper's own in the place of None."""
        params = self.get_params()
        own: dict[str, Any] = {
            name: getattr(self.settings, name) for name in RESOLVED if params.get(name) is None
        }
        for prefix in ("", "pretrain_"):
            optimizer = params[f"{prefix}optimizer"]
            if params[f"{prefix}learning_rate"] is None and optimizer not in (
                None,
                getattr(self.settings, f"{prefix}optimizer"),
            ):
                # The paper's rate belongs to its optimiser: 1.0 is for SGD alone.
                own[f"{prefix}learning_rate"] = USUAL_RATES[optimizer]
        return {**params, **own}

    def _check_arguments(self) -> None:
        check_flag("aug_pretrain", self.aug_pretrain)
        check_flag("aug_cluster", self.aug_cluster)
        check_number("n_clusters", self.n_clusters, integer=True, low=1)
        check_number("alpha", self.alpha, low=0, strict=True, hint="The paper uses 1.")
        check_number("batch_size", self.batch_size, integer=True, low=1, hint="The paper uses 256.")
        check_number(
            "update_interval", self.update_interval, integer=True, low=1, hint="The paper uses 140."
        )
        check_number("pretrain_epochs", self.pretrain_epochs, integer=True, low=0)
        check_number("max_iter", self.max_iter, integer=True, low=0)
        check_number("tol", self.tol, low=0, hint="0 trains for max_iter steps.")
        check_choice("precision", self.precision, PRECISIONS)
        check_verbose(self.verbose)
        for prefix in ("", "pretrain_"):
            optimizer = getattr(self, f"{prefix}optimizer")
            rate = getattr(self, f"{prefix}learning_rate")
            if optimizer is not None:
                check_choice(f"{prefix}optimizer", optimizer, OPTIMIZERS)
            if rate is not None:
                check_number(f"{prefix}learning_rate", rate, low=0, strict=True)
        self._check_layers()
