"""JAX's part of `clustering_common.backend`."""

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import keras
import numpy as np

from clustering_common import backend_defaults
from clustering_common.aligned import aligned
from clustering_common.backend import Step
from clustering_common.backend_defaults import entry
from clustering_common.mapped import is_mapped

JIT_COMPILE = "auto"
WORDS = {"float32": "float32", "tf32": "tensorfloat32", "bfloat16": "BF16_BF16_F32"}
PRECISIONS = tuple(WORDS)
SPREADS_MEMBERS = True
STATE = (
    "trainable_variables", "non_trainable_variables", "optimizer_variables", "metrics_variables",
)  # fmt: skip


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
    moving, held = _parted(model, state)

    def body(index: Any, moving: Any) -> Any:
        """Train on one mini-batch."""
        batch = spread_rows(entry(batches, index))
        return _parted(model, step(_joined(model, moving, held), (batch,))[1])[0]

    moving = jax.lax.fori_loop(0, n_steps[0], body, moving)
    return _logs(model, moving), _joined(model, moving, held)


def held(array: np.ndarray, name: str) -> keras.Variable:
    """Return Keras's variable: of an aligned array itself on a CPU, but not of one in a file."""
    is_left = device_kind() == "CPU" and not keras.distribution.distribution()
    in_memory = aligned(array, copy=True) if is_left and is_mapped(array) else array
    return backend_defaults.held(in_memory, name)


def own_train_function(model: Any, step: Step) -> Callable[..., Any] | None:
    """Return what trains on one device: a loop of many steps, or a dispatch for each.

    On several, Keras lays out what comes back.
    """
    if keras.distribution.distribution():
        return None
    has_convolutions = any(len(variable.shape) == 4 for variable in model.trainable_variables)
    suits = single_steps if device_kind() == "CPU" and has_convolutions else loop_of_steps
    return suits(model, step)


def loop_of_steps(model: Any, step: Step) -> Callable[..., Any]:
    """Return the loop of many steps, which keeps the data where it is.

    Keras would give it up to be overwritten, and JAX copy before what is not its own.
    """

    @functools.partial(jax.jit, donate_argnums=0)
    def block(moving: Any, held: Any, data: Any) -> Any:
        """Train on every mini-batch of one block."""
        logs, state = many_steps(model, step, _joined(model, moving, held), data)
        return logs, _parted(model, state)[0]

    def train(state: Any, iterator: Any) -> Any:
        """Train on the next block."""
        moving, held = _parted(model, state)
        logs, moving = block(moving, held, next(iterator))
        return logs, _joined(model, moving, held)

    return train


def single_steps(model: Any, step: Step) -> Callable[..., Any]:
    """Return a dispatch for each step: of convolutions on a CPU.

    In a loop XLA takes the gradients of their kernels from code that is naive there, outside from
    Eigen: at 28x28, batch 256, a step of ConvDEC took 725 ms with it, and takes 50.
    """

    @jax.jit
    def one_step(moving: Any, held: Any, batch: Any) -> Any:
        """Train on one mini-batch."""
        return _parted(model, step(_joined(model, moving, held), (batch,))[1])[0]

    def train(state: Any, iterator: Any) -> Any:
        """Train on every mini-batch of one block."""
        n_steps, batches = next(iterator)[0]
        moving, held = _parted(model, state)
        try:
            for index in range(int(n_steps[0])):
                former = moving
                moving = one_step(former, held, host_entry(batches, index))
                jax.block_until_ready(former)  # nothing is donated, so queue no more than two
            return _logs(model, moving), _joined(model, moving, held)
        finally:
            # What Keras puts back when Ctrl-C is heard here: the last whole step.
            model._jax_state = dict(zip(STATE, _joined(model, moving, held), strict=True))

    return train


def host_entry(batches: Any, index: int) -> Any:
    """Return one mini-batch of a block: only its rows go to the device."""
    return keras.tree.map_structure(lambda leaf: leaf[index], batches)


def _parted(model: Any, state: Any) -> tuple[Any, list[Any]]:
    """Return the state without the resident variables' values, and these, which no step changes."""
    trainable, fixed, optimizer, metrics = state
    flags = _are_resident(model)
    moving = [value for value, held in zip(fixed, flags, strict=True) if not held]
    resident = [value for value, held in zip(fixed, flags, strict=True) if held]
    return (trainable, moving, optimizer, metrics), resident


def _joined(model: Any, state: Any, resident: Sequence[Any]) -> Any:
    """Return the state that `_parted` took apart."""
    trainable, moving, optimizer, metrics = state
    values = {True: iter(resident), False: iter(moving)}
    return trainable, [next(values[held]) for held in _are_resident(model)], optimizer, metrics


def _are_resident(model: Any) -> list[bool]:
    resident = {id(variable) for variable in model.resident}
    return [id(variable) in resident for variable in model.non_trainable_variables]


def _logs(model: Any, state: Any) -> Any:
    """Return the means of the model's metrics in a state."""
    with keras.StatelessScope(list(zip(model.metrics_variables, state[3], strict=True))):
        return model.get_metrics_result()


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


def fused(function: Callable[..., Any], *, has_gradient: bool) -> Callable[..., Any]:
    """Return the function; on a CPU, where no gradient passes, one whose result is kept.

    XLA would take it anew in every loop that reads it: the images of a step with a reconstruction
    loss were augmented three times. Nothing outside is fused with the branch of a condition.
    """
    if has_gradient or device_kind() != "CPU" or keras.distribution.distribution():
        return function
    return _kept(function)


@functools.cache
def _kept(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with its result kept, the same at each call: JAX compiles it once."""

    @jax.jit
    def kept(*args: Any) -> Any:
        """Call the function in a branch that is always taken, and that XLA cannot know to be."""
        results = jax.eval_shape(function, *args)
        number = jax.numpy.ravel(args[-1])[0]
        return jax.lax.cond(number == number, function, lambda *_: _not_numbers(results), *args)

    return kept


def _not_numbers(shapes: Any) -> Any:
    """Return arrays of NaN."""
    return jax.tree.map(lambda each: jax.numpy.full(each.shape, jax.numpy.nan, each.dtype), shapes)


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
