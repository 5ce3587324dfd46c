"""The page of results, from made result files."""

import json
from pathlib import Path

import pytest

from benchmarks import results_page
from clustering_common import cli
from clustering_common.record import checksum


def write(folder, name, **record):
    place = folder / name
    place.mkdir(parents=True)
    common = {
        "seconds": {"total": 60.0}, "device": "a CPU", "command": f"run {name}", "settings": {},
        "metrics": {}, "data": {},
    }  # fmt: skip
    (place / "results.json").write_text(json.dumps({**common, **record}))


def dec_record(seed, acc, **flags):
    return {
        "dataset": "usps",
        "seed": seed,
        "identity": {"class": "FcIDEC"},
        "settings": {"aug_pretrain": False, "aug_cluster": False, **flags},
        "metrics": {
            "final": {"acc": acc, "nmi": 0.5},
            "kmeans_pixels": {"acc": 0.25},
            "kmeans_embedding": {"acc": 0.75},
        },
    }


def test_rows_stand_beside_the_paper(tmp_path):
    write(tmp_path, "a", **dec_record(4, 0.5))
    write(tmp_path, "b", **dec_record(3, 0.7))
    write(tmp_path, "c", **dec_record(0, 0.9, aug_cluster=True))
    write(
        tmp_path, "d", config="ladder_im_ensemble_mnist", seed=1,
        metrics={"final": {"acc": 0.75, "nmi": 0.5}, "kmeans": {"acc": 0.5}},
    )  # fmt: skip
    page = results_page.page(results_page.read_records(tmp_path))
    usps = page.split("### usps")[1].split("###")[0]
    paper = "| FcIDEC | 0.771 | 0.600 ± 0.100 | 0.799 | 0.500 ± 0.000 | 0.250 ± 0.000 "
    assert paper + "| 0.750 ± 0.000 | 3, 4 | 60 | a CPU |" in usps
    # One run has no deviation.
    assert "| FcIDEC aug-cluster | 0.823 | 0.900 | 0.884 | 0.500 | 0.250 | 0.750 | 0 |" in usps
    assert "| FcDEC-DA | 0.980 | not run | 0.945 | - |" in usps
    assert "- FcIDEC: `python run b`" in usps
    kingdra = page.split("## Kingdra")[1]
    assert "| Ladder-IM-ensemble | 0.951 ± 0.004 | 0.750 | - | 0.500 | 0.500 |" in kingdra


@pytest.mark.parametrize("where", ["absolute", "from where it ran"])
def test_kept_runs_name_no_folder_of_the_machine(where, tmp_path):
    own = {"batch_size": 256, "layer_sizes": [500, 500, 2000, 10], "random_state": 4}
    grid = tmp_path / "my grid"
    write(
        grid, "usps/FcIDEC/trial4", **dec_record(4, 0.5, **own) | {"sha256": "of the whole"},
        pretraining_of=str((grid if where == "absolute" else Path("grid")) / "usps/FcDEC/trial4"),
        command=f"run_exp.py --trials 5 --save-dir '{grid}' --data-dir data",
    )  # fmt: skip
    results_page.keep([grid], tmp_path / "kept")
    text = (tmp_path / "kept/usps/FcIDEC/seed4/results.json").read_text()
    record = json.loads(text)
    assert str(tmp_path) not in text
    assert record["command"] == "run_exp.py --trials 5 --save-dir 'my grid' --data-dir data"
    assert record["pretraining_of"] == "../../FcDEC/trial4"
    assert record.pop("sha256") == checksum(record)


def test_runs_are_kept_in_their_places(tmp_path):
    own = {"batch_size": 256, "layer_sizes": [500, 500, 2000, 10], "random_state": 4}
    write(tmp_path / "runs", "a/trial4", **dec_record(4, 0.5, aug_pretrain=True, **own))
    config = "kingdra_ladder_im_digits"
    write(tmp_path / "runs", "b", config=config, seed=1, settings={"n_en": 10})
    results_page.keep([tmp_path / "runs"], tmp_path / "kept")
    kept = sorted(str(path.parent) for path in (tmp_path / "kept").rglob("results.json"))
    ends = ["digits/Kingdra-Ladder-IM/seed1", "usps/FcIDEC-aug-pretrain/seed4"]
    assert kept == [str(tmp_path / "kept" / end) for end in ends]
    kept_runs = results_page.read_records(tmp_path / "kept")
    assert set(kept_runs) == {("digits", "Kingdra-Ladder-IM"), ("usps", "FcIDEC aug-pretrain")}


FULL = {"batch_size": 256, "layer_sizes": [500, 500, 2000, 10]}
MNIST = {"config": "ladder_im_mnist", "seed": 0}


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (dec_record(4, 0.5, batch_size=64), "batch_size must be 256 in this row; got 64"),
        ({**MNIST, "settings": {"n_iter": 2}}, "n_iter must be 15 in this row; got 2"),
        (
            {**MNIST, "data": {"training_path": "mine.npy"}},
            "training_path must be 'ens_cluster_datasets/mnist/train_X.npy' in this row; got 'm",
        ),
        ({**MNIST, "config": "my_photos"}, "config must be one of the folder configs; got 'my_"),
        ({**MNIST, "config": "mine"}, "config must be one of the folder configs; got 'mine'"),
        (dec_record(4, 0.5) | {"dataset": "/photos"}, "no data of one's own; got '/photos'"),
        (dec_record(4, 0.5) | {"data": {"path": "usps"}}, "no data of one's own; got 'usps'"),
        (dec_record(4, 0.5) | {"command": "main.py --data usps"}, "own; got 'usps'"),
        (dec_record(4, 0.5) | {"identity": {"class": ".."}}, "method must be one of FcDEC"),
        (dec_record("../..", 0.5), "results.json must be that of a run with a seed; got"),
        ({"settings": None}, "results.json must be that of a run with a seed; got"),
    ],
)
def test_a_run_of_no_row_is_refused_and_no_run_is_kept(tmp_path, capsys, record, text):
    write(tmp_path, "a/fits", **dec_record(3, 0.5, **FULL))
    write(tmp_path, "b/differs", **record)
    places = ["--results", str(tmp_path / "kept"), "--out", str(tmp_path / "page.md")]
    code = cli.run(
        results_page.command, ["--add", str(tmp_path / "a"), str(tmp_path / "b"), *places]
    )
    error = capsys.readouterr().err
    assert (code, error.count("\n")) == (2, 1)
    assert text in error and "Traceback" not in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_path_in_the_record_outdoes_the_command(tmp_path):
    own = dec_record(4, 0.5) | {"command": "main.py --data-dir data --save-dir a"}
    assert not results_page.is_own_data(own | {"data": {}})
    named = own | {"command": "main.py --save-dir 'a --data'", "data": {"path": None}}
    assert not results_page.is_own_data(named)


def test_every_row_of_both_papers_is_listed(tmp_path):
    page = results_page.page(results_page.read_records(tmp_path))
    assert page.count("| not run |") == 5 * 4 * 4 + 10 + 5 * 5 + 2
