"""STL-10 and CIFAR-10 as 2,048 features of an ImageNet ResNet-50 (SPEC 2.7)."""

from __future__ import annotations

import tarfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from clustering_common import cli
from clustering_common.dataset_files import file_error
from clustering_common.datasets import Samples
from clustering_common.prepare_fetch import fetched, keras_folder
from clustering_common.prepare_layout import Say

if TYPE_CHECKING:
    import keras

__all__ = ["cifar10", "extract", "feature_model", "read_stl10", "stl10"]

RESNET_SIDE = 224
# A batch of 32 images of 224 x 224 takes about 1 GB within the network.
BATCH_SIZE = 32
N_REPORTS = 50

WEIGHTS_NAME = "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
WEIGHTS_URL = f"https://storage.googleapis.com/tensorflow/keras-applications/resnet/{WEIGHTS_NAME}"
CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
STL_NAME = "stl10_binary.tar.gz"
STL_URL = f"http://ai.stanford.edu/~acoates/stl10/{STL_NAME}"
# Its authors publish none; this one is in TensorFlow Datasets 4.9.10 (stl10/checksums.tsv).
STL_SHA256 = "f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866"
STL_SIDE = 96
STL_BYTES = 3 * STL_SIDE**2
# Train before test; four times the larger of the two files of images.
STL_MEMBERS = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin")
STL_MAX_BYTES = 4 * 8000 * STL_BYTES


def cifar10(
    say: Say, *, load: Callable[[], Any] | None = None, model: keras.Model | None = None
) -> Samples:
    """Return features and classes of CIFAR-10: 50,000 training images, then 10,000 test images.

    Parameters
    ----------
    say : callable
        Takes a line for the user.
    load : callable, default=None
        In place of `keras.datasets.cifar10.load_data`, which checks the SHA-256.
    model : keras.Model, default=None
        In place of `feature_model`.

    Returns
    -------
    X : ndarray of shape (60000, 2048), float32
    labels : ndarray of shape (60000,), int64

    Raises
    ------
    DatasetUnavailableError
        If the weights of the network or the images can't be downloaded.

    Notes
    -----
    The paper does not say whether it used all 60,000 images; IMSAT, whose protocol it follows,
    did. Both sets are there in order, so that the first 50,000 rows are the training set.
    """
    with cli.quiet_start():
        import keras

    way_out = (
        f"Put cifar-10-python.tar.gz, renamed to cifar-10-batches-py-target_archive, into "
        f"{keras_folder('datasets')}, from {CIFAR_URL}."
    )
    model = model or feature_model(32, also=way_out)
    say("cifar10: Keras fetches 170 MB, unless it has them.")
    parts = fetched("cifar10", load or keras.datasets.cifar10.load_data, way_out)
    images = np.concatenate([part[0] for part in parts])
    labels = np.concatenate([part[1] for part in parts]).reshape(-1).astype(np.int64)
    return extract(model, images, say), labels


def stl10(
    say: Say,
    *,
    fetch: Callable[[], str] | None = None,
    model: keras.Model | None = None,
) -> Samples:
    """Return features and classes of STL-10: 5,000 training images, then 8,000 test images.

    The 100,000 images without labels are left out.

    Parameters
    ----------
    say : callable
        Takes a line for the user.
    fetch : callable, default=None
        Returns the path of stl10_binary.tar.gz; by default from its authors' server through
        Keras, with a SHA-256.
    model : keras.Model, default=None
        In place of `feature_model`.

    Returns
    -------
    X : ndarray of shape (13000, 2048), float32
    labels : ndarray of shape (13000,), int64
        0 to 9; the files have 1 to 10.

    Raises
    ------
    DatasetUnavailableError
        If the weights of the network or the images can't be downloaded.
    ValueError
        If the archive is not what it should be.
    """
    way_out = f"Put {STL_NAME} into {keras_folder('datasets')}, from {STL_URL}."
    model = model or feature_model(STL_SIDE, also=way_out)
    say("stl10: Keras fetches 2.6 GB, unless it has them.")
    path = fetched("stl10", fetch or _fetch_stl10, way_out)
    images, labels = read_stl10(Path(path))
    return extract(model, images, say), labels


def feature_model(side: int, weights: str | None = "imagenet", *, also: str = "") -> keras.Model:
    """Return a model from images (n, side, side, 3), 0..255, to their features (n, 2048).

    Images are resized to 224 x 224 (bilinear), brought to the network's range (BGR, less the mean
    of ImageNet), and the last feature maps averaged.

    Parameters
    ----------
    side : int
        Height and width of the images.
    weights : {"imagenet", None}, default="imagenet"
        None leaves the network untrained, for tests.
    also : str, default=""
        Which other files are needed without a network: a sentence to end the error with.

    Raises
    ------
    DatasetUnavailableError
        If the weights, 95 MB, can't be downloaded.
    """
    with cli.quiet_start():
        import keras

    way_out = f"Put {WEIGHTS_NAME} into {keras_folder('models')}, from {WEIGHTS_URL}. {also}"
    resnet = fetched(
        "The ImageNet weights of ResNet-50",
        lambda: keras.applications.ResNet50(
            include_top=False,
            pooling="avg",
            weights=weights,
            input_shape=(RESNET_SIDE, RESNET_SIDE, 3),
        ),
        way_out,
    )
    images = keras.Input((side, side, 3))
    resized = keras.layers.Resizing(RESNET_SIDE, RESNET_SIDE, interpolation="bilinear")(images)
    scaled = keras.applications.resnet50.preprocess_input(resized)
    return keras.Model(images, resnet(scaled))


def extract(
    model: keras.Model, images: NDArray[np.uint8], say: Say, batch_size: int = BATCH_SIZE
) -> NDArray[np.float32]:
    """Return the features of all images, batch by batch, and tell how far it is.

    Parameters
    ----------
    model : keras.Model
        As `feature_model` returns it.
    images : ndarray of shape (n_samples, height, width, 3), uint8
    say : callable
        Takes a line at each 50th part of the way.
    batch_size : int, default=32
        Bounds the memory; the features do not depend on it.

    Returns
    -------
    ndarray of shape (n_samples, n_features), float32
    """
    n_samples = len(images)
    features = np.empty((n_samples, model.output_shape[-1]), dtype=np.float32)
    n_said, begin = -1, time.monotonic()
    for start in range(0, n_samples, batch_size):
        stop = min(start + batch_size, n_samples)
        features[start:stop] = model.predict_on_batch(images[start:stop].astype(np.float32))
        if n_said < N_REPORTS * stop // n_samples:
            n_said = N_REPORTS * stop // n_samples
            minutes = (time.monotonic() - begin) * (n_samples - stop) / stop / 60
            say(f"features of {stop} of {n_samples} images, {minutes:.0f} min left")
    return features


def _fetch_stl10() -> str:
    """Return the path of the archive in Keras's cache, checked by its SHA-256."""
    import keras

    return str(keras.utils.get_file(STL_NAME, STL_URL, file_hash=STL_SHA256))


def read_stl10(path: Path) -> Samples:
    """Return the labelled images of stl10_binary.tar.gz, train before test.

    The archive is read as a stream, nothing is unpacked to the disk, and reading stops when the
    four files with labels have come.

    Returns
    -------
    images : ndarray of shape (n_samples, 96, 96, 3), uint8
        The files hold 3 x 96 x 96 bytes an image, a colour after the other, each by columns.
    labels : ndarray of shape (n_samples,), int64
        0 to 9.

    Raises
    ------
    ValueError
        If the archive is damaged, lacks a file, or sizes or labels are wrong.
    """
    contents = _read_members(path)
    missing = [name for name in STL_MEMBERS if name not in contents]
    if missing:
        raise file_error(path, f"an archive with {', '.join(STL_MEMBERS)}", f"no {missing[0]}")
    images, labels = [], []
    for part in ("train", "test"):
        pixels, classes = contents[f"{part}_X.bin"], contents[f"{part}_y.bin"]
        if not len(classes) or len(pixels) != len(classes) * STL_BYTES:
            wanted = f"an archive of {STL_BYTES} bytes an image and one label each"
            found = f"{len(pixels)} bytes and {len(classes)} labels ({part})"
            raise file_error(path, wanted, found)
        if classes.min() < 1 or classes.max() > 10:
            found = f"{classes.min()}..{classes.max()} ({part})"
            raise file_error(path, "an archive of labels 1..10", found)
        # From (image, colour, column, row) to (image, row, column, colour).
        images.append(pixels.reshape(-1, 3, STL_SIDE, STL_SIDE).transpose(0, 3, 2, 1))
        labels.append(classes.astype(np.int64) - 1)
    return np.concatenate(images), np.concatenate(labels)


def _read_members(path: Path) -> dict[str, NDArray[np.uint8]]:
    """Return the bytes of the wanted members, as far as they are there."""
    contents: dict[str, NDArray[np.uint8]] = {}
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if name not in STL_MEMBERS or not member.isfile():
                    continue
                if member.size > STL_MAX_BYTES:
                    wanted = f"an archive of files of at most {STL_MAX_BYTES} bytes"
                    raise file_error(path, wanted, f"{member.size} in {name}")
                stream = cast(Any, archive.extractfile(member))
                contents[name] = np.frombuffer(stream.read(), dtype=np.uint8)
                if len(contents) == len(STL_MEMBERS):
                    break
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise file_error(path, "an intact .tar.gz file", error) from error
    return contents
