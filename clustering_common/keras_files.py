"""The files of MNIST and Fashion-MNIST from Keras's server, checked by their SHA-256."""

from __future__ import annotations

from pathlib import Path

from clustering_common.prepare_fetch import DatasetUnavailableError, keras_folder, reason

__all__ = ["keras_files"]

URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
# mnist.npz: the one that Keras checks. Fashion-MNIST, for which Keras has none: of the four files
# whose MD5s its authors publish (github.com/zalandoresearch/fashion-mnist).
SHA256 = {
    "mnist": {
        "mnist.npz": "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
    },
    "fmnist": {
        "train-images-idx3-ubyte.gz":
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1-ubyte.gz":
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3-ubyte.gz":
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1-ubyte.gz":
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
}  # fmt: skip
# Where Keras's own loaders keep them, below its folder for data sets.
FOLDERS = {"mnist": ".", "fmnist": "fashion-mnist"}


def keras_files(name: str) -> Path:
    """Return the folder in which Keras keeps the files of a data set.

    Those that are missing, and those whose checksum is another, are downloaded first.

    Parameters
    ----------
    name : {"mnist", "fmnist"}

    Raises
    ------
    DatasetUnavailableError
        If a download fails or brings another file; the text names the file.
    """
    import keras  # here, because it takes seconds and most calls need it not

    folder = keras_folder("datasets") / FOLDERS[name]
    for file_name, checksum in SHA256[name].items():
        try:
            keras.utils.get_file(
                file_name,
                URL + file_name,
                cache_subdir=str(folder),
                file_hash=checksum,
                hash_algorithm="sha256",
            )
        except Exception as error:
            text = f"{str(folder / file_name)!r}: {reason(error)}"
            raise DatasetUnavailableError(text) from error
    return folder
