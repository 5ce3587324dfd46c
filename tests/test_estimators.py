import contextlib
import pickle
import random

import keras
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from clustering_common.callbacks import LabelsMonitor, Recorder, TrainingDivergedError, scores
from dec_da import ConvDEC, ConvIDEC, FcDCN, FcDEC, FcIDEC, base, phases
from tests.sklearn_checks import OF_THE_CLASS, checks

FAST = {
    "pretrain_epochs": 3,
    "pretrain_optimizer": "adam",
    "pretrain_learning_rate": 0.01,
    "max_iter": 4,
    "update_interval": 2,
    "optimizer": "adam",
    "learning_rate": 0.001,
    "batch_size": 12,
    "random_state": 0,
}
# For scikit-learn's checks: hundreds of fits, where a step that is not compiled costs 0.1 s.
FEW_STEPS = {"pretrain_epochs": 1, "max_iter": 2, "update_interval": 1, "batch_size": 25}
UNTRAINED = {"pretrain_epochs": 0, "max_iter": 0}
DENSE = (FcDEC, FcIDEC, FcDCN)
CONV = (ConvDEC, ConvIDEC)
# A few steps of a larger rate would move so small an embedding away from its centres.
CONV_SIZES = {
    "filters": (8, 8, 16),
    "embedding_dim": 3,
    "pretrain_learning_rate": 0.003,
    "learning_rate": 0.00001,
}


def make(cls, **params):
    """Return a tiny estimator of 3 clusters."""
    sizes = {"layer_sizes": (32, 3)} if cls in DENSE else CONV_SIZES
    return cls(**{"n_clusters": 3, **FAST, **sizes, **params})


# That a cluster is empty after so few steps is no fault of the tests that are not about it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:After fit, "),
    pytest.mark.usefixtures("uncompiled"),
]


@pytest.fixture(scope="module")
def X(images):
    return images.reshape(len(images), -1)


@pytest.fixture(scope="module")
def fitted(images):
    """Return a fitted estimator of a class; each is fitted once."""
    cache = {}

    def get(cls):
        if cls not in cache:
            data = images.reshape(len(images), -1) if cls in DENSE else images
            cache[cls] = make(cls).fit(data)
        return cache[cls]

    return get


def data_of(cls, images):
    return images.reshape(len(images), -1) if cls in DENSE else images


# --- scikit-learn's own checks ---

# The shared base is checked once, on the default engine: JAX compiles each data shape anew.
SHARED = None if keras.backend.backend() == "tensorflow" else OF_THE_CLASS
FAST_CHECKS = [
    *checks(make(FcDEC, **FEW_STEPS), SHARED),
    *checks(make(FcIDEC, **FEW_STEPS), OF_THE_CLASS),
    *checks(make(FcDCN, **FEW_STEPS), OF_THE_CLASS),
    *(one for cls in CONV for one in checks(make(cls, **FEW_STEPS))),
]


@pytest.mark.parametrize(("estimator", "check"), FAST_CHECKS)
# Some of the checks' data are 100 +- 1, where a tiny network may well put all in one cluster.
@pytest.mark.filterwarnings("ignore:After fit:UserWarning")
def test_sklearn_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:After fit:UserWarning")
@pytest.mark.parametrize(
    ("estimator", "check"), [one for cls in DENSE for one in checks(make(cls))]
)
def test_all_sklearn_checks(estimator, check):
    check(estimator)


# --- what a fitted estimator offers ---


@pytest.mark.parametrize("cls", [*DENSE, *CONV])
def test_fitted_attributes(cls, fitted, images):
    model, data = fitted(cls), data_of(cls, images)
    assert model.labels_.shape == (36,)
    assert model.labels_.dtype.kind == "i"
    assert model.cluster_centers_.shape == (3, 3)
    assert model.n_features_in_ == 64
    assert 1 <= model.n_iter_ <= 4
    assert model.termination_condition_ in ("tol", "max_iter")
    assert len(model.history_["pretrain"]) == 3
    assert [row["iter"] for row in model.history_["cluster"]] == [0, 2, 4][: model.n_iter_ // 2 + 1]
    assert set(model.seconds_) == {"pretrain", "kmeans", "cluster"}
    proba = model.predict_proba(data)
    assert proba.shape == (36, 3)
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-6)
    assert np.array_equal(proba.argmax(axis=1), model.labels_)
    assert np.array_equal(model.predict(data), model.labels_)
    embedding = model.transform(data)
    assert embedding.shape == (36, 3)
    distances = ((embedding[:, None] - model.cluster_centers_[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(
        proba, (q := 1 / (1 + distances)) / q.sum(1, keepdims=True), rtol=1e-4
    )
    assert model.inverse_transform(embedding).shape == data.shape


@pytest.mark.parametrize("cls", DENSE)
def test_the_groups_are_found(cls, fitted, image_labels):
    assert scores(image_labels, fitted(cls).labels_)["acc"] > 0.8


@pytest.mark.parametrize("cls", [*DENSE, *CONV])
def test_a_seed_repeats_everything(cls, fitted, images):
    model, data = fitted(cls), data_of(cls, images)
    again = clone(model).fit(data)
    assert np.array_equal(again.labels_, model.labels_)
    assert np.array_equal(again.transform(data), model.transform(data))
    assert again.history_ == model.history_


def test_another_seed_differs(fitted, X):
    other = make(FcDEC, random_state=1).fit(X)
    assert not np.allclose(other.transform(X), fitted(FcDEC).transform(X), atol=1e-3)


def test_augmentation_is_repeated_by_its_seed_and_matters(fitted, X):
    both = {"aug_pretrain": True, "aug_cluster": True}
    first = make(FcDEC, **both).fit(X)
    assert np.array_equal(first.transform(X), make(FcDEC, **both).fit(X).transform(X))
    assert not np.allclose(first.transform(X), fitted(FcDEC).transform(X), atol=1e-3)
    one = make(FcDEC, aug_cluster=True).fit(X)
    plain = fitted(FcDEC).history_
    assert one.history_["pretrain"] == plain["pretrain"]
    assert one.history_["cluster"][1]["loss"] != plain["cluster"][1]["loss"]


def test_global_random_state_is_neither_used_nor_touched(fitted, X):
    np.random.seed(123)  # noqa: NPY002
    random.seed(123)
    before = np.random.get_state(), random.getstate()  # noqa: NPY002
    model = make(FcDEC, aug_pretrain=True).fit(X)
    after = np.random.get_state(), random.getstate()  # noqa: NPY002
    assert before[1] == after[1]
    assert before[0][2:] == after[0][2:]
    assert np.array_equal(before[0][1], after[0][1])
    keras.utils.set_random_seed(5)
    again = make(FcDEC, aug_pretrain=True).fit(X)
    assert np.array_equal(model.transform(X), again.transform(X))


@pytest.mark.parametrize("method", ["predict", "predict_proba", "transform", "inverse_transform"])
@pytest.mark.parametrize("cls", [FcDEC, ConvDEC])
def test_an_estimator_without_fit(cls, method, images):
    with pytest.raises(NotFittedError):
        getattr(make(cls), method)(images)


@pytest.mark.parametrize("cls", CONV)
def test_manners_of_the_conv_classes(cls, fitted, images):
    estimator = make(cls)
    params = estimator.get_params()
    assert estimator.set_params(n_clusters=2, embedding_dim=4) is estimator
    assert estimator.get_params() == {**params, "n_clusters": 2, "embedding_dim": 4}
    assert clone(make(cls)).get_params() == params
    model = fitted(cls)
    back = pickle.loads(pickle.dumps(model))
    assert np.array_equal(back.predict_proba(images), model.predict_proba(images))
    assert np.array_equal(back.labels_, model.labels_)
    whole = model.predict_proba(images)
    for rows in ([5], [35, 0, 7], range(0, 36, 2)):
        rows = list(rows)
        assert np.array_equal(model.predict_proba(images[rows]), whole[rows])
        assert np.array_equal(model.predict(images[rows]), model.labels_[rows])
    with pytest.raises(ValueError, match=r"^X must be samples of shape \(8, 8\); got \(8, 12\)\."):
        model.predict(np.zeros((2, 8, 12)))
    with pytest.raises(ValueError, match=r"12 features.* 64 features"):
        model.predict(np.zeros((2, 12)))


def test_fit_returns_self_and_leaves_the_data(images):
    data = images.copy()
    estimator = make(ConvDEC, **UNTRAINED)
    assert estimator.fit(data) is estimator
    assert np.array_equal(data, images)
    assert np.array_equal(make(ConvDEC, **UNTRAINED).fit_predict(data), estimator.labels_)


def test_output_names(fitted, X):
    pd = pytest.importorskip("pandas")
    model = fitted(FcDEC)
    names = ["fcdec0", "fcdec1", "fcdec2"]
    assert model.get_feature_names_out().tolist() == names
    back = pickle.loads(pickle.dumps(model)).set_output(transform="pandas")
    frame = back.transform(X)
    assert isinstance(frame, pd.DataFrame)
    assert frame.columns.tolist() == names
    assert np.array_equal(frame.to_numpy(), model.transform(X))


@pytest.mark.parametrize("cls", [FcDEC, ConvDEC])
def test_layouts_agree(cls, images):
    vectors = make(cls, **UNTRAINED).fit(images.reshape(36, 64))
    for data in (images, images[..., None], images.astype(np.float64), images.tolist()):
        other = make(cls, **UNTRAINED).fit(data)
        assert np.array_equal(other.transform(data), vectors.transform(images.reshape(36, 64)))
        assert np.array_equal(other.predict(images.reshape(36, 64)), vectors.labels_)
    assert other.inverse_transform(np.zeros((2, 3))).shape == (2, 8, 8)
    assert vectors.inverse_transform(np.zeros((2, 3))).shape == (2, 64)


def test_colour_images():
    X = np.random.default_rng(0).random((6, 8, 12, 3)).astype(np.float32)
    model = make(ConvIDEC, **UNTRAINED).fit(X)
    assert model.inverse_transform(model.transform(X)).shape == X.shape
    assert model.n_features_in_ == 8 * 12 * 3


def test_images_of_another_shape_are_refused(fitted, images):
    """As many numbers, but not the images that fit saw."""
    with pytest.raises(ValueError, match=r"^X must be samples of shape \(8, 8\); got \(4, 16\)"):
        fitted(ConvDEC).predict(images.reshape(36, 4, 16))


@pytest.mark.parametrize("n_samples", [1, 3])
def test_as_many_clusters_as_samples(n_samples, X):
    model = make(FcDEC, n_clusters=n_samples).fit(X[:n_samples])
    assert sorted(model.labels_.tolist()) == list(range(n_samples))


def test_one_cluster(X):
    model = make(FcIDEC, n_clusters=1).fit(X)
    assert not model.labels_.any()
    assert model.predict_proba(X).tolist() == [[1.0]] * 36
    assert model.termination_condition_ == "tol"


# --- the truth stays outside ---


def test_labels_are_watched_but_never_learned_from(fitted, X, image_labels):
    model = make(FcDEC).fit(X, image_labels, callbacks=[LabelsMonitor(image_labels)])
    plain = fitted(FcDEC)
    assert np.array_equal(model.labels_, plain.labels_)
    assert np.array_equal(model.transform(X), plain.transform(X))
    for row, bare in zip(model.history_["cluster"], plain.history_["cluster"], strict=True):
        assert set(row) == {*bare, "acc", "nmi", "ari"}
        assert {name: row[name] for name in bare} == bare
    # The labels of the last update are the final ones: no step comes after it.
    last = {name: model.history_["cluster"][-1][name] for name in ("acc", "nmi", "ari")}
    assert last == scores(image_labels, model.labels_)


def test_labels_that_cannot_be_watched(X, image_labels):
    """Told before the first step of clustering."""
    losses = Recorder()
    for labels, text in (
        (
            image_labels[:-1],
            r"^labels_true must be 36 labels, one a sample; got 35\. Give the labels",
        ),
        (np.eye(3)[image_labels], r"^labels_true must be one-dimensional; got shape \(36, 3\)"),
        ([*image_labels[:-1], float("nan")], r"^labels_true must be free of NaN"),
    ):
        with pytest.raises(ValueError, match=text):
            make(FcDEC).fit(X, callbacks=[LabelsMonitor(labels), losses])
    assert losses.rows == []


# --- bad arguments and data ---

ARGUMENTS = [
    ({"n_clusters": 0}, ValueError, r"^n_clusters must be an integer >= 1; got 0\. "),
    ({"n_clusters": 2.0}, TypeError, r"^n_clusters must be an integer >= 1; got 2\.0\. "),
    ({"n_clusters": True}, TypeError, r"^n_clusters must be an integer >= 1; got True\. "),
    ({"alpha": 0}, ValueError, r"^alpha must be a number > 0; got 0\. The paper uses 1\."),
    ({"alpha": float("nan")}, ValueError, r"^alpha must be a number > 0; got nan\. "),
    ({"alpha": "1"}, TypeError, r"^alpha must be a number > 0; got '1'\. "),
    ({"batch_size": 0}, ValueError, r"^batch_size must be an integer >= 1; got 0\. .*256\."),
    ({"update_interval": 0}, ValueError, r"^update_interval must be an integer >= 1; got 0\. "),
    ({"pretrain_epochs": -1}, ValueError, r"^pretrain_epochs must be an integer >= 0; got -1\. "),
    ({"max_iter": -1}, ValueError, r"^max_iter must be an integer >= 0; got -1\. "),
    ({"max_iter": 1e3}, TypeError, r"^max_iter must be an integer >= 0; got 1000\.0\. "),
    ({"tol": -1}, ValueError, r"^tol must be a number >= 0; got -1\. 0 trains for max_iter"),
    ({"tol": float("inf")}, ValueError, r"^tol must be a number >= 0; got inf\. "),
    ({"verbose": -1}, ValueError, r"^verbose must be an integer >= 0; got -1\. "),
    (
        {"optimizer": "lion"},
        ValueError,
        r"^optimizer must be one of sgd, adam, adamw, rmsprop; got 'lion'\. Choose",
    ),
    ({"pretrain_optimizer": "x"}, ValueError, r"^pretrain_optimizer must be one of .*got 'x'"),
    ({"learning_rate": 0}, ValueError, r"^learning_rate must be a number > 0; got 0\. "),
    ({"learning_rate": "fast"}, TypeError, r"^learning_rate must be a number > 0; got 'fast'"),
    ({"pretrain_learning_rate": -1.0}, ValueError, r"^pretrain_learning_rate must be .*got -1\.0"),
    ({"random_state": -1}, ValueError, r"^random_state must be an integer >= 0; got -1\. "),
    ({"random_state": "x"}, TypeError, r"^random_state must be None, an integer or .*got 'x'\. "),
]
DENSE_ARGUMENTS = [
    ({"layer_sizes": ()}, TypeError, r"^layer_sizes must be a list or tuple .*; got \(\)\. "),
    ({"layer_sizes": 8}, TypeError, r"^layer_sizes must be a list or tuple .*; got 8\. Give"),
    ({"layer_sizes": (8, 0)}, ValueError, r"^each of layer_sizes must be an integer >= 1; got 0"),
    ({"layer_sizes": (8, 2.5)}, TypeError, r"^each of layer_sizes must be .*; got 2\.5"),
]
CONV_ARGUMENTS = [
    ({"filters": (2, 3)}, ValueError, r"^filters must be three numbers; got \(2, 3\)\. The paper"),
    ({"filters": 3}, TypeError, r"^filters must be a list or tuple .*; got 3\. "),
    ({"filters": (2, 3, 0)}, ValueError, r"^each of filters must be an integer >= 1; got 0"),
    ({"embedding_dim": 0}, ValueError, r"^embedding_dim must be an integer >= 1; got 0\. "),
]


@pytest.mark.parametrize(("params", "error", "text"), [*ARGUMENTS, *DENSE_ARGUMENTS])
def test_bad_arguments(params, error, text, X):
    with pytest.raises(error, match=text) as caught:
        make(FcDEC, **params).fit(X)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("params", "error", "text"), CONV_ARGUMENTS)
def test_bad_arguments_of_conv(params, error, text, images):
    with pytest.raises(error, match=text):
        make(ConvDEC, **params).fit(images)


def test_numpy_numbers_are_numbers(images, X):
    sizes = tuple(np.array([8, 3]))
    model = make(FcDEC, **{**UNTRAINED, "layer_sizes": sizes, "n_clusters": np.int64(2)}).fit(X)
    assert model.transform(X).shape == (36, 3)
    params = {"filters": tuple(np.array([4, 6, 8])), "embedding_dim": np.int32(3)}
    assert make(ConvDEC, **{**UNTRAINED, **params}).fit(images).transform(images).shape == (36, 3)


def test_more_clusters_than_samples(X):
    text = r"^n_clusters must be at most n_samples=2; got 3\. Choose fewer clusters"
    with pytest.raises(ValueError, match=text):
        make(FcDEC).fit(X[:2])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("cls", [FcDEC, ConvDEC])
def test_nan_and_infinity(cls, value, images, fitted):
    bad = images.copy()
    bad[4, 2, 3] = value
    text = r"^X must be finite; got NaN or infinity in 1 of 36 rows, the first is row 4\. Drop"
    for data in (bad, bad.reshape(36, 64)):
        with pytest.raises(ValueError, match=text):
            make(cls).fit(data)
    with pytest.raises(ValueError, match=text):
        fitted(cls).predict(bad if cls is ConvDEC else bad.reshape(36, 64))


@pytest.mark.parametrize("name", ["aug_pretrain", "aug_cluster"])
def test_vectors_that_are_no_images_cannot_be_augmented(name, blobs):
    text = rf"^{name} must be False for samples of shape \(6,\); got True\. Only images"
    with pytest.raises(ValueError, match=text):
        make(FcDEC, **{name: True}).fit(blobs)


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((4, 10, 10), r"; got 10x10x1\. Resize or pad to 8x8 or 12x12\.$"),
        ((4, 8, 8, 2), r"^X must be images .*; got neither|channels; got 8x8x2"),
        ((4, 50), r"^X must be images .*; got neither\. Reshape X, or use the Fc methods"),
    ],
)
def test_conv_takes_images_only(shape, text):
    with pytest.raises(ValueError, match=text):
        make(ConvDEC).fit(np.zeros(shape, np.float32))


def test_missing_pretrained_weights(X, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^weights must be an existing \.h5 file; got"):
        make(FcDEC, pretrained_weights=tmp_path / "none.h5").fit(X)


# --- training that goes wrong ---


@pytest.mark.parametrize("far", [1, 2])
def test_empty_clusters_are_told(far, X, monkeypatch):
    centers = np.zeros((3, 3))
    centers[-far:] = 1e4

    def kmeans(embedding, n_clusters, seed):
        if far == 1:
            centers[:2] = embedding[:2]
        return centers

    monkeypatch.setattr(base.phases, "kmeans", kmeans)
    problem = {1: "1 of 3 clusters are empty", 2: r"all samples are in one cluster \(collapse\)"}
    with pytest.warns(UserWarning, match=rf"^After fit, {problem[far]}\. Choose") as caught:
        make(FcDEC, **UNTRAINED).fit(X)
    # The warning points at the line that called fit.
    ours = [warning for warning in caught if str(warning.message).startswith("After fit")]
    assert [warning.filename for warning in ours] == [__file__]


@pytest.mark.parametrize("n_epochs", [1, 3])
def test_a_diverged_pretraining_says_so(n_epochs, X):
    params = {"pretrain_optimizer": "sgd", "pretrain_learning_rate": 1e30, "batch_size": 256}
    with pytest.raises(TrainingDivergedError, match=r"pretraining\. Scale X to about"):
        make(FcDEC, pretrain_epochs=n_epochs, **params).fit(X)


def test_a_diverged_clustering_says_so(X):
    params = {"optimizer": "sgd", "learning_rate": 1e30, "pretrain_epochs": 0}
    with pytest.raises(TrainingDivergedError, match=r"clustering\. Scale X to about"):
        make(FcIDEC, **params).fit(X)


def test_a_failed_fit_leaves_no_fitted_estimator(X):
    estimator = make(FcDEC, **UNTRAINED)
    with contextlib.suppress(ValueError):
        estimator.fit(X[:2])
    with pytest.raises(NotFittedError):
        estimator.predict(X)


def test_kmeans_of_the_paper(X, monkeypatch):
    seen = []
    original = phases.KMeans

    def spy(n_clusters, **options):
        seen.append((n_clusters, options["n_init"]))
        return original(n_clusters, **options)

    monkeypatch.setattr(phases, "KMeans", spy)
    make(FcDEC, **UNTRAINED).fit(X)
    assert seen == [(3, 20)]


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (FcDEC, ("sgd", 0.01, "sgd", 1.0, 1, 0)),
        (FcIDEC, ("sgd", 1.0, "sgd", 1.0, 0.1, 1)),
        (ConvDEC, ("adam", 0.001, "adam", 0.001, 1, 0)),
        (ConvIDEC, ("adam", 0.001, "adam", 0.001, 0.1, 1)),
        (FcDCN, ("adam", 0.0001, "sgd", 1.0, 1, 0)),
    ],
)
def test_settings_of_the_paper(cls, expected):
    params = cls().resolved_params()
    names = ("optimizer", "learning_rate", "pretrain_optimizer", "pretrain_learning_rate")
    weights = (cls.settings.clustering_weight, cls.settings.reconstruction_weight)
    assert (*(params[name] for name in names), *weights) == expected
    assert (params["pretrain_epochs"], params["batch_size"], params["max_iter"]) == (
        500,
        256,
        20000,
    )
    assert (params["update_interval"], params["tol"], params["alpha"]) == (140, 0.001, 1.0)
    layers = params.get("layer_sizes", params.get("filters"))
    assert layers == ((500, 500, 2000, 10) if cls in DENSE else (32, 64, 128))
    assert cls(optimizer="adam").resolved_params()["optimizer"] == "adam"


def test_a_failed_refit_leaves_the_estimator_as_it_was(X):
    model = make(FcDEC).fit(X)
    before = model.predict_proba(X)
    with pytest.raises(ValueError, match="n_clusters must be at most"):
        model.fit(X[:2, :16])
    assert model.n_features_in_ == X.shape[1]
    np.testing.assert_array_equal(model.predict_proba(X), before)
