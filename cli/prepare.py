"""`von prepare shapenet`, `meshes` and `images`: their options and sources; matching of viewpoints."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from voncli.command import Group, option
from voncli.options import all_of
from voncli.output import error_text, local_copy
from voncli.prepare_run import PrepareCommand, run_options, run_preparation
from voncli.settings import FiniteRange, FolderType, check_folder, folder_option, spelling

if TYPE_CHECKING:
    from vondata.frames import Axis
    from vondata.images.settings import ImageSettings
    from vondata.io.fs import DataFolder
    from vondata.io.listing import SourceTree
    from vondata.matching import MatchCount
    from vondata.shapes.prepare import ShapeSettings
    from vondata.shapes.sources import Source
    from vondata.types import Event, Item


SHOWN_ENTRIES = 8


GivenFolder = tuple[str, "SourceTree", "Iterator[Item]"]
"""How a folder was given, its files, and the items in them."""


def source_tree(folder: DataFolder | None, name: str) -> SourceTree:
    """The files of the folder given by an option; a URL is listed.

    Args:
        folder: the option's value.
        name: the option's parameter.
    """
    flag = spelling(name)
    if folder is None:
        raise click.UsageError(
            f'{flag} is missing: give it, set VON_{name.upper()} or write {name} = "..." under [paths] in von.toml'
        )
    from vondata.io.fs import RemoteError
    from vondata.io.listing import ListedTree, open_tree

    if not folder.is_remote:
        check_folder(folder.path, flag)
    try:
        tree = open_tree(folder)
    except RemoteError as error:
        raise click.UsageError(f"{flag}: {error_text(error)}") from error
    if isinstance(tree, ListedTree):
        click.echo(f"{folder}: {len(tree.files):,} files", err=True)
    return tree


def found_items(sources: Sequence[GivenFolder], command: PrepareCommand) -> Iterator[Item]:
    """The items of all sources; without any, an error that lists what the folders hold.

    A folder without any of the classes given by --class is skipped if another one has some.
    """
    from vondata.io.listing import CollectionMissingError

    missing: list[str] = []
    found = False
    for flag, tree, items in sources:
        try:
            for item in items:
                found = True
                yield item
        except CollectionMissingError as error:
            missing.append(f"{flag}: {error}. {_what_is_in(tree)}")
    if missing and not (found and command.class_names):
        raise click.UsageError(" ".join(missing))
    if not found:
        names = ", ".join(each.name for each in command.classes())
        inside = " ".join(f"{tree}: {_what_is_in(tree)}" for _, tree, _ in sources)
        raise click.UsageError(f"nothing was found of the classes {names}. {inside}")
    for message in missing:
        click.echo(f"Skipped: {message}", err=True)


def _what_is_in(tree: SourceTree) -> str:
    from vondata.types import printable

    entries = list(tree.entries().items())
    if not entries:
        return f"{tree} is empty."
    names = [printable(name) + ("/" if is_folder else "") for name, is_folder in entries[:SHOWN_ENTRIES]]
    more = f" and {len(entries) - SHOWN_ENTRIES:,} more" if len(entries) > SHOWN_ENTRIES else ""
    return f"It holds: {', '.join(names)}{more}."


match_option = option(
    "--match-viewpoints/--no-match-viewpoints",
    default=None,
    help="Find the viewpoints of photos without annotation by matching the prepared shapes of their class. "
    "[default: if there are shapes]",
)


def match_classes(
    data: DataFolder,
    class_names: Iterable[str],
    wanted: bool | None,
    workers: int,
    on_event: Callable[[Event], None],
) -> dict[str, MatchCount]:
    """Matches photos with the prepared shapes of their class; returns the counts by class.

    Args:
        data: the dataset; for a remote one, a copy is matched and the result uploaded.
        class_names: the classes; those without a class file, such as from stray annotations, are skipped.
        wanted: None matches the classes that have prepared shapes.
        workers: threads that sketch shapes.
        on_event: called with each event of the matching.

    Raises:
        click.ClickException: a class has no shapes and `wanted` is True, or a shape is damaged.
        RemoteError, DeliveryError, DatasetBusyError: the URL cannot be read or written.
    """
    if wanted is False:
        return {}
    from vondata.classes import known_classes
    from vondata.dataset.manifest import ManifestMissingError
    from vondata.dataset.shape_file import ShapeFileError
    from vondata.matching import EmptyShapeError, NoShapesError, match_photos_at

    known = {each.name for each in known_classes()}
    names = [name for name in sorted(known.intersection(class_names)) if wanted or _has_shapes(data, name)]
    why = "Viewpoints are left unknown; --match-viewpoints finds them"
    if not names or (copy := local_copy(data, asked=wanted is True, why=why)) is None:
        return {}
    counts: dict[str, MatchCount] = {}
    for name in names:
        try:
            counts[name] = match_photos_at(data, copy, name, workers=workers, on_event=on_event)
        except (ManifestMissingError, NoShapesError) as error:
            if wanted:
                raise click.ClickException(f"--match-viewpoints: {error_text(error)}") from error
        except (ShapeFileError, EmptyShapeError) as error:
            raise click.ClickException(
                f"viewpoints cannot be matched against the shapes of class {name}: {error.message}; prepare the "
                "shapes again with --force, or leave viewpoints unknown with --no-match-viewpoints"
            ) from error
    return counts


def _has_shapes(data: DataFolder, class_name: str) -> bool:
    from vondata.dataset.manifest import manifest_path
    from vondata.io.fs import exists

    return exists(str(data / manifest_path(Path(), class_name, "shapes").as_posix()))


AXES = ("x", "-x", "y", "-y", "z", "-z")


def _explain(context: click.Context, option: click.Parameter, name: str | None) -> None:
    """Prints what a rejection reason means, or all of them, and exits."""
    if name is None or context.resilient_parsing:
        return
    from vondata.dataset.schema import UnknownReasonError, known_reasons, load_reason

    try:
        reasons = known_reasons() if name == "all" else (load_reason(name),)
    except UnknownReasonError as error:
        every = "" if str(error).endswith("?") else "; without a name all are listed"
        raise click.BadParameter(f"{error}{every}", context, option) from error
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
    help="Compute grids of this many voxels per axis.",
)
distance_option = option(
    "--distance",
    type=click.Choice(("fast", "exact")),
    default="fast",
    show_default=True,
    help="Compute distances that are exact near the surface (fast), or everywhere at many times the cost (exact).",
)
axis_options = all_of(
    [
        option(
            "--up",
            type=click.Choice(AXES),
            default="y",
            show_default=True,
            help="Read this axis of the files as up.",
        ),
        option(
            "--front",
            type=click.Choice(AXES),
            default="-z",
            show_default=True,
            help="Read this axis of the files as the front.",
        ),
    ]
)
drop_duplicates_option = option(
    "--drop-duplicates", is_flag=True, help="Reject shapes that are the same as that of another file."
)


def geometry_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--signed, --watertight and --occupancy-points: outputs of shapes beside voxels and distance."""
    return all_of(
        [
            option("--signed", is_flag=True, help="Store signed distances, negative inside."),
            option("--watertight", is_flag=True, help="Write a watertight mesh of each shape, watertight.ply."),
            option(
                "--occupancy-points",
                type=click.IntRange(1, 10_000_000),
                metavar="N",
                help="Write this many random points in each shape's cube with their occupancy: points.npz, as "
                "Occupancy Networks reads it.",
            ),
        ]
    )(command)


def _shape_settings(given: Mapping[str, Any]) -> ShapeSettings:
    """The settings given by the options of shapes."""
    from vondata.shapes.prepare import ShapeSettings

    names = ("resolution", "distance", "drop_duplicates", "signed", "watertight")
    return ShapeSettings(**{name: given[name] for name in names}, occupancy_points=given["occupancy_points"] or 0)


@click.group(cls=Group)
@option(
    "--explain",
    metavar="REASON",
    is_flag=False,
    flag_value="all",
    expose_value=False,
    is_eager=True,
    callback=_explain,
    help="Print what a rejection reason means and what to do about it; without a name, all of them.",
)
def prepare() -> None:
    """Turns raw meshes and photos into a dataset, with one row per item found and a reason for each rejected one.

    A run can be stopped at any time; the same command resumes it and skips finished items.
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
@option("--binvox", is_flag=True, help="Read the collection's .binvox files instead of its meshes.")
@option("--up", type=click.Choice(AXES), help="Read this axis of the models as up. [default: y]")
@option(
    "--front",
    type=click.Choice(AXES),
    help="Read this axis of the models as the front. [default: x for version 1, -z for version 2]",
)
@drop_duplicates_option
@geometry_options
@run_options
def shapenet(
    shapenet: DataFolder | None,
    binvox: bool,
    up: Axis | None,
    front: Axis | None,
    command: PrepareCommand,
    **given: Any,
) -> None:
    """Prepares the shapes of ShapeNetCore."""
    from vondata.shapes.sources import shapenet_items

    if up is not None and front is None and up[-1] != "y":
        raise click.UsageError(f"--up {up}: name the axis of the front too, with --front")
    check_axes(up or "y", front or "-z")
    tree = source_tree(shapenet, "shapenet")
    kind: Source = "binvox" if binvox else "mesh"
    items = shapenet_items(tree, command.classes(), source=kind, up=up, front=front)
    _prepare_shapes((spelling("shapenet"), tree, items), command, _shape_settings(given))


def check_axes(up: Axis, front: Axis) -> None:
    """Refuses up and front on the same axis."""
    if up[-1] == front[-1]:
        raise click.UsageError(f"--up {up} and --front {front} lie on the same axis")


def _prepare_shapes(source: GivenFolder, command: PrepareCommand, settings: ShapeSettings) -> None:
    from vondata.shapes.prepare import prepare_shape
    from vondata.shapes.sources import duplicate_review

    found = found_items([source], command)
    run_preparation(command, "shapes", found, prepare_shape, settings, duplicate_review(settings.drop_duplicates))


@prepare.command(short_help="Prepare the meshes of any folder, all of one class.")
@option(
    "--root",
    type=FolderType("used"),
    required=True,
    help="Read OBJ, OFF, PLY, STL and GLB files from this folder or URL.",
)
@axis_options
@resolution_option
@distance_option
@option("--binvox", is_flag=True, help="Read .binvox files instead of meshes.")
@option(
    "--pattern",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="Read only files whose path ends like this: normalized_model.obj or 'models/*.ply'; repeat for more.",
)
@drop_duplicates_option
@geometry_options
@run_options
def meshes(
    root: DataFolder,
    up: Axis,
    front: Axis,
    binvox: bool,
    patterns: tuple[str, ...],
    command: PrepareCommand,
    **given: Any,
) -> None:
    """Prepares the meshes in any folder, all of one --class."""
    from vondata.shapes.sources import mesh_folder_items

    if len(command.class_names) != 1:
        raise click.UsageError("--class: name the one class that the meshes of this folder are of")
    check_axes(up, front)
    (known,) = command.classes()
    tree = source_tree(root, "root")
    kind: Source = "binvox" if binvox else "mesh"
    items = mesh_folder_items(tree, known.name, up, front, source=kind, patterns=patterns)
    _prepare_shapes((spelling("root"), tree, items), command, _shape_settings(given))


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
    help="Read the output of von render: photos whose mask and viewpoint are exact. Near-duplicates are kept.",
)
@option(
    "--size",
    type=click.IntRange(16, 2048),
    default=128,
    show_default=True,
    help="Write square cut-outs of this many pixels per side.",
)
@option("--keep-truncated", is_flag=True, help="Keep annotated photos whose object is cut off by the border.")
@option("--keep-occluded", is_flag=True, help="Keep annotated photos whose object is largely occluded.")
@option("--keep-slightly-occluded", is_flag=True, help="Keep annotated photos whose object is slightly occluded.")
@option(
    "--max-roll",
    type=FiniteRange(0, 180),
    default=10.0,
    show_default=True,
    metavar="DEGREES",
    help="Reject annotated photos whose camera is rolled by more than this.",
)
@option(
    "--max-megapixels",
    type=FiniteRange(0.001, 4000),
    default=100.0,
    show_default=True,
    metavar="NUMBER",
    help="Reject larger photos before decoding them; every pixel takes 6 bytes of memory.",
)
@option("--keep-incomplete", is_flag=True, help="Keep JPEGs whose file ends early, as far as they can be decoded.")
@option(
    "--segmenter",
    default="grabcut",
    show_default=True,
    metavar="grabcut|FILE",
    help="Segment objects on a cluttered background by GrabCut, or by a network like U2-Net in an ONNX file.",
)
@option("--keep-duplicates", is_flag=True, help="Keep photos that are near-duplicates of another one.")
@match_option
@run_options
def images(
    pix3d: DataFolder | None,
    photos: DataFolder | None,
    renders: DataFolder | None,
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
            "no photos given: name --pix3d, --photos or --renders, or write the first two under [paths] in von.toml"
        )
    from vondata.images.near_duplicates import review_of
    from vondata.images.prepare import prepare_image
    from vondata.images.settings import ImageSettings
    from vondata.images.sources import AnnotationFileError, photo_items, pix3d_items

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
    sources: list[GivenFolder] = []
    if pix3d is not None:
        tree = source_tree(pix3d, "pix3d")
        sources.append((spelling("pix3d"), tree, pix3d_items(tree, classes, settings)))
    if renders is not None:
        tree = source_tree(renders, "renders")
        sources.append((spelling("renders"), tree, pix3d_items(tree, classes, settings)))
    if photos is not None:
        tree = source_tree(photos, "photos")
        sources.append((spelling("photos"), tree, photo_items(tree, classes)))
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
