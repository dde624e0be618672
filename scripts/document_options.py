"""Writes the table of all verbs and options into docs/command-line.md; `--check` only checks that it is current."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from voncli.command import Option
from voncli.main import main

PAGE = Path(__file__).resolve().parents[1] / "docs" / "command-line.md"
BEGIN, END = "<!-- options: written by scripts/document_options.py -->", "<!-- end of options -->"
COMMON = {"json", "as_json", "quiet", "verbose", "help"}


def tables() -> str:
    """One table for each verb."""
    return "\n".join(_table(name, command) for name, command in _verbs(main, ()))


def _verbs(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    headings = getattr(group, "headings", None) or {"": list(group.commands)}
    for names in headings.values():
        for name in names:
            command = group.commands[name]
            if isinstance(command, click.Group):
                yield from _verbs(command, (*path, name))
            else:
                yield " ".join((*path, name)), command


def _table(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name)
    arguments = [each.make_metavar(context) for each in command.params if isinstance(each, click.Argument)]
    lines = [
        f"### `{' '.join(['von', name, *arguments])}`",
        "",
        "| option | what it does | earlier name |",
        "|---|---|---|",
    ]
    for each in command.params:
        if not isinstance(each, Option) or each.name in COMMON:
            continue
        record = each.get_help_record(context)
        assert record is not None
        flags, text = (part.replace("|", "\\|") for part in record)
        lines.append(f"| `{flags}` | {' '.join(text.split())} | {' '.join(f'`{old}`' for old in each.old)} |")
    return "\n".join([*lines, ""])


def run() -> int:
    """Writes or checks the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    text = PAGE.read_text("utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    current = f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"
    if check:
        if current != text:
            sys.stderr.write(f"{PAGE} is out of date: run python scripts/document_options.py\n")
        return int(current != text)
    PAGE.write_text(current, "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(run())
