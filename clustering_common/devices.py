"""Training on several devices of one machine: how many are used, and what must be divisible."""

import contextlib
from typing import Any

import keras

from clustering_common import backend


def use(n_devices: int) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which every ``fit`` is spread over so many devices.

    The same as the scope of ``keras.distribution.DataParallel`` with JAX, and of
    ``tf.distribute.MirroredStrategy`` with TensorFlow; 1 changes nothing. The DEC family spreads
    each mini-batch over the devices, KingdraCluster its members (with JAX). Labels are those of one
    device, but for rounding.

    Parameters
    ----------
    n_devices : int
        GPUs, or virtual devices of the CPU, the first ones that there are.

    Raises
    ------
    ValueError
        If there are not so many, or the engine can use but one.

    Examples
    --------
    >>> from clustering_common import devices
    >>> with devices.use(1):
    ...     pass  # model.fit(X)
    """
    if n_devices == 1:
        return contextlib.nullcontext()
    found = backend.all_devices()
    if not 1 <= n_devices <= len(found):
        raise ValueError(
            f"devices must be from 1 to {len(found)}, as many as KERAS_BACKEND="
            f"{keras.backend.backend()} can train on here; got {n_devices!r}. Use fewer."
        )
    return backend.on_devices(found[:n_devices])


def check_batch(batch_size: int, n_samples: int) -> None:
    """Raise ValueError unless each device gets equally many samples of a mini-batch."""
    n_devices = backend.n_devices()
    if min(batch_size, n_samples) % n_devices == 0:
        return
    whole = "" if batch_size <= n_samples else f", more than n_samples={n_samples}, which is none"
    raise ValueError(
        f"batch_size must be a multiple of the {n_devices} devices; got {batch_size!r}{whole}. "
        "Choose another or use one device."
    )


def check_members(n_members: int) -> None:
    """Raise ValueError unless each device gets equally many members, and the engine can do it."""
    n_devices = backend.n_devices()
    if n_devices > 1 and not backend.spreads_members():
        raise ValueError(
            f"devices must be 1 for an ensemble with KERAS_BACKEND={keras.backend.backend()}; got "
            f"{n_devices}. Choose KERAS_BACKEND=jax, which spreads members over devices."
        )
    if n_members == 1 < n_devices:
        raise ValueError(
            f"devices must be 1 for one ladder network; got {n_devices}. Use one device, or "
            "KingdraCluster, whose members are spread."
        )
    if n_members % n_devices:
        raise ValueError(
            f"n_en must be a multiple of the {n_devices} devices; got {n_members!r}. Choose "
            "another or use one device."
        )
