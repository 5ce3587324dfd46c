"""PyTorch's part of `clustering_common.backend`: plain steps, nothing compiled."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import torch

from clustering_common.backend import plain_steps

JIT_COMPILE = "auto"
many_steps = plain_steps


def compiled(function: Callable[..., Any], variables: list[Any]) -> Callable[..., Any]:
    """Return the function without what gradients need."""

    def call(*args: Any) -> Any:
        """Call the function without keeping what gradients need."""
        with torch.no_grad():
            return function(*map(keras.ops.convert_to_tensor, args))

    return call


def feed(blocks: Iterator[Any]) -> Iterator[Any]:
    """Return the blocks as a generator: Keras takes no other iterator."""
    return (block for block in blocks)


def prepare_optimizer(optimizer: keras.optimizers.Optimizer) -> None:
    """Do nothing: Keras hands the update to PyTorch's own kernels."""


def elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function as it is."""
    return function


def sync(model: Any) -> None:
    """Do nothing: variables are always up to date."""


def release() -> None:
    """Do nothing: nothing is kept."""


def device_kind() -> str:
    """Return 'CPU' or the name of the GPU."""
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"
