"""Where options get their values: the command line, VON_* variables, von.toml, then the default."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

SETTINGS_FILE = Path("von.toml")
Folder = Literal["shapenet", "pix3d", "photos", "data", "runs"]
FOLDERS: dict[Folder, str | None] = {
    "shapenet": None,
    "pix3d": None,
    "photos": None,
    "data": "data",
    "runs": "runs",
}
Command = TypeVar("Command", bound=Callable[..., Any])


def load_settings(group: click.Group, file: Path = SETTINGS_FILE) -> dict[str, Any]:
    """Reads von.toml as click's default map: `[paths]` holds folders, every other table the options of a verb.

    Raises:
        click.UsageError: the file is not TOML, or names a verb or an option that does not exist.
    """
    if not file.is_file():
        return {}
    try:
        tables = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{file} is not valid TOML: {error}") from error
    _check_names(tables.get("paths", {}), list(FOLDERS), f"{file} [paths]")
    _check_tables({name: table for name, table in tables.items() if name != "paths"}, group, str(file))
    return tables


def folder_option(folder: Folder, flag: str | None = None, *, help: str) -> Callable[[Command], Command]:
    """An option for one of the folders of von.toml's `[paths]`, also read from `VON_<FOLDER>`."""

    def default() -> str | None:
        settings = click.get_current_context().find_root().default_map or {}
        named = settings.get("paths", {}).get(folder, FOLDERS[folder])
        return None if named is None else str(named)

    return click.option(
        flag or f"--{folder}",
        folder,
        type=click.Path(path_type=Path),
        envvar=f"VON_{folder.upper()}",
        default=default,
        show_default=FOLDERS[folder] or False,
        help=help,
    )


def json_option(command: Command) -> Command:
    """The `--json` flag: the result as one JSON document on standard output, everything else on standard error."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


def print_json(result: Any) -> None:
    """Prints a result for machines."""
    click.echo(json.dumps(result, indent=2, default=str))


def _check_tables(tables: dict[str, Any], group: click.Group, place: str) -> None:
    _check_names(tables, list(group.commands), place)
    for name, table in tables.items():
        command = group.commands[name]
        if isinstance(command, click.Group):
            _check_tables(table, command, f"{place} [{name}]")
        elif not isinstance(table, dict):
            raise click.UsageError(f"{place}: {name} must be a table")
        else:
            options = [each.name for each in command.params if isinstance(each, click.Option) and each.name]
            _check_names(table, options, f"{place} [{name}]")


def _check_names(given: dict[str, Any], known: list[str], place: str) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known names: {', '.join(sorted(known))}"
            raise click.UsageError(f"{place}: unknown name {name!r}; {hint}")
