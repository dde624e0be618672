"""Names: public classes have unique names, and no test uses a private name of the packages."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"vondata": "vondata", "vonmodel": "vonmodel", "cli": "voncli", "manifests": "vonmanifests"}
CODE = (*PACKAGES.values(), "benchmarks")
REPLACE = {"setattr", "delattr", "getattr", "patch"}
NAMED_TUPLE = {"_asdict", "_fields", "_replace"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in NAMED_TUPLE


def private_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Private names of the packages' modules and classes that a file imports, reads or replaces, with their lines."""
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in CODE:
            imported |= {each.asname or each.name for each in node.names}
            yield from ((node.lineno, each.name) for each in node.names if is_private(each.name))
        elif isinstance(node, ast.Import):
            imported |= {each.asname or each.name for each in node.names if each.name.partition(".")[0] in CODE}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and ast.unparse(node.value) in imported:
            yield node.lineno, node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in REPLACE:
            texts = [
                each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)
            ]
            place = ast.unparse(node.args[0]) if node.args else ""
            for text in texts:
                if is_private(text.rpartition(".")[2]) and (place in imported or text.partition(".")[0] in CODE):
                    yield node.lineno, text


def test_no_two_public_classes_share_a_name() -> None:
    places = defaultdict(list)
    for folder in PACKAGES:
        for file in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.parse(file.read_text("utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name].append(file.relative_to(ROOT).as_posix())
    assert len(places) > 200
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


def test_no_test_reaches_into_a_private_name() -> None:
    files = sorted((ROOT / "tests").rglob("*.py"))
    assert len(files) > 100
    found = [
        f"{file.relative_to(ROOT)}:{line}: {name}"
        for file in files
        for line, name in private_names(ast.parse(file.read_text("utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from vondata.io.files import _lock", ["_lock"]),
        ("from vonmodel import builtin\nbuiltin._folder()", ["_folder"]),
        ("import vonmodel.model as model\npatch.setattr(model, '_draw', None)", ["_draw"]),
        ("patch.setattr('voncli.output._stop', None)", ["voncli.output._stop"]),
        ("from voncli.output import note\nself._process = note", []),
        ("import os\nos._exit(1)\npatch.setattr(os, '_exit', None)", []),
    ],
)
def test_what_the_walk_finds(code: str, found: list[str]) -> None:
    assert [name for _, name in private_names(ast.parse(code))] == found


def test_the_number_and_length_of_modules_stay_within_limits() -> None:
    files = [file for folder in ("vondata", "vonmodel", "cli") for file in (ROOT / folder).rglob("*.py")]
    lines = {
        file.relative_to(ROOT).as_posix(): len(file.read_text("utf-8").splitlines())
        for file in files
        if file.stem not in {"__init__", "__main__"}
    }
    assert len(lines) <= 195
    assert {file: count for file, count in lines.items() if count > 650} == {}
    assert len([count for count in lines.values() if count < 40]) <= 2
