"""Fits on one and on two virtual devices, in a process of their own, which must start with two.

``python -m tests.two_devices FOLDER CASE ...`` prints what each case learned, as JSON.
"""

import json
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
from scipy import sparse

from clustering_common import backend, devices, mapped
from dec_da import ConvIDEC, FcDCN, FcDEC, FcIDEC
from kingdra_cluster import KingdraCluster
from tests.fingerprints import CONV, DENSE, LADDER

ENGINE = keras.backend.backend()
KINGDRA = {**LADDER, "n_en": 4, "high_th": 3, "low_th": 0, "thresh": 0}
IDEC = {
    "optimizer": "adam",
    "learning_rate": 0.001,
    "pretrain_epochs": 20,
    "pretrain_learning_rate": 0.01,
}
QUICK = "FcDEC, few steps"
FEW = {"pretrain_epochs": 2, "max_iter": 4, "update_interval": 2, "layer_sizes": (8, 3)}
CASES = {
    QUICK: (FcDEC, {**DENSE, **FEW}),
    "FcDEC": (FcDEC, DENSE),
    "FcIDEC": (FcIDEC, {**DENSE, **IDEC}),
    "FcDCN": (FcDCN, {**DENSE, "move_centers": True}),
    "ConvIDEC": (ConvIDEC, {**CONV, **IDEC}),
    "FcDEC of a file": (FcDEC, DENSE),
    "KingdraCluster": (KingdraCluster, KINGDRA),
    "KingdraCluster of sparse rows": (KingdraCluster, {**KINGDRA, "n_iter": 2}),
}
WHOLE = ("FcDEC", "KingdraCluster")  # saved, loaded and resumed too


class Stopped(BaseException):
    """Stands for a kill."""


class StopAfter(keras.callbacks.Callback):
    """Raise after an update or iteration."""

    def __init__(self, update):
        super().__init__()
        self.update = update

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.update:
            raise Stopped


class Places(keras.callbacks.Callback):
    """Keep how the weights lie after the first update: the shapes of the parts on each device."""

    def on_epoch_end(self, epoch, logs=None):
        weight = max(self.model.trainable_variables, key=lambda each: np.prod(each.shape)).value
        if ENGINE == "jax":
            self.found = [shard.data.shape for shard in weight.addressable_shards]
        else:
            values = getattr(weight, "values", (weight,))
            self.found = [tuple(each.shape) for each in values]
            first = values[0].numpy()
            assert all((each.numpy() == first).all() for each in values)


def start():
    """Make two devices of the CPU."""
    if ENGINE == "tensorflow":
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2
        )


def data(case, folder):
    rng = np.random.default_rng(0)
    X = rng.uniform(0, 0.2, (36, 8, 8))
    X[0::3, 3:5, :] += 0.8
    X[1::3, :, 3:5] += 0.8
    X[2::3, :4, :4] += 0.8
    X = X.astype(np.float32)
    if "file" in case:
        mapped.LARGE_BYTES = 1
        np.save(folder / "x.npy", X)
        return np.load(folder / "x.npy", mmap_mode="r")
    return sparse.csr_matrix(X.reshape(36, -1)) if "sparse" in case else X


def learned(cls, params, X, n_devices, **options):
    """Fit on so many devices and return the model and what it learned."""
    places = Places()
    with devices.use(n_devices):
        name = backend.device_name()
        model = cls(**params).fit(X, callbacks=[places], **options)
    found = {
        "history": model.history_,
        "labels": model.labels_.tolist(),
        "predicted": model.predict(X).tolist(),
        "proba": np.asarray(model.predict_proba(X), float).tolist(),
        "places": places.found,
        "device": name,
    }
    return model, found


def resumed(cls, params, X, folder):
    """Return what two and one device learn from a checkpoint of two that were stopped."""
    found = {}
    for n_devices in (2, 1):
        place = folder / f"{cls.__name__}{n_devices}"
        kept = {"checkpoint_dir": place, "checkpoint_every": 0}
        try:
            with devices.use(2):
                cls(**params).fit(X, callbacks=[StopAfter(1)], **kept)
        except Stopped:
            pass
        found[f"resumed on {n_devices}"] = learned(cls, params, X, n_devices, **kept)[1]
    return found


def reloaded(model, X, folder):
    """Return the predictions of the saved model, loaded inside and outside of a distribution."""
    path = folder / "model.h5"
    model.save(path)
    found = {"loaded": type(model).load(path).predict(X).tolist()}
    with devices.use(2):
        found["loaded on two"] = type(model).load(path).predict(X).tolist()
    return found


def run(case, folder):
    """Return all that a case has to show."""
    cls, params = CASES[case]
    X = data(case, folder)
    _, one = learned(cls, params, X, 1)
    model, two = learned(cls, params, X, 2)
    found = {"one": one, "two": two}
    if case in WHOLE:
        found |= {**reloaded(model, X, folder), **resumed(cls, params, X, folder)}
    return found


def main() -> None:
    """Print what the cases learned."""
    start()
    folder = Path(sys.argv[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", "After fit")  # of so short a training: empty clusters
        warnings.filterwarnings("ignore", "No round found")
        sys.stdout.write(json.dumps({case: run(case, folder) for case in sys.argv[2:]}))


if __name__ == "__main__":
    main()
