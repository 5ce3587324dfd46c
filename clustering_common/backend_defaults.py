"""What an engine of `clustering_common.backend` does where it needs nothing of its own."""

from collections.abc import Callable, Iterator
from typing import Any

import keras


def feed(blocks: Iterator[Any]) -> Iterator[Any]:
    """Return the blocks as a generator: Keras takes no other iterator."""
    return (block for block in blocks)


def prepare_optimizer(optimizer: keras.optimizers.Optimizer) -> None:
    """Do nothing: the engine's update is one pass as it is."""


def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function as it is."""
    return function


def sync(model: Any) -> None:
    """Do nothing: variables are always up to date."""


def release() -> None:
    """Do nothing: nothing is kept."""
