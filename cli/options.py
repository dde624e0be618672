"""Options shared by several verbs, and their values: shapes, textures, viewpoints, films, photos, output folders."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from voncli.command import option
from voncli.settings import LOCAL_PATH, FiniteRange

if TYPE_CHECKING:
    from vonmodel.inference.photo import CutPhoto
    from vonmodel.inference.sampling import Seed
    from vonmodel.inference.session import ModelSession, Shape
    from vonmodel.reports.video import FilmSettings

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
MAX_SEED = 2**32 - 1
_SEED = re.compile(r"\d{1,10}(:\d+)?")
_NUMBER = re.compile(r"[-+]?\d{1,10}(:-?\d*)?")  # meant as a seed, valid or not


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


class ShapeNameType(click.ParamType[str]):
    """What `--shape` takes: a seed, the id of a prepared shape, or the path of a file or result."""

    name = "shape"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Checks that a seed is valid and that a path is local."""
        text = str(value)
        if _NUMBER.fullmatch(text):
            SEED.convert(text, param, ctx)
        elif "://" in text:
            LOCAL_PATH.convert(text, param, ctx)
        return text


SEED = SeedType()
AZIMUTH = FiniteRange(-360, 360)
ELEVATION = FiniteRange(-90, 90)


def all_of(options: Sequence[Callable[[Any], Any]]) -> Callable[[Decorated], Decorated]:
    """Adds several options to a command, in this order."""

    def add(command: Decorated) -> Decorated:
        for each in reversed(options):
            command = each(command)
        return command

    return add


def note_without_effect(reasons: Mapping[str, str]) -> None:
    """Prints a note for each given option that has no effect beside the others.

    Args:
        reasons: why it has none, by the name of the option's parameter.
    """
    from voncli.output import note

    ctx = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    for each in ctx.command.params:
        name = each.name or ""
        if name in reasons and ctx.get_parameter_source(name) is not default:
            note(f"{each.opts[-1]} has no effect: {reasons[name]}")


def json_option(command: Decorated) -> Decorated:
    """The `--json` flag: the result as one JSON document on standard output, everything else on standard error."""
    return option(
        "--json", "as_json", is_flag=True, heading="Output", help="Print the result as JSON on standard output."
    )(command)


def random_seed_option(help: str) -> Callable[[Decorated], Decorated]:
    """`--seed`, for the random choices of a verb."""
    return option("--seed", type=click.IntRange(0, MAX_SEED), default=0, show_default=True, help=help)


shape_options = option(
    "--shape",
    "shapes",
    type=ShapeNameType(),
    multiple=True,
    old=("--seed", "--from"),
    metavar="SEED|ID|PATH",
    heading="Shape and texture",
    help="Use this shape: a seed such as 7, or 7:3 for its third code; the id of a prepared shape; a prepared .npz "
    "file; a mesh or .binvox file, whose code is found as von invert does; or the output of von generate, von "
    "reconstruct or von invert. Repeat for more. [default: 0]",
)


def texture_option(*, multiple: bool = False) -> Callable[[Decorated], Decorated]:
    """`--texture`, by its seed."""
    more = " Repeat for more." if multiple else ""
    return option(
        "--texture",
        "textures" if multiple else "texture",
        type=SEED,
        multiple=multiple,
        default=None if multiple else "0",
        show_default=not multiple,
        old=("--texture-seed",),
        heading="Shape and texture",
        help=f"Use the texture of this seed, such as 7 or 7:3.{more}" + (" [default: 0]" if multiple else ""),
    )


def viewpoint_options(command: Decorated) -> Decorated:
    """--azimuth and --elevation in degrees."""
    return all_of(
        [
            option(
                "--azimuth",
                type=AZIMUTH,
                heading="Viewpoint",
                help="View the object from this azimuth in degrees; 0 is its front. [default: drawn for the class]",
            ),
            option(
                "--elevation",
                type=ELEVATION,
                heading="Viewpoint",
                help="View it from this many degrees above the horizon. [default: drawn for the class]",
            ),
        ]
    )(command)


level_option = option(
    "--level",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    heading="Shape and texture",
    help="Extract the surface of meshes at this value of the volume. [default: that of the model's representation]",
)


def film_options(command: Decorated) -> Decorated:
    """--film, --frame-count and --film-size."""
    return all_of(
        [
            option(
                "--film",
                type=click.Choice(["webp", "gif", "mp4", "none"]),
                default="webp",
                show_default=True,
                heading="Film",
                help="Write films in this format, or none.",
            ),
            option(
                "--frame-count",
                "frames",
                type=click.IntRange(2, 1000),
                default=36,
                show_default=True,
                old=("--frames",),
                heading="Film",
                help="Render films of this many frames.",
            ),
            option(
                "--film-size",
                type=click.IntRange(16, 2048),
                default=256,
                show_default=True,
                heading="Film",
                help="Render films of this many pixels in width and height.",
            ),
        ]
    )(command)


def film_settings(options: Mapping[str, Any]) -> FilmSettings:
    """The settings given by `film_options`."""
    from vonmodel.reports.video import FilmSettings

    if options["film"] == "none":
        note_without_effect({"frames": "--film none makes none", "film_size": "--film none makes none"})
    format = None if options["film"] == "none" else options["film"]
    return FilmSettings(format, options["frames"], options["film_size"])


def chosen_shapes(session: ModelSession, names: Sequence[str]) -> list[Shape]:
    """The shapes given by `--shape`; by default that of seed 0.

    Raises:
        click.ClickException: a path does not exist, or is not a result.
        SeedError, UnknownShapeError, ReconstructionMissingError, ShapeFileError: a shape does not exist.
    """
    from vonmodel.inference.sampling import parse_seed

    names = list(names) or ["0"]
    seeds = [parse_seed(name) for name in names if _SEED.fullmatch(name)]
    session.shapes(seeds)  # generates them together; below they are looked up
    return [shape for name in names for shape in _shapes_named(session, name)]


def _shapes_named(session: ModelSession, name: str) -> list[Shape]:
    from vondata.dataset.manifest import ManifestMissingError
    from vonmodel.inference.sampling import parse_seed
    from vonmodel.inference.session import UnknownShapeError
    from vonmodel.reconstruction.inversion import (
        SHAPE_SUFFIXES,
        given_shape,
        is_inversion,
        read_inverted_shapes,
    )
    from vonmodel.reconstruction.results import read_reconstructed_shapes
    from vonmodel.reports.album import RESULT
    from vonmodel.reports.gallery import read_gallery_codes

    if _SEED.fullmatch(name):
        return [session.shape(parse_seed(name))]
    path = Path(name).expanduser()
    if path.suffix.lower() in SHAPE_SUFFIXES:
        return [_inverted(session, name)]
    gallery = path / "generated.json" if path.is_dir() else path
    if gallery.name == "generated.json" and gallery.is_file():
        codes = read_gallery_codes(gallery)
        return [session.shape_of_code(code, title) for title, code in codes.items()]
    is_prepared_file = path.suffix == ".npz" and path.is_file()
    if not is_prepared_file and (path.exists() or "/" in name or path.suffix == ".json"):
        if not path.exists():
            raise click.ClickException(f"--shape {name}: no such file or folder")
        if path.name != RESULT and not (path / RESULT).is_file():
            raise click.ClickException(
                f"--shape {name} is not a shape: neither a mesh, .binvox or .npz file nor the output of "
                "von generate, von reconstruct or von invert"
            )
        return read_inverted_shapes(session, path) if is_inversion(path) else read_reconstructed_shapes(session, path)
    try:
        return [given_shape(session, name)]
    except (ManifestMissingError, UnknownShapeError) as error:
        why = str(error)
        if isinstance(error, ManifestMissingError):
            why = f"{session.source.data} has no shapes of class {error.class_name!r} (--data names another dataset)"
        raise click.ClickException(
            f"--shape {name} is neither a seed (0 to {MAX_SEED}, or 7:3 for the third code of seed 7) nor a file nor "
            f"a prepared shape: {why}"
        ) from error


def _inverted(session: ModelSession, name: str) -> Shape:
    """The generated shape nearest to a mesh or voxel file."""
    from voncli.output import note

    from vonmodel.reconstruction.inversion import Inverter, given_shape

    given = given_shape(session, name)
    note(f"{name}: finding its code (a shape encoder is trained when a checkpoint first needs it)")
    found = Inverter(session).invert(given)
    note(f"{name}: the shape of its code overlaps it with IoU {found.iou:.2f}")
    return found.shape


@dataclass(frozen=True)
class RefusedPhoto:
    """A photo that cannot be used, and why."""

    photo: str
    reason: str


def read_photos(paths: Sequence[Path], masks: Sequence[Path], size: int) -> tuple[list[CutPhoto], list[RefusedPhoto]]:
    """Reads the objects of photos; returns them, and the photos that cannot be used.

    Raises:
        click.UsageError: there are masks, but not one for each photo.
        click.ClickException: no photo can be used.
    """
    from voncli.output import counted

    from vonmodel.inference.photo import PhotoError, read_photo

    if masks and len(masks) != len(paths):
        raise click.UsageError(f"{len(masks)} --mask for {counted(len(paths), 'photo')}: give one for each, or none")
    given: Sequence[Path | None] = masks or [None] * len(paths)
    read, refused = [], []
    for path, mask in zip(paths, given, strict=True):
        wrong = next((each for each in (path, mask) if each is not None and not each.is_file()), None)
        try:
            if wrong is not None:
                raise PhotoError(f"{wrong}: {'name a photo, not a folder' if wrong.is_dir() else 'no such file'}")
            read.append(read_photo(path, size, mask))
        except PhotoError as error:
            refused.append(RefusedPhoto(str(path), str(error)))
    if not read:
        raise click.ClickException("\n".join(each.reason for each in refused))
    for each in refused:
        click.echo(f"Left out: {each.reason}", err=True)
    return read, refused


mask_option = option(
    "--mask",
    "masks",
    type=LOCAL_PATH,
    multiple=True,
    heading="Photos",
    help="Use this mask instead of segmenting the photo; give one for each photo, in the same order.",
)


def output_options(place: str) -> Callable[[Decorated], Decorated]:
    """--output and --overwrite; `place` describes the default folder."""
    return all_of(
        [
            option(
                "-o",
                "--output",
                type=LOCAL_PATH,
                heading="Output",
                help=f"Write the results into this folder. [default: {place}]",
            ),
            option("--overwrite", is_flag=True, heading="Output", help="Replace an older result in that folder."),
        ]
    )


def chosen_output(
    options: Mapping[str, Any], default: Path, is_continued: Callable[[Path], bool] | None = None
) -> Path:
    """The output folder: the one given, else the default one, with a number appended if it is taken.

    Args:
        options: the options of the verb.
        default: the default folder.
        is_continued: whether a folder holds the unfinished result of the same command, which is not taken.

    Raises:
        click.UsageError: the folder given is not empty, and --overwrite is not given.
    """
    named: Path | None = options["output"]
    if named is not None:
        check_output(named, overwrite=options["overwrite"] or (is_continued is not None and is_continued(named)))
        return named
    if options["overwrite"]:
        return default
    number, folder = 1, default
    while _is_taken(folder) and not (is_continued is not None and is_continued(folder)):
        number += 1
        folder = default.with_name(f"{default.name}-{number}")
    return folder


def check_output(folder: Path, *, overwrite: bool) -> None:
    """Raises click.UsageError if the folder given by --output is not empty and may not be overwritten."""
    if _is_taken(folder) and not overwrite:
        raise click.UsageError(
            f"--output {folder} is not empty: name another folder, or let --overwrite replace an older result"
        )


def _is_taken(folder: Path) -> bool:
    return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))


def label_of(names: Sequence[object], most: int = 3) -> str:
    """Part of a folder's name that lists shapes or photos: `seed7`, `photo`, `seed1+seed2`, `seed1+5more`."""
    words = [f"seed{name}" if _SEED.fullmatch(str(name)) else Path(str(name)).stem for name in names]
    clean = [re.sub(r"[^A-Za-z0-9_.-]+", "-", word)[:40].strip("-.") or "unnamed" for word in words]
    return "+".join(clean) if len(clean) <= most else f"{clean[0]}+{len(clean) - 1}more"
