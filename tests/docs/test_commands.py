"""Every `von`, `make` and `python` command in README and docs exists, with the options it is shown with."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from voncli.main import main

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*(:[A-Z]+)?|<[^>]+>|\.\.\.|…")


def commands(page: Path) -> list[str]:
    """The commands on a page: lines of its blocks, and spans in its text that begin with one."""
    text = page.read_text("utf-8")
    lines = []
    for language, block in FENCE.findall(text):
        if language in ("", "console", "sh", "bash"):
            joined = re.sub(r"\\\n\s*", " ", block)
            lines += [line.strip().removeprefix("$ ") for line in joined.splitlines()]
    lines += SPAN.findall(FENCE.sub("", text))
    return [line for line in lines if re.match(r"(von|make|python -m|python scripts/)\s", line)]


ALL = [(page.name, line) for page in PAGES for line in dict.fromkeys(commands(page))]


def words_of(line: str) -> list[str]:
    """The words of a command without its comment, redirection of output and placeholders."""
    line = re.split(r"\s+#\s|\s{3,}|\s\|\s|\s>\s|\s&&\s|;", line)[0]
    return shlex.split(line)


@pytest.mark.parametrize(("page", "line"), [each for each in ALL if each[1].startswith("von ")])
def test_von_commands_parse(page: str, line: str) -> None:
    command: click.Command = main
    context = click.Context(main, info_name="von")
    words = words_of(line)[1:]
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        for name in words[0].split("|"):
            assert command.get_command(context, name) is not None, f"{page}: there is no von verb {name!r}: {line}"
        command = command.get_command(context, words[0].split("|")[0])
        context = click.Context(command, info_name=words[0], parent=context)
        words = words[1:]
    known = {spelling for option in command.params for spelling in (*option.opts, *option.secondary_opts)}
    known |= set(context.help_option_names)
    for word in words:
        option = word.split("=")[0]
        if option.startswith("-") and not PLACEHOLDER.fullmatch(option) and not re.fullmatch(r"-\d+|-[xyz]", option):
            assert option in known, f"{page}: {command.name} has no option {option}: {line}"


@pytest.mark.parametrize(("page", "line"), [each for each in ALL if each[1].startswith("make ")])
def test_make_targets_exist(page: str, line: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for word in words_of(line)[1:]:
        if "=" not in word:
            assert word in targets, f"{page}: make has no target {word}: {line}"


@pytest.mark.parametrize(("page", "line"), [each for each in ALL if each[1].startswith("python ")])
def test_modules_and_scripts_exist(page: str, line: str) -> None:
    words = words_of(line)
    if words[1] != "-m":
        assert (ROOT / words[1]).is_file(), f"{page}: {line}"
        return
    name = words[2].replace(".", "/")
    if words[2:4] == ["benchmarks", "NAME"]:
        return
    installed = {"pytest", "mkdocs", "pip", "http.server", "venv", "voncli"}
    there = (ROOT / f"{name}.py").is_file() or (ROOT / name / "__main__.py").is_file()
    assert there or words[2].split(".")[0] in installed, f"{page}: {line}"
    if words[2] == "benchmarks" and len(words) > 3 and not words[3].startswith("-"):
        assert (ROOT / "benchmarks" / f"{words[3]}.py").is_file(), f"{page}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_of_settings_parse(page: Path) -> None:
    for language, block in FENCE.findall(page.read_text("utf-8")):
        if language == "toml":
            tomllib.loads(block)
        if language == "python":
            compile(block, str(page), "exec")


def test_the_pages_are_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert [page.name for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in navigation] == []


def test_the_table_of_options_is_current() -> None:
    script = ROOT / "scripts" / "document_options.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


PYTHON_FILE = re.compile(r"`((?:[\w.]+/)*\w+\.py)(?:::(\w+))?")
OWN = [
    path
    for folder in ("vondata", "vonmodel", "cli", "tests", "benchmarks", "scripts", "examples")
    for path in (ROOT / folder).rglob("*.py")
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_tests_that_a_page_names_are_there(page: Path) -> None:
    for path, function in PYTHON_FILE.findall(page.read_text("utf-8")):
        found = [each for each in OWN if each.as_posix().endswith(f"/{path}")]
        assert found, f"{page.name}: there is no {path}"
        if function:
            assert any(f"def {function}(" in each.read_text("utf-8") for each in found), f"{path} has no {function}"
