"""`von demo`: writes the built-in chairs, cars, tables and lamps, their photos and a von.toml into a folder."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from voncli.command import Command, is_quiet, option
from voncli.options import json_option, random_seed_option
from voncli.output import counted, disk_errors, print_json, user_errors
from voncli.settings import LOCAL_PATH

if TYPE_CHECKING:
    from vondata.demo.write import DemoSettings, DemoSummary

NEXT_COMMANDS = (
    "von prepare shapenet",
    "von prepare images",
    "von train --class chair",
    "von evaluate --fid",
    "von generate",
    "von serve --open",
)


@click.command(cls=Command)
@click.argument("folder", type=LOCAL_PATH, required=False)
@option(
    "--chair-count",
    "chairs",
    type=click.IntRange(min=0),
    default=80,
    show_default=True,
    old=("--chairs",),
    help="Write this many chairs.",
)
@option(
    "--car-count",
    "cars",
    type=click.IntRange(min=0),
    default=40,
    show_default=True,
    old=("--cars",),
    help="Write this many cars.",
)
@option(
    "--table-count",
    "tables",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Write this many tables.",
)
@option(
    "--lamp-count",
    "lamps",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Write this many lamps.",
)
@option(
    "--photo-count",
    "photos_per_object",
    type=click.IntRange(min=0),
    default=4,
    show_default=True,
    old=("--photos-per-object",),
    help="Render this many photos of each: half in rooms with Pix3D's annotations, half on white.",
)
@random_seed_option("Use this seed for all random choices.")
@option("-o", "--output", type=LOCAL_PATH, heading="Output", help="Write into this folder. [default: demo]")
@json_option
def demo(
    folder: Path | None,
    chairs: int,
    cars: int,
    tables: int,
    lamps: int,
    photos_per_object: int,
    seed: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """Writes procedural chairs, cars, tables and lamps with photos into FOLDER, as data for every command.

    FOLDER (by default `demo`) must be new or empty. One that already holds the same demo is left as it is.
    """
    from vondata.demo.write import DemoSettings, OtherDemoError

    if folder is not None and output is not None:
        raise click.UsageError("FOLDER and --output both name the folder: give one of them")
    place = folder or output or Path("demo")
    if not chairs + cars + tables + lamps:
        raise click.UsageError("every count is 0: give --chair-count, --car-count, --table-count or --lamp-count")
    with user_errors(), disk_errors(place):
        try:
            summary = _write(place, DemoSettings(chairs, cars, tables, lamps, photos_per_object, seed))
        except OtherDemoError as error:
            raise click.ClickException(f"{error} (it was made with {_options(error.settings)})") from error
    if as_json:
        print_json(asdict(summary) | {"next": _next_commands(summary)})
    else:
        _report(summary)


def _write(folder: Path, settings: DemoSettings) -> DemoSummary:
    """Writes the demo with a bar on standard error."""
    from vondata.demo.write import write_demo

    total = sum(settings.counts.values())
    hidden = is_quiet() or not sys.stderr.isatty()
    with click.progressbar(range(total), label="Drawing", file=sys.stderr, hidden=hidden) as bar:
        return write_demo(folder, settings, lambda: bar.update(1))


def _options(settings: DemoSettings) -> str:
    """The options that make a demo with these settings, without those at their default."""
    default = type(settings)()
    flags = {each.name: each.opts[-1] for each in click.get_current_context().command.params}
    given = {name: value for name, value in asdict(settings).items() if value != getattr(default, name)}
    return " ".join(f"{flags[name]} {value}" for name, value in given.items()) or "the default settings"


def _next_commands(summary: DemoSummary) -> list[str]:
    """The commands to go on with, on the first class that the demo holds."""
    name = next(name for name, count in summary.models.items() if count)
    return [each.replace("chair", name) for each in NEXT_COMMANDS]


def _report(summary: DemoSummary) -> None:
    from vondata.demo.write import PHOTOS, PIX3D, SHAPENET

    folder = summary.folder
    click.echo(f"{folder}/ {'holds now' if summary.written else 'was written before, nothing is changed; it holds'}")
    for name, count in summary.models.items():
        click.echo(
            f"  {counted(count, name):>9} in {SHAPENET}/, {counted(summary.room_photos[name], 'photo')} in rooms in "
            f"{PIX3D}/, {summary.white_photos[name]} on white in {PHOTOS}/{name}/"
        )
    click.echo("  von.toml, which names these folders for the commands started there. Next:\n")
    for command in (f"cd {folder}", *_next_commands(summary)):
        click.echo(f"  {command}")
