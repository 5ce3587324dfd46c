"""A run that is stopped goes on from its checkpoint to the same result, bit for bit."""

import shutil

import keras
import numpy as np
import pytest

from clustering_common import backend, resident, run_state, training
from dec_da import ConvIDEC, FcDCN, FcDEC, FcIDEC
from kingdra_cluster import KingdraCluster, LadderIM
from tests.unaligned import beside

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


class Moments:
    """Moments of one run: keep its checkpoints as they are at each, and raise at the last.

    A run that is killed at a moment leaves what is kept of it.
    """

    def __init__(self, moments, folder, tmp_path):
        self.moments, self.folder, self.tmp_path = moments, folder, tmp_path
        self.passed = 0

    def kept(self, moment):
        return self.tmp_path / f"moment{moment}"

    def come(self):
        if self.passed in self.moments:
            shutil.copytree(self.folder, self.kept(self.passed))
        if self.passed == max(self.moments):
            raise Killed
        self.passed += 1


class KillAfter(keras.callbacks.Callback):
    """Count blocks as moments."""

    def __init__(self, moments):
        super().__init__()
        self.moments = moments

    def on_train_batch_end(self, batch, logs=None):
        self.moments.come()


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
    moments = Moments((1, 7, 13, 20)[::EVERY_NTH], tmp_path / "run", tmp_path)
    killer, stopped = KillAfter(moments), make(cls)
    with pytest.raises(Killed):
        stopped.fit(
            images,
            callbacks=[killer],
            pretrain_callbacks=[killer],
            checkpoint_dir=moments.folder,
            checkpoint_every=0,
        )
    assert not hasattr(stopped, "labels_")
    for moment in moments.moments:
        resumed = make(cls).fit(images, checkpoint_dir=moments.kept(moment))
        for ours, theirs in zip(state(resumed, images), state(whole, images), strict=True):
            if isinstance(ours, np.ndarray):
                np.testing.assert_array_equal(ours, theirs)
            else:
                assert ours == theirs


@pytest.mark.skipif(not backend.joins_rows(), reason="copies what isn't aligned")
def test_a_run_goes_on_where_the_same_array_begins_elsewhere(images, tmp_path, monkeypatch):
    monkeypatch.setattr(resident, "MANY_BYTES", 0)
    monkeypatch.setattr(resident, "WIDE", 16)
    images = np.float32(images)
    whole = make(FcDEC).fit(beside(images, 0))
    moments = Moments((7, 13), tmp_path / "run", tmp_path)
    killer = KillAfter(moments)
    watched = {"callbacks": [killer], "pretrain_callbacks": [killer]}
    with pytest.raises(Killed):
        make(FcDEC).fit(
            beside(images, 3), **watched, checkpoint_dir=moments.folder, checkpoint_every=0
        )
    for moment, n_late in zip(moments.moments, (0, 5), strict=True):
        resumed = make(FcDEC).fit(beside(images, n_late), checkpoint_dir=moments.kept(moment))
        np.testing.assert_equal(state(resumed, images), state(whole, images))


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
    moments = Moments((35, 31, 13, 0)[::EVERY_NTH], tmp_path / "run", tmp_path)
    write = run_state.RunState.write

    def killed(self, values, arrays):
        moments.come()
        write(self, values, arrays)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(run_state.RunState, "write", killed)
        ladder(cls).fit(blobs, checkpoint_dir=moments.folder, checkpoint_every=0)
    for moment in moments.moments:
        resumed = ladder(cls).fit(blobs, checkpoint_dir=moments.kept(moment))
        assert resumed.history_ == whole.history_
        for name in ("labels_", "member_mapping_", "pseudo_labels_"):
            np.testing.assert_array_equal(getattr(resumed, name), getattr(whole, name))
        np.testing.assert_array_equal(resumed.predict_proba(blobs), whole.predict_proba(blobs))
