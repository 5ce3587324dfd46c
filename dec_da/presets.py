"""The paper's experiments: method names, data sets, settings, published figures."""

import json
from importlib import resources
from typing import Any

from dec_da import ConvDEC, ConvIDEC, FcDCN, FcDEC, FcIDEC
from dec_da.base import DeepClusterer

CLASSES: dict[str, type[DeepClusterer]] = {
    cls.__name__: cls for cls in (FcDEC, FcIDEC, ConvDEC, ConvIDEC, FcDCN)
}
AUGMENTED = "-DA"
# What a row of the paper's tables adds to a class's name, by whether (pretraining, clustering) is
# augmented.
PAPER_SUFFIXES = {
    (False, False): "",
    (True, False): " aug-pretrain",
    (False, True): " aug-cluster",
    (True, True): AUGMENTED,
}
N_CLASSES = 10
METHODS = tuple(name + suffix for name in CLASSES for suffix in ("", AUGMENTED))
PAPER_DATASETS = ("mnist", "mnist-test", "usps", "fmnist")
LARGE = {"pretrain_epochs": 500, "max_iter": 20000, "update_interval": 140}
SMALL = {**LARGE, "update_interval": 30}
# The paper's settings; digits, not among its data sets, is ours: of 1,797 images its batches of 256
# would make 7 steps an epoch, and 64 numbers an image need no layer of 2,000 units.
DATASET_SETTINGS: dict[str, dict[str, Any]] = {
    "mnist": LARGE,
    "fmnist": LARGE,
    "mnist-test": SMALL,
    "usps": SMALL,
    "digits": {"pretrain_epochs": 500, "max_iter": 560, "update_interval": 140, "batch_size": 64},
}
DENSE_DIGITS = {"layer_sizes": (500, 500, 500, 10)}


def split_method(name: str) -> tuple[str, bool]:
    """Return the class name and whether "-DA" asks for augmentation in both phases.

    Examples
    --------
    >>> split_method("FcDEC-DA")
    ('FcDEC', True)
    """
    base = name.removesuffix(AUGMENTED)
    if name not in METHODS:
        raise ValueError(
            f"method must be one of {', '.join(METHODS)}; got {name!r}. Choose one of these."
        )
    return base, base != name


def make_estimator(method: str, dataset: str | None, **params: Any) -> DeepClusterer:
    """Return the estimator with the paper's settings for a method and a data set.

    Parameters
    ----------
    method : str
        One of ``METHODS``.
    dataset : str or None
        A known data set, None for a person's own data.
    **params
        Constructor arguments; None leaves the paper's own.
    """
    base, augmented = split_method(method)
    settings = {
        "aug_pretrain": augmented,
        "aug_cluster": augmented,
        **DATASET_SETTINGS.get(dataset or "", LARGE),
        **(DENSE_DIGITS if dataset == "digits" and base.startswith("Fc") else {}),
    }
    settings.update((name, value) for name, value in params.items() if value is not None)
    return CLASSES[base](**settings)


def paper_name(estimator: DeepClusterer) -> str:
    """Return the name of an estimator's row in the paper's tables, by which phase is augmented.

    Examples
    --------
    >>> paper_name(FcDEC(aug_pretrain=True)), paper_name(FcDEC(aug_pretrain=True, aug_cluster=True))
    ('FcDEC aug-pretrain', 'FcDEC-DA')
    """
    phases = bool(estimator.aug_pretrain), bool(estimator.aug_cluster)
    return type(estimator).__name__ + PAPER_SUFFIXES[phases]


def paper_figures(method: str, dataset: str) -> dict[str, float]:
    """Return the published ``acc`` and ``nmi`` (mean of five trials), {} where there are none."""
    return paper_table().get(method, {}).get(dataset, {})


def paper_table() -> dict[str, Any]:
    """Return the paper's figures: row by row, data set by data set."""
    text = resources.files("dec_da").joinpath("paper.json").read_text()
    return json.loads(text)["methods"]
