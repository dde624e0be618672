"""`von demo`: writes the built-in chairs and cars, their photos and a von.toml into a folder."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from voncli.options import LOCAL_PATH, json_option, print_json

if TYPE_CHECKING:
    from vondata.demo.write import DemoSettings, DemoSummary

NEXT_COMMANDS = (
    "von prepare shapenet",
    "von prepare images",
    "von train --class chair",
    "von evaluate --fid",
    "von generate",
)


@click.command(short_help="Writes chairs and cars with photos, to try it all.")
@click.argument("folder", type=LOCAL_PATH, default=Path("demo"))
@click.option("--chairs", type=click.IntRange(min=0), default=80, show_default=True, help="Number of chairs.")
@click.option("--cars", type=click.IntRange(min=0), default=40, show_default=True, help="Number of cars.")
@click.option(
    "--photos-per-object",
    type=click.IntRange(min=0),
    default=4,
    show_default=True,
    help="Photos of each: half in rooms with Pix3D's annotations, half on white.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of every random choice.")
@json_option
def demo(folder: Path, chairs: int, cars: int, photos_per_object: int, seed: int, as_json: bool) -> None:
    """Writes procedural chairs and cars with photos into FOLDER, to try every command on.

    FOLDER (`demo` if not named) must be new or empty. One that already holds the same demo is left as it is.
    """
    from vondata.demo.write import DemoSettings

    summary = _write(folder, DemoSettings(chairs, cars, photos_per_object, seed))
    if as_json:
        print_json(asdict(summary) | {"next": NEXT_COMMANDS})
    else:
        _report(summary)


def _write(folder: Path, settings: DemoSettings) -> DemoSummary:
    """Writes the demo with a bar on standard error."""
    from vondata.demo.write import write_demo
    from vondata.errors import VonError

    total = settings.chairs + settings.cars
    hidden = not sys.stderr.isatty()
    try:
        with click.progressbar(range(total), label="Drawing", file=sys.stderr, hidden=hidden) as bar:
            return write_demo(folder, settings, lambda: bar.update(1))
    except (VonError, OSError) as error:
        raise click.ClickException(f"the demo cannot be written: {error}") from error


def _report(summary: DemoSummary) -> None:
    from vondata.demo.write import PHOTOS, PIX3D, SHAPENET

    folder = summary.folder
    click.echo(f"{folder}/ {'holds now' if summary.written else 'was written before, nothing is changed; it holds'}")
    for name, count in summary.models.items():
        click.echo(
            f"  {count:4d} {name}s in {SHAPENET}/, {summary.room_photos[name]} photos in rooms in {PIX3D}/, "
            f"{summary.white_photos[name]} on white in {PHOTOS}/{name}/"
        )
    click.echo("  von.toml, which names these folders for the commands started there. Next:\n")
    for command in (f"cd {folder}", *NEXT_COMMANDS):
        click.echo(f"  {command}")
