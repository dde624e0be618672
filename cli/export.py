"""`von export`: shapes as meshes (GLB, OBJ, PLY, STL, USDZ) or voxels (binvox) for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
from voncli.command import Command, option
from voncli.model_options import chosen_sampling, open_chosen_model, result_options
from voncli.options import (
    chosen_output,
    chosen_shapes,
    label_of,
    level_option,
    note_without_effect,
    shape_options,
    texture_option,
)
from voncli.output import counted, print_result, progress_bar, user_errors
from voncli.settings import FiniteRange

_WITH_IMAGE = {"glb", "obj", "usdz"}


@click.command(cls=Command)
@shape_options
@texture_option()
@option("--plain", is_flag=True, heading="Shape and texture", help="Write meshes without colours.")
@option(
    "--format",
    "formats",
    type=click.Choice(["glb", "obj", "ply", "stl", "usdz", "binvox"]),
    multiple=True,
    default=("glb",),
    show_default=True,
    help="Write files of this format; repeat for more.",
)
@option(
    "--texture-size",
    type=click.IntRange(256, 4096),
    heading="Shape and texture",
    help="Bake the texture into an image of this many pixels per side. [default: eight times the model's image size]",
)
@option(
    "--vertex-colours",
    is_flag=True,
    heading="Shape and texture",
    help="Write colours per vertex instead of a texture image.",
)
@level_option
@option(
    "--resolution",
    type=click.IntRange(32, 512),
    heading="Geometry",
    help="Extract the surface from a grid of this many voxels per axis, interpolated cubically. [default: the "
    "model's]",
)
@option("--smooth", is_flag=True, heading="Geometry", help="Smooth the surface, keeping its volume.")
@option(
    "--faces",
    type=click.IntRange(min=100),
    metavar="N",
    heading="Geometry",
    help="Decimate meshes to at most this many faces. [default: all]",
)
@option(
    "--height",
    type=FiniteRange(min=0, min_open=True),
    heading="Geometry",
    help="Scale objects to this height, such as 0.9 for metres. [default: the edge of the model's cube is 2]",
)
@option(
    "--origin",
    type=click.Choice(["grid", "floor", "centre"]),
    default="grid",
    show_default=True,
    heading="Geometry",
    help="Put the origin at the centre of the model's grid, on the floor under the object, or at its centre.",
)
@option(
    "--up",
    type=click.Choice(["y", "z"]),
    default="y",
    show_default=True,
    heading="Geometry",
    help="Use this up axis, with the front at +z or -y; a GLB is always y up, as glTF requires.",
)
@result_options("RUN/exported/CHECKPOINT-SHAPES")
def export(as_json: bool, **options: Any) -> None:
    """Writes generated, prepared or reconstructed shapes as watertight meshes or as voxels.

    GLB, OBJ and USDZ get a texture image baked from the texture network's views around the object, PLY colours per
    vertex. Also writes result.json and index.html.
    """
    from vonmodel.inference.export import ExportSettings
    from vonmodel.inference.export import export as export_shapes

    texture = None if options["plain"] else options["texture"]
    note_without_effect(_without_effect(options))
    with user_errors(), progress_bar(as_json) as progress:
        settings = ExportSettings(
            formats=tuple(dict.fromkeys(options["formats"])),
            texture=texture,
            texture_px=options["texture_size"],
            grid=options["resolution"],
            **{
                name: options[name]
                for name in ("level", "vertex_colours", "smooth", "faces", "height", "origin", "up")
            },
        )
        model = open_chosen_model(options, chosen_sampling(options))
        label = label_of(options["shapes"] or ["0"])
        output = chosen_output(options, model.results / "exported" / f"{model.checkpoint}-{label}")
        shapes = chosen_shapes(model.session, options["shapes"])
        result = export_shapes(
            model.session, shapes, settings, output, lambda done, total: progress("shapes", done, total)
        )
    print_result(result, output, as_json, f"{counted(len(shapes), 'shape')} exported")


def _without_effect(options: Mapping[str, Any]) -> dict[str, str]:
    """Why options have no effect beside the others, by parameter name."""
    formats = set(options["formats"])
    reasons = {}
    if formats <= {"glb", "binvox"}:
        reasons["up"] = "GLB is always y up, binvox z up"
    if not formats & _WITH_IMAGE:
        reasons["texture_size"] = "only GLB, OBJ and USDZ have a texture image"
    if options["vertex_colours"]:
        reasons["texture_size"] = "--vertex-colours makes no texture image"
    if formats <= {"stl", "binvox"}:
        reasons |= dict.fromkeys(("texture_size", "vertex_colours"), "the files hold no colours")
    if options["plain"]:
        reasons |= dict.fromkeys(("texture", "texture_size", "vertex_colours"), "--plain writes no colours")
    if formats == {"binvox"}:
        geometry = ("resolution", "smooth", "faces", "height", "origin")
        reasons |= dict.fromkeys(geometry, "binvox holds the voxels as they are")
    return reasons
