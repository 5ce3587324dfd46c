"""Weight files in the classic Keras HDF5 layout, which Keras itself and years of users know.

The root attribute ``layer_names`` lists the layers; each has a group with the attribute
``weight_names`` and the arrays in that order. `keras.Model.load_weights` reads such a file when
its name ends in ``.h5``. Files of ours have the attribute ``sha256`` too, the checksum of it all.
"""

import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import h5py
import keras
import numpy as np

from clustering_common import backend
from clustering_common.files import plain, replacing
from clustering_common.h5_files import CHECKSUM, CONFIG, checksum, open_weights

# Settings and history, as text; parsed, they take some 30 times as much.
MAX_CONFIG_BYTES = 1 << 24
# Smaller networks are built before they are compared: then the error can name the layer.
MAX_UNCHECKED_WEIGHTS, MAX_UNCHECKED_LAYERS = 10_000_000, 100
Shapes = list[tuple[int, ...]]


def write_weights(
    path: str | os.PathLike,
    layers: Sequence[keras.layers.Layer],
    *,
    config: dict[str, Any] | None = None,
    arrays: dict[str, np.ndarray] | None = None,
) -> None:
    """Write the weights of ``layers``, and beside them what else an estimator needs.

    Parameters
    ----------
    path : path-like
        Written to a temporary name first and then renamed.
    layers : sequence of keras.layers.Layer
        Their names are the layer names of the file.
    config : dict, optional
        Settings that JSON can hold, kept as text in the dataset ``estimator/config``.
    arrays : dict of ndarray, optional
        Kept in the group ``estimator``.
    """
    with _written(path) as file:
        names = {
            layer.name: [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            for layer in layers
        }
        _write_layers(file, names, (map(backend.to_numpy, layer.weights) for layer in layers))
        if config is not None:
            # Of fixed length: one of variable length would not be safe to read.
            text = json.dumps(config, default=plain).encode()
            file.create_dataset("estimator/config", data=np.bytes_(text))
        for name, array in (arrays or {}).items():
            file.create_dataset(f"estimator/{name}", data=array)


@contextmanager
def _written(path: str | os.PathLike) -> Iterator[h5py.File]:
    """Yield an HDF5 file in memory that becomes ``path``, with its checksum, whole or not at all.

    On a full disk HDF5's own writes fail piece by piece and again at every close.
    """
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        yield file
        file.attrs[CHECKSUM] = np.bytes_(checksum(file))
    with replacing(path) as temporary:
        temporary.write_bytes(memory.getbuffer())


def copy_weights(
    source: str | os.PathLike, path: str | os.PathLike, *, without: Sequence[str] = ()
) -> None:
    """Write the layers of a classic weight file, but for those named, to a file of their own.

    Raises
    ------
    FileNotFoundError, ValueError
        As `load_weights` does for a ``source`` that is missing or damaged.
    """
    with open_weights(source) as file:
        layers = {name: d for name, d in file.layers.items() if name not in without}
        names = {
            name: [f"{name}/{dataset.name.rsplit('/', 1)[1]}" for dataset in layers[name]]
            for name in layers
        }
        # All is read first: the two paths may be one file.
        arrays = [[np.asarray(dataset) for dataset in layers[name]] for name in layers]
    with _written(path) as file:
        _write_layers(file, names, arrays)


def _write_layers(
    file: h5py.File, names: dict[str, list[str]], arrays: Iterable[Iterable[np.ndarray]]
) -> None:
    """Write layers in the classic layout: the names of each one's weights, and their arrays."""
    file.attrs["layer_names"] = np.array([layer.encode() for layer in names], "S")
    file.attrs["backend"] = keras.backend.backend().encode()
    file.attrs["keras_version"] = keras.__version__.encode()
    for layer, values in zip(names, arrays, strict=True):
        group = file.create_group(layer)
        group.attrs["weight_names"] = np.array([name.encode() for name in names[layer]], "S")
        for name, array in zip(names[layer], values, strict=True):
            group.create_dataset(name, data=array)


def load_weights(
    path: str | os.PathLike,
    layers: Sequence[keras.layers.Layer],
    *,
    optional: Sequence[str] = (),
    ignored: Sequence[str] = (),
) -> list[str]:
    """Load a classic weight file into ``layers``: by name, the rest by order and shape.

    Everything is read and checked before the first weight is replaced.

    Parameters
    ----------
    path : path-like
        A file of ours, of the authors' release, or any of the classic layout; a whole model saved
        by Keras 2 too.
    layers : sequence of keras.layers.Layer
        Built layers.
    optional : sequence of str
        Names of layers that the file may lack; they keep their weights.
    ignored : sequence of str
        Names of layers in the file that need no place here.

    Returns
    -------
    list of str
        Names of the layers that were loaded.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged or made for another architecture; the line names the layer.
    """
    with open_weights(path) as file:
        saved = file.layers
        source = _match(layers, saved, str(path), set(optional), set(ignored))
        values = {name: [np.asarray(d, np.float32) for d in saved[source[name]]] for name in source}
    for name, arrays in values.items():
        if not all(np.isfinite(array).all() for array in arrays):
            raise ValueError(
                f"weights must be finite; got NaN or infinity in layer {name!r} of {str(path)!r}. "
                "The run that wrote it diverged: train anew."
            )
    for layer in layers:
        if layer.name in values:
            for weight, array in zip(layer.weights, values[layer.name], strict=True):
                weight.assign(array)
    return list(values)


def read_extras(path: str | os.PathLike) -> tuple[dict[str, Any] | None, dict[str, np.ndarray]]:
    """Return ``config`` and ``arrays`` as `write_weights` took them, (None, {}) without.

    Raises
    ------
    FileNotFoundError, ValueError
        As `load_weights` does for a file that is missing or damaged.
    """
    with open_weights(path) as file:
        if CONFIG not in file.extras:
            return None, {}
        text = file.extras[CONFIG][()]
        if len(text) > MAX_CONFIG_BYTES:
            raise OSError(f"estimator/config has {len(text)} bytes")
        try:
            config = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise OSError(f"estimator/config is no JSON: {error}") from error
        arrays = {name: d[()] for name, d in file.extras.items() if name != CONFIG}
        return config, arrays


def check_can_hold(path: str | os.PathLike, n_weights: int, n_layers: int) -> None:
    """Raise ValueError where a file is too small for a network that is not built yet.

    Parameters
    ----------
    path : path-like
    n_weights, n_layers : int
        What the network has at least. Up to `MAX_UNCHECKED_WEIGHTS` and `MAX_UNCHECKED_LAYERS`
        nothing is raised: `load_weights` then says more precisely what does not fit.
    """
    with open_weights(path) as file:
        n_saved, n_saved_layers = file.n_weights, sum(map(len, file.layers.values()))
    if n_weights > max(n_saved, MAX_UNCHECKED_WEIGHTS):
        _refuse(str(path), f"it has {n_saved} numbers where this network has at least {n_weights}")
    if n_layers > max(n_saved_layers, MAX_UNCHECKED_LAYERS):
        _refuse(str(path), f"it has {n_saved_layers} arrays for at least {n_layers} layers")


def _match(
    layers: Sequence[keras.layers.Layer],
    saved: dict[str, list[h5py.Dataset]],
    path: str,
    optional: set[str],
    ignored: set[str],
) -> dict[str, str]:
    """Return, for each layer to load, the name of the saved layer it comes from."""
    needed = {layer.name: [tuple(weight.shape) for weight in layer.weights] for layer in layers}
    shapes = {name: [tuple(dataset.shape) for dataset in saved[name]] for name in saved}
    source = {name: name for name in needed if name in shapes}
    rest = [name for name in shapes if name not in needed and name not in ignored]
    for name in needed:
        if name in source:
            continue
        found = next((other for other in rest if shapes[other] == needed[name]), None)
        if found is not None:
            source[name] = found
            rest.remove(found)
        elif name not in optional:
            _refuse(path, f"it has no layer that fits {name!r} with {_words(needed[name])}")
    for name, other in source.items():
        if shapes[other] != needed[name]:
            _refuse(
                path,
                f"layer {name!r} has {_words(shapes[other])} where this network has "
                f"{_words(needed[name])}",
            )
    if rest:
        _refuse(path, f"it has a layer {rest[0]!r} that this network lacks")
    return source


def _words(shapes: Shapes) -> str:
    return "shapes " + ", ".join("x".join(map(str, shape)) or "scalar" for shape in shapes)


def _refuse(path: str, reason: str) -> None:
    raise ValueError(
        f"weights must fit this architecture; got {path!r}: {reason}. "
        "Use the method, data set and layer sizes that the weights were trained with."
    )
