"""The one door to Keras's engines: what needs to know which of them runs.

Two things need the engine: a loop of many training steps inside one compiled call, and compiling
a pure function that reads a model's variables. Everything else is written on ``keras.ops``. Each
engine has a module, `backend_tensorflow`, `backend_jax` and `backend_torch`; what one lacks is in
`backend_defaults`.
"""

import contextlib
import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from clustering_common import backend_defaults

Step = Callable[..., Any]
ENGINES = ("tensorflow", "jax", "torch")
PRECISIONS = ("float32", "tf32", "bfloat16")


def many_steps(model: Any, step: Step, *args: Any) -> Any:
    """Run ``step`` on every mini-batch of a block, in one compiled loop.

    In the place of ``keras.Model.train_step``, with its arguments: ``(data,)``, under JAX
    ``(state, data)``. The data is ``((n_steps, batches),)``: n_steps of shape (1,) says how many
    of the leading entries of ``batches`` count, so that a short block compiles nothing anew.

    Parameters
    ----------
    model : SteppedModel
        Its ``resident`` variables are held out of the loop's carried state.
    step : callable
        ``keras.Model.train_step`` of the engine.

    Returns
    -------
    logs, under JAX (logs, state)
        The means of the model's metrics so far in the epoch.
    """
    return engine().many_steps(model, step, *args)


def compiled(function: Callable[..., Any], variables: Sequence[Any]) -> Callable[..., Any]:
    """Compile a pure function that reads ``variables`` and changes nothing; products in float32.

    Parameters
    ----------
    function : callable
        Takes and returns arrays of the engine.
    variables : sequence of keras.Variable
        All that the function reads, by their values at each call.
    """
    call = engine().compiled(function, list(variables))

    def in_float32(*args: Any) -> Any:
        """Call the function."""
        with products_in("float32"):
            return call(*args)

    return in_float32


def products_in(precision: str) -> contextlib.AbstractContextManager[None]:
    """Return a context in which products of float32 numbers are taken in this precision on a GPU.

    Matrix products and convolutions round their inputs to it; weights, sums and all else stay
    float32. A CPU takes float32 in any case. The setting is the thread's under JAX, the process's
    under TensorFlow and PyTorch: threads that train at the same time must not differ in it there.

    Parameters
    ----------
    precision : {'float32', 'tf32', 'bfloat16'}
        24, 11 or 8 significant bits; with 'bfloat16' convolutions have 11.
    """
    return engine().products_in(precision)


def check_precision(precision: Any) -> None:
    """Raise ValueError unless the engine knows a precision of products."""
    known = engine().PRECISIONS
    if precision not in known:
        raise ValueError(
            f"precision must be one of {', '.join(known)} with "
            f"KERAS_BACKEND={keras.backend.backend()}; got {precision!r}. "
            "Choose one of these, or KERAS_BACKEND=jax."
        )


def best_jit() -> bool | str:
    """Return Keras's ``jit_compile`` for this engine.

    Under TensorFlow no: on the CPU, XLA slows dense steps. JAX compiles through XLA in any case,
    and is the engine to choose on a GPU.
    """
    return engine().JIT_COMPILE


def feed(blocks: Iterator[Any]) -> Any:
    """Return what ``Model.fit`` reads the blocks from; all have the shapes of the first."""
    return _of_engine("feed")(blocks)


def held(array: np.ndarray, name: str) -> keras.Variable:
    """Return a variable, not trained, that holds an array on the device.

    Memory grows by the array once at most, while it is made too. On a CPU the variable may be the
    array itself (`clustering_common.aligned`), which must then stay as it is; never an np.memmap.
    Samples are `clustering_common.resident`'s.
    """
    return _of_engine("held")(array, name)


def joins_rows() -> bool:
    """Return whether fits stay the same where samples are joined from rows that `held` takes."""
    return _of_engine("joins_rows")()


def prepare_optimizer(optimizer: keras.optimizers.Optimizer) -> None:
    """Make a built optimiser as fast as the engine allows, before any trace; same maths."""
    _of_engine("prepare_optimizer")(optimizer)


def all_devices() -> list[str]:
    """Return the names of the devices that training can be spread over, GPUs where there are."""
    return _of_engine("all_devices")()


def on_devices(names: Sequence[str]) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which fits are spread over these devices."""
    return _of_engine("on_devices")(names)


def n_devices() -> int:
    """Return over how many devices a fit is spread now, 1 where nobody asked for more."""
    return _of_engine("n_devices")()


def spreads_members() -> bool:
    """Return whether the engine can spread an ensemble's members over devices."""
    return getattr(engine(), "SPREADS_MEMBERS", False)


def spreading(members: str | None) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which what a fit makes lies on all devices that were asked for.

    The second axis of a block of mini-batches is spread over them: samples, or members. Variables
    are copied to all, but those of members lie where their member does.

    Parameters
    ----------
    members : str or None
        How the paths of variables with a leading member axis begin.
    """
    return _of_engine("spreading")(members)


def own_train_function(model: Any, step: Step) -> Callable[..., Any] | None:
    """Return the engine's own ``train_function``, None where Keras's around `many_steps` serves.

    Parameters
    ----------
    model : SteppedModel
    step : callable
        ``keras.Model.train_step`` of the engine.
    """
    return _of_engine("own_train_function")(model, step)


def spread_rows(batch: Any) -> Any:
    """Return the tensors of a mini-batch, of which each device has its rows, samples or members.

    Where rows of a batch come from an operation that mixes them, such as a gather: XLA would take
    what follows on every device for all rows.
    """
    return _of_engine("spread_rows")(batch)


def share_of_loss(loss: Any) -> Any:
    """Return what a batch's mean loss adds to the sum over devices, each with its part of a batch.

    The loss itself where the engine sees the whole batch.
    """
    return _of_engine("share_of_loss")(loss)


def draw_rows(draw: Callable[[int], Any], n_rows: int) -> Any:
    """Return a random row for each sample of a mini-batch, the same on any number of devices.

    Parameters
    ----------
    draw : callable
        Returns so many rows of random numbers.
    n_rows : int
        Samples of the mini-batch that the caller sees: all, or this device's part.
    """
    return _of_engine("draw_rows")(draw, n_rows)


def fused(function: Callable[..., Any], *, has_gradient: bool = True) -> Callable[..., Any]:
    """Return a function of arrays as few passes over memory, by XLA.

    TensorFlow runs each operation on its own; XLA makes loops of all that is not a product, and of
    its gradient. JAX fuses such functions as they are, and on a CPU is kept from taking one anew
    for each reader where no gradient passes.

    Parameters
    ----------
    function : callable
        Of a module, and pure: what is compiled of it is kept for the life of the process and shared
        by all networks. Without a gradient, its last argument and its results are float, with rows.
    has_gradient : bool, default=True
        False where no gradient passes through it: a fit on shapes seen before then leaves nothing
        behind.
    """
    return _of_engine("fused")(function, has_gradient=has_gradient)


def normal(shape: tuple[int, ...], seed: keras.random.SeedGenerator) -> Any:
    """Return independent standard normal draws, in the way that is fastest for so many.

    Parameters
    ----------
    shape : tuple of int
    seed : keras.random.SeedGenerator
        Moves on by one draw.
    """
    return _of_engine("normal")(shape, seed)


def matmul(x: Any, kernel: Any) -> Any:
    """Return x W, (batch, units), of a kernel (n_features, units) or Variable of x's dtype."""
    return _of_engine("matmul")(x, kernel)


def add_bias(x: Any, bias: Any) -> Any:
    """Return x + b, (batch, units), of a bias (units,) or Variable of x's dtype."""
    return _of_engine("add_bias")(x, bias)


def squared_distances(points: Any, centers: Any) -> Any:
    """Return |x_i - m_j|^2, (n_points, n_centers), from differences, so that no digits cancel.

    Parameters
    ----------
    points : tensor of shape (n_points, n_dims)
    centers : tensor or keras.Variable of shape (n_centers, n_dims)
    """
    return _of_engine("squared_distances")(points, centers)


def sync(model: Any) -> None:
    """Bring the model's variables up to date inside a callback: JAX keeps them in the loop."""
    _of_engine("sync")(model)


def release() -> None:
    """Let the engine forget what it keeps of variables that are gone, after a fit."""
    _of_engine("release")()


def is_cpu() -> bool:
    """Return whether a CPU computes."""
    return engine().device_kind() == "CPU"


def device_name() -> str:
    """Return the device that computes, in words, such as ``'tensorflow on CPU (2 cores)'``."""
    kind = engine().device_kind()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = f"{keras.backend.backend()} on {kind}" + (f" ({cores} cores)" if kind == "CPU" else "")
    return name + (f", {n_devices()} devices" if n_devices() > 1 else "")


def to_numpy(tensor: Any) -> np.ndarray:
    """Return the array of the engine as a NumPy array."""
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def _of_engine(name: str) -> Callable[..., Any]:
    """Return the engine's own function, or what stands for it."""
    return getattr(engine(), name, None) or getattr(backend_defaults, name)


def engine() -> Any:
    """Return the module of the engine that runs."""
    name = keras.backend.backend()
    if name not in ENGINES:
        raise ValueError(
            f"KERAS_BACKEND must be one of {', '.join(ENGINES)}; got {name!r}. Set it anew."
        )
    return importlib.import_module(f"clustering_common.backend_{name}")
