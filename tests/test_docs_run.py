"""Every command and every Python block of the pages runs, in a copy of the checkout.

What would take hours runs with fewer epochs on made data, what needs the network or a GPU does not
run: both are in the tables below, with the reason. A command that is in no table runs as it stands.
"""

import gzip
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    "README.md", "CONTRIBUTING.md", "data/README.md",
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
]  # fmt: skip
# Made from result files; its commands are those of runs that took hours.
PAGES.remove("docs/RESULTS.md")
LIMIT = 900  # seconds for a page
INSTALLS = "installs: CI does"
PLACEHOLDER = "NAME or CONFIG stands for what the reader has"
GPUS = "needs two GPUs; the same with virtual ones runs"
NOT_RUN = {
    "python -m pip install -q .": INSTALLS,
    "python -m pip install .": INSTALLS,
    "python -m pip install -q -e '.[test]'": INSTALLS,
    "python -m pip install -e '.[dev,docs]'": INSTALLS,
    "python -m pip install '.[jax]' 'jax[cuda12]'": "installs, for a GPU",
    "python -m pytest -n 2": "is CI itself",
    "KERAS_BACKEND=jax python -m pytest -n 2": "is CI itself",
    "make check": "is CI itself",
    "python3 -m venv .venv": INSTALLS,
    ". .venv/bin/activate": INSTALLS,
    "sudo apt install dataset-fashion-mnist": INSTALLS,
    "python -m benchmarks --json benchmarks/results/gpu.json": "measures a GPU for an hour",
    "python run_exp.py": "the paper's whole grid, days; the same on docs/papers.md runs reduced",
    "python -m pip install '.[umap]'": INSTALLS,
    "python main.py --method FcDEC-DA --dataset fmnist --devices 2 --save-dir results/two": GPUS,
    "python run_exp.py configs/kingdra_ladder_im_mnist.json --devices 2 "
    "--save-dir results/two_members": GPUS,
    "python -m clustering_common.prepare NAME": PLACEHOLDER,
    "python -m clustering_common.report FOLDER": PLACEHOLDER,
    "python run_exp.py CONFIG.json": PLACEHOLDER,
    "python -m clustering_common.prepare ens_cluster_datasets.zip": "network: the authors' zip",
    "python -m clustering_common.prepare mnist --zip ens_cluster_datasets.zip":
        "network: the authors' zip",
}  # fmt: skip
SHORT = " --pretrain-epochs 1 --maxiter 2"
# What stands in the pages, and what runs in its place.
REDUCED = {
    "--method FcDEC-DA --dataset digits --save-dir results/digits":
        f"--method FcDEC-DA --dataset digits --save-dir results/digits{SHORT}",
    "--dataset fmnist --seed 1 --save-dir results/fmnist":
        f"--dataset fmnist --seed 1 --save-dir results/fmnist{SHORT}",
    "--data my_vectors.npy --n-clusters 5": f"--data my_vectors.npy --n-clusters 5{SHORT}",
    "--method FcDEC-DA --dataset mnist": f"--method FcDEC-DA --dataset mnist{SHORT}",
    "--trials 5 --datasets mnist usps --jobs 2":
        f"--trials 1 --datasets mnist usps --jobs 2 --methods FcDEC{SHORT}",
    "python run_exp.py --trials 5\n": f"python run_exp.py --trials 1 --methods FcDEC{SHORT}\n",
    "--datasets fmnist --trials 3 --save-dir results/fmnist":
        f"--datasets fmnist --trials 1 --methods FcDEC --save-dir results/fmnist{SHORT}",
    "--method $method $phase --dataset fmnist":
        f"--method $method $phase --dataset fmnist{SHORT}",
    "--method FcDEC-DA --dataset fmnist --precision":
        f"--method FcDEC-DA{SHORT} --dataset fmnist --precision",
    "--n-clusters 5 --batch-size 32": f"--n-clusters 5 --batch-size 32{SHORT}",
    "--dataset digits --devices 2 --save-dir results/two":
        f"--dataset digits --devices 2 --save-dir results/two{SHORT}",
    "--datasets digits --trials 5 --report": f"--datasets digits --trials 1 --report{SHORT}",
    "--k 6-14 --seeds 10": "--k 9-10 --seeds 2",
    "pretrain_epochs=200 max_iter=280": "pretrain_epochs=1 max_iter=2",
    "python -m benchmarks --quick": "python -m benchmarks --quick --only inference",
}  # fmt: skip
# Runs that were reduced are no rows of the results' page, which must refuse them.
REFUSED = {
    "python -m benchmarks.results_page --add results/dec_da",
    "python -m benchmarks.results_page --add results/fmnist results/kingdra_fmnist",
    "python -m benchmarks.results_page --add results/one",
}
PYTHON = {
    "README.md": {"n_trials=2": "n_trials=2, pretrain_epochs=1, max_iter=2"},
    "docs/GPU.md": {
        "devices.use(2)": "devices.use(1)",
        "FcDEC(10)": "FcDEC(10, pretrain_epochs=1, max_iter=2)",
    },
    "docs/own_data.md": {
        "pretrain_epochs=5)": "pretrain_epochs=1, max_iter=2)",
        "from sklearn.datasets import fetch_20newsgroups":
            "from sklearn.datasets import load_wine  # stands in: the newsgroups are downloaded",
        'fetch_20newsgroups(subset="all").data': "(load_wine().DESCR.split() * 10)[:2000]",
        "KingdraCluster(20, fc_layer_sizes=(1200, 1200, 20), thresh=0, n_iter=10)":
            "KingdraCluster(20, fc_layer_sizes=(60, 60, 20), thresh=0, n_iter=1)",
    },
}  # fmt: skip


def fences(page):
    """Return (language, text) of each fenced block of a page."""
    return re.findall(r"^```([^\n]*)\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)


def spans(page):
    """Return the commands within a page's sentences and tables."""
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.M | re.S)
    found = re.findall(r"`([^`]+)`", text)
    commands = [" ".join(one.split()) for one in found]
    return [c for c in commands if re.match(r"(\w+=\S+ )?(python3? (?=.*[/.])|sudo )", c)]


def refused(command):
    """Return a command that ends well where this one ends with the exit code of bad input."""
    return f"if {command}; then exit 9; else test $? -eq 2; fi"


def shell(page):
    """Return a page's commands as one script, what is not run left out."""
    parts = [text for language, text in fences(page) if not language] + spans(page)
    script = "\n".join(parts).replace("\\\n", " ")
    script = re.sub(r"[ \t]+", " ", script) + "\n"
    lines = []
    for line in script.splitlines():
        commands = re.sub(r"#.*", "", line).strip().split(" && ")
        left = [one.strip() for one in commands if one.strip() not in NOT_RUN]
        left = [refused(one) if one in REFUSED else one for one in left]
        lines.append(" && ".join(left))
    text = "\n".join(lines) + "\n"
    for old, new in REDUCED.items():
        text = text.replace(old, new)
    return text.strip()


def scripts(page):
    """Return a page's Python blocks as one script; one that starts processes is its own."""
    blocks = [text for language, text in fences(page) if language == "python"]
    for old, new in PYTHON.get(page, {}).items():
        blocks = [block.replace(old, new) for block in blocks]
    alone = [block for block in blocks if "__name__" in block]
    together = "\n".join(block for block in blocks if block not in alone)
    return [script for script in (together, *alone) if script]


def test_the_tables_are_not_stale():
    pages = "\n".join("\n".join([text for _, text in fences(p)] + spans(p)) + "\n" for p in PAGES)
    pages = re.sub(r"[ \t]+", " ", pages.replace("\\\n", " "))
    for text in (*NOT_RUN, *REDUCED, *REFUSED):
        assert text in pages, text
    for page, changes in PYTHON.items():
        for text in changes:
            assert text in (ROOT / page).read_text(), text


@pytest.mark.parametrize(("code", "seen"), [(2, 0), (1, 1), (0, 9)])
def test_a_refusal_is_exit_code_2(code, seen):
    script = f"{refused(f'(exit {code})')}\n"
    assert subprocess.run(["bash", "-euo", "pipefail", "-c", script]).returncode == seen


def test_blocks_are_found():
    assert sum(len(scripts(page)) for page in PAGES) >= 5
    assert sum(bool(shell(page)) for page in PAGES) >= 6


def test_every_block_has_a_known_language():
    found = {language for page in PAGES for language, _ in fences(page)}
    assert found <= {"", "json", "python", "text"}


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_are_python(page):
    for script in scripts(page):
        compile(script, page, "exec")


def write_idx(path, array):
    """Write an array as MNIST's files are."""
    shape = b"".join(n.to_bytes(4, "big") for n in array.shape)
    with gzip.open(path, "wb") as file:
        file.write(bytes([0, 0, 8, array.ndim]) + shape + array.tobytes())


def make_data(folder):
    """Write small files of every kind that the commands name."""
    rng = np.random.default_rng(0)
    for name in ("mnist", "fmnist"):
        (folder / "data" / name).mkdir(parents=True)
        for part, n in (("train", 60), ("t10k", 40)):
            place = folder / "data" / name / part
            labels = np.arange(n, dtype=np.uint8) % 10
            pixels = rng.integers(0, 255, (n, 28, 28), np.uint8)
            write_idx(f"{place}-images-idx3-ubyte.gz", pixels)
            write_idx(f"{place}-labels-idx1-ubyte.gz", labels)
    (folder / "data/usps").mkdir()
    for part in ("train", "test"):
        lines = [f"{i % 10} " + " ".join(map(str, rng.random(256).round(2))) for i in range(40)]
        (folder / f"data/usps/usps_{part}.jf").write_text("\n".join(["10 256", *lines, "-1", ""]))
    for name in ("photos", "more_photos"):
        (folder / name).mkdir()
        for i in range(40):
            pixels = rng.integers(0, 255, (30, 30), np.uint8)
            Image.fromarray(pixels).save(folder / f"{name}/{i}.png")
    vectors = rng.random((100, 12)).astype(np.float32)
    for name in ("my_vectors", "large"):
        np.save(folder / f"{name}.npy", vectors)


def shorten(config):
    """Make a config of Kingdra one short round of small networks."""
    content = json.loads(config.read_text())
    sizes = [*[30 for _ in content["fc_layer_sizes"][:-1]], content["fc_layer_sizes"][-1]]
    content.update(n_iter=1, fc_layer_sizes=sizes)
    content.update({k: 1 for k in ("n_epochs_per_iter0", "n_epochs_per_iter") if k in content})
    config.write_text(json.dumps(content))


@pytest.fixture
def checkout(tmp_path):
    """A copy of the files that are under version control, with data."""
    names = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    make_data(tmp_path)
    for config in (tmp_path / "configs").glob("*.json"):
        shorten(config)
    return tmp_path


def run(argv, folder):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        argv, cwd=folder, capture_output=True, text=True, timeout=LIMIT,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(folder)},
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="once is enough")
@pytest.mark.parametrize("page", [page for page in PAGES if shell(page)])
def test_the_commands_run(page, checkout):
    run(["bash", "-euo", "pipefail", "-c", shell(page)], checkout)


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="once is enough")
@pytest.mark.parametrize(
    ("page", "number"), [(page, i) for page in PAGES for i in range(len(scripts(page)))]
)
def test_the_python_blocks_run(page, number, checkout):
    script = scripts(page)[number]
    for module in ("distributed",):
        if f"from {module} " in script and not importlib.util.find_spec(module):
            pytest.skip(f"{module} is not installed")
    (checkout / "script.py").write_text(script)
    run([sys.executable, "script.py"], checkout)
