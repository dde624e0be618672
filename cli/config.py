"""`von config`: which settings are in force, and where each comes from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
from voncli.command import Command
from voncli.options import json_option
from voncli.output import print_json
from voncli.settings import FOLDERS, SETTINGS_FILE


@click.command(cls=Command)
@json_option
@click.pass_context
def config(context: click.Context, as_json: bool) -> None:
    """Shows the folders and option defaults that von.toml and VON_* variables set, and the source of each.

    An option on the command line overrides a variable, a variable overrides von.toml, and that the default.
    """
    root = context.find_root()
    rows = [*_folders(root.default_map or {}), *_defaults(root)]
    unknown = _unknown_variables(root)
    if as_json:
        print_json({"file": str(SETTINGS_FILE.resolve()), "settings": rows, "unknown_variables": unknown})
        return
    _print(rows, unknown)


def _folders(default_map: Any) -> list[dict[str, Any]]:
    paths = default_map.get("paths", {})
    rows = list[dict[str, Any]]()
    value: Any
    for name, default in FOLDERS.items():
        variable = f"VON_{name.upper()}"
        if os.environ.get(variable):
            value, source = os.environ[variable], variable
        elif name in paths:
            value, source = paths[name], f"{SETTINGS_FILE} [paths]"
        else:
            value, source = default, "default"
        there = None if value is None or "://" in str(value) else Path(str(value)).expanduser().exists()
        rows.append({"verb": "", "setting": name, "value": value, "source": source, "is_there": there})
    return rows


def _defaults(root: click.Context) -> list[dict[str, Any]]:
    """Options of verbs that the file or a variable sets."""
    found = []
    for names, command in _commands(root.command, ()):
        table: Any = root.default_map or {}
        for name in names:
            table = table.get(name, {}) if isinstance(table, dict) else {}
        for option in command.params:
            if not isinstance(option, click.Option) or option.name in FOLDERS:
                continue
            variable = "_".join(["VON", *names, option.name or ""]).upper().replace("-", "_")
            if os.environ.get(variable):
                value, source = os.environ[variable], variable
            elif option.name in table:
                value, source = table[option.name], f"{SETTINGS_FILE} [{'.'.join(names)}]"
            else:
                continue
            flag = max(option.opts, key=len)
            found.append({"verb": " ".join(names), "setting": flag, "value": value, "source": source})
    return found


def _commands(group: click.Command, names: tuple[str, ...]) -> list[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(group, click.Group):
        return [(names, group)]
    return [found for name, each in sorted(group.commands.items()) for found in _commands(each, (*names, name))]


def _unknown_variables(root: click.Context) -> list[str]:
    """VON_* variables that nothing reads, such as mistyped ones."""
    read = {f"VON_{name.upper()}" for name in FOLDERS} | {"VON_INCEPTION_WEIGHTS", "VON_CLASSES"}
    for names, command in _commands(root.command, ()):
        for option in command.params:
            read.add("_".join(["VON", *names, option.name or ""]).upper().replace("-", "_"))
    return sorted(name for name in os.environ if name.startswith("VON_") and name not in read)


def _print(rows: list[dict[str, Any]], unknown: list[str]) -> None:
    from voncli.output import print_table

    file = SETTINGS_FILE.resolve()
    click.echo(f"{file} {'is read' if file.exists() else 'is not there'}")
    table = []
    for row in rows:
        value = "not named" if row["value"] is None else str(row["value"])
        missing = " (not there)" if row.get("is_there") is False else ""
        table.append([row["verb"], row["setting"], value + missing, row["source"]])
    print_table("Settings in force", ["verb", "setting", "value", "from"], table)
    for name in unknown:
        click.echo(f"{name} is set, but nothing reads it.", err=True)
