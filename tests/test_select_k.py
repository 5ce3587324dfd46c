"""How many clusters: evidence without labels."""

import csv

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.sparse import csr_matrix
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.metrics import davies_bouldin_score, silhouette_score
from sklearn.preprocessing import StandardScaler

from clustering_common import cli, evidence, select_k
from clustering_common.callbacks import TrainingDivergedError
from clustering_common.select_k import report
from dec_da import FcDEC
from kingdra_cluster import KingdraCluster

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
        ("estimator", {"estimator": StandardScaler()}),
    ],
)
def test_bad_arguments_are_one_line(four, argument, params):
    given = {"estimator": KMeans(), "ks": [2, 3], **params}
    with pytest.raises((ValueError, TypeError), match=rf"^{argument} must") as caught:
        select_k.select_k(given.pop("estimator"), four, **given)
    assert "\n" not in str(caught.value)


def test_the_table_says_what_it_means(four):
    text = report(select_k.select_k(KMeans(), four, [3, 4, 5], n_seeds=2))
    assert text.splitlines()[1].split()[0] == "4"
    assert "Best by mean rank: 4, then " in text and "higher is better" in text


def run(capsys, *argv):
    try:
        code = cli.run(select_k.command, [str(arg) for arg in argv])
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


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


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ([], "one of --data and --dataset must be given"),
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
