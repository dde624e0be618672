"""`von export`: shapes as files for other programs."""

from __future__ import annotations

from typing import Any

import click
from voncli.command import Command, option
from voncli.model_options import chosen_sampling, open_chosen_model, result_options
from voncli.options import (
    chosen_output,
    chosen_shapes,
    label_of,
    level_option,
    shape_options,
    texture_option,
)
from voncli.output import print_result, progress_bar, user_errors


@click.command(cls=Command)
@shape_options
@texture_option()
@option("--plain", is_flag=True, heading="Shape and texture", help="Write meshes without colours.")
@option(
    "--format",
    "formats",
    type=click.Choice(["glb", "obj", "ply", "binvox"]),
    multiple=True,
    default=("glb",),
    show_default=True,
    help="Write files of this format; repeat for more.",
)
@level_option
@result_options("RUN/exported/CHECKPOINT-SHAPES")
def export(as_json: bool, **options: Any) -> None:
    """Writes generated, prepared or reconstructed shapes as watertight meshes or as voxels.

    GLB, OBJ and PLY carry the colours that the texture network paints from around; result.json, index.html.
    """
    from vonmodel.inference.export import ExportSettings
    from vonmodel.inference.export import export as export_shapes

    texture = None if options["plain"] else options["texture"]
    settings = ExportSettings(tuple(dict.fromkeys(options["formats"])), options["level"], texture)
    with user_errors(), progress_bar(as_json) as progress:
        model = open_chosen_model(options, chosen_sampling(options))
        label = label_of(options["shapes"] or ["0"])
        output = chosen_output(options, model.results / "exported" / f"{model.checkpoint}-{label}")
        shapes = chosen_shapes(model.session, options["shapes"])
        result = export_shapes(
            model.session, shapes, settings, output, lambda done, total: progress("shapes", done, total)
        )
    print_result(result, output, as_json, f"{len(shapes)} exported")
