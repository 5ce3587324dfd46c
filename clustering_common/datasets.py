"""The data sets of the papers by name, from files where there are any, else downloaded."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from clustering_common.aligned import aligned, aligned_empty
from clustering_common.checks import check_choice
from clustering_common.dataset_files import MAX_BYTES, file_error, read_idx, read_jf, read_npz
from clustering_common.keras_files import keras_files
from clustering_common.prepare_fetch import DatasetUnavailableError, reason

__all__ = ["Dataset", "DatasetUnavailableError", "dataset_names", "download", "load_dataset"]

# Images of shape (n_samples, height, width), and labels.
Samples: TypeAlias = tuple[NDArray[Any], NDArray[Any]]

# Where Debian's package dataset-fashion-mnist puts its files.
SYSTEM_FOLDERS = {"fmnist": (Path("/usr/share/datasets/fashion-mnist"),)}
FOLDER_NAMES = {
    "mnist": ("mnist",),
    "mnist-test": ("mnist", "mnist-test"),
    "fmnist": ("fmnist", "fashion-mnist", "fashion_mnist"),
    "usps": ("usps",),
}
# Parts of a data set, in the order in which they are joined.
IDX_PARTS = {"mnist": ("train", "t10k"), "mnist-test": ("t10k",), "fmnist": ("train", "t10k")}
NPZ_PARTS = {"train": ("x_train", "y_train"), "t10k": ("x_test", "y_test")}
JF_FILES = ("usps_train.jf", "usps_test.jf")
N_CLASSES = 10
MAX_IMAGES = 1 << 20  # MNIST has 70,000
# USPS, version 2: train and test, values -1..1, labels "1".."10".
OPENML_USPS_ID = 41082

IDX_FILES = (
    "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and "
    "t10k-labels-idx1-ubyte.gz"
)
WAYS_OUT = {
    "mnist": f"{IDX_FILES}, or mnist.npz (from "
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz)",
    "fmnist": f"{IDX_FILES} (from https://github.com/zalandoresearch/fashion-mnist, or by "
    "`apt install dataset-fashion-mnist`)",
    "usps": "usps_train.jf and usps_test.jf "
    "(from https://www-i6.informatik.rwth-aachen.de/~keysers/usps.html)",
}
WAYS_OUT["mnist-test"] = WAYS_OUT["mnist"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and their classes.

    Attributes
    ----------
    images : ndarray of shape (n_samples, height, width, 1), float32
        Grey values, 0 to 1.
    labels : ndarray of shape (n_samples,), int64
        Classes, 0 to 9; for scores only.
    name : str
        The name it was loaded by.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    name: str

    @property
    def vectors(self) -> NDArray[np.float32]:
        """The images as rows, shape (n_samples, n_features): a view, no copy."""
        return self.images.reshape(len(self.images), -1)


def dataset_names() -> tuple[str, ...]:
    """Return the names that `load_dataset` knows."""
    return ("mnist", "mnist-test", "fmnist", "usps", "digits")


def load_dataset(
    name: str,
    data_dir: str | os.PathLike[str] = "data",
    *,
    fetch: Callable[[str], Samples] | None = None,
) -> Dataset:
    """Return a data set of the papers (SPEC 1.7), scaled to 0..1.

    Files are looked for in the folders of the data set below `data_dir` ("mnist", "mnist-test",
    "fmnist" or "fashion-mnist", "usps"), then in `data_dir` itself, then, for Fashion-MNIST, in
    /usr/share/datasets/fashion-mnist; what is found nowhere is downloaded. The first folder
    with a complete set of files wins.

    Parameters
    ----------
    name : {"mnist", "mnist-test", "fmnist", "usps", "digits"}
        mnist is train + test, 70,000 images of 28x28; mnist-test its 10,000 test images; fmnist
        Fashion-MNIST, train + test; usps 9,298 images of 16x16; digits the 1,797 images of 8x8
        that scikit-learn ships, for which no file is needed.
    data_dir : path, default="data"
        The folder to search; it need not exist.
    fetch : callable, default=None
        Called with the name when there are no files; returns images of shape
        (n_samples, height, width), 0..1, and labels. By default `download`.

    Returns
    -------
    Dataset
        In the order of the files, train before test.

    Raises
    ------
    ValueError
        If the name is unknown or a file is damaged.
    DatasetUnavailableError
        If there are no files and the download fails; a FileNotFoundError.

    Notes
    -----
    MNIST and Fashion-MNIST use the same file names. Files that lie in `data_dir` itself count
    as MNIST, unless the name of that folder is one of those for Fashion-MNIST.

    Examples
    --------
    >>> from clustering_common.datasets import load_dataset
    >>> digits = load_dataset("digits")
    >>> digits.images.shape, digits.vectors.shape
    ((1797, 8, 8, 1), (1797, 64))
    """
    check_choice("name", name, dataset_names())
    samples = _load_digits() if name == "digits" else _read_files(name, Path(data_dir))
    if samples is None:
        samples = _fetched(name, Path(data_dir), fetch or download)
    images = aligned(samples[0][..., np.newaxis], np.float32)
    return Dataset(images, samples[1].astype(np.int64, copy=False), name)


def download(name: str) -> Samples:
    """Return a data set from the network: Keras's downloader, or OpenML for usps.

    Both keep what they fetched (in ~/.keras and ~/scikit_learn_data), so the second call needs
    no network, and check it each time: what is damaged there is fetched anew. Images have the
    shape (n_samples, height, width) and values 0..1.

    Raises
    ------
    DatasetUnavailableError
        If the network or the server fails; the text is the reason and names the kept file.
    """
    try:
        return _download_usps() if name == "usps" else _download_with_keras(name)
    except Exception as error:
        raise DatasetUnavailableError(reason(error)) from error


def _fetched(name: str, data_dir: Path, fetch: Callable[[str], Samples]) -> Samples:
    """Return what fetch gives, or say which files would do, where from and where to."""
    try:
        return fetch(name)
    except OSError as error:
        searched = ", ".join(str(folder) for folder in _folders(name, data_dir))
        raise DatasetUnavailableError(
            f"name must be a data set on disk or one that can be downloaded; got {name!r}, which "
            f"is not in {searched}, and whose download failed ({error}). "
            f"Put {WAYS_OUT[name]} into {data_dir / FOLDER_NAMES[name][0]}."
        ) from error


def _download_with_keras(name: str) -> Samples:
    """Return MNIST or Fashion-MNIST from Keras's cache or server."""
    if name == "fmnist":
        return cast(Samples, _read_idx_folder(keras_files("fmnist"), name))
    return cast(Samples, _read_mnist_npz(keras_files("mnist"), name))


def _download_usps() -> Samples:
    """Return USPS from OpenML, with values and labels as in the .jf files."""
    from sklearn.datasets import fetch_openml, get_data_home

    kept = Path(get_data_home()) / "openml"
    with warnings.catch_warnings():
        # A failure becomes our own error; its retry, or that of a damaged file, needs no word.
        warnings.filterwarnings("ignore", message="A network error occurred|Invalid cache")
        try:
            values, labels = fetch_openml(
                data_id=OPENML_USPS_ID, as_frame=False, return_X_y=True, parser="liac-arff"
            )
        except LookupError as error:  # of a kept description that is none
            raise file_error(kept, "OpenML's own files", repr(error), "Delete it.") from error
        except Exception as error:
            raise DatasetUnavailableError(f"{str(kept)!r}: {reason(error)}") from error
    # There -1..1 and "1".."10"; in the .jf files, after division by 2, 0..1 and 0..9.
    images = (np.asarray(values, dtype=np.float64).reshape(-1, 16, 16) + 1) / 2
    digits = np.asarray(labels).astype(np.int64)
    return images, digits - digits.min()


def _load_digits() -> Samples:
    """Return the 8x8 digits that scikit-learn ships."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    return digits.images / 16, digits.target


def _folders(name: str, data_dir: Path) -> list[Path]:
    """Return the folders that may hold the files, the preferred one first."""
    data_dir = data_dir.expanduser()
    folders = [data_dir / folder for folder in FOLDER_NAMES[name]]
    is_fashion = data_dir.resolve().name in FOLDER_NAMES["fmnist"]
    if name == "usps" or is_fashion == (name == "fmnist"):
        folders.append(data_dir)
    return [*folders, *SYSTEM_FOLDERS.get(name, ())]


def _read_files(name: str, data_dir: Path) -> Samples | None:
    """Return the data set from the first folder that has all of its files, if any."""
    for folder in _folders(name, data_dir):
        samples = _read_jf_folder(folder) if name == "usps" else _read_idx_folder(folder, name)
        if samples is None and name in ("mnist", "mnist-test"):
            samples = _read_mnist_npz(folder, name)
        if samples is not None:
            return samples
    return None


def _find(folder: Path, *names: str) -> Path | None:
    """Return the first of the names that is a file in the folder."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _read_jf_folder(folder: Path) -> Samples | None:
    """Return USPS from its two files, packed or not; None unless both are there."""
    paths = [path for name in JF_FILES if (path := _find(folder, name, f"{name}.gz"))]
    return _joined([read_jf(path) for path in paths], 2) if len(paths) == len(JF_FILES) else None


def _read_idx_folder(folder: Path, name: str) -> Samples | None:
    """Return images and labels of idx files, packed or not; None unless all are there."""
    pairs = []
    for part in IDX_PARTS[name]:
        images_path = _find_idx(folder, f"{part}-images", 3)
        labels_path = _find_idx(folder, f"{part}-labels", 1)
        if images_path is None or labels_path is None:
            return None
        pairs.append((images_path, labels_path))
    parts = [_checked(labels, read_idx(images, 3), read_idx(labels, 1)) for images, labels in pairs]
    return _joined(parts, 255)


def _find_idx(folder: Path, stem: str, n_axes: int) -> Path | None:
    """Return the idx file by its usual name, or the one with a dot, packed or not."""
    names = (f"{stem}-idx{n_axes}-ubyte", f"{stem}.idx{n_axes}-ubyte")
    return _find(folder, *(name + suffix for name in names for suffix in (".gz", "")))


def _read_mnist_npz(folder: Path, name: str) -> Samples | None:
    """Return MNIST from mnist.npz; None if there is no such file."""
    path = _find(folder, "mnist.npz")
    if path is None:
        return None
    parts = [read_npz(path, NPZ_PARTS[part], MAX_BYTES) for part in IDX_PARTS[name]]
    return _joined([_checked(path, *part) for part in parts], 255)


def _checked(path: Path, images: NDArray[Any], labels: NDArray[Any]) -> Samples:
    """Return both after checking that there is one label 0..9 for each image."""
    if images.dtype != np.uint8 or images.ndim != 3 or not images.size:
        found = f"{images.dtype} of shape {images.shape}"
        raise file_error(path, "a file of uint8 images (n_samples, height, width)", found)
    if len(images) > MAX_IMAGES:
        raise file_error(path, f"a file of at most {MAX_IMAGES} images", len(images))
    if labels.shape != images.shape[:1]:
        found = f"labels of shape {labels.shape}"
        raise file_error(path, f"a file of {len(images)} labels, as many as its images", found)
    if labels.dtype.kind not in "iu" or not np.isin(labels, np.arange(N_CLASSES)).all():
        found = f"{labels.dtype} labels such as {np.unique(labels)[-1]}"
        raise file_error(path, f"a file of integer labels 0..{N_CLASSES - 1}", found)
    return images, labels


def _joined(parts: Sequence[Samples], maximum: int) -> Samples:
    """Return the parts one after the other, images divided by their maximum as float32."""
    sizes = {images.shape[1:] for images, _ in parts}
    if len(sizes) > 1:
        raise ValueError(
            f"The images of train and test must be of one size; got {sorted(sizes)!r}. "
            "Replace the files by those of one data set."
        )
    images, labels = (list(each) for each in zip(*parts, strict=True))
    scaled = aligned_empty((sum(map(len, images)), *images[0].shape[1:]))
    np.divide(np.concatenate(images, out=scaled), np.float32(maximum), out=scaled)
    return scaled, np.concatenate(labels)
