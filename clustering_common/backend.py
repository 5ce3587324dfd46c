"""The one module that knows which of Keras's engines runs.

Two things need the engine: a loop of many training steps inside one compiled call, and compiling
a pure function that reads a model's variables. Everything else is written on ``keras.ops``.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

Step = Callable[..., Any]
FUSE_FROM_WEIGHTS = 1_000_000  # of the optimiser; fewer are changed sooner than XLA compiles


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
    return _of_engine(_MANY_STEPS)(model, step, *args)


def compiled(function: Callable[..., Any], variables: Sequence[Any]) -> Callable[..., Any]:
    """Compile a pure function that reads ``variables`` and changes nothing.

    Parameters
    ----------
    function : callable
        Takes and returns arrays of the engine.
    variables : sequence of keras.Variable
        All that the function reads, by their values at each call.
    """
    return _of_engine(_COMPILED)(function, list(variables))


def best_jit() -> bool | str:
    """Return Keras's ``jit_compile`` for this engine.

    Under TensorFlow no: on the CPU, XLA slows dense steps, and the affine warp of the augmentation
    has no XLA kernel. JAX compiles through XLA in any case, and is the engine to choose on a GPU.
    """
    return False if keras.backend.backend() == "tensorflow" else "auto"


def feed(blocks: Iterator[Any]) -> Any:
    """Return what ``Model.fit`` reads the blocks from; all have the shapes of the first.

    Under TensorFlow a data set without tf.data's tuner: its thread sleeps for ever longer, and
    whoever lets go of the iterator waits for it, which made each ``fit`` up to twice as long.
    """
    if keras.backend.backend() == "tensorflow":
        return _tensorflow_feed(blocks)
    return blocks


def forgettable(optimizer: keras.optimizers.Optimizer) -> None:
    """Let TensorFlow forget the optimiser's graph once nobody uses it, before any trace.

    Keras sums the gradients over replicas also where there is but one, in a way that TensorFlow
    registers for ever, with the graph and all weights in it: each fit would keep some 15 bytes a
    weight.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if not tf.distribute.has_strategy():
            optimizer._all_reduce_sum_gradients = list  # type: ignore[attr-defined]


def fuse_updates(optimizer: keras.optimizers.Optimizer) -> None:
    """Let the optimiser change all weights in one fused pass over memory, before any trace.

    TensorFlow runs each operation of Keras's Adam on its own, a pass over memory each; XLA makes
    one of them (158 ms to 54 ms for 48 million weights on two cores), while it slows the products
    around it, so only the update is compiled with it, and only where the weights are many enough to
    pay for the compiling. The other engines fuse it as they are.
    """
    n_weights = sum(np.prod(variable.shape) for variable in optimizer.variables)
    if keras.backend.backend() == "tensorflow" and n_weights >= FUSE_FROM_WEIGHTS:
        _tensorflow_fuse_updates(optimizer)


def elementwise(function: Callable[..., Any], n_weights: int) -> Callable[..., Any]:
    """Return a function of large arrays as one fused pass over memory.

    For what stands between the products of a network with so many weights. TensorFlow runs each
    operation on its own; XLA makes one of them, and of their gradients (see `fuse_updates`). The
    other engines fuse them as they are.
    """
    if keras.backend.backend() != "tensorflow" or n_weights < FUSE_FROM_WEIGHTS:
        return function
    import tensorflow as tf

    return tf.function(function, jit_compile=True, autograph=False)


def sync(model: Any) -> None:
    """Bring the model's variables up to date inside a callback: JAX keeps them in the loop."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()


def is_cpu() -> bool:
    """Return whether a CPU computes."""
    return " on CPU" in device_name()


def device_name() -> str:
    """Return the device that computes, in words, such as ``'tensorflow on CPU (2 cores)'``."""
    import os

    engine = keras.backend.backend()
    if engine == "jax":
        import jax

        device = jax.devices()[0]
        kind = "CPU" if device.platform == "cpu" else device.device_kind
    elif engine == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
        kind = details.get("device_name", "GPU") if gpus else "CPU"
    else:
        import torch

        kind = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{engine} on {kind}" + (f" ({cores} cores)" if kind == "CPU" else "")


def _of_engine(table: dict[str, Step]) -> Step:
    engine = keras.backend.backend()
    if engine not in table:
        raise ValueError(
            f"KERAS_BACKEND must be one of {', '.join(table)}; got {engine!r}. Set it anew."
        )
    return table[engine]


def _entry(batches: Any, index: Any) -> Any:
    return keras.tree.map_structure(lambda leaf: keras.ops.convert_to_tensor(leaf)[index], batches)


def _tensorflow_steps(model: Any, step: Step, data: Any) -> Any:
    import tensorflow as tf

    n_steps, batches = data[0]

    def body(index: Any) -> Any:
        """Train on one mini-batch."""
        step((_entry(batches, index),))
        return (index + 1,)

    tf.while_loop(lambda index: index < n_steps[0], body, [tf.constant(0, n_steps.dtype)])
    return model.get_metrics_result()


def _tensorflow_feed(blocks: Iterator[Any]) -> Any:
    import tensorflow as tf

    first = next(blocks)
    signature = tf.nest.map_structure(lambda leaf: tf.TensorSpec(leaf.shape, leaf.dtype), first)
    dataset = tf.data.Dataset.from_generator(
        lambda: itertools.chain([first], blocks), output_signature=signature
    )
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.prefetch(1).with_options(options)


def _tensorflow_fuse_updates(optimizer: Any) -> None:
    import tensorflow as tf

    apply = optimizer.apply

    def fused(gradients: Any, variables: Any = None) -> None:
        """Apply the gradients as one compiled operation."""
        tf.function(lambda *grads: apply(grads, variables), jit_compile=True)(*gradients)

    if not tf.distribute.has_strategy():
        optimizer.apply = fused


def _jax_steps(model: Any, step: Step, state: Any, data: Any) -> Any:
    import jax

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
        _, (trainable, after, optimizer, metrics) = step(full, (_entry(batches, index),))
        moving = [value for value, held in zip(after, is_resident, strict=True) if not held]
        return trainable, moving, optimizer, metrics

    carry = jax.lax.fori_loop(0, n_steps[0], body, (trainable, moving, optimizer, metrics))
    trainable, moving, optimizer, metrics = carry
    with keras.StatelessScope(list(zip(model.metrics_variables, metrics, strict=True))):
        logs = model.get_metrics_result()
    return logs, (trainable, whole(moving), optimizer, metrics)


def _plain_steps(model: Any, step: Step, data: Any) -> Any:
    n_steps, batches = data[0]
    for index in range(int(n_steps[0])):
        step((_entry(batches, index),))
    return model.get_metrics_result()


def _tensorflow_compiled(function: Callable[..., Any], variables: list[Any]) -> Callable[..., Any]:
    import tensorflow as tf

    return tf.function(function, reduce_retracing=True)


def _jax_compiled(function: Callable[..., Any], variables: list[Any]) -> Callable[..., Any]:
    import jax

    @jax.jit
    def stateless(values: Any, *args: Any) -> Any:
        """Call the function with these values of its variables."""
        with keras.StatelessScope(list(zip(variables, values, strict=True))):
            return function(*args)

    return lambda *args: stateless([variable.value for variable in variables], *args)


def _torch_compiled(function: Callable[..., Any], variables: list[Any]) -> Callable[..., Any]:
    import torch

    def call(*args: Any) -> Any:
        """Call the function without keeping what gradients need."""
        with torch.no_grad():
            return function(*map(keras.ops.convert_to_tensor, args))

    return call


def to_numpy(tensor: Any) -> np.ndarray:
    """Return the array of the engine as a NumPy array."""
    return np.asarray(keras.ops.convert_to_numpy(tensor))


_MANY_STEPS: dict[str, Step] = {
    "tensorflow": _tensorflow_steps,
    "jax": _jax_steps,
    "torch": _plain_steps,
}
_COMPILED: dict[str, Step] = {
    "tensorflow": _tensorflow_compiled,
    "jax": _jax_compiled,
    "torch": _torch_compiled,
}
