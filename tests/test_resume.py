"""A run that is stopped goes on from its checkpoint to the same result, bit for bit."""

import keras
import numpy as np
import pytest

from clustering_common import run_state, training
from dec_da import ConvIDEC, FcDCN, FcDEC, FcIDEC
from kingdra_cluster import KingdraCluster, LadderIM

pytestmark = [pytest.mark.filterwarnings("ignore:After fit, ")]
# Compiling costs JAX seconds a fit.
EVERY_NTH = 2 if keras.backend.backend() == "jax" else 1
SETTINGS = {
    "n_clusters": 3,
    "aug_pretrain": True,
    "aug_cluster": True,
    "pretrain_epochs": 4,
    "pretrain_optimizer": "adam",
    "pretrain_learning_rate": 0.01,
    "max_iter": 20,
    "update_interval": 5,
    "tol": 0,
    "batch_size": 6,
    "random_state": 0,
}
SIZES = {ConvIDEC: {"filters": (4, 4, 8), "embedding_dim": 3}}


class Killed(BaseException):
    """Stands for a kill at a block's end."""


class KillAfter(keras.callbacks.Callback):
    """Raise after a number of blocks."""

    def __init__(self, n_blocks):
        super().__init__()
        self.left = n_blocks

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left < 0:
            raise Killed


def make(cls, **params):
    return cls(**{**SETTINGS, **SIZES.get(cls, {"layer_sizes": (16, 3)}), **params})


def state(model, X):
    return model.labels_, model.predict_proba(X), model.history_, model.n_iter_


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch):
    monkeypatch.setattr(training, "BLOCK_STEPS", 2)  # so that epochs have several blocks


@pytest.mark.parametrize(
    "cls", [FcDEC, *(pytest.param(c, marks=pytest.mark.slow) for c in (FcIDEC, FcDCN, ConvIDEC))]
)
def test_resumed_runs_equal_the_uninterrupted_run(cls, images, tmp_path):
    whole = make(cls).fit(images)
    assert len(whole.history_["cluster"]) == 5
    for n_blocks in (1, 7, 13, 20)[::EVERY_NTH]:
        folder = tmp_path / str(n_blocks)
        killer = KillAfter(n_blocks)
        stopped = make(cls)
        with pytest.raises(Killed):
            stopped.fit(
                images,
                callbacks=[killer],
                pretrain_callbacks=[killer],
                checkpoint_dir=folder,
                checkpoint_every=0,
            )
        assert not hasattr(stopped, "labels_")
        resumed = make(cls).fit(images, checkpoint_dir=folder)
        for ours, theirs in zip(state(resumed, images), state(whole, images), strict=True):
            if isinstance(ours, np.ndarray):
                np.testing.assert_array_equal(ours, theirs)
            else:
                assert ours == theirs


ROUNDS = {
    "n_class": 3, "fc_layer_sizes": (8, 3), "denoising_cost": (10, 1, 0.1), "batch_size": 16,
    "n_epochs_per_iter": 2, "lr": 0.02, "mi_loss_w_init": 1, "random_state": 0,
}  # fmt: skip


def ladder(cls):
    if cls is LadderIM:
        return LadderIM(n_iter=9, **ROUNDS)
    return KingdraCluster(
        n_en=3, n_iter=3, low_th=0, high_th=2, thresh=0, n_epochs_per_iter0=15, **ROUNDS
    )


@pytest.mark.parametrize("cls", [KingdraCluster, pytest.param(LadderIM, marks=pytest.mark.slow)])
def test_resumed_rounds_equal_the_uninterrupted_run(cls, blobs, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "BLOCK_STEPS", 1)
    whole = ladder(cls).fit(blobs)
    assert ("sup_loss" in whole.history_[-1]) == (cls is KingdraCluster)
    for n_blocks in (0, 13, 31, 35)[::-EVERY_NTH]:
        folder = tmp_path / str(n_blocks)
        write, left = run_state.RunState.write, [n_blocks]

        def killed(self, values, arrays, write=write, left=left):
            if not left[0]:
                raise Killed
            left[0] -= 1
            write(self, values, arrays)

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(run_state.RunState, "write", killed)
            ladder(cls).fit(blobs, checkpoint_dir=folder, checkpoint_every=0)
        resumed = ladder(cls).fit(blobs, checkpoint_dir=folder)
        assert resumed.history_ == whole.history_
        for name in ("labels_", "member_mapping_", "pseudo_labels_"):
            np.testing.assert_array_equal(getattr(resumed, name), getattr(whole, name))
        np.testing.assert_array_equal(resumed.predict_proba(blobs), whole.predict_proba(blobs))
