"""The libraries do not refer to the command line: no string names an option or a verb of `von`."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from voncli.main import main

ROOT = Path(__file__).resolve().parents[1]
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
VERB = re.compile(rf"(?<![\w-])von ({'|'.join(sorted(main.commands))})\b")


def words(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every string of the code, docstrings and the pieces of f-strings among them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


@pytest.mark.parametrize("package", ["vondata", "vonmodel"])
def test_no_string_of_a_library_names_an_option_or_a_verb(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert len(files) > 20
    found = [
        f"{file.relative_to(ROOT)}:{line}: {match.group()}"
        for file in files
        for line, text in words(ast.parse(file.read_text("utf-8")))
        for pattern in (OPTION, VERB)
        for match in pattern.finditer(text)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ('f"{a}: give --run {b}"', True),
        ('"run von prepare first"', True),
        ('"a -- b"', False),
        ('"von Mises"', False),
    ],
)
def test_what_the_walk_finds(code: str, named: bool) -> None:
    texts = [text for _, text in words(ast.parse(code))]
    assert any(OPTION.search(text) or VERB.search(text) for text in texts) == named
