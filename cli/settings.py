"""Settings from von.toml and VON_* variables as defaults of options; parameter types of folders and numbers."""

from __future__ import annotations

import difflib
import math
import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click
from click.core import ParameterSource
from voncli.command import ARGUMENTS, Option, option

if TYPE_CHECKING:
    from vondata.io.fs import DataFolder


SETTINGS_FILE = Path("von.toml")
Folder = Literal["shapenet", "pix3d", "photos", "data", "runs"]
# How a URL is handled: it is used as it is, its files are copied to this machine first, or it is refused.
UrlUse = Literal["used", "copied", "refused"]
FOLDERS: dict[Folder, str | None] = {
    "shapenet": None,
    "pix3d": None,
    "photos": None,
    "data": "data",
    "runs": "runs",
}
Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def load_settings(group: click.Group, file: Path = SETTINGS_FILE) -> dict[str, Any]:
    """Reads von.toml as click's default map: `[paths]` holds folders, every other table the options of a verb.

    Options are named as on the command line, `item-timeout` or `item_timeout` for `--item-timeout`.

    Raises:
        click.UsageError: the file is not TOML, or names a verb or an option that does not exist.
    """
    if not os.path.lexists(file):
        return {}
    if not file.is_file():  # reading a pipe would block
        raise click.UsageError(f"{file} is not a regular file: remove it, or replace it with one")
    try:
        text = file.read_text("utf-8-sig")
        tables = tomllib.loads(text)
    except OSError as error:
        raise click.UsageError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(
            f"{file} is not UTF-8 text (byte {error.start} is {error.object[error.start]:#04x}): save it as UTF-8"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise click.UsageError(f"{file} is not valid TOML: {error}{_backslash_hint(text)}") from error
    _check_strings(tables, text, str(file))
    paths = _table(tables.pop("paths", {}), f"{file}: paths")
    _check_names(paths, list(FOLDERS), f"{file} [paths]")
    for name, value in paths.items():
        if not isinstance(value, str):
            raise click.UsageError(f'{file} [paths]: {name} is {value!r}; write the folder as "..."')
    return {"paths": paths, **_verb_defaults(tables, group, str(file))}


def _check_strings(value: Any, text: str, place: str) -> None:
    """Refuses strings with control characters: backslashes of a Windows path that TOML reads as escapes.

    Args:
        value: the content of the file, or a part of it.
        text: the whole file.
        place: name of the part in messages.
    """
    match value:
        case dict():
            for name, each in value.items():
                _check_strings(each, text, f"{place}: {name}")
        case list():
            for each in value:
                _check_strings(each, text, place)
        case str() if any(ord(letter) < 32 for letter in value):
            raise click.UsageError(f"{place} is {value!r}, with a control character{_backslash_hint(text)}")


def _backslash_hint(text: str) -> str:
    """Advice for Windows paths in double quotes, whose backslashes TOML reads as escapes."""
    quoted = re.search(r'"[^"\n]*\\[^"\n]*"', text)
    return f"; in {quoted.group()} a backslash begins an escape: use / or single quotes" if quoted else ""


SHOWN_LENGTH = 100  # characters of a path in a message


class FolderType(click.ParamType[Any]):
    """A local path, also as file:// URL, or a folder at a URL such as s3://bucket/data."""

    name = "path"

    def __init__(self, urls: UrlUse) -> None:
        self.urls = urls

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A Path, or a DataFolder if URLs are used as they are."""
        if value == "":  # from an unset shell variable; as a path it would be the current folder
            self.fail("the path is empty; . is the current folder", param, ctx)
        if not isinstance(value, str):
            return value
        if "://" in value:
            return self._behind_url(value, param, ctx)
        try:
            path = self._checked(Path(value).expanduser(), param, ctx)
        except RuntimeError:  # ~name of an unknown user
            self.fail(f"{value}: no such user", param, ctx)
        if self.urls != "used":
            return path
        from vondata.io.fs import DataFolder

        return DataFolder.at(path)

    def _behind_url(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Path | DataFolder:
        from vondata.io.fs import DataFolder, RemoteError

        folder = DataFolder.at(value)
        if self.urls == "used":
            return folder
        if not folder.is_remote:
            return folder.path
        if self.urls == "refused":
            self.fail(f"{value} is a URL; a local path is needed here", param, ctx)
        try:
            return _copied(folder)
        except RemoteError as error:
            self.fail(str(error), param, ctx)

    def _checked(self, path: Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path; fails if it is too long, a loop of links, or contains a NUL."""
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            pass
        except (OSError, ValueError) as error:
            what = error.strerror if isinstance(error, OSError) else str(error)
            shown = str(path) if len(str(path)) <= SHOWN_LENGTH else f"{str(path)[:SHOWN_LENGTH]}..."
            self.fail(f"{shown!r} is not a valid path: {what}", param, ctx)
        return path


LOCAL_PATH = FolderType("refused")


class FiniteRange(click.FloatRange):
    """A finite number in a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Reads a number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


def folder_option(
    folder: Folder,
    *flags: str,
    help: str,
    urls: UrlUse | None = None,
    heading: str = "Data",
    group: str | None = None,
) -> Callable[[Decorated], Decorated]:
    """An option for one of the folders of von.toml's `[paths]`, also read from `VON_<FOLDER>`.

    Args:
        folder: also the name of the command's parameter.
        flags: flags of the option; by default `--<folder>`.
        help: text for `--help`.
        urls: how a URL is handled; by default a dataset is copied and other folders must be local.
        heading: section of the help.
        group: see `Option`.
    """

    def default() -> str | None:
        settings = click.get_current_context().find_root().default_map or {}
        named = settings.get("paths", {}).get(folder, FOLDERS[folder])
        return None if named is None else str(named)

    return option(
        *(flags or (f"--{folder}",)),
        folder,
        type=FolderType(urls or ("copied" if folder == "data" else "refused")),
        envvar=f"VON_{folder.upper()}",
        default=default,
        show_default=FOLDERS[folder] or False,
        help=help,
        heading=heading,
        group=group,
    )


def check_folder(folder: Path, given_as: str) -> None:
    """Raises click.UsageError if there is no folder at a path; the message begins with how the path was given."""
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "is not there"
        raise click.UsageError(f"{given_as}: {folder} {what}; name the folder that holds the files")


def spelling(name: str) -> str:
    """How the value of an option or argument was given: its flag as typed, its variable, or its entry in von.toml.

    Args:
        name: of the running verb's parameter.
    """
    ctx = click.get_current_context()
    parameter = next(each for each in ctx.command.params if each.name == name)
    if isinstance(parameter, click.Argument):
        return parameter.make_metavar(ctx).strip("[].")
    typed = {each.partition("=")[0] for each in ctx.meta.get(ARGUMENTS, ())}
    paths = (ctx.find_root().default_map or {}).get("paths", {})
    match ctx.get_parameter_source(name):
        case ParameterSource.ENVIRONMENT if isinstance(parameter.envvar, str):
            return parameter.envvar
        case ParameterSource.DEFAULT if name in paths:
            return f"{name} in von.toml"
    flag = f"--{name}"
    return next(
        (each for each in parameter.opts if each in typed), flag if flag in parameter.opts else parameter.opts[-1]
    )


def _copied(folder: DataFolder) -> Path:
    """The updated local copy of a remote dataset."""
    from voncli.output import local_copy

    copy = local_copy(folder, asked=True, why="")
    assert copy is not None
    return copy


def _verb_defaults(tables: dict[str, Any], group: click.Group, place: str) -> dict[str, Any]:
    """The tables with options renamed to their parameters."""
    _check_names(tables, list(group.commands), place)
    return {
        name: _command_defaults(_table(table, f"{place}: {name}"), group.commands[name], f"{place} [{name}]")
        for name, table in tables.items()
    }


def _command_defaults(table: dict[str, Any], command: click.Command, place: str) -> dict[str, Any]:
    if not isinstance(command, click.Group):
        names = _option_names(command)
        _check_names(table, list(names), place)
        return {names[key]: value for key, value in table.items()}
    # An option beside the sub-verbs' tables, `[prepare] workers = 2`, holds for every sub-verb that has it.
    options = {name: _option_names(each) for name, each in command.commands.items()}
    _check_names(table, [*command.commands, *(key for names in options.values() for key in names)], place)
    shared = {key: value for key, value in table.items() if key not in command.commands}
    return {
        name: _command_defaults(
            {key: value for key, value in shared.items() if key in options[name]}
            | _table(table.get(name, {}), f"{place}: {name}"),
            each,
            f"{place} [{name}]",
        )
        for name, each in command.commands.items()
    }


def _table(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise click.UsageError(f"{place} must be a table")
    return value


def _option_names(command: click.Command) -> dict[str, str]:
    """Every way to spell an option in the file, with the name of its parameter."""
    names: dict[str, str] = {}
    for each in command.params:
        if isinstance(each, click.Option) and each.name and each.expose_value:
            old = each.old if isinstance(each, Option) else ()
            spelt = [flag.removeprefix("--") for flag in (*each.opts, *old) if flag.startswith("--")]
            names |= dict.fromkeys([each.name, *spelt, *(flag.replace("-", "_") for flag in spelt)], each.name)
    return names


def _check_names(given: dict[str, Any], known: list[str], place: str) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known names: {', '.join(sorted(known))}"
            raise click.UsageError(f"{place}: unknown name {name!r}; {hint}")
