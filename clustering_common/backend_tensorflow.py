"""TensorFlow's part of `clustering_common.backend`."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.ops.resource_variable_ops import UninitializedVariable

from clustering_common import backend_defaults
from clustering_common.aligned import aligned
from clustering_common.backend import Step
from clustering_common.backend_defaults import entry
from clustering_common.backend_tensorflow_optimizer import prepare_optimizer as prepare_optimizer
from clustering_common.backend_tensorflow_products import add_bias as add_bias
from clustering_common.backend_tensorflow_products import matmul as matmul
from clustering_common.backend_tensorflow_products import squared_distances as squared_distances
from clustering_common.backend_tensorflow_xla import fused as fused
from clustering_common.backend_tensorflow_xla import normal as normal
from clustering_common.mapped import is_mapped

JIT_COMPILE = False
LARGE_BYTES = 2**20  # of an array whose second copy counts
PRECISIONS = ("float32", "tf32")


def many_steps(model: Any, step: Step, data: Any) -> Any:
    """Run the steps in one ``tf.while_loop``."""
    n_steps, batches = data[0]
    last = n_steps[0]

    def body(index: Any) -> Any:
        """Train on one mini-batch."""
        step((entry(batches, index),))
        return (index + 1,)

    tf.while_loop(lambda index: index < last, body, [tf.constant(0, last.dtype)])
    return model.get_metrics_result()


def compiled(function: Callable[..., Any], variables: list[Any]) -> Callable[..., Any]:
    """Return the function as a graph; it reads its variables on its own."""
    # AutoGraph would warn of Python that it cannot rewrite, and none here needs it.
    return tf.function(function, autograph=False, reduce_retracing=True)


def own_train_function(model: Any, step: Step) -> Callable[..., Any] | None:
    """Return the loop of many steps around a step on all devices of a strategy, if there is one.

    Keras has the strategy call the step, with our loop inside; but what sums gradients over devices
    must not stand in a loop there.
    """
    if not tf.distribute.has_strategy():
        return None
    strategy = tf.distribute.get_strategy()

    def part_of_step(batches: Any, index: Any) -> None:
        """Train on this device's part of one mini-batch."""
        step((entry(batches, index),))

    @tf.function(autograph=False)
    def train(data: Any) -> Any:
        """Train on every mini-batch of one block, of which each device has its part."""
        n_steps, batches = data[0]
        n_steps = strategy.experimental_local_results(n_steps)[0][0]

        def body(index: Any) -> Any:
            """Train on one mini-batch."""
            strategy.run(part_of_step, args=(batches, index))
            return (index + 1,)

        tf.while_loop(lambda index: index < n_steps, body, [tf.constant(0, n_steps.dtype)])
        return model.get_metrics_result()

    return lambda iterator: train(next(iterator))


def share_of_loss(loss: Any) -> Any:
    """Return the loss divided by the devices: Keras sums gradients over them."""
    return loss / n if (n := tf.distribute.get_strategy().num_replicas_in_sync) > 1 else loss


def draw_rows(draw: Callable[[int], Any], n_rows: int) -> Any:
    """Return this device's part of what is drawn for the whole batch, on each from one seed."""
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return draw(n_rows)
    rows = draw(replica.num_replicas_in_sync * n_rows)
    parts = tf.reshape(rows, (replica.num_replicas_in_sync, n_rows, *rows.shape[1:]))
    return parts[replica.replica_id_in_sync_group]


def feed(blocks: Iterator[Any]) -> Any:
    """Return a data set of the blocks; with a strategy, one that gives each device its part."""
    if not tf.distribute.has_strategy():
        return _dataset(blocks)
    strategy = tf.distribute.get_strategy()
    parts = _parts(blocks, strategy.num_replicas_in_sync)
    return strategy.distribute_datasets_from_function(lambda _: _dataset(parts))


def _parts(blocks: Iterator[Any], n_parts: int) -> Iterator[Any]:
    """Yield each block's parts one by one: devices take them in turn."""
    for ((n_steps, batches),) in blocks:
        split = [np.split(leaf, n_parts, axis=1) for leaf in tf.nest.flatten(batches)]
        for part in zip(*split, strict=True):
            yield ((n_steps, tf.nest.pack_sequence_as(batches, part)),)


def _dataset(blocks: Iterator[Any]) -> Any:
    """Return a data set without tf.data's tuner.

    The tuner's thread sleeps for ever longer, and whoever lets go of the iterator waits for it,
    which made each ``fit`` up to twice as long.
    """
    first = next(blocks)
    signature = tf.nest.map_structure(lambda leaf: tf.TensorSpec(leaf.shape, leaf.dtype), first)
    # TensorFlow keeps this function, and what it refers to, for ever: no block among it.
    source = itertools.chain([first], blocks)
    dataset = tf.data.Dataset.from_generator(lambda: source, output_signature=signature)
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.prefetch(1).with_options(options)


def held(array: np.ndarray, name: str) -> keras.Variable:
    """Return a variable of the array itself where it is aligned, else of the only copy made."""
    if tf.distribute.has_strategy() or array.nbytes < LARGE_BYTES:
        return backend_defaults.held(array, name)
    return _Held(
        lambda *_, **__: array,
        shape=array.shape,
        dtype=str(array.dtype),
        trainable=False,
        name=name,
    )


def joins_rows() -> bool:
    """Return whether `held` takes arrays: on a CPU, without a strategy."""
    return device_kind() == "CPU" and not tf.distribute.has_strategy()


class _Held(keras.Variable):
    """A variable whose initialiser returns a NumPy array."""

    def _initialize_with_initializer(self, initializer: Callable[..., np.ndarray]) -> None:
        array = initializer()
        # The one kind of variable that can be made before its value; it has no public name.
        variable = UninitializedVariable(
            shape=array.shape, dtype=array.dtype, trainable=False, name=self.name
        )
        token = next(_TOKENS)
        _ARRAYS[token] = array
        try:
            _take(variable.handle, tf.constant(token), variable.dtype)
        finally:
            del _ARRAYS[token]
        self._initialize(variable)


_TOKENS, _ARRAYS = itertools.count(), dict[int, np.ndarray]()


@tf.function(autograph=False, reduce_retracing=True)
def _take(handle: Any, token: Any, dtype: Any) -> None:
    """Let a variable be an array: as it is within a graph, where outside it would be copied."""
    value = tf.numpy_function(lambda number: _in_memory(_ARRAYS[int(number)]), [token], dtype)
    tf.raw_ops.AssignVariableOp(resource=handle, value=value)


def _in_memory(array: np.ndarray) -> np.ndarray:
    """Return an aligned array itself, and of any other and of one in a file a copy."""
    return aligned(array, copy=is_mapped(array))


@contextlib.contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Switch tf32, TensorFlow's own default on a GPU, and put it back."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(precision == "tf32")
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def all_devices() -> list[str]:
    """Return the names of the GPUs, or of the CPU's logical devices."""
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in found]


def on_devices(names: Sequence[str]) -> contextlib.AbstractContextManager[Any]:
    """Return the scope of a strategy."""
    return _strategy(tuple(names)).scope()


@functools.cache
def _strategy(names: tuple[str, ...]) -> Any:
    """Return the strategy, one in a process: another's sums would have the first one's names."""
    return tf.distribute.MirroredStrategy(list(names))


def n_devices() -> int:
    """Return the devices of the strategy."""
    strategy = tf.distribute.get_strategy()
    if tf.distribute.has_strategy() and not isinstance(strategy, tf.distribute.MirroredStrategy):
        raise ValueError(
            "tf.distribute.get_strategy() must be MirroredStrategy; got "
            f"{type(strategy).__name__}. Other strategies are not supported."
        )
    if strategy.num_replicas_in_sync > 1 and _first_strategy(strategy) is not strategy:
        raise ValueError(
            "tf.distribute.get_strategy() must be the first MirroredStrategy that trained in this "
            "process; got a second one, whose sums over devices TensorFlow takes for the first "
            "one's. Keep the strategy and use it again, as clustering_common.devices.use does."
        )
    return strategy.num_replicas_in_sync


_STRATEGIES: list[Any] = []


def _first_strategy(strategy: Any) -> Any:
    """Return the strategy that trained first, this one if none did."""
    if not _STRATEGIES:
        _STRATEGIES.append(strategy)
    return _STRATEGIES[0]


def release() -> None:
    """Empty the cache of kernels, as ``keras.utils.clear_session`` does.

    Each new variable has a name of its own, and with it kernels of its own: some 50 kB.
    """
    context.context().clear_kernel_cache()


def device_kind() -> str:
    """Return 'CPU' or the name of the GPU."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "CPU"
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
