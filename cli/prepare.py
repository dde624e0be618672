"""Where `von prepare` takes its items from, folders or URLs, and what to say when nothing is there."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from voncli.command import Group, option
from voncli.output import error_text, local_copy
from voncli.prepare_run import PrepareCommand, run_options, run_preparation
from voncli.settings import FiniteRange, FolderType, folder_option

if TYPE_CHECKING:
    from vondata.frames import Axis
    from vondata.images.settings import ImageSettings
    from vondata.io.fs import RemoteFolder
    from vondata.matching import MatchCount
    from vondata.shapes.distance import Method
    from vondata.shapes.sources import Source
    from vondata.types import Event, Item


SHOWN_ENTRIES = 8


@dataclass(frozen=True)
class SourceFolder:
    """A folder with raw meshes or photos.

    Attributes:
        root: the folder, or the tree that stands for a remote one; absolute, so that ids and resumes do not depend on
            where the command is run.
        remote: the remote folder.
    """

    root: Path
    remote: RemoteFolder | None = None

    def items_of(self, items: Iterator[Item]) -> Iterator[Item]:
        """Items found under root, as items of the folder itself."""
        from vondata.io.listing import remote_items

        return items if self.remote is None else remote_items(items, self.root, self.remote)

    def with_url(self, text: object) -> str:
        """A text that names root, with the URL of the folder in its place."""
        return str(text) if self.remote is None else str(text).replace(str(self.root), self.remote.url)


def source_folder(
    folder: Path | RemoteFolder | None, name: str, flag: str, contents: Sequence[str] = ()
) -> SourceFolder:
    """The folder given with an option; a remote one is listed.

    Args:
        folder: the option's value.
        name: its name in von.toml, "" where it has none.
        flag: how it is spelt.
        contents: files of the folder that planning reads.
    """
    if folder is None:
        raise click.UsageError(
            f'{flag}: which folder? Name it, set VON_{name.upper()} or write {name} = "..." under [paths] in von.toml'
        )
    if isinstance(folder, Path):
        if not folder.is_dir():
            raise click.UsageError(f"{flag}: {folder} is not {'a folder' if folder.exists() else 'there'}")
        return SourceFolder(Path(os.path.abspath(folder)))
    from vondata.io.files import scratch_folder
    from vondata.io.fs import RemoteError
    from vondata.io.listing import lay_out

    # Named as the folder is, for a folder's name may say the class.
    scratch = click.get_current_context().with_resource(scratch_folder("listing"))
    root = Path(os.path.realpath(scratch)) / (folder.url.rpartition("/")[2] or "root")
    root.mkdir()
    try:
        count = lay_out(folder, root, contents)
    except RemoteError as error:
        raise click.UsageError(f"{flag}: {error_text(error)}") from error
    click.echo(f"{folder}: {count:,} files", err=True)
    return SourceFolder(root, folder)


def found_items(sources: Sequence[tuple[SourceFolder, Iterator[Item]]], command: PrepareCommand) -> Iterator[Item]:
    """The items of all sources, each with its folder, or an error that says what is in a folder instead.

    A folder without any of the classes asked for with --class is passed over where another one has some.
    """
    from vondata.io.listing import CollectionMissingError

    missing: list[str] = []
    found = False
    for folder, items in sources:
        try:
            for item in folder.items_of(items):
                found = True
                yield item
        except CollectionMissingError as error:
            missing.append(folder.with_url(f"{error}. {_what_is_in(folder.root)}"))
    if missing and not (found and command.class_names):
        raise click.UsageError(" ".join(missing))
    if not found:
        names = ", ".join(each.name for each in command.classes())
        inside = " ".join(each.with_url(f"{each.root}: {_what_is_in(each.root)}") for each, _ in sources)
        raise click.UsageError(f"nothing was found of the classes {names}. {inside}")
    for message in missing:
        click.echo(f"Passed over: {message}", err=True)


def _what_is_in(folder: Path) -> str:
    from vondata.types import printable

    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    if not entries:
        return f"{folder} is empty."
    names = [printable(entry.name) + ("/" if entry.is_dir() else "") for entry in entries[:SHOWN_ENTRIES]]
    more = f" and {len(entries) - SHOWN_ENTRIES:,} more" if len(entries) > SHOWN_ENTRIES else ""
    return f"It holds: {', '.join(names)}{more}."


match_option = option(
    "--match-viewpoints/--no-match-viewpoints",
    default=None,
    help="Find the viewpoints of photos without annotation by the prepared shapes of their class. "
    "[default: where there are shapes]",
)


def match_classes(
    data: Path | RemoteFolder,
    class_names: Iterable[str],
    wanted: bool | None,
    workers: int,
    on_event: Callable[[Event], None],
) -> dict[str, MatchCount]:
    """Matches the photos of these classes; by class, what became of them.

    Args:
        data: folder of the dataset, or its URL: then a copy is matched, and the result sent back.
        class_names: the classes; one without class file, such as that of stray annotations, is passed over.
        wanted: None matches the classes that have prepared shapes.
        workers: threads that sketch shapes.
        on_event: called with each event of the matching.

    Raises:
        click.ClickException: a class has no shapes and `wanted` says it must, or a shape is damaged.
        RemoteError, DeliveryError, DatasetBusyError: the URL cannot be read or written.
    """
    if wanted is False:
        return {}
    from vondata.classes import known_classes
    from vondata.dataset.manifest import ManifestMissingError
    from vondata.dataset.shape_file import ShapeFileError
    from vondata.matching import EmptyShapeError, NoShapesError, match_photos, match_remote_photos

    known = {each.name for each in known_classes()}
    names = [name for name in sorted(known.intersection(class_names)) if wanted or _has_shapes(data, name)]
    why = "Viewpoints are left unknown; --match-viewpoints finds them"
    if not names or (copy := local_copy(data, asked=wanted is True, why=why)) is None:
        return {}
    counts: dict[str, MatchCount] = {}
    for name in names:
        try:
            if isinstance(data, Path):
                counts[name] = match_photos(data, name, workers=workers, on_event=on_event)
            else:
                counts[name] = match_remote_photos(data, copy, name, workers=workers, on_event=on_event)
        except (ManifestMissingError, NoShapesError) as error:
            if wanted:
                raise click.ClickException(f"--match-viewpoints: {error_text(error)}") from error
        except (ShapeFileError, EmptyShapeError) as error:
            raise click.ClickException(
                f"viewpoints cannot be matched against the shapes of class {name}: {error.message}; prepare the "
                "shapes again with --force, or leave viewpoints unknown with --no-match-viewpoints"
            ) from error
    return counts


def _has_shapes(data: Path | RemoteFolder, class_name: str) -> bool:
    from vondata.dataset.manifest import manifest_path
    from vondata.io.fs import exists

    if isinstance(data, Path):
        return manifest_path(data, class_name, "shapes").is_file()
    return exists((data / class_name / manifest_path(Path(), class_name, "shapes").name).url)


AXES = ("x", "-x", "y", "-y", "z", "-z")


def _explain(context: click.Context, option: click.Parameter, name: str | None) -> None:
    """Prints what a reason means, or all of them, and ends the program."""
    if name is None or context.resilient_parsing:
        return
    from vondata.dataset.schema import UnknownReasonError, known_reasons, load_reason

    try:
        reasons = known_reasons() if name == "all" else (load_reason(name),)
    except UnknownReasonError as error:
        raise click.BadParameter(str(error), context, option) from error
    for reason in reasons:
        click.echo(f"{reason.name} ({', '.join(reason.kinds)})")
        for text in (reason.explain, reason.remedy):
            click.echo(textwrap.indent(textwrap.fill(text, 76, break_on_hyphens=False), "  "))
    context.exit()


resolution_option = option(
    "--resolution",
    type=click.IntRange(32, 256),
    default=128,
    show_default=True,
    help="Make grids of this many voxels on each axis.",
)
distance_option = option(
    "--distance",
    type=click.Choice(("fast", "exact")),
    default="fast",
    show_default=True,
    help="Compute distances that are exact near the surface, or everywhere at many times the cost.",
)
drop_duplicates_option = option(
    "--drop-duplicates", is_flag=True, help="Leave out shapes that are the same as that of another file."
)


@click.group(cls=Group, short_help="Turn raw meshes and photos into a dataset.")
@option(
    "--explain",
    metavar="REASON",
    is_flag=False,
    flag_value="all",
    expose_value=False,
    is_eager=True,
    callback=_explain,
    help="Print what a reason of rejection means and what to do; without a name, all of them.",
)
def prepare() -> None:
    """Turns raw meshes and photos into a dataset, with one row per item found and a reason for each one left out.

    Runs can be stopped and repeated: what is done is not done again.
    """


@prepare.command(short_help="Prepare the shapes of ShapeNetCore.")
@folder_option(
    "shapenet",
    "--root",
    "--shapenet",
    help="Read ShapeNetCore v1 or v2 from this folder or URL, which has one folder per synset.",
    urls="used",
)
@resolution_option
@distance_option
@option("--binvox", is_flag=True, help="Take the voxels of the collection's .binvox files instead of its meshes.")
@option("--up", type=click.Choice(AXES), help="Take this axis of the models to point up. [default: y]")
@option(
    "--front",
    type=click.Choice(AXES),
    help="Take the front to face along this axis. [default: by the layout, x of version 1 and -z of version 2]",
)
@drop_duplicates_option
@run_options
def shapenet(
    shapenet: Path | RemoteFolder | None,
    resolution: int,
    distance: Method,
    binvox: bool,
    up: Axis | None,
    front: Axis | None,
    drop_duplicates: bool,
    command: PrepareCommand,
) -> None:
    """Prepares the shapes of ShapeNetCore."""
    from vondata.shapes.sources import shapenet_items

    if up is not None and front is None and up[-1] != "y":
        raise click.UsageError(f"--up {up}: name the axis of the front too, with --front")
    _check_axes(up or "y", front or "-z")
    folder = source_folder(shapenet, "shapenet", "--root")
    kind: Source = "binvox" if binvox else "mesh"
    items = shapenet_items(folder.root, command.classes(), source=kind, up=up, front=front)
    _prepare_shapes(folder, items, command, (resolution, distance, drop_duplicates))


def _check_axes(up: Axis, front: Axis) -> None:
    if up[-1] == front[-1]:
        raise click.UsageError(f"--up {up} and --front {front} lie on the same axis")


def _prepare_shapes(
    folder: SourceFolder, items: Iterator[Item], command: PrepareCommand, given: tuple[int, Method, bool]
) -> None:
    from vondata.shapes.prepare import ShapeSettings, prepare_shape
    from vondata.shapes.sources import duplicate_review

    resolution, distance, drop_duplicates = given
    settings = ShapeSettings(resolution=resolution, distance=distance, drop_duplicates=drop_duplicates)
    found = found_items([(folder, items)], command)
    run_preparation(command, "shapes", found, prepare_shape, settings, duplicate_review(drop_duplicates))


@prepare.command(short_help="Prepare the meshes of any folder, all of one class.")
@option(
    "--root",
    type=FolderType("used"),
    required=True,
    help="Read OBJ, OFF, PLY, STL and GLB files from this folder or URL.",
)
@option(
    "--up", type=click.Choice(AXES), default="y", show_default=True, help="Take this axis of the files to point up."
)
@option(
    "--front",
    type=click.Choice(AXES),
    default="-z",
    show_default=True,
    help="Take the front to face along this axis.",
)
@resolution_option
@distance_option
@option("--binvox", is_flag=True, help="Take .binvox files instead of meshes.")
@option(
    "--pattern",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="Take only files whose path ends so, such as normalized_model.obj or 'models/*.ply'; repeat for more.",
)
@drop_duplicates_option
@run_options
def meshes(
    root: Path | RemoteFolder,
    up: Axis,
    front: Axis,
    resolution: int,
    distance: Method,
    binvox: bool,
    patterns: tuple[str, ...],
    drop_duplicates: bool,
    command: PrepareCommand,
) -> None:
    """Prepares the meshes in any folder, which all are of one --class."""
    from vondata.shapes.sources import mesh_folder_items

    if len(command.class_names) != 1:
        raise click.UsageError("--class: name the one class that the meshes of this folder are of")
    _check_axes(up, front)
    (known,) = command.classes()
    folder = source_folder(root, "", "--root")
    kind: Source = "binvox" if binvox else "mesh"
    items = mesh_folder_items(folder.root, known.name, up, front, source=kind, patterns=patterns)
    _prepare_shapes(folder, items, command, (resolution, distance, drop_duplicates))


@prepare.command(short_help="Prepare the photos of Pix3D, and of any folder.")
@folder_option(
    "pix3d", help="Read Pix3D, or a folder in its layout: pix3d.json, img/ and mask/.", urls="used", group="photos"
)
@folder_option(
    "photos", help="Read photos from this folder, which has one folder per class.", urls="used", group="photos"
)
@option(
    "--renders",
    type=FolderType("used"),
    group="photos",
    help="Read what von render wrote: photos whose mask and viewpoint are exact. Views that look alike all stay.",
)
@option(
    "--size",
    type=click.IntRange(16, 2048),
    default=128,
    show_default=True,
    help="Make cut-outs of this many pixels an edge.",
)
@option("--keep-truncated", is_flag=True, help="Take annotated photos whose object is cut by the border.")
@option("--keep-occluded", is_flag=True, help="Take annotated photos whose object is hidden in good part.")
@option("--keep-slightly-occluded", is_flag=True, help="Take annotated photos whose object is hidden a little.")
@option(
    "--max-roll",
    type=FiniteRange(0, 180),
    default=10.0,
    show_default=True,
    metavar="DEGREES",
    help="Leave out annotated photos whose camera is rolled by more than this.",
)
@option(
    "--max-megapixels",
    type=FiniteRange(0.001, 4000),
    default=100.0,
    show_default=True,
    metavar="NUMBER",
    help="Photos with more are rejected before they are decoded, since 6 bytes of memory go with every pixel.",
)
@option("--keep-incomplete", is_flag=True, help="Take JPEGs whose file ends early, as far as they go.")
@option(
    "--segmenter",
    default="grabcut",
    show_default=True,
    metavar="grabcut|FILE",
    help="Find objects before a busy background by GrabCut, or by a network like U2-Net in an ONNX file.",
)
@option("--keep-duplicates", is_flag=True, help="Take photos that show the same picture as another one.")
@match_option
@run_options
def images(
    pix3d: Path | RemoteFolder | None,
    photos: Path | RemoteFolder | None,
    renders: Path | RemoteFolder | None,
    size: int,
    keep_truncated: bool,
    keep_occluded: bool,
    keep_slightly_occluded: bool,
    max_roll: float,
    max_megapixels: float,
    keep_incomplete: bool,
    segmenter: str,
    keep_duplicates: bool,
    match_viewpoints: bool | None,
    command: PrepareCommand,
) -> None:
    """Prepares photos: those of Pix3D with their annotation, and folders of photos without any."""
    if pix3d is None and photos is None and renders is None:
        raise click.UsageError(
            "which photos? Name --pix3d, --photos or --renders, or write the first two under [paths] in von.toml"
        )
    from vondata.images.near_duplicates import review_of
    from vondata.images.prepare import prepare_image
    from vondata.images.settings import ImageSettings
    from vondata.images.sources import ANNOTATION_FILE, AnnotationFileError, photo_items, pix3d_items

    settings = ImageSettings(
        size=size,
        keep_truncated=keep_truncated,
        keep_occluded=keep_occluded,
        keep_slightly_occluded=keep_slightly_occluded,
        max_roll_deg=max_roll,
        max_pixels=round(1e6 * max_megapixels),
        keep_incomplete=keep_incomplete,
        keep_duplicates=keep_duplicates or renders is not None,
    )
    if segmenter != "grabcut":
        settings = _with_network(settings, Path(os.path.abspath(segmenter)))
    classes = command.classes()
    sources: list[tuple[SourceFolder, Iterator[Item]]] = []
    if pix3d is not None:
        folder = source_folder(pix3d, "pix3d", "--pix3d", [ANNOTATION_FILE])
        sources.append((folder, pix3d_items(folder.root, classes, settings)))
    if renders is not None:
        folder = source_folder(renders, "", "--renders", [ANNOTATION_FILE])
        sources.append((folder, pix3d_items(folder.root, classes, settings)))
    if photos is not None:
        folder = source_folder(photos, "photos", "--photos")
        sources.append((folder, photo_items(folder.root, classes)))
    try:
        run_preparation(
            command,
            "images",
            found_items(sources, command),
            prepare_image,
            settings,
            review_of(settings),
            lambda result, on_event: match_classes(
                command.data, result.classes, match_viewpoints, command.options.workers or 1, on_event
            ),
        )
    except AnnotationFileError as error:
        raise click.ClickException(str(error)) from error


def _with_network(settings: ImageSettings, weights: Path) -> ImageSettings:
    from vondata.images.segmenter import SegmenterError, load_network_settings

    try:
        return replace(settings, network=load_network_settings(weights), weights=str(weights))
    except SegmenterError as error:
        raise click.UsageError(f"--segmenter: {error}") from error
