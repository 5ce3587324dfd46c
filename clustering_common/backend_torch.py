"""PyTorch's part of `clustering_common.backend`: plain steps, nothing compiled."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import torch

from clustering_common.backend_defaults import plain_steps

JIT_COMPILE = "auto"
PRECISIONS = ("float32", "tf32")
many_steps = plain_steps


def compiled(function: Callable[..., Any], variables: list[Any]) -> Callable[..., Any]:
    """Return the function without what gradients need."""

    def call(*args: Any) -> Any:
        """Call the function without keeping what gradients need."""
        with torch.no_grad():
            return function(*map(keras.ops.convert_to_tensor, args))

    return call


@contextlib.contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Set PyTorch's precision, of convolutions too, and put it back."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    is_rounded = precision == "tf32" and torch.cuda.is_available()
    torch.set_float32_matmul_precision("high" if is_rounded else "highest")
    torch.backends.cudnn.allow_tf32 = is_rounded
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def device_kind() -> str:
    """Return 'CPU' or the name of the GPU."""
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"
