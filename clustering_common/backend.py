"""The one door to Keras's engines: what needs to know which of them runs.

Two things need the engine: a loop of many training steps inside one compiled call, and compiling
a pure function that reads a model's variables. Everything else is written on ``keras.ops``. Each
engine has a module of the same functions: `backend_tensorflow`, `backend_jax`, `backend_torch`;
what needs nothing of an engine's own they take from `backend_defaults`.
"""

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

Step = Callable[..., Any]
ENGINES = ("tensorflow", "jax", "torch")
FUSE_FROM_WEIGHTS = 1_000_000  # of a network; fewer are passed sooner than XLA compiles


def many_steps(model: Any, step: Step, *args: Any) -> Any:
    """Run ``step`` on every mini-batch of a block, in one compiled loop.

    Called from ``keras.Model.train_step``, with its arguments: ``(data,)``, under JAX
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
    """Compile a pure function that reads ``variables`` and changes nothing.

    Parameters
    ----------
    function : callable
        Takes and returns arrays of the engine.
    variables : sequence of keras.Variable
        All that the function reads, by their values at each call.
    """
    return engine().compiled(function, list(variables))


def best_jit() -> bool | str:
    """Return Keras's ``jit_compile`` for this engine.

    Under TensorFlow no: on the CPU, XLA slows dense steps, and the affine warp of the augmentation
    has no XLA kernel. JAX compiles through XLA in any case, and is the engine to choose on a GPU.
    """
    return engine().JIT_COMPILE


def feed(blocks: Iterator[Any]) -> Any:
    """Return what ``Model.fit`` reads the blocks from; all have the shapes of the first."""
    return engine().feed(blocks)


def prepare_optimizer(optimizer: keras.optimizers.Optimizer) -> None:
    """Make a built optimiser as fast as the engine allows, before any trace; same maths."""
    engine().prepare_optimizer(optimizer)


def elementwise(function: Callable[..., Any], n_weights: int) -> Callable[..., Any]:
    """Return a function of large arrays as one fused pass over memory.

    For what stands between the products of a network with so many weights. TensorFlow runs each
    operation on its own; XLA makes one of them, and of their gradients. The other engines fuse
    them as they are.

    Parameters
    ----------
    function : callable
        Of a module, and pure: what is compiled of it is kept for the life of the process and shared
        by all networks.
    n_weights : int
        Of the network; below ``FUSE_FROM_WEIGHTS`` the function comes back as it is.
    """
    return engine().elementwise(function) if n_weights >= FUSE_FROM_WEIGHTS else function


def sync(model: Any) -> None:
    """Bring the model's variables up to date inside a callback: JAX keeps them in the loop."""
    engine().sync(model)


def release() -> None:
    """Let the engine forget what it keeps of variables that are gone, after a fit."""
    engine().release()


def is_cpu() -> bool:
    """Return whether a CPU computes."""
    return engine().device_kind() == "CPU"


def device_name() -> str:
    """Return the device that computes, in words, such as ``'tensorflow on CPU (2 cores)'``."""
    kind = engine().device_kind()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{keras.backend.backend()} on {kind}" + (f" ({cores} cores)" if kind == "CPU" else "")


def to_numpy(tensor: Any) -> np.ndarray:
    """Return the array of the engine as a NumPy array."""
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def plain_steps(model: Any, step: Step, data: Any) -> Any:
    """Run the steps of `many_steps` one after the other, where nothing is compiled."""
    n_steps, batches = data[0]
    for index in range(int(n_steps[0])):
        step((entry(batches, index),))
    return model.get_metrics_result()


def entry(batches: Any, index: Any) -> Any:
    """Return one mini-batch of a block."""
    return keras.tree.map_structure(lambda leaf: keras.ops.convert_to_tensor(leaf)[index], batches)


def engine() -> Any:
    """Return the module of the engine that runs."""
    name = keras.backend.backend()
    if name not in ENGINES:
        raise ValueError(
            f"KERAS_BACKEND must be one of {', '.join(ENGINES)}; got {name!r}. Set it anew."
        )
    return importlib.import_module(f"clustering_common.backend_{name}")
