"""--report of both runners: of a new run, of a finished one, of a grid."""

import json
import re

import numpy as np
import pytest

import main
import run_exp
from clustering_common import report
from dec_da import ConvIDEC, experiment, presets
from kingdra_cluster import KingdraCluster
from tests.commands import outcome

TINY = ["--dataset", "digits", "--pretrain-epochs", "1", "--maxiter", "4", "-i", "2", "--tol", "0"]


@pytest.fixture(autouse=True)
def tiny_networks(monkeypatch, handlers, uncompiled, tmp_path):
    original = presets.make_estimator

    def make_estimator(method, dataset, **params):
        return original(method, dataset, **params).set_params(layer_sizes=(8, 5))

    monkeypatch.setattr(presets, "make_estimator", make_estimator)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys):
    def run(program, *argv):
        return outcome(program, argv, capsys)

    return run


def scores(page):
    return dict(re.findall(r"<dt>([A-Z]+)</dt><dd>([\d.-]+)</dd>", page))


def check(folder, *titles):
    """Check that a page shows the folder's scores; return it."""
    page = (folder / "report.html").read_text()
    record = json.loads((folder / "results.json").read_text())
    found = {name.lower(): value for name, value in scores(page).items()}
    assert found == {name: f"{x:.4f}" for name, x in record["metrics"]["final"].items()}
    headings = re.findall(r"<h2>([^<]*)</h2>", page)
    assert [title for title in titles if title not in headings] == []
    return page


def test_main(run, tmp_path):
    command = [main, "--method", "FcDEC", *TINY, "-d", "out", "-v", 0]
    code, out, err = run(*command, "--report")
    assert code == 0, err
    assert "Report: out/report.html" in out and out.splitlines()[-1].startswith("acc=")
    folder = tmp_path / "out"
    page = check(
        folder, "Scores", "Curves", "Sizes of clusters", "Samples", "Map", "Reconstructions",
        "Confusion matrix", "Settings",
    )  # fmt: skip
    with np.load(folder / "report.npz") as arrays:
        labels = np.load(folder / "labels.npy")
        np.testing.assert_array_equal(labels[arrays["shown"]], arrays["shown_cluster"])
        assert int(arrays["confusion"].sum()) == 1797
    # A finished run gets the same report; without the flag nothing is written.
    for path in (folder / name for name in report.FILES):
        path.unlink()
    assert run(*command, "--resume")[0] == 0 and not (folder / "report.html").exists()
    code, again, _ = run(*command, "--resume", "--report")
    assert code == 0 and again == out
    assert re.sub(r"\s", "", (folder / "report.html").read_text()) == re.sub(r"\s", "", page)
    # No other run may pass for it.
    assert run(*command, "--seed", 1)[0] == 0
    assert not any((folder / name).exists() for name in report.FILES)


def test_reconstructions_come_from_who_learned_them(images, tmp_path):
    model = ConvIDEC(
        3, filters=(2, 3, 4), embedding_dim=3, pretrain_epochs=1, max_iter=2, random_state=0
    )
    task = experiment.Task("bars", images, None, [f"{i}.png" for i in range(36)])
    place = experiment.RunFolder(tmp_path / "run")
    experiment.train(model, task, place, method="ConvIDEC", seed=0, with_report=True)
    with np.load(tmp_path / "run/report.npz") as arrays:
        assert arrays["pair_by"] == "the autoencoder" and len(arrays["pair_made"]) == 12
        assert arrays["shown_name"][0] == f"{arrays['shown'][0]}.png"
        made = arrays["pair_made"]
    embedded = model.inverse_transform(model.transform(images))
    all_made = np.rint(np.clip(embedded, 0, 1) * 255)
    for one in made:
        assert abs(all_made - one).reshape(36, -1).max(axis=1).min() <= 1


def test_report_and_testing_exclude_each_other(run):
    code, _, err = run(main, "-t", "-w", "x.h5", "--report")
    assert code == 2 and "--report must come without -t/--testing" in err


def make_config(tmp_path, blobs, **changes):
    np.save(tmp_path / "X.npy", blobs)
    np.save(tmp_path / "Y.npy", np.arange(len(blobs)) % 3)
    content = {
        "training_path": "X.npy", "ground_truth_path": "Y.npy", "n_class": 3, "n_en": 2,
        "high_th": 1, "n_iter": 2, "n_epochs_per_iter0": 1, "fc_layer_sizes": [4, 3],
        "denoising_cost": [10, 1, 0.1], "batch_size": 15, "low_th": 0, "thresh": 0, "lr": 0.02,
        "mi_loss_w_init": 1, **changes,
    }  # fmt: skip
    (tmp_path / "small.json").write_text(json.dumps(content))
    return "small.json"


@pytest.mark.filterwarnings("ignore:All samples are in one cluster", "ignore:No round found")
def test_a_config(run, tmp_path, blobs):
    command = [run_exp, make_config(tmp_path, blobs), "-v", 0]
    code, out, err = run(*command, "--report")
    assert code == 0, err
    assert "Report: results/small/report.html" in out
    folder = tmp_path / "results/small"
    page = check(folder, "Scores", "Curves", "Pseudo-labels", "Samples", "Map", "Confusion matrix")
    assert "member 2" in page and "Pseudo-label coverage" in page and "<img" not in page
    model = KingdraCluster.load(folder / "model.h5")
    q = model.predict_proba(blobs)
    with np.load(folder / "report.npz") as arrays:
        sure = q[arrays["shown"], arrays["shown_cluster"]]
        np.testing.assert_allclose(arrays["shown_sure"], sure, atol=1e-5)
    (folder / "report.html").unlink()
    assert run(*command, "--resume", "--report")[0] == 0
    assert check(folder, "Pseudo-labels", "Map")


def test_a_grid(run, tmp_path):
    command = [
        run_exp, "--methods", "FcDEC", "FcDCN", "--datasets", "digits", "--trials", 1, "-v", 0,
        "--pretrain-epochs", 1, "--maxiter", 2, "-d", "grid", "--report",
    ]  # fmt: skip
    code, out, err = run(*command)
    assert code == 0, err
    assert out.splitlines()[-1] == "Report: grid/report.html"
    page = (tmp_path / "grid/report.html").read_text()
    for method in ("FcDEC", "FcDCN"):
        folder = tmp_path / f"grid/digits/{method}/trial0"
        check(folder, "Map")
        assert f'href="digits/{method}/trial0/report.html"' in page
        acc = json.loads((folder / "results.json").read_text())["metrics"]["final"]["acc"]
        assert f"<td>{acc:.4f}</td>" in page
    assert "±" not in page  # one trial has no deviation
    # What is finished gets the report that it lacks; the module makes the same pages.
    lost = tmp_path / "grid/digits/FcDCN/trial0/report.npz"
    lost.unlink()
    assert run(*command, "--resume")[0] == 0 and lost.exists()
    (tmp_path / "grid/report.html").unlink()
    (tmp_path / "grid/digits/FcDEC/trial0/report.html").unlink()
    assert run(report, "grid")[0] == 0
    assert (tmp_path / "grid/report.html").read_text() == page
    check(tmp_path / "grid/digits/FcDEC/trial0", "Map")


def test_a_grid_shows_means_of_its_trials(tmp_path):
    rows = [("FcDEC", 0, 0.5), ("FcDEC", 1, 0.7), ("FcDCN", 0, 0.4), ("FcDCN", 1, 0.9)]
    lines = ["dataset,method,trials,acc,nmi,ari,time"]
    for method, trial, acc in rows:
        lines.append(f"digits,{method},{trial},{acc},0.25,{'nan' if acc > 0.8 else 0.125},60")
        metrics = {"final": {"acc": acc}, "kmeans_pixels": {"acc": 0.55 + 0.1 * trial}}
        settings = {"alpha": 1.0, "random_state": trial}
        record = {"metrics": metrics, "settings": settings, "paper": {"acc": 0.75}}
        experiment.RunFolder(tmp_path / f"digits/{method}/trial{trial}").finish(record)
    (tmp_path / "results.csv").write_text("\n".join([*lines, "digits,FcDEC,mean,0.6,,,"]) + "\n")
    page = report.write_report(tmp_path).read_text()
    # The best of each measure is marked; a trial without a figure leaves none to its method.
    assert '<td class="best">0.6500 ± 0.2500</td>' in page and "<td>0.6000 ± 0.1000</td>" in page
    assert '<td class="best">0.1250 ± 0.0000</td>' in page and "<td>- ± -</td>" in page
    assert page.count("<td>0.6000</td><td>0.7500</td><td>1 min 0 s</td>") == 2
    assert "<dt>alpha</dt>" in page and "<dt>random_state</dt>" not in page


def test_a_grid_leads_nowhere_else(tmp_path):
    (tmp_path / "outside/FcDEC/trial0").mkdir(parents=True)
    (tmp_path / "outside/FcDEC/trial0/results.json").write_text("{}")
    (tmp_path / "grid").mkdir()
    lines = ["dataset,method,trials,acc", "../outside,FcDEC,0,0.5", "<b>,javascript:x,0,nan"]
    (tmp_path / "grid/results.csv").write_text("\n".join(lines) + "\n")
    page = report.write_report(tmp_path / "grid").read_text()
    assert "trial0/report.html" not in page and "<b>,javascript" not in page
    assert "diverged, it has no scores" in page
    assert not (tmp_path / "outside/FcDEC/trial0/report.html").exists()
