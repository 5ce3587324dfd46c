"""What training costs besides arithmetic: tracing and copies to the host, both counted."""

import collections

import keras
import numpy as np
import pytest

from clustering_common import backend
from clustering_common.training import ROWS_PER_CALL
from dec_da import FcDCN, FcIDEC
from dec_da.assignment import ClusteringLayer
from dec_da.models import ReconstructionModel, SoftAssignmentModel
from kingdra_cluster import KingdraCluster
from kingdra_cluster.ladder import LadderNetwork
from kingdra_cluster.members import LadderTrainer

# An engine traces a step, or an inference, by running its Python.
TRACED = [
    (ReconstructionModel, "call"),
    (SoftAssignmentModel, "call"),
    (LadderTrainer, "call"),
    (ClusteringLayer, "log_assignment"),
    (LadderNetwork, "probabilities"),
    (LadderNetwork, "clean_activation"),
]


@pytest.fixture
def counts(monkeypatch):
    """Count traces by name, and the numbers that are copied to the host under 'copied'."""
    found = collections.Counter()

    def counted(cls, name):
        original = getattr(cls, name)

        def call(*args, **kwargs):
            found[f"{cls.__name__}.{name}"] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(cls, name, call)

    for cls, name in TRACED:
        counted(cls, name)
    original = keras.ops.convert_to_numpy

    def convert_to_numpy(x):
        array = original(x)
        found["copied"] += np.size(array)
        return array

    monkeypatch.setattr(keras.ops, "convert_to_numpy", convert_to_numpy)
    return found


class Snapshots(keras.callbacks.Callback):
    """Keep the counts as they are at the end of each epoch."""

    def __init__(self, counts):
        super().__init__()
        self.counts, self.rows = counts, []

    def on_epoch_end(self, epoch, logs=None):
        self.rows.append(dict(self.counts))


def changes(rows):
    """Return what was counted from the second epoch's end to the last one's."""
    last, second = rows[-1], rows[1]
    return {name: n - second.get(name, 0) for name, n in last.items() if n != second.get(name, 0)}


@pytest.mark.parametrize("family", [FcIDEC, FcDCN])
def test_dec_traces_nothing_after_the_second_epoch(images, counts, family):
    pretraining, clustering = Snapshots(counts), Snapshots(counts)
    model = family(
        3, layer_sizes=(5, 2), aug_pretrain=True, aug_cluster=True, pretrain_epochs=5,
        update_interval=3, max_iter=14, tol=0, batch_size=10, random_state=0,
    )  # fmt: skip
    model.fit(images, pretrain_callbacks=[pretraining], callbacks=[clustering])
    assert len(pretraining.rows) == len(clustering.rows) == 5
    assert clustering.rows[1]["ReconstructionModel.call"] > 0
    # Nothing is traced, and nothing is copied in pretraining but the losses, by Keras itself.
    assert changes(pretraining.rows) == {}
    # The labels of three more updates.
    assert changes(clustering.rows) == {"copied": 3 * len(images)}


def test_kingdra_traces_nothing_after_the_second_iteration(blobs, counts):
    snapshots = Snapshots(counts)
    model = KingdraCluster(
        3, n_en=2, high_th=1, low_th=1, thresh=0, n_iter=6, n_epochs_per_iter0=5, lr=0.02,
        n_epochs_per_iter=2, fc_layer_sizes=(5, 3), denoising_cost=(1, 1, 1), batch_size=10,
        random_state=0,
    )  # fmt: skip
    model.fit(blobs, callbacks=[snapshots])
    assert snapshots.rows[1]["LadderTrainer.call"] > 0
    found = changes(snapshots.rows)
    copied = found.pop("copied")
    # A step with pseudo-labels is another, once: in the iteration after the first whole buckets.
    first = next(i for i, row in enumerate(model.history_) if min(row["bucket_sizes"]))
    assert set(found) == ({"LadderTrainer.call"} if first > 0 else set())
    assert found.get("LadderTrainer.call", 0) <= 2  # TensorFlow may trace a function twice
    # An iteration's probabilities, and two moments for each normalised layer and chunk of rows.
    assert copied <= 4 * (2 * ROWS_PER_CALL * 3 + 2 * 2 * (5 + 3))


def test_the_counters_count(counts):
    backend.to_numpy(keras.ops.ones((3, 2)))
    assert counts["copied"] == 6
