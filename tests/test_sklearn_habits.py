"""Pipelines, frames, scorers and pickles, as with any estimator of scikit-learn."""

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import joblib
import keras
import numpy as np
import pytest
import scipy.sparse
from keras.callbacks import LambdaCallback
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, get_scorer, make_scorer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from dec_da import ConvDEC, FcDEC
from kingdra_cluster import KingdraCluster, LadderIM
from tests.marks import LEARNS_LITTLE

ROOT = Path(__file__).resolve().parent.parent
pytestmark = [*LEARNS_LITTLE, pytest.mark.usefixtures("uncompiled")]
LADDER = {
    "n_class": 3, "n_iter": 2, "batch_size": 15, "fc_layer_sizes": (8, 3), "random_state": 0,
    "denoising_cost": (10, 1, 0.1), "n_epochs_per_iter": 2, "mi_loss_w_init": 1, "lr": 0.02,
}  # fmt: skip


def fc_dec():
    return FcDEC(
        3, layer_sizes=(16, 3), pretrain_epochs=4, pretrain_optimizer="adam",
        pretrain_learning_rate=0.01, max_iter=4, update_interval=2, batch_size=15, random_state=0,
    )  # fmt: skip


MAKERS = {
    "FcDEC": fc_dec,
    "ConvDEC": lambda: ConvDEC(
        3, filters=(4, 4, 4), embedding_dim=3, pretrain_epochs=1, max_iter=2, batch_size=15,
        random_state=0,
    ),
    "KingdraCluster": lambda: KingdraCluster(
        n_en=2, high_th=1, low_th=0, thresh=0, n_epochs_per_iter0=2, **LADDER
    ),
    "LadderIM": lambda: LadderIM(**LADDER),
}  # fmt: skip
EACH = pytest.mark.parametrize("name", MAKERS)


@pytest.fixture(scope="module")
def truth():
    return np.arange(45) % 3


@pytest.fixture
def data(blobs, images):
    return lambda name: images if name == "ConvDEC" else blobs


def test_a_scaler_before(blobs, truth):
    seen = []
    watcher = LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    pipeline = Pipeline([("scaler", StandardScaler()), ("dec", fc_dec())])
    labels = pipeline.fit_predict(blobs, dec__callbacks=[watcher])
    assert seen == list(range(len(seen))) != []
    assert np.array_equal(labels, pipeline.predict(blobs))
    assert pipeline.transform(blobs).shape == (45, 3)
    own = fc_dec().fit(StandardScaler().fit_transform(blobs))
    assert np.array_equal(labels, own.labels_)
    again = clone(pipeline).set_params(dec__n_clusters=2).fit(blobs)
    assert again["dec"].cluster_centers_.shape == (2, 3)


def test_kmeans_after(blobs):
    pipeline = make_pipeline(fc_dec(), KMeans(3, n_init=3, random_state=0))
    labels = pipeline.fit_predict(blobs)
    embedding = fc_dec().fit(blobs).transform(blobs)
    own = KMeans(3, n_init=3, random_state=0).fit(embedding)
    assert adjusted_rand_score(labels, own.labels_) == 1
    assert np.array_equal(pipeline.predict(blobs), labels)


@EACH
def test_scorers(name, data, truth):
    model = MAKERS[name]().fit(data(name))
    labels_true = truth[: len(data(name))]
    expected = adjusted_rand_score(labels_true, model.labels_)
    for scorer in (get_scorer("adjusted_rand_score"), make_scorer(adjusted_rand_score)):
        assert scorer(model, data(name), labels_true) == expected


def test_frames(blobs):
    pd = pytest.importorskip("pandas")
    names, index = [f"f{i}" for i in range(6)], [f"row{i}" for i in range(45)]
    frame = pd.DataFrame(blobs, columns=names, index=index)
    pipeline = make_pipeline(StandardScaler(), fc_dec()).set_output(transform="pandas")
    embedding = pipeline.fit(frame).transform(frame)
    assert embedding.columns.tolist() == ["fcdec0", "fcdec1", "fcdec2"]
    assert embedding.index.tolist() == index
    assert pipeline[-1].feature_names_in_.tolist() == names
    for make in (MAKERS["FcDEC"], MAKERS["KingdraCluster"]):
        model = make().fit(frame)
        assert model.feature_names_in_.tolist() == names
        assert np.array_equal(model.labels_, make().fit(blobs).labels_)
        with pytest.raises(ValueError, match="feature names should match"):
            model.predict(frame[names[::-1]])


@pytest.mark.parametrize("name", ["FcDEC", "KingdraCluster", "LadderIM"])
def test_kinds_of_input(name):
    X = np.random.default_rng(0).integers(0, 4, (45, 6))
    model = MAKERS[name]().fit(X.astype(np.float32))
    frozen = X.astype(np.float64)
    frozen.setflags(write=False)
    views = np.asfortranarray(X.astype(np.float32)), np.repeat(X, 2, axis=1)[:, ::2]
    for same in (X, X.astype(np.uint8), X.tolist(), frozen, *views):
        assert np.array_equal(clone(model).fit(same).labels_, model.labels_)
        assert np.array_equal(model.predict_proba(same), model.predict_proba(X))
    if name != "FcDEC":
        sparse = model.predict_proba(scipy.sparse.csr_matrix(X.astype(np.float32)))
        assert np.array_equal(sparse, model.predict_proba(X))


@EACH
def test_copies(name, data, tmp_path):
    """By pickle, joblib and copy: all that was learned, and prediction to the bit."""
    model = MAKERS[name]().fit(data(name))
    joblib.dump(model, tmp_path / "model.joblib", compress=1)
    copies = [
        pickle.loads(pickle.dumps(model)),
        joblib.load(tmp_path / "model.joblib"),
        copy.deepcopy(model),
        copy.copy(model),
    ]
    for one in copies:
        assert np.array_equal(one.predict_proba(data(name)), model.predict_proba(data(name)))
        assert np.array_equal(one.labels_, model.labels_)
        assert (one.history_, one.n_iter_) == (model.history_, model.n_iter_)
        assert one.get_params() == model.get_params()
    again = copies[2].fit(data(name))  # which the original does not feel
    assert again is copies[2]
    assert np.array_equal(model.predict(data(name)), model.labels_)


@EACH
def test_copies_without_fit(name, tmp_path):
    estimator = MAKERS[name]().set_params(verbose=2)
    joblib.dump(estimator, tmp_path / "estimator.joblib")
    for one in (
        pickle.loads(pickle.dumps(estimator)),
        joblib.load(tmp_path / "estimator.joblib"),
        copy.deepcopy(estimator),
        clone(estimator),
    ):
        assert one.get_params() == estimator.get_params()
        assert not hasattr(one, "labels_")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["tensorflow", "jax"])
def test_a_pickle_in_another_process(engine, blobs, tmp_path):
    """Under the same engine to the bit, under another to rounding."""
    models = {name: MAKERS[name]().fit(blobs) for name in ("FcDEC", "KingdraCluster")}
    joblib.dump(models, tmp_path / "models.joblib")
    np.save(tmp_path / "X.npy", blobs)
    script = (
        "import joblib, numpy as np\n"
        "X = np.load('X.npy')\n"
        "found = {k: m.predict_proba(X) for k, m in joblib.load('models.joblib').items()}\n"
        "np.savez('found.npz', **found)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": engine}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)
    with np.load(tmp_path / "found.npz") as found:
        for name, model in models.items():
            proba = model.predict_proba(blobs)
            if engine == keras.backend.backend():
                assert np.array_equal(found[name], proba)
            else:
                np.testing.assert_allclose(found[name], proba, atol=1e-5)
