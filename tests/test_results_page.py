"""The page of results, from made result files."""

import json

import pytest

from benchmarks import results_page
from clustering_common.record import checksum


def write(folder, name, **record):
    place = folder / name
    place.mkdir(parents=True)
    common = {"seconds": {"total": 60.0}, "device": "a CPU", "command": f"run {name}"}
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


def test_kept_runs_name_no_folder_of_the_machine(tmp_path):
    own = {"batch_size": 256, "layer_sizes": [500, 500, 2000, 10], "random_state": 4}
    grid = tmp_path / "my grid"
    write(
        grid, "usps/FcIDEC/trial4", **dec_record(4, 0.5, **own) | {"sha256": "of the whole"},
        pretraining_of=str(grid / "usps/FcDEC/trial4"),
        command=f"run_exp.py --trials 5 --save-dir '{grid}' --data-dir data",
    )  # fmt: skip
    results_page.keep(grid, tmp_path / "kept")
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
    results_page.keep(tmp_path / "runs", tmp_path / "kept")
    kept = sorted(str(path.parent) for path in (tmp_path / "kept").rglob("results.json"))
    ends = ["digits/Kingdra-Ladder-IM/seed1", "usps/FcIDEC-aug-pretrain/seed4"]
    assert kept == [str(tmp_path / "kept" / end) for end in ends]
    kept_runs = results_page.read_records(tmp_path / "kept")
    assert set(kept_runs) == {("digits", "Kingdra-Ladder-IM"), ("usps", "FcIDEC aug-pretrain")}


@pytest.mark.parametrize(
    "record",
    [
        dec_record(4, 0.5, batch_size=64),
        {"config": "ladder_im_mnist", "settings": {"n_iter": 2}, "seed": 0},
    ],
)
def test_a_run_with_other_settings_is_refused(tmp_path, record):
    write(tmp_path, "a", **record)
    with pytest.raises(ValueError, match=r"must be .* in this row; got .* in the run 'run a'"):
        results_page.keep(tmp_path, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_every_row_of_both_papers_is_listed(tmp_path):
    page = results_page.page(results_page.read_records(tmp_path))
    assert page.count("| not run |") == 5 * 4 * 4 + 10 + 5 * 5 + 2
