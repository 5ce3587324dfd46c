import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FORBIDDEN = {
    "clustering_common": {"dec_da", "kingdra_cluster", "main", "run_exp", "tests"},
    "dec_da": {"kingdra_cluster", "main", "run_exp", "tests"},
    "kingdra_cluster": {"dec_da", "main", "run_exp", "tests"},
}
FILES = [
    (package, path) for package in FORBIDDEN for path in sorted((ROOT / package).rglob("*.py"))
]


def imported(source):
    """Return the top names of all imports, also of those inside functions."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split(".")[0])
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func).split(".")[-1]
            if called in ("import_module", "__import__"):
                names.add(str(node.args[0].value).split(".")[0])
    return names


def test_the_reader_sees_every_kind_of_import():
    source = "import a.b\nfrom c.d import e\ndef f():\n    import g\n    import_module('h.i')\n"
    assert imported(source) == {"a", "c", "g", "h"}


@pytest.mark.parametrize(
    ("package", "path"), FILES, ids=[str(p.relative_to(ROOT)) for _, p in FILES]
)
def test_imports_run_one_way(package, path):
    assert not imported(path.read_text()) & FORBIDDEN[package]


def test_all_packages_are_there():
    assert {package for package, _ in FILES} >= {"clustering_common", "dec_da"}
