"""The outer loop, the two estimators, their files and their errors."""

import copy
import subprocess
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from clustering_common.callbacks import LabelsMonitor, Recorder, TrainingDivergedError
from clustering_common.metrics import accuracy
from clustering_common.seeds import SeedStream
from clustering_common.weights import write_weights
from kingdra_cluster import KingdraCluster, LadderIM, ensemble, outer_loop
from kingdra_cluster.kingdra_cluster import KingdraCluster as SameClass
from kingdra_cluster.unsup_metrics import ACC, ARI, NMI
from tests.sklearn_checks import OF_THE_CLASS, checks

SMALL = {"fc_layer_sizes": (8, 3), "denoising_cost": (10, 1, 0.1), "batch_size": 16, "n_class": 3}
ROUNDS = {"n_iter": 2, "n_epochs_per_iter": 2, "random_state": 0}
TINY = {
    **SMALL, **ROUNDS, "n_en": 3, "low_th": 0, "high_th": 2, "thresh": 0.0,
    "n_epochs_per_iter0": 15, "lr": 0.02, "mi_loss_w_init": 1,  # enough to find pseudo-labels
}  # fmt: skip
# a collapse or an empty bucket is no fault of a check on 20 random numbers
pytestmark = [
    pytest.mark.filterwarnings("ignore:All samples are in one cluster"),
    pytest.mark.filterwarnings("ignore:No round found pseudo-labels"),
]


def kingdra(**params):
    return KingdraCluster(**{**TINY, **params})


@pytest.fixture(scope="module")
def fitted(blobs):
    return kingdra(n_iter=4).fit(blobs, callbacks=[LabelsMonitor(np.arange(45) % 3)])


@pytest.fixture(scope="module")
def two_rounds(blobs):
    return kingdra().fit(blobs)


# scikit-learn's check of sparse input expects the four classes of its y as columns
FOUR = {"batch_size": 8, "lr": 0.01, "n_class": 4, "fc_layer_sizes": (8, 4)}
# uncompiled, each step costs 0.1 s
FEW_STEPS = {"batch_size": 25, "n_epochs_per_iter": 1, "lr": 0.05}


CHECKED = (KingdraCluster(**{**TINY, **FOUR, "n_epochs_per_iter0": 3}),
           LadderIM(**{**SMALL, **ROUNDS, **FOUR}))  # fmt: skip
# Outside a compiled loop JAX is slow, and compiling costs seconds a fit: all checks that train are
# under slow there.
WITHOUT_FIT = {
    "check_do_not_raise_errors_in_init_or_set_param",
    "check_get_params_invariance",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
}
NAMES = OF_THE_CLASS if keras.backend.backend() == "tensorflow" else WITHOUT_FIT
FAST_CHECKS = [one for e in CHECKED for one in checks(clone(e).set_params(**FEW_STEPS), NAMES)]


@pytest.mark.parametrize(("estimator", "check"), FAST_CHECKS)
@pytest.mark.usefixtures("uncompiled")
def test_sklearn_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.parametrize(("estimator", "check"), [one for e in CHECKED for one in checks(e)])
def test_all_sklearn_checks_compiled(estimator, check):
    check(estimator)


def test_names():
    assert SameClass is KingdraCluster
    labels = [0, 0, 1, 1], [1, 1, 0, 1]
    assert isinstance(ACC(*labels), float)
    assert (ACC(*labels), round(NMI(*labels), 3), ARI(*labels)) == (0.75, 0.344, 0.0)


def test_learned_attributes(fitted, blobs):
    assert fitted.labels_.shape == (45,)
    assert accuracy(np.arange(45) % 3, fitted.labels_) > 0.6
    assert (fitted.n_iter_, fitted.termination_condition_) == (4, "n_iter")
    assert len(fitted.history_) == 4
    row = fitted.history_[-1]
    losses = {"loss", "base_loss", "noise_kl", "ladder_loss"}
    record = {"bucket_sizes", "coverage", "reused_buckets", "member_agreement", "acc", "iter"}
    assert losses | record <= set(row)
    assert len(row["bucket_sizes"]) == 3
    assert row["coverage"] == pytest.approx(sum(row["bucket_sizes"]) / 45)
    assert_array_equal(fitted.predict(blobs), fitted.labels_)
    proba = fitted.predict_proba(blobs)
    assert_allclose(proba.sum(axis=1), 1, atol=1e-5)
    assert_allclose(fitted.predict_proba(blobs[5:8]), proba[5:8], atol=1e-6)
    assert fitted.member_proba(blobs).shape == (3, 45, 3)


def test_same_seed_same_labels_and_nothing_global(two_rounds, blobs):
    state = np.random.get_state()[1].copy()  # noqa: NPY002 (that is the point)
    again = kingdra().fit(blobs)
    other = kingdra(random_state=1).fit(blobs)
    assert_array_equal(two_rounds.labels_, again.labels_)
    assert two_rounds.history_ == again.history_
    assert two_rounds.history_ != other.history_
    assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


def test_truth_never_reaches_the_learner(fitted, blobs):
    plain = kingdra(n_iter=4).fit(blobs, np.zeros(45))
    assert_array_equal(plain.labels_, fitted.labels_)


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_matrix])
def test_labels_of_another_length_are_told_before_the_first_iteration(form, blobs):
    rows = Recorder()
    text = r"^labels_true must be 45 labels, one a sample; got 44\. Give the labels"
    with pytest.raises(ValueError, match=text):
        kingdra().fit(form(blobs), callbacks=[LabelsMonitor(np.arange(44) % 3), rows])
    assert rows.rows == []


def test_one_iteration_works(blobs):
    assert kingdra(n_iter=1).fit(blobs).n_iter_ == 1


@pytest.mark.parametrize("base_loss", ["im", "dot"])
def test_one_cluster(base_loss, blobs):
    """Without a word: a softmax over one logit is meant here."""
    sizes = {"n_class": 1, "fc_layer_sizes": (5, 1), "denoising_cost": (10, 1, 0.1)}
    model = kingdra(base_loss=base_loss, **sizes).fit(blobs)
    assert not model.labels_.any()
    assert (model.predict_proba(blobs) == 1).all()


def test_the_first_member_predicts_without_a_common_mapping(blobs):
    model = kingdra(ens_common_mapping=False, n_iter=3).fit(blobs)
    assert_array_equal(model.predict_proba(blobs), model.member_proba(blobs)[0])
    # and names the pseudo-labels: each bucket's samples are those of one cluster of its own
    given = model.pseudo_labels_ >= 0
    assert given.any()
    assert_array_equal(model.pseudo_labels_[given], model.labels_[given])


def test_an_ensemble_without_pseudo_labels_is_aligned(blobs):
    model = kingdra(use_pseudo_labels=False).fit(blobs)
    assert "bucket_sizes" not in model.history_[0]
    assert (model.pseudo_labels_ == -1).all()
    proba = model.member_proba(blobs)
    renamed = [m[p.argmax(axis=1)] for m, p in zip(model.member_mapping_, proba, strict=True)]
    mean = np.mean([[accuracy(a, b) == np.mean(a == b) for a in renamed[-1:]] for b in renamed])
    assert mean == 1.0


def test_align_members_by_hand():
    # member 0 calls the last member's 0, 1, 2 by the names 2, 0, 1
    last = np.eye(3)[[0, 0, 1, 2]]
    first = np.eye(3)[[2, 2, 0, 1]]
    mapping = ensemble.align_members(np.stack([first, last]))
    assert_array_equal(mapping, [[1, 2, 0], [0, 1, 2]])
    assert_allclose(ensemble.mean_proba(np.stack([first, last]), mapping), last)
    assert ensemble.member_agreement(np.stack([first, last]), mapping) == 1.0


def test_each_member_is_taught_its_own_names_or_the_last_ones():
    buckets = [np.array([0, 1]), np.array([2])]
    labels = np.array([[1, 1, 0], [0, 0, 1]])
    rng = np.random.default_rng(0)
    common = outer_loop.pseudo_labelled_set(buckets, labels, True, rng)
    assert_array_equal(common.classes[0], common.classes[1])
    own = outer_loop.pseudo_labelled_set(buckets, labels, False, rng)
    assert_array_equal(own.classes[0], 1 - own.classes[1])
    assert_array_equal(own.classes[1], (own.indices == 2).astype(int))


def proba_of(labels, n_class=2):
    return np.stack([np.eye(n_class)[row] for row in labels])


@pytest.fixture
def loop():
    settings = outer_loop.LoopSettings(
        n_class=2, n_iter=3, n_epochs_per_iter0=1, n_epochs_per_iter=1, low_th=0, high_th=1,
        thresh=0.5, ens_common_mapping=True, mi_loss_w_it2=None, use_pseudo_labels=True,
    )  # fmt: skip
    trainer = SimpleNamespace(network=SimpleNamespace(n_members=2))
    return outer_loop.OuterLoop(trainer, None, None, settings, SeedStream(0))


def test_an_empty_bucket_leaves_training_unsupervised_or_reuses_the_best(loop):
    state = loop.state
    one_cluster = proba_of([[0, 0, 0, 0], [0, 0, 0, 0]])
    two = proba_of([[0, 0, 0, 1], [0, 0, 0, 1]])
    balanced = proba_of([[0, 0, 1, 1], [0, 0, 1, 1]])
    row = loop._teach(one_cluster, 0)
    assert state.taught is None and not row["reused_buckets"]
    for proba in (balanced, two):
        loop._teach(proba, 1)
    assert [len(b) for b in state.buckets] == [3, 1]
    row = loop._teach(one_cluster, 3)
    # the best earlier set is that with the largest smallest bucket, not the latest
    assert row["reused_buckets"] and sorted(len(b) for b in state.buckets) == [2, 2]


def test_the_base_weight_changes_once_there_are_pseudo_labels(blobs):
    seen = []

    class Weights(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            weight = float(keras.ops.convert_to_numpy(self.model.base_weight))
            seen.append((self.model.pseudo_labels is not None, weight))

    model = kingdra(n_iter=3, mi_loss_w_it2=0.5).fit(blobs, callbacks=[Weights()])
    assert seen[-1][0] and "sup_loss" in model.history_[-1]
    for has_labels, weight in seen:
        assert weight == pytest.approx(0.5 if has_labels else 1.0)


def test_callbacks_see_iterations_and_can_stop(blobs):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            assert self.model.labels.shape == (45,)
            self.model.stop_training = epoch == 1

    model = kingdra(n_iter=5).fit(blobs, callbacks=[Stop()])
    assert (model.n_iter_, model.termination_condition_) == (2, "callback")


def test_sparse_rows_give_what_dense_ones_give(two_rounds, blobs):
    dense = two_rounds
    rows = scipy.sparse.csr_matrix(blobs)
    rows.indptr, rows.indices = rows.indptr.astype(np.int64), rows.indices.astype(np.int64)
    sparse = kingdra().fit(rows)
    assert "sup_loss" in sparse.history_[-1]
    assert_allclose(sparse.predict_proba(blobs), dense.predict_proba(blobs), atol=1e-3)
    assert_allclose(
        [row["loss"] for row in sparse.history_], [row["loss"] for row in dense.history_], rtol=1e-3
    )


def test_save_and_load(fitted, blobs, tmp_path):
    path = tmp_path / "model.h5"
    fitted.save(path)
    again = KingdraCluster.load(path)
    assert_array_equal(again.predict_proba(blobs), fitted.predict_proba(blobs))
    assert_array_equal(again.labels_, fitted.labels_)
    assert again.history_ == fitted.history_
    assert again.get_params() == fitted.get_params()
    with pytest.raises(ValueError, match="was saved by KingdraCluster"):
        LadderIM.load(path)


@pytest.mark.slow
def test_load_in_another_process(fitted, blobs, tmp_path):
    path, rows = tmp_path / "model.h5", tmp_path / "rows.npy"
    fitted.save(path)
    np.save(rows, blobs)
    code = (
        "import sys, numpy as np; from kingdra_cluster import KingdraCluster\n"
        "model = KingdraCluster.load(sys.argv[1])\n"
        "np.save(sys.argv[2], model.predict_proba(np.load(sys.argv[2])))"
    )
    subprocess.run([sys.executable, "-c", code, path, rows], check=True, capture_output=True)
    assert_array_equal(np.load(rows), fitted.predict_proba(blobs))


def test_collapse_is_told_and_training_goes_on(blobs, monkeypatch):
    monkeypatch.setattr(outer_loop, "combine", lambda *args: np.zeros(45, int))
    with pytest.warns(UserWarning, match=r"All samples are in one cluster \(collapse\)"):
        model = kingdra().fit(blobs)
    assert model.n_iter_ == 2


def test_divergence_is_told(blobs):
    with pytest.raises(TrainingDivergedError, match=r"^The loss became"):
        kingdra(lr=1e30).fit(blobs * 1e10)


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"high_th": 3}, r"^high_th must be in the range 0 to 2 for n_en=3 members; got 3\."),
        ({"low_th": -1}, r"^low_th must be in the range 0 to 2 for n_en=3 members; got -1\."),
        ({"n_class": 4}, r"^n_class must be the last of fc_layer_sizes=\[8, 3\]; got 4\."),
        ({"denoising_cost": (1, 2)}, r"^denoising_cost must have 3 numbers, .* got \[1, 2\]\."),
        ({"base_loss": "vat"}, r"^base_loss must be one of im, dot; got 'vat'\."),
        ({"thresh": 1.5}, r"^thresh must be a number >= 0 and <= 1; got 1\.5\."),
        ({"lr": 0}, r"^lr must be a number > 0; got 0\."),
        ({"n_iter": 0}, r"^n_iter must be an integer >= 1; got 0\."),
        ({"fc_layer_sizes": ()}, r"^fc_layer_sizes must be a list"),
        ({"n_en": 1.5}, r"^n_en must be an integer >= 1; got 1\.5\."),
        ({"noise_std": -1}, r"^noise_std must be a number >= 0 and <= 1e\+30; got -1\."),
        ({"mi_loss_w_it2": -1}, r"^mi_loss_w_it2 must be a number >= 0; got -1\."),
    ],
)
def test_bad_arguments(params, text, blobs):
    with pytest.raises((ValueError, TypeError), match=text) as caught:
        kingdra(**params).fit(blobs)
    assert "\n" not in str(caught.value)


def test_bad_data(blobs):
    with pytest.raises(ValueError, match=r"^n_class must be at most n_samples=2; got 3\."):
        kingdra().fit(blobs[:2])
    broken = blobs.copy()
    broken[4, 1] = np.nan
    with pytest.raises(ValueError, match="the first is row 4"):
        kingdra().fit(broken)
    with pytest.raises(ValueError, match="among the stored values"):
        kingdra().fit(scipy.sparse.csr_matrix(broken))
    with pytest.raises(NotFittedError):
        clone(kingdra()).predict(blobs)


def test_probabilities_that_are_no_numbers_stop_the_run(blobs):
    model = kingdra(lr=1e38, n_epochs_per_iter0=1, batch_size=45)
    with pytest.raises(TrainingDivergedError, match=r"became (nan|inf)"):
        model.fit(blobs)
    assert not hasattr(model, "labels_")


def test_weights_alone_predict(fitted, blobs, tmp_path):
    fitted.save(tmp_path / "model.h5")
    loaded = kingdra().load_weights(tmp_path / "model.h5", (6,))
    assert_array_equal(loaded.member_proba(blobs), fitted.member_proba(blobs))
    assert_array_equal(loaded.predict(blobs), fitted.predict(blobs))


def test_members_keep_their_names_in_a_weight_file(fitted, blobs, tmp_path):
    other = copy.deepcopy(fitted)
    other.member_mapping_ = np.array([[1, 2, 0], [2, 0, 1], [0, 1, 2]])
    other.save(tmp_path / "named.h5")
    loaded = copy.deepcopy(fitted).load_weights(tmp_path / "named.h5", (6,))
    assert_array_equal(loaded.member_mapping_, other.member_mapping_)
    assert_array_equal(loaded.predict_proba(blobs), other.predict_proba(blobs))
    # a file of weights alone has no names
    write_weights(tmp_path / "alone.h5", other._network.layers)
    with pytest.warns(UserWarning, match="one naming is taken for granted"):
        loaded.load_weights(tmp_path / "alone.h5", (6,))
    assert_array_equal(loaded.member_mapping_, [[0, 1, 2]] * 3)


def test_members_that_were_never_taught_are_told(blobs):
    with pytest.raises(ValueError, match="thresh must be below 1"):
        kingdra(thresh=1).fit(blobs)
    with pytest.warns(UserWarning, match="No round found pseudo-labels"):
        kingdra(thresh=0.999999, n_epochs_per_iter0=1).fit(blobs)
