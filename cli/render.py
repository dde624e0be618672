"""`von render`: renders views of meshes with mask, depth, normals, positions and cameras."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from voncli.command import Command, option
from voncli.output import cli_error, disk_errors
from voncli.prepare import axis_options, check_axes, found_items, source_tree
from voncli.prepare_run import PrepareCommand, job_options, run_preparation
from voncli.settings import LOCAL_PATH, FiniteRange, FolderType

if TYPE_CHECKING:
    from vondata.frames import Axis
    from vondata.io.fs import DataFolder


@click.command(cls=Command)
@click.argument("root", type=FolderType("used"))
@option(
    "-o",
    "--output",
    "data",
    type=LOCAL_PATH,
    required=True,
    heading="Output",
    help="Write into this folder; the same command resumes in it.",
)
@option(
    "--layout",
    type=click.Choice(("shapenet", "meshes")),
    default="shapenet",
    show_default=True,
    help="Read ROOT as a folder per synset, or as meshes of the one --class.",
)
@axis_options
@option(
    "--view-count",
    "views",
    type=click.IntRange(1, 100_000),
    default=24,
    show_default=True,
    old=("--views",),
    heading="Views",
    help="Render this many views of a model.",
)
@option(
    "--size",
    type=click.IntRange(8, 4096),
    default=256,
    show_default=True,
    heading="Views",
    help="Render views of this many pixels per side.",
)
@option(
    "--cameras",
    type=click.Choice(("class", "sphere", "turntable")),
    default="class",
    show_default=True,
    heading="Views",
    help="Place cameras as in photos of the class, evenly on a sphere, or in a circle around the object.",
)
@option(
    "--elevation",
    type=FiniteRange(-90, 90),
    default=20.0,
    show_default=True,
    metavar="DEGREES",
    heading="Views",
    help="Raise the turntable's camera this far above the horizon.",
)
@option(
    "--fov",
    type=FiniteRange(1, 120),
    default=40.0,
    show_default=True,
    metavar="DEGREES",
    heading="Views",
    help="Use this angle of view from edge to edge.",
)
@option(
    "--distance",
    type=FiniteRange(0.5, 1000, min_open=True),
    metavar="DIAGONALS",
    heading="Views",
    help="Place the camera this far from the object's centre. [default: the object just fits]",
)
@option(
    "--light",
    type=click.Choice(("studio", "environment", "random")),
    default="studio",
    show_default=True,
    heading="Light",
    help="Light by one large lamp, from all sides, or by a random lamp.",
)
@option(
    "--background",
    type=click.Choice(("white", "transparent", "room")),
    default="white",
    show_default=True,
    heading="Light",
    help="Draw the object in front of this background.",
)
@option("--shadow", is_flag=True, heading="Light", help="Draw the object's shadow on a white or transparent floor.")
@option(
    "--ray-count",
    "samples",
    old=("--samples",),
    type=click.IntRange(1, 8),
    default=2,
    show_default=True,
    heading="Views",
    help="Cast a grid of N x N rays per pixel.",
)
@option(
    "--maps",
    default="mask,depth,normals,position",
    show_default=True,
    heading="Output",
    help="Write these maps beside the image, separated by commas; none writes images only.",
)
@option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    heading="Views",
    help="Use this seed for all random choices.",
)
@job_options
def render(
    root: DataFolder, layout: str, up: Axis, front: Axis, maps: str, command: PrepareCommand, **look: Any
) -> None:
    """Renders the meshes in ROOT: per model a folder of views and a transforms.json, and pix3d.json over all of them.

    `von prepare images --renders OUTPUT` takes them as photos whose viewpoint and mask are exact, so that a model can
    be trained from meshes alone.
    """
    from vondata.errors import VonError
    from vondata.render.collection import RenderedCollection, items_with_materials, render_item, write_pix3d
    from vondata.render.views import RenderSettings
    from vondata.shapes.sources import mesh_folder_items, shapenet_items

    tree = source_tree(root, "root")
    if layout == "meshes":
        if len(command.class_names) != 1:
            raise click.UsageError("--class: name the one class that the meshes of this folder are of")
        check_axes(up, front)
        items = mesh_folder_items(tree, command.classes()[0].name, up, front)
    else:
        items = shapenet_items(tree, command.classes())
    views = RenderSettings(
        elevation_deg=look.pop("elevation"), fov_deg=look.pop("fov"), lighting=look.pop("light"), **look
    )
    settings = RenderedCollection(views, _chosen_maps(maps))
    try:
        found = items_with_materials(found_items([("ROOT", tree, items)], command))
        run_preparation(command, "renders", found, render_item, settings)
    finally:
        try:
            with disk_errors(command.data.path):
                write_pix3d(command.data.path)
        except VonError as error:
            raise cli_error(error) from error


def _chosen_maps(text: str) -> Any:
    from vondata.render.collection import ALL_MAPS

    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == ["none"]:
        return ()
    unknown = [name for name in names if name not in ALL_MAPS]
    if unknown:
        raise click.UsageError(f"--maps {text}: {unknown[0]!r} is none of {', '.join(ALL_MAPS)}, none")
    return tuple(each for each in ALL_MAPS if each in names)
