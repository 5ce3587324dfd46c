"""JAX's part of `clustering_common.backend`."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import keras

from clustering_common.backend import Step, entry

JIT_COMPILE = "auto"
WORDS = {"float32": "float32", "tf32": "tensorfloat32", "bfloat16": "BF16_BF16_F32"}
PRECISIONS = tuple(WORDS)
SPREADS_MEMBERS = True


class Spread(keras.distribution.DataParallel):
    """What lies where in a fit on several devices; XLA makes each device's part of the work of it.

    Parameters
    ----------
    devices : sequence of str
    members : str or None
        How the paths of variables with a leading member axis begin.
    """

    def __init__(self, devices: Sequence[str], members: str | None):
        super().__init__(devices=list(devices))
        self.members = members

    def layout(self, n_axes: int, axis: int) -> Any:
        """Return the layout of a tensor of which one axis is spread."""
        names = [self.batch_dim_name if each == axis else None for each in range(n_axes)]
        return keras.distribution.TensorLayout(names, self.device_mesh)

    def get_data_layout(self, data_shape: Sequence[int]) -> Any:
        """Return the layout of a block: its first axis is steps, the second samples or members."""
        return self.layout(len(data_shape), 1)

    def get_variable_layout(self, variable: Any) -> Any:
        """Return the layout of a variable: members' are spread, all others copied."""
        if self.members and variable.path.startswith(self.members):
            return self.layout(len(variable.shape), 0)
        return super().get_variable_layout(variable)


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
        _, (trainable, after, optimizer, metrics) = step(
            full, (spread_rows(entry(batches, index)),)
        )
        moving = [value for value, held in zip(after, is_resident, strict=True) if not held]
        return trainable, moving, optimizer, metrics

    carry = jax.lax.fori_loop(0, n_steps[0], body, (trainable, moving, optimizer, metrics))
    trainable, moving, optimizer, metrics = carry
    with keras.StatelessScope(list(zip(model.metrics_variables, metrics, strict=True))):
        logs = model.get_metrics_result()
    return logs, (trainable, whole(moving), optimizer, metrics)


def spread_rows(batch: Any) -> Any:
    """Return a mini-batch with its first axis spread over the devices of a fit."""
    spread = keras.distribution.distribution()
    if not isinstance(spread, Spread):
        return batch
    return keras.tree.map_structure(
        lambda leaf: keras.distribution.distribute_tensor(leaf, spread.layout(leaf.ndim, 0)), batch
    )


def compiled(function: Callable[..., Any], variables: list[Any]) -> Callable[..., Any]:
    """Return the function jitted, the variables' values passed at each call."""

    @jax.jit
    def stateless(values: Any, *args: Any) -> Any:
        """Call the function with these values of its variables."""
        with keras.StatelessScope(list(zip(variables, values, strict=True))):
            return function(*args)

    def call(*args: Any) -> Any:
        """Call it with the variables' values as they are."""
        values = [variable.value for variable in variables]
        return stateless(values, *_beside(values, args))

    return call


def _beside(values: Sequence[Any], args: Sequence[Any]) -> Sequence[Any]:
    """Return arguments, their rows spread over the devices that have copies of all values."""
    places = [value.sharding for value in values]
    if not places or len(places[0].device_set) == 1:
        return args
    if not all(place.is_fully_replicated for place in places):
        return args  # each device has its own members, and they see all rows
    mesh = places[0].mesh
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(mesh.axis_names[0]))
    return [arg if len(arg) % mesh.size else jax.device_put(arg, rows) for arg in args]


def products_in(precision: str) -> Any:
    """Return JAX's context of the precision: its own default on a GPU is tf32.

    What JAX calls "bfloat16" is so on a TPU alone.
    """
    is_rounded = device_kind() != "CPU"
    return jax.default_matmul_precision(WORDS[precision] if is_rounded else "float32")


def all_devices() -> list[str]:
    """Return the names of the GPUs, or of the CPU's virtual devices."""
    return keras.distribution.list_devices()


def on_devices(names: Sequence[str]) -> contextlib.AbstractContextManager[Any]:
    """Return the scope of Keras's distribution."""
    return keras.distribution.DataParallel(devices=list(names)).scope()


def n_devices() -> int:
    """Return the devices of Keras's distribution."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return 1
    if not isinstance(distribution, keras.distribution.DataParallel):
        raise ValueError(
            "keras.distribution.distribution() must be DataParallel; got "
            f"{type(distribution).__name__}. The library chooses by itself what it spreads."
        )
    return distribution.device_mesh.devices.size


def spreading(members: str | None) -> contextlib.AbstractContextManager[Any]:
    """Return the scope of `Spread` over the devices of Keras's distribution, if there is one."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return contextlib.nullcontext()
    return Spread(list(distribution.device_mesh.devices.flatten()), members).scope()


def sync(model: Any) -> None:
    """Write the loop's values into the variables."""
    model.jax_state_sync()


def device_kind() -> str:
    """Return 'CPU' or the name of the GPU."""
    device = jax.devices()[0]
    return "CPU" if device.platform == "cpu" else device.device_kind
