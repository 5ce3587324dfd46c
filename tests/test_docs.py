"""The pages: all are reached, their commands parse, they build."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import dec_da
import kingdra_cluster
import main
import run_exp
from clustering_common import prepare, report, select_k

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PARSERS = {
    "main.py": main.build_parser,
    "run_exp.py": run_exp.build_parser,
    "-m clustering_common.select_k": select_k.build_parser,
    "-m clustering_common.prepare": prepare.build_parser,
    "-m clustering_common.report": report.build_parser,
}
LOOP = {"$method": "FcDEC", "$phase": "--aug-pretrain", "$seed": "0", "$precision": "tf32"}


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


def commands():
    for page in PAGES:
        for block in blocks(page, ""):
            for line in block.replace("\\\n", " ").splitlines():
                for part in line.split("&&"):
                    if part.strip().startswith("python "):
                        yield page.name, part.strip()


@pytest.mark.parametrize(("page", "command"), sorted(set(commands())))
def test_commands_parse(page, command):
    for variable, value in LOOP.items():
        command = command.replace(variable, value)
    argv = shlex.split(command)[1:]
    for prog, build_parser in PARSERS.items():
        n_words = len(prog.split())
        if " ".join(argv[:n_words]) == prog:
            build_parser().parse_args(argv[n_words:])
            break
    else:
        assert (
            argv[:2] in (["-m", "pip"], ["-m", "pytest"])
            or argv[0] == "-c"
            or (argv[0] == "-m" and (ROOT / f"{argv[1].replace('.', '/')}.py").exists())
            or (ROOT / argv[1] / "__main__.py").exists()
        ), command


def test_every_page_is_in_the_menu():
    menu = (ROOT / "mkdocs.yml").read_text().split("nav:")[1]
    assert {page.name for page in PAGES[1:]} == set(re.findall(r": (\S+\.md)$", menu, re.M))


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), (page.name, target)


@pytest.mark.slow
def test_the_pages_build(tmp_path):
    pytest.importorskip("mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "-q", "-d", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if line.startswith(("WARNING", "ERROR"))]
    said = [line for line in said if "absl" not in line]  # TensorFlow's start
    assert done.returncode == 0 and not said, done.stderr
    reference = (tmp_path / "site/reference/index.html").read_text()
    for package in (dec_da, kingdra_cluster):
        for name in package.__all__:
            assert f'id="{package.__name__}.{name}.fit"' in reference
    assert "{parameters}" not in reference
