"""docs/reference.md has every public name, and says so when one is added."""

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("clustering_common", "dec_da", "kingdra_cluster")
ENTRY = re.compile(r"^::: (\S+)(?:\n    options:\n      members: \[(.*?)\])?$", re.M)
# Modules whose __all__ is for other modules, and the public name that they serve.
INTERNAL = {
    "clustering_common.array_files": "load_user_data",
    "clustering_common.csv_files": "load_user_data",
    "clustering_common.data_pass": "fit of arrays in files",
    "clustering_common.dataset_files": "load_dataset",
    "clustering_common.evidence_fits": "select_k",
    "clustering_common.evidence_report": "select_k",
    "clustering_common.evidence_seed": "select_k",
    "clustering_common.h5_data": "load_user_data",
    "clustering_common.h5_files": "the estimators' save and load",
    "clustering_common.h5_names": "the estimators' save and load",
    "clustering_common.keras_files": "load_dataset",
    "clustering_common.named_arrays": "load_user_data",
    "clustering_common.parquet_files": "load_user_data",
    "clustering_common.prepare_fetch": "prepare",
    "clustering_common.prepare_images": "prepare",
    "clustering_common.prepare_layout": "prepare",
    "clustering_common.prepare_text": "prepare",
    "clustering_common.prepare_zip": "prepare",
    "clustering_common.samples_file": "main.py and run_exp.py",
    "clustering_common.sparse_files": "load_user_data",
    "clustering_common.table_columns": "load_user_data",
    "clustering_common.user_labels": "load_user_data",
}


def entries():
    """Return (module, names) of each part of the reference."""
    for module, members in ENTRY.findall((ROOT / "docs/reference.md").read_text()):
        found = importlib.import_module(module)
        names = re.split(r",\s*", members) if members else getattr(found, "__all__", None)
        yield found, names if names else [name for name in vars(found) if name[0] != "_"]


def modules():
    """Return every module of ours that says what is public."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).glob("*.py")):
            tree = ast.parse(path.read_text())
            if any(isinstance(node, ast.Assign) and "__all__" in ast.unparse(node.targets[0])
                   for node in tree.body):  # fmt: skip
                yield package if path.stem == "__init__" else f"{package}.{path.stem}"


def referenced():
    """Return all objects of the reference."""
    return [getattr(module, name) for module, names in entries() for name in names]


@pytest.mark.parametrize("name", [name for name in modules() if name not in INTERNAL])
def test_every_public_name_is_in_the_reference(name):
    module, known = importlib.import_module(name), referenced()
    missing = [one for one in module.__all__ if not any(getattr(module, one) is o for o in known)]
    assert not missing, f"{name}: {missing} are not in docs/reference.md"


def test_the_list_of_internal_modules_is_not_stale():
    assert set(INTERNAL) <= set(modules())


def test_the_reference_names_what_is_there_and_documented():
    found = list(entries())
    assert len(found) > 8
    for module, names in found:
        for name in names:
            assert getattr(module, name).__doc__, (module.__name__, name)


def test_what_the_pages_import_is_in_the_reference():
    known, seen = referenced(), 0
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        pattern = rf"^from ((?:{'|'.join(PACKAGES)})\S*) import (.+)$"
        for module, names in re.findall(pattern, page.read_text(), re.M):
            for name in re.split(r",\s*", names):
                thing = getattr(importlib.import_module(module), name)
                seen += 1
                # What is a module itself, such as backend, is no name of the reference.
                is_module = type(thing).__name__ == "module"
                assert is_module or any(thing is one for one in known), (page.name, module, name)
    assert seen > 5
