"""Option types and groups of the verbs; values from the command line, VON_* variables, von.toml, then the default."""

from __future__ import annotations

import difflib
import json
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

if TYPE_CHECKING:
    from vondata.io.fs import RemoteFolder
    from vonmodel.inference.photo import CutPhoto
    from vonmodel.inference.sampling import Seed
    from vonmodel.inference.session import ModelSession, Shape
    from vonmodel.reports.video import FilmSettings


SETTINGS_FILE = Path("von.toml")
Folder = Literal["shapenet", "pix3d", "photos", "data", "runs"]
# What becomes of a URL: it is used as it is, its files are copied to this machine first, or it is refused.
UrlUse = Literal["used", "copied", "refused"]
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

    Options are named as on the command line, `item-timeout` or `item_timeout` for `--item-timeout`.

    Raises:
        click.UsageError: the file is not TOML, or names a verb or an option that does not exist.
    """
    if not file.is_file():
        return {}
    try:
        tables = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{file} is not valid TOML: {error}") from error
    paths = _table(tables.pop("paths", {}), f"{file}: paths")
    _check_names(paths, list(FOLDERS), f"{file} [paths]")
    return {"paths": paths, **_verb_defaults(tables, group, str(file))}


class FolderType(click.ParamType[Any]):
    """A path of this machine, also as file:// URL, or a folder behind a URL such as s3://bucket/data."""

    name = "path"

    def __init__(self, urls: UrlUse) -> None:
        self.urls = urls

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A Path, or a RemoteFolder where URLs are used as they are."""
        if value == "":  # what an unset variable of a shell leaves; as a path it would be the current folder
            self.fail("nothing is named; . is the current folder", param, ctx)
        if not isinstance(value, str) or "://" not in value:
            return Path(value) if isinstance(value, str) else value
        from vondata.io.fs import RemoteError, RemoteFolder, folder_of

        folder = folder_of(value)
        if isinstance(folder, RemoteFolder) and self.urls == "refused":
            self.fail(f"{value} is a URL; only a path of this machine will do here", param, ctx)
        if isinstance(folder, RemoteFolder) and self.urls == "copied":
            try:
                return _copied(folder)
            except RemoteError as error:
                self.fail(str(error), param, ctx)
        return folder


LOCAL_PATH = FolderType("refused")


class FiniteRange(click.FloatRange):
    """A number in a range; NaN and infinity are in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Reads a number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


def folder_option(folder: Folder, *flags: str, help: str, urls: UrlUse | None = None) -> Callable[[Command], Command]:
    """An option for one of the folders of von.toml's `[paths]`, also read from `VON_<FOLDER>`.

    Args:
        folder: also the name of the command's parameter.
        flags: how the option is spelt; `--<folder>` if none is given.
        help: for `--help`.
        urls: what becomes of a URL; by default a dataset is copied and other folders must be on this machine.
    """

    def default() -> str | None:
        settings = click.get_current_context().find_root().default_map or {}
        named = settings.get("paths", {}).get(folder, FOLDERS[folder])
        return None if named is None else str(named)

    return click.option(
        *(flags or (f"--{folder}",)),
        folder,
        type=FolderType(urls or ("copied" if folder == "data" else "refused")),
        envvar=f"VON_{folder.upper()}",
        default=default,
        show_default=FOLDERS[folder] or False,
        help=help,
    )


def _copied(folder: RemoteFolder) -> Path:
    """This machine's copy of a remote dataset, brought up to date."""
    from voncli.output import local_copy

    copy = local_copy(folder, asked=True, why="")
    assert copy is not None
    return copy


def json_option(command: Command) -> Command:
    """The `--json` flag: the result as one JSON document on standard output, everything else on standard error."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


def print_json(result: Any) -> None:
    """Prints a result for machines."""
    click.echo(json.dumps(result, indent=2, default=str))


def _verb_defaults(tables: dict[str, Any], group: click.Group, place: str) -> dict[str, Any]:
    """The tables with options under the names of their parameters."""
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
    for option in command.params:
        if isinstance(option, click.Option) and option.name:
            spelt = [flag.removeprefix("--") for flag in option.opts if flag.startswith("--")]
            names |= dict.fromkeys([option.name, *spelt, *(flag.replace("-", "_") for flag in spelt)], option.name)
    return names


def _check_names(given: dict[str, Any], known: list[str], place: str) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known names: {', '.join(sorted(known))}"
            raise click.UsageError(f"{place}: unknown name {name!r}; {hint}")


class SeedType(click.ParamType[Any]):
    """A seed, `7`, or `7:3` for the third code drawn with it."""

    name = "seed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Seed:
        """Reads a seed."""
        from vonmodel.inference.sampling import Seed, SeedError, parse_seed

        if isinstance(value, Seed):
            return value
        try:
            return parse_seed(str(value))
        except SeedError as error:
            self.fail(str(error), param, ctx)


SEED = SeedType()


AZIMUTH = FiniteRange(-360, 360)
ELEVATION = FiniteRange(-90, 90)


def shape_options(command: Command) -> Command:
    """--seed, --shape and --from: generated, prepared and reconstructed shapes, each as often as wanted."""
    options = [
        click.option("--seed", "seeds", type=SEED, multiple=True, help="A generated shape; 7:3 is seed 7's third."),
        click.option("--shape", "ids", multiple=True, help="A prepared shape, by its id."),
        click.option(
            "--from",
            "reconstructions",
            type=LOCAL_PATH,
            multiple=True,
            help="The shapes that von reconstruct found: its folder.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def viewpoint_options(command: Command) -> Command:
    """--azimuth and --elevation in degrees."""
    options = [
        click.option("--azimuth", type=AZIMUTH, help="Degrees, 0 is the front. [default: as the class is seen]"),
        click.option("--elevation", type=ELEVATION, help="Degrees above the horizon. [default: likewise]"),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def film_options(command: Command) -> Command:
    """--film, --frames and --film-size."""
    options = [
        click.option(
            "--film",
            type=click.Choice(["webp", "gif", "mp4", "none"]),
            default="webp",
            show_default=True,
            help="Format of the film.",
        ),
        click.option("--frames", type=click.IntRange(2, 1000), default=36, show_default=True, help="Of the film."),
        click.option(
            "--film-size", type=click.IntRange(16, 2048), default=256, show_default=True, help="Its pixels an edge."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def chosen_shapes(session: ModelSession, options: Mapping[str, Any]) -> list[Shape]:
    """The shapes that `shape_options` name; that of seed 0 where they name none."""
    from vonmodel.reconstruction.results import read_reconstructed_shapes

    seeds, ids, folders = options["seeds"], options["ids"], options["reconstructions"]
    shapes = session.shapes(seeds) if seeds else []
    shapes += [session.prepared_shape(id) for id in ids]
    shapes += [shape for folder in folders for shape in read_reconstructed_shapes(session, folder)]
    return shapes or [session.shape(0)]


def film_settings(options: Mapping[str, Any]) -> FilmSettings:
    """What `film_options` say."""
    from vonmodel.reports.video import FilmSettings

    format = None if options["film"] == "none" else options["film"]
    return FilmSettings(format, options["frames"], options["film_size"])


def read_photos(paths: Sequence[Path], masks: Sequence[Path], size: int) -> list[CutPhoto]:
    """The objects of photos; every one of no use is named before any work is done.

    Raises:
        click.UsageError: there are masks, but not one for each photo.
        PhotoError: photos are of no use.
    """
    from vonmodel.inference.photo import PhotoError, read_photo

    if masks and len(masks) != len(paths):
        raise click.UsageError(f"{len(masks)} of --mask for {len(paths)} photos: give one for each, or none")
    given: Sequence[Path | None] = masks or [None] * len(paths)
    read, refused = [], []
    for path, mask in zip(paths, given, strict=True):
        try:
            read.append(read_photo(path, size, mask))
        except PhotoError as error:
            refused.append(str(error))
    if refused:
        raise PhotoError("\n".join(refused))
    return read
