"""PyTorch's part of `clustering_common.backend`: plain steps, nothing compiled."""

from collections.abc import Callable
from typing import Any

import keras
import torch

from clustering_common.backend import plain_steps
from clustering_common.backend_defaults import (
    elementwise,
    feed,
    prepare_optimizer,
    release,
    sync,
)

__all__ = [
    "JIT_COMPILE",
    "compiled",
    "device_kind",
    "elementwise",
    "feed",
    "many_steps",
    "prepare_optimizer",
    "release",
    "sync",
]
JIT_COMPILE = "auto"
many_steps = plain_steps


def compiled(function: Callable[..., Any], variables: list[Any]) -> Callable[..., Any]:
    """Return the function without what gradients need."""

    def call(*args: Any) -> Any:
        """Call the function without keeping what gradients need."""
        with torch.no_grad():
            return function(*map(keras.ops.convert_to_tensor, args))

    return call


def device_kind() -> str:
    """Return 'CPU' or the name of the GPU."""
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"
