"""What an engine of `clustering_common.backend` does where it needs nothing of its own."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np


def plain_steps(model: Any, step: Callable[..., Any], data: Any) -> Any:
    """Run the steps of `many_steps` one after the other, where nothing is compiled."""
    n_steps, batches = data[0]
    for index in range(int(n_steps[0])):
        step((entry(batches, index),))
    return model.get_metrics_result()


def entry(batches: Any, index: Any) -> Any:
    """Return one mini-batch of a block."""
    return keras.tree.map_structure(lambda leaf: keras.ops.convert_to_tensor(leaf)[index], batches)


def feed(blocks: Iterator[Any]) -> Iterator[Any]:
    """Return the blocks as a generator: Keras takes no other iterator."""
    return (block for block in blocks)


def held(array: np.ndarray, name: str) -> keras.Variable:
    """Return Keras's variable."""
    return keras.Variable(array, trainable=False, dtype=str(array.dtype), name=name)


def joins_rows() -> bool:
    """Return False: samples are held each in a row of its own."""
    return False


def prepare_optimizer(optimizer: keras.optimizers.Optimizer) -> None:
    """Do nothing: the engine's update is one pass as it is."""


def fused(function: Callable[..., Any], *, has_gradient: bool) -> Callable[..., Any]:
    """Return the function as it is."""
    return function


def normal(shape: tuple[int, ...], seed: keras.random.SeedGenerator) -> Any:
    """Return Keras's draws."""
    return keras.random.normal(shape, seed=seed)


def matmul(x: Any, kernel: Any) -> Any:
    """Return Keras's product."""
    return keras.ops.matmul(x, kernel)


def add_bias(x: Any, bias: Any) -> Any:
    """Return Keras's sum."""
    return keras.ops.add(x, bias)


def squared_distances(points: Any, centers: Any) -> Any:
    """Return the squares of all differences, summed."""
    difference = keras.ops.expand_dims(points, 1) - keras.ops.expand_dims(centers, 0)
    return keras.ops.sum(keras.ops.square(difference), axis=2)


def all_devices() -> list[str]:
    """Return the one device that is used."""
    return ["the only one"]


def n_devices() -> int:
    """Return 1: the engine uses one device."""
    return 1


def spreading(members: str | None) -> contextlib.AbstractContextManager[Any]:
    """Return a context that changes nothing."""
    return contextlib.nullcontext()


def own_train_function(model: Any, step: Callable[..., Any]) -> None:
    """Return None: the loop of many steps suits every model, on any number of devices."""


def spread_rows(batch: Any) -> Any:
    """Return the mini-batch: a step sees its device's rows alone."""
    return batch


def share_of_loss(loss: Any) -> Any:
    """Return the loss: a step sees the whole batch."""
    return loss


def draw_rows(draw: Callable[[int], Any], n_rows: int) -> Any:
    """Return the rows that were drawn: a step sees the whole batch."""
    return draw(n_rows)


def sync(model: Any) -> None:
    """Do nothing: variables are always up to date."""


def release() -> None:
    """Do nothing: nothing is kept."""
