"""JAX's part of `clustering_common.backend`."""

from collections.abc import Callable
from typing import Any

import jax
import keras

from clustering_common.backend import Step, entry

JIT_COMPILE = "auto"
WORDS = {"float32": "float32", "tf32": "tensorfloat32", "bfloat16": "BF16_BF16_F32"}
PRECISIONS = tuple(WORDS)


def many_steps(model: Any, step: Step, state: Any, data: Any) -> Any:
    """Run the steps in one ``fori_loop`` that carries all variables but the resident ones."""
    n_steps, batches = data[0]
    trainable, fixed, optimizer, metrics = state
    resident_ids = {id(variable) for variable in model.resident}
    is_resident = [id(variable) in resident_ids for variable in model.non_trainable_variables]
    moving = [value for value, held in zip(fixed, is_resident, strict=True) if not held]

    def whole(part: Any) -> list[Any]:
        """Put the values that moved back among those held."""
        rest = iter(part)
        return [v if held else next(rest) for v, held in zip(fixed, is_resident, strict=True)]

    def body(index: Any, carry: Any) -> Any:
        """Train on one mini-batch."""
        trainable, moving, optimizer, metrics = carry
        full = (trainable, whole(moving), optimizer, metrics)
        _, (trainable, after, optimizer, metrics) = step(full, (entry(batches, index),))
        moving = [value for value, held in zip(after, is_resident, strict=True) if not held]
        return trainable, moving, optimizer, metrics

    carry = jax.lax.fori_loop(0, n_steps[0], body, (trainable, moving, optimizer, metrics))
    trainable, moving, optimizer, metrics = carry
    with keras.StatelessScope(list(zip(model.metrics_variables, metrics, strict=True))):
        logs = model.get_metrics_result()
    return logs, (trainable, whole(moving), optimizer, metrics)


def compiled(function: Callable[..., Any], variables: list[Any]) -> Callable[..., Any]:
    """Return the function jitted, the variables' values passed at each call."""

    @jax.jit
    def stateless(values: Any, *args: Any) -> Any:
        """Call the function with these values of its variables."""
        with keras.StatelessScope(list(zip(variables, values, strict=True))):
            return function(*args)

    return lambda *args: stateless([variable.value for variable in variables], *args)


def products_in(precision: str) -> Any:
    """Return JAX's context of the precision: its own default on a GPU is tf32.

    What JAX calls "bfloat16" is so on a TPU alone.
    """
    is_rounded = device_kind() != "CPU"
    return jax.default_matmul_precision(WORDS[precision] if is_rounded else "float32")


def sync(model: Any) -> None:
    """Write the loop's values into the variables."""
    model.jax_state_sync()


def device_kind() -> str:
    """Return 'CPU' or the name of the GPU."""
    device = jax.devices()[0]
    return "CPU" if device.platform == "cpu" else device.device_kind
