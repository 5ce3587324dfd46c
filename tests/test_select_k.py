"""How many clusters: evidence without labels."""

import csv
import functools
import itertools
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas
import pytest
from joblib import Memory
from numpy.testing import assert_allclose
from PIL import Image
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.cluster import AgglomerativeClustering, KMeans, SpectralClustering
from sklearn.compose import ColumnTransformer
from sklearn.datasets import make_blobs
from sklearn.decomposition import PCA
from sklearn.metrics import davies_bouldin_score, silhouette_score
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from clustering_common import evidence, evidence_seed, select_k
from clustering_common.callbacks import TrainingDivergedError
from clustering_common.evidence_identity import fit_identity
from clustering_common.select_k import report
from dec_da import FcDEC
from kingdra_cluster import KingdraCluster
from tests.commands import outcome

ROOT = Path(__file__).resolve().parent.parent
DEC = {"layer_sizes": (5, 2), "pretrain_epochs": 2, "max_iter": 4, "update_interval": 2}
KINGDRA = {
    "n_en": 2, "high_th": 1, "thresh": 0, "n_iter": 1, "fc_layer_sizes": (5, 3),
    "denoising_cost": (1, 1, 1), "batch_size": 10,
}  # fmt: skip


@pytest.fixture(scope="module")
def four():
    return make_blobs(120, centers=[[0, 0], [9, 0], [0, 9], [9, 9]], random_state=0)[0]


def test_the_right_number_comes_first(four):
    found = select_k.select_k(KMeans(), four, range(2, 7), n_seeds=2)
    assert sorted(one.k for one in found) == [2, 3, 4, 5, 6]
    best = found[0]
    assert (best.k, best.used, best.stability, best.rank) == (4, 4, 1.0, 1.0)
    labels = KMeans(4, random_state=0).fit(four).labels_
    assert_allclose(best.silhouette, silhouette_score(four, labels))
    assert_allclose(best.davies_bouldin, davies_bouldin_score(four, labels))
    assert np.isnan(best.sure) and np.isnan(best.coverage)


def test_pretraining_is_done_once_a_seed(blobs, monkeypatch):
    epochs = []
    original = FcDEC._pretrain

    def pretrain(self, *args):
        epochs.append(self.pretrained_weights is None)
        return original(self, *args)

    monkeypatch.setattr(FcDEC, "_pretrain", pretrain)
    estimator = FcDEC(**DEC)
    found = select_k.select_k(estimator, blobs, [2, 3, 4], n_seeds=2, seed=7)
    assert sum(epochs) == 2 and len(epochs) == 8
    assert all(0 <= one.sure <= 1 for one in found)
    assert estimator.get_params() == FcDEC(**DEC).get_params() and not hasattr(estimator, "labels_")


@pytest.mark.filterwarnings("ignore")
def test_kingdra_shows_its_coverage(blobs):
    found = select_k.select_k(KingdraCluster(3, **KINGDRA), blobs, [2, 3], n_seeds=1)
    assert all(0 <= one.coverage <= 1 for one in found)
    assert all(np.isnan(one.stability) for one in found)


def test_a_single_cluster_has_no_measures_and_ranks_last(four):
    class Lazy(KMeans):
        def fit(self, X, y=None):
            super().fit(X)
            if self.n_clusters == 3:
                self.labels_ = np.zeros(len(X), int)
            return self

    found = select_k.select_k(Lazy(), four, [3, 4, 5], n_seeds=2)
    assert found[0].k == 4 and found[-1].k == 3 and np.isnan(found[-1].silhouette)
    assert found[-1].used == 1


def test_a_sample_has_the_measures_of_all(four, monkeypatch):
    whole = select_k.select_k(KMeans(), four, [3, 4], n_seeds=1)
    monkeypatch.setattr(evidence, "SAMPLE", 60)
    part = select_k.select_k(KMeans(), csr_matrix(four), [3, 4], n_seeds=1)
    assert part[0].k == 4 and abs(part[0].silhouette - whole[0].silhouette) < 0.1


def named(X):
    return pandas.DataFrame(X, columns=["a", "b"], index=np.arange(len(X))[::-1])


@pytest.mark.parametrize(
    ("estimator", "of"),
    [
        (KMeans(), named),
        (KMeans(), pandas.DataFrame),  # its columns are numbers, as rows are
        (make_pipeline(StandardScaler(), KMeans()).set_output(transform="pandas"), np.asarray),
        (KMeans(), np.ndarray.tolist),
    ],
)
def test_tables_and_lists_have_the_measures_of_arrays(four, estimator, of):
    plain = clone(estimator)
    if isinstance(plain, Pipeline):
        plain.set_output(transform="default")
    found = select_k.select_k(estimator, of(four), [3, 4, 5], n_seeds=2)
    assert_alike(found, select_k.select_k(plain, four, [3, 4, 5], n_seeds=2))


def test_a_table_of_more_columns_than_samples_is_sampled_by_rows():
    wide = np.random.default_rng(0).random((20, 40))
    found = select_k.select_k(KMeans(), pandas.DataFrame(wide), [2, 3], n_seeds=1)
    assert_alike(found, select_k.select_k(KMeans(), wide, [2, 3], n_seeds=1))


@pytest.mark.usefixtures("uncompiled")
def test_an_embedding_may_be_a_table(blobs):
    estimator = FcDEC(**DEC).set_output(transform="pandas")
    table = pandas.DataFrame(blobs, index=np.arange(len(blobs))[::-1])
    found = select_k.select_k(estimator, table, [2, 3], n_seeds=1)
    assert_alike(found, select_k.select_k(FcDEC(**DEC), blobs, [2, 3], n_seeds=1))


@pytest.mark.parametrize("kind", [csr_matrix, pandas.DataFrame, np.asarray, np.ndarray.tolist])
def test_rows_are_taken_by_position(kind):
    X = np.arange(12.0).reshape(4, 3)
    rows = evidence_seed._rows(kind(X), np.array([3, 1]))
    assert type(rows) is np.ndarray
    np.testing.assert_array_equal(rows, X[[3, 1]])


def assert_alike(found, wanted):
    names = ("k", "silhouette", "davies_bouldin", "stability", "sure", "used", "rank")
    for name in names:
        assert_allclose(
            [getattr(one, name) for one in found], [getattr(one, name) for one in wanted]
        )


def test_what_diverges_ranks_last(four):
    class Diverging(KMeans):
        def fit(self, X, y=None):
            if self.n_clusters == 4:
                raise TrainingDivergedError("The loss became nan.")
            return super().fit(X)

    found = select_k.select_k(Diverging(), four, [3, 4, 5], n_seeds=2)
    assert found[-1].k == 4 and found[-1].used == 0


@pytest.mark.parametrize(
    ("argument", "params"),
    [
        ("ks", {"ks": []}),
        ("ks", {"ks": [2, 120]}),
        ("each of ks", {"ks": [1, 2]}),
        ("each of ks", {"ks": [2.5]}),
        ("n_seeds", {"n_seeds": 0}),
        ("seed", {"seed": -1}),
        ("resume", {"resume": 1}),
        ("estimator", {"estimator": StandardScaler()}),
        ("estimator", {"estimator": PCA()}),
        ("estimator", {"estimator": make_pipeline(KMeans(), StandardScaler())}),
    ],
)
def test_bad_arguments_are_one_line(four, argument, params):
    given = {"estimator": KMeans(), "ks": [2, 3], **params}
    with pytest.raises((ValueError, TypeError), match=rf"^{argument} must") as caught:
        select_k.select_k(given.pop("estimator"), four, **given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "estimator", [GaussianMixture(), AgglomerativeClustering(), make_pipeline(KMeans())]
)
def test_other_estimators(four, estimator):
    found = select_k.select_k(estimator, four, [3, 4, 5], n_seeds=2)
    assert found[0].k == 4
    # Nothing random has no seeds to compare, and is fitted once.
    assert np.isnan(found[0].stability) == (estimator.__class__ is AgglomerativeClustering)
    assert not hasattr(estimator, "labels_")


def test_a_pipeline_is_judged_where_it_clusters(four):
    # A feature of no meaning, a thousand times as large: only what scales finds the four.
    X = np.column_stack([four, np.random.default_rng(0).uniform(0, 9000, len(four))])
    weights = np.array([1, 1, 1e-4])
    scaled = make_pipeline(FunctionTransformer(weights.__mul__), KMeans())
    best = select_k.select_k(scaled, X, range(2, 7), n_seeds=2)[0]
    labels = KMeans(4, random_state=0).fit(X * weights).labels_
    assert best.k == 4 and best.stability == 1
    assert_allclose(best.silhouette, silhouette_score(X * weights, labels))


@pytest.mark.usefixtures("uncompiled")
def test_a_pipeline_pretrains_on_what_it_scaled(blobs, monkeypatch):
    seen = []
    original = FcDEC._pretrain

    def pretrain(self, network, data, *args):
        seen.append((self.pretrained_weights is None, float(np.abs(data.X.mean(axis=0)).max())))
        return original(self, network, data, *args)

    monkeypatch.setattr(FcDEC, "_pretrain", pretrain)
    select_k.select_k(make_pipeline(StandardScaler(), FcDEC(**DEC)), blobs, [2, 3], n_seeds=1)
    assert [own for own, _ in seen] == [True, False, False]
    assert max(mean for _, mean in seen) < 1e-5


class Counted(KMeans):
    fits: list = []  # noqa: RUF012
    stop_at = None

    def fit(self, X, y=None):
        self.fits.append((self.random_state, self.n_clusters))
        if self.fits[-1] == self.stop_at:
            raise KeyboardInterrupt
        return super().fit(X)


def read_table(folder):
    with open(folder / "select_k.csv", newline="") as file:
        return [{**row, "seconds": ""} for row in csv.DictReader(file)]


def test_a_stopped_search_goes_on(four, tmp_path, monkeypatch):
    monkeypatch.setattr(Counted, "fits", [])
    select_k.select_k(Counted(), four, [3, 4, 5], n_seeds=2, folder=tmp_path / "whole")
    monkeypatch.setattr(Counted, "fits", [])
    monkeypatch.setattr(Counted, "stop_at", (1, 4))
    with pytest.raises(KeyboardInterrupt):
        select_k.select_k(Counted(), four, [3, 4, 5], n_seeds=2, folder=tmp_path)
    first = read_table(tmp_path)  # of the first seed
    assert first[0]["k"] == "4" and {row["stability"] for row in first} == {"nan"}
    monkeypatch.setattr(Counted, "stop_at", None)
    monkeypatch.setattr(Counted, "fits", [])
    select_k.select_k(Counted(), four, [3, 4, 5], n_seeds=2, folder=tmp_path)
    assert Counted.fits == [(1, 4), (1, 5)]
    assert read_table(tmp_path) == read_table(tmp_path / "whole")
    # One more candidate and one more seed: only these.
    monkeypatch.setattr(Counted, "fits", [])
    select_k.select_k(Counted(), four, [3, 4, 5, 6], n_seeds=3, folder=tmp_path)
    assert Counted.fits == [(0, 6), (1, 6), (2, 3), (2, 4), (2, 5), (2, 6)]
    (tmp_path / "fits/seed-0-k-3.state").write_bytes(b"damaged")
    monkeypatch.setattr(Counted, "fits", [])
    select_k.select_k(Counted(), four, [3], n_seeds=1, folder=tmp_path)
    assert Counted.fits == [(0, 3)]


@pytest.mark.parametrize(("change", "text"), [({"tol": 0.5}, "tol '0.5'"), ({}, "X '")])
def test_fits_of_another_search_are_refused(four, tmp_path, change, text):
    select_k.select_k(KMeans(**change), four, [3], n_seeds=1, folder=tmp_path)
    with pytest.raises(ValueError, match=f"^folder must be this run's own .*{re.escape(text)}"):
        select_k.select_k(KMeans(), four if change else four + 1, [3], n_seeds=1, folder=tmp_path)


def scaled_by(factor):
    return FunctionTransformer(lambda X: X * factor)


def weighted(X, weights):
    return X * weights


BIG = np.zeros((2000, 3)) + np.arange(3)
BIG_2 = BIG + (np.arange(2000) == 500)[:, None]
UNLIKE = {
    "a setting of an earlier step, called as the number is": [
        make_pipeline(PCA(n), KMeans()) for n in (1, 2)
    ],
    "a setting of the clusterer, called as another's number is": [
        SpectralClustering(n_components=n) for n in (2, 3)
    ],
    "an array": [KMeans(init=init) for init in (BIG, BIG_2)],
    "an array in a dict": [
        make_pipeline(FunctionTransformer(weighted, kw_args={"weights": w}), KMeans())
        for w in (BIG, BIG_2)
    ],
    "a sparse matrix": [KMeans(init=csr_matrix(init)) for init in (BIG, BIG_2)],
    "objects": [KMeans(init=np.array([init, 1], object)) for init in (BIG, BIG_2)],
    "the order of steps": [
        Pipeline([*steps, ("k", KMeans())])
        for steps in itertools.permutations([("a", PCA(2)), ("b", StandardScaler())])
    ],
    "the class": [KMeans(), Counted()],
    "the module of a class": [KMeans(), type("KMeans", (KMeans,), {"__module__": "other"})()],
    "what a function is bound to": [
        make_pipeline(FunctionTransformer(w.__mul__), KMeans()) for w in (BIG, BIG_2)
    ],
    "the code of a function": [
        make_pipeline(FunctionTransformer(f), KMeans()) for f in (lambda X: X + 1, lambda X: X + 2)
    ],
    "what a function has from around it": [
        make_pipeline(scaled_by(factor), KMeans()) for factor in (1, 2)
    ],
    "partial functions": [
        make_pipeline(FunctionTransformer(functools.partial(weighted, weights=w)), KMeans())
        for w in (BIG, BIG_2)
    ],
    "columns": [
        make_pipeline(ColumnTransformer([("a", PCA(1), columns)]), KMeans())
        for columns in ([0], [1])
    ],
    "settings of a step in a step": [
        make_pipeline(ColumnTransformer([("a", PCA(1, whiten=w), [0, 1])]), KMeans())
        for w in (False, True)
    ],
    "a function of a module": [
        make_pipeline(FunctionTransformer(f), KMeans()) for f in (np.log1p, np.exp)
    ],
}


def identity(estimator, X):
    return fit_identity(*evidence._parts(estimator), X, np.arange(3))


@pytest.mark.parametrize("name", UNLIKE)
def test_searches_that_differ_have_identities_that_do(four, name):
    one, two = (identity(estimator, four) for estimator in UNLIKE[name])
    assert one != two
    assert one == identity(clone(UNLIKE[name][0]), four) == json.loads(json.dumps(one))


def test_the_number_and_the_seeds_are_no_part_of_the_identity(four):
    def of(k):
        before = make_pipeline(PCA(2, random_state=k), scaled_by(2))
        return make_pipeline(before, KMeans(k, random_state=k, verbose=k), memory=Memory(None))

    assert identity(of(2), four) == identity(of(3), four)
    kingdra = [{**KINGDRA, "fc_layer_sizes": (5, k)} for k in (2, 3)]
    two, three = (identity(KingdraCluster(k, **kingdra[k - 2]), four) for k in (2, 3))
    wider = KingdraCluster(2, **{**KINGDRA, "fc_layer_sizes": (6, 2)})
    assert two == three != identity(wider, four)


def test_data_that_differ_have_identities_that_do(four):
    table = pandas.DataFrame(four, columns=["a", "b"])
    square = csr_matrix(np.triu(np.ones((9, 9))))
    found = [four, four.astype(np.float32), table, table[["b", "a"]],
             table.set_axis(["c", "b"], axis=1), square, square.tocsc().T.tocsc(),
             square.T.tocsc(), square.tocoo(),
             table.assign(b="x"), table.assign(b="y")]  # fmt: skip
    texts = [json.dumps(identity(KMeans(), X)) for X in found]
    same = [(i, k) for i in range(len(texts)) for k in range(i) if texts[i] == texts[k]]
    assert same == [(7, 6)]  # the transpose, twice


def test_what_cannot_be_told_apart_is_never_the_same(four):
    estimator = make_pipeline(FunctionTransformer(kw_args={"lock": threading.Lock()}), KMeans())
    assert identity(estimator, four) != identity(estimator, four)


def test_a_file_of_weights_counts_by_its_content(four, tmp_path):
    for path, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / path).write_bytes(content)
    a, b, c, none = (
        identity(FcDEC(3, pretrained_weights=tmp_path / name), four) for name in "abcd"
    )
    assert a == b and len({str(one) for one in (a, c, none)}) == 3
    (tmp_path / "a").write_bytes(b"2")
    assert identity(FcDEC(3, pretrained_weights=str(tmp_path / "a")), four) == c


def test_fits_of_another_pipeline_are_refused(four, tmp_path):
    X = np.column_stack([four, four[:, ::-1], four])
    of = {n: make_pipeline(PCA(n), KMeans()) for n in (2, 5)}
    select_k.select_k(of[2], X, [3], n_seeds=1, folder=tmp_path)
    with pytest.raises(ValueError, match="earlier pca__n_components '2' where this one has '5'"):
        select_k.select_k(of[5], X, [3], n_seeds=1, folder=tmp_path)


def test_a_function_resumes_in_another_process(four, tmp_path):
    (tmp_path / "theirs.py").write_text(
        "from sklearn.cluster import KMeans\n"
        "from sklearn.pipeline import Pipeline, make_pipeline\n"
        "from sklearn.preprocessing import FunctionTransformer\n"
        "def scaled(X, how='a', *, by=(1, 2)):\n"
        "    return X * by[how in {'a', 'b', 'c', 'd', 'e'}]\n"
        "estimator = make_pipeline(FunctionTransformer(scaled), KMeans())\n"
    )
    code = (
        "import json, sys, numpy\n"
        "from clustering_common.evidence import _parts, fit_identity\n"
        "from theirs import estimator\n"
        "found = fit_identity(*_parts(estimator), numpy.eye(9), numpy.arange(3))\n"
        "assert 'keras' not in sys.modules\n"
        "print(json.dumps(found))\n"
    )
    found = set()
    for seed in ("1", "2", "3"):
        environment = {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}", "PYTHONHASHSEED": seed}
        found.add(run_python("-c", code, **environment).stdout)
    assert len(found) == 1 and "theirs.scaled" in found.pop()


def run_python(*argv, **environment):
    known = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, *map(str, argv)], cwd=ROOT, env={**known, **environment},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_a_diverged_fit_is_kept_as_such(four, tmp_path):
    class Diverging(KMeans):
        def fit(self, X, y=None):
            raise TrainingDivergedError("The loss became nan.")

    for _ in range(2):
        found = select_k.select_k(Diverging(), four, [3, 4], n_seeds=2, folder=tmp_path)
        assert [one.used for one in found] == [0, 0] and np.isnan(found[0].rank)


def test_the_table_says_what_it_means(four):
    text = report(select_k.select_k(KMeans(), four, [3, 4, 5], n_seeds=2))
    assert text.splitlines()[1].split()[0] == "4"
    assert "Best by mean rank: 4, then " in text and "higher is better" in text


def run(capsys, *argv):
    return outcome(select_k, argv, capsys)


def test_the_command(four, tmp_path, capsys, handlers):
    pytest.importorskip("matplotlib")
    np.save(tmp_path / "x.npy", four)
    argv = ["--data", tmp_path / "x.npy", "--k", "2-4", "6", "--seeds", 2, "-d", tmp_path / "out"]
    code, out, err = run(
        capsys, *argv, "--estimator", "sklearn.cluster.KMeans", "--set", "n_init=2"
    )
    assert code == 0, err
    with open(tmp_path / "out/select_k.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["k"] == "4" and {row["k"] for row in rows} == set("2346")
    assert (tmp_path / "out/select_k.png").read_bytes().startswith(b"\x89PNG")
    assert "select_k.png" in out
    kept = sorted((tmp_path / "out/fits").iterdir())
    assert len(kept) == 8
    times = [path.stat().st_mtime_ns for path in kept]
    same = [*argv, "--estimator", "sklearn.cluster.KMeans", "--set", "n_init=2"]
    assert run(capsys, *same, "--resume")[1] == out
    assert times == [path.stat().st_mtime_ns for path in kept]
    assert run(capsys, *argv, "--estimator", "sklearn.cluster.KMeans")[0] == 0  # anew
    code, _, err = run(capsys, *same, "--resume")
    assert code == 2 and "--save-dir must be this run's own to go on from" in err


def test_a_search_anew_keeps_the_fits_until_it_has_one(four, tmp_path, capsys, handlers):
    np.save(tmp_path / "x.npy", four)
    base = ["--data", tmp_path / "x.npy", "--seeds", 2, "-d", tmp_path / "out"]
    kmeans = ["--estimator", "sklearn.cluster.KMeans"]
    assert run(capsys, *base, *kmeans, "--k", "3-5")[0] == 0
    kept = sorted((tmp_path / "out/fits").iterdir())
    assert len(kept) == 6
    for flags, text in (
        ([*kmeans, "--k", "3-500"], "--k must be below n_samples=120; got 500."),
        ([*kmeans, "--k", "3", "--set", "n_init=0"], "n_init"),  # the estimator finds it
        (["--k", "3", "--estimator", "sklearn.decomposition.PCA"], "--estimator must have fit_pr"),
    ):
        code, _, err = run(capsys, *base, *flags)
        assert code == 2 and text in err and len(err.splitlines()) == 1
        assert sorted((tmp_path / "out/fits").iterdir()) == kept
    assert run(capsys, *base, *kmeans, "--k", "3", "--set", "n_init=2")[0] == 0
    assert [path.name for path in sorted((tmp_path / "out/fits").iterdir())] == [
        "seed-0-k-3.state", "seed-1-k-3.state",
    ]  # fmt: skip


@pytest.mark.parametrize("folder", [".", "results/select_k"])
def test_no_picture_of_ours_among_the_images(folder, tmp_path, monkeypatch, capsys, handlers):
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(9):
        Image.fromarray(np.full((4, 4), i, np.uint8)).save(photos / f"{i}.png")
    monkeypatch.chdir(photos)
    flags = ["--k", "2", "--seeds", 1, "--estimator", "sklearn.cluster.KMeans"]
    code, out, err = run(capsys, "--data", ".", *flags, "-d", folder)
    assert code == 2 and not out and len(err.splitlines()) == 1
    assert f"--save-dir must be outside the folder --data; got '{folder}'" in err
    assert len(list(photos.iterdir())) == 9
    assert run(capsys, "--data", ".", *flags, "-d", "../out")[0] == 0


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ([], "one of --data and --dataset must be given"),
        (["--dataset", "digits", "--data-key", "x"], "--data-key must come with --data FILE"),
        (["--dataset", "digits", "--k", "1-3"], "--k: must be like 8 or 2-15"),
        (["--dataset", "digits", "--k", "x"], "--k: must be like 8 or 2-15"),
        (["--dataset", "digits", "--estimator", "os.path"], "--estimator must be MODULE.CLASS"),
        (["--dataset", "digits", "--set", "a"], "--set must be NAME=VALUE"),
        (["--dataset", "digits", "--set", "a=1"], "--set must name arguments of FcDEC"),
    ],
)
def test_bad_flags_are_one_line(argv, text, tmp_path, capsys, handlers):
    code, out, err = run(capsys, *argv, "-d", tmp_path / "out")
    assert code == 2 and not out and text in err and len(err.strip().splitlines()) == 1


def test_the_engine_starts_for_who_has_one_and_says_nothing(four, tmp_path):
    """In a process of its own: here it has started."""
    module = ("-X", "importtime", "-m", "clustering_common.select_k")
    shown = run_python(*module, "--help")
    assert shown.returncode == 0 and "--estimator" in shown.stdout
    assert "numpy" in shown.stderr and not ENGINES & imported(shown.stderr)
    for flags in (["--bad"], ["--dataset", "digits", "--set", "a=1"]):
        bad = run_python(*module[2:], *flags, "-d", tmp_path)
        assert bad.returncode == 2 and len(bad.stderr.splitlines()) == 1, bad.stderr
    np.save(tmp_path / "x.npy", four)
    flags = ["--data", tmp_path / "x.npy", "--k", "3", "--seeds", 1, "-d", tmp_path / "out"]
    done = run_python(*module, *flags, "--estimator", "sklearn.cluster.KMeans")
    assert done.returncode == 0 and not ENGINES & imported(done.stderr)


ENGINES = {"keras", "tensorflow", "jax", "torch"}


def imported(log):
    """Return the packages in what -X importtime says."""
    lines = [line for line in log.splitlines() if line.startswith("import time:")]
    return {line.split("|")[-1].strip().split(".")[0] for line in lines}
