"""The page of results, from made result files."""

import json

from benchmarks import results_page


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
    assert "| FcIDEC aug-cluster | 0.823 | 0.900 ± 0.000 |" in usps
    assert "| FcDEC-DA | 0.980 | not run | 0.945 | - |" in usps
    assert "- FcIDEC: `python run b`" in usps
    kingdra = page.split("## Kingdra")[1]
    assert "| Ladder-IM-ensemble | 0.951 ± 0.004 | 0.750 ± 0.000 | - | 0.500 " in kingdra


def test_every_row_of_both_papers_is_listed(tmp_path):
    page = results_page.page(results_page.read_records(tmp_path))
    assert page.count("| not run |") == 5 * 4 * 4 + 5 * 5 + 2
