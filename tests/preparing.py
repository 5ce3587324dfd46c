"""What the tests of clustering_common.prepare share; their fixtures are in conftest.py."""

import hashlib
import io
import tarfile
import urllib.error
import zipfile

import numpy as np
import pytest


def quiet(line):
    pass


def raising(error):
    def fail(*args, **kwargs):
        raise error

    return fail


def offline(*args, **kwargs):
    raise urllib.error.URLError("no network")


def answers_404(test):
    ignored = pytest.mark.filterwarnings("ignore::ResourceWarning")
    return pytest.mark.usefixtures("open_responses")(ignored(test))


def tar_gz(path, contents):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pair(n_samples=6, n_features=3):
    rng = np.random.default_rng(0)
    return rng.random((n_samples, n_features), dtype=np.float32), np.arange(n_samples) % 2


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def npy(array, **kwargs):
    stream = io.BytesIO()
    np.save(stream, array, **kwargs)
    return stream.getvalue()


def make_zip(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def two_sets(top="ens_cluster_datasets/"):
    X, Y = pair()
    return {
        f"{top}mnist/train_X.npy": npy(X),
        f"{top}mnist/train_Y.npy": npy(Y),
        f"{top}20_news/train_X.npy": npy((X * 2).astype(np.float64)),
        f"{top}20_news/train_Y.npy": npy(Y.astype(np.int32)),
    }


def arrays_in(out, folder):
    place = out / "ens_cluster_datasets" / folder
    return np.load(place / "train_X.npy"), np.load(place / "train_Y.npy")
