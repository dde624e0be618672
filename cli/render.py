"""`von render`: views of meshes, for whoever has no photos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from voncli.options import LOCAL_PATH, FiniteRange, FolderType
from voncli.output import cli_error
from voncli.prepare import AXES, found_items, source_folder
from voncli.prepare_run import PrepareCommand, job_options, run_preparation

if TYPE_CHECKING:
    from vondata.frames import Axis
    from vondata.io.fs import RemoteFolder


@click.command(short_help="Renders meshes: images, masks, depth, normals, cameras.")
@click.argument("root", type=FolderType("used"))
@click.option(
    "-o", "--output", "data", type=LOCAL_PATH, required=True, help="Folder to write; the same command resumes in it."
)
@click.option(
    "--layout",
    type=click.Choice(("shapenet", "meshes")),
    default="shapenet",
    show_default=True,
    help="ROOT holds a folder per synset, or meshes of the one --class.",
)
@click.option("--up", type=click.Choice(AXES), default="y", show_default=True, help="The axis that points up.")
@click.option(
    "--front", type=click.Choice(AXES), default="-z", show_default=True, help="The axis that the front faces."
)
@click.option("--views", type=click.IntRange(1, 100_000), default=24, show_default=True, help="Views of a model.")
@click.option(
    "--size", type=click.IntRange(8, 4096), default=256, show_default=True, help="Edge of a view in pixels."
)
@click.option(
    "--cameras",
    type=click.Choice(("class", "sphere", "turntable")),
    default="class",
    show_default=True,
    help="Drawn as photos of the class are taken, evenly on a sphere, or once around.",
)
@click.option(
    "--elevation",
    type=FiniteRange(-90, 90),
    default=20.0,
    show_default=True,
    metavar="DEGREES",
    help="Height of the turntable's camera.",
)
@click.option(
    "--fov",
    type=FiniteRange(1, 120),
    default=40.0,
    show_default=True,
    metavar="DEGREES",
    help="Angle that the edge of a view spans.",
)
@click.option(
    "--distance",
    type=FiniteRange(0.5, 1000, min_open=True),
    metavar="DIAGONALS",
    help="Of the camera from the object's middle. [default: the object just fits]",
)
@click.option(
    "--light",
    type=click.Choice(("studio", "environment", "random")),
    default="studio",
    show_default=True,
    help="One large lamp, light from everywhere, or a lamp at random.",
)
@click.option(
    "--background",
    type=click.Choice(("white", "transparent", "room")),
    default="white",
    show_default=True,
    help="What stands behind the object.",
)
@click.option("--shadow", is_flag=True, help="Draw the object's shadow on a floor, on white or transparent ground.")
@click.option(
    "--samples", type=click.IntRange(1, 8), default=2, show_default=True, help="Rays along each side of a pixel."
)
@click.option(
    "--maps",
    default="mask,depth,normals,position",
    show_default=True,
    help="What to write beside the image, separated by commas; none writes images alone.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The random seed.")
@job_options
def render(
    root: Path | RemoteFolder, layout: str, up: Axis, front: Axis, maps: str, command: PrepareCommand, **look: Any
) -> None:
    """Renders the meshes in ROOT: per model a folder of views and a transforms.json, and pix3d.json over all of them.

    `von prepare images --renders OUTPUT` takes them as photos whose viewpoint and mask are exact, so that a model can
    be trained from meshes alone.
    """
    from vondata.errors import VonError
    from vondata.render.collection import RenderedCollection, render_item, write_pix3d
    from vondata.render.views import RenderSettings
    from vondata.shapes.sources import mesh_folder_items, shapenet_items

    folder = source_folder(root, "", "ROOT")
    if layout == "meshes":
        if len(command.class_names) != 1:
            raise click.UsageError("--class: name the one class that the meshes of this folder are of")
        if up[-1] == front[-1]:
            raise click.UsageError(f"--up {up} and --front {front} lie on the same axis")
        items = mesh_folder_items(folder.root, command.classes()[0].name, up, front)
    else:
        items = shapenet_items(folder.root, command.classes())
    views = RenderSettings(
        elevation_deg=look.pop("elevation"), fov_deg=look.pop("fov"), lighting=look.pop("light"), **look
    )
    settings = RenderedCollection(views, _chosen_maps(maps))
    assert isinstance(command.data, Path)
    try:
        run_preparation(command, "renders", found_items([(folder, items)], command), render_item, settings)
    finally:
        try:
            write_pix3d(command.data)
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
