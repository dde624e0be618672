"""Options that several verbs share: which shapes, which texture, which film."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from voncli.settings import LOCAL_PATH, FiniteRange

if TYPE_CHECKING:
    from vonmodel.inference.photo import CutPhoto
    from vonmodel.inference.seeds import Seed
    from vonmodel.inference.session_part import ModelSession, Shape
    from vonmodel.reports.video import FilmSettings

Command = TypeVar("Command", bound=Callable[..., Any])


class SeedType(click.ParamType[Any]):
    """A seed, `7`, or `7:3` for the third code drawn with it."""

    name = "seed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Seed:
        """Reads a seed."""
        from vonmodel.inference.seeds import Seed, SeedError, parse_seed

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
    from vonmodel.reconstruction.reconstructed import read_reconstructed_shapes

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
