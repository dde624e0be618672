"""`von export`: shapes as files for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from voncli.model_options import (
    model_options,
    open_chosen_model,
    output_option,
    print_result,
    progress_bar,
    sampling_options,
)
from voncli.options import SEED, FiniteRange, chosen_shapes, json_option, shape_options
from voncli.output import user_errors


@click.command(short_help="Writes shapes as meshes or voxels.")
@model_options
@sampling_options
@shape_options
@click.option(
    "--format",
    "formats",
    type=click.Choice(["glb", "obj", "ply", "binvox"]),
    multiple=True,
    default=("glb",),
    show_default=True,
    help="As often as wanted.",
)
@click.option("--texture-seed", type=SEED, default="0", show_default=True, help="Its colours go to the vertices.")
@click.option("--plain", is_flag=True, help="Without colours.")
@click.option(
    "--level",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    help="Value of the volume on the surface. [default: 0.5; distance functions: d = 0.012]",
)
@output_option("exported")
@json_option
def export(run: Path | None, class_name: str | None, runs: Path, as_json: bool, **options: Any) -> None:
    """Writes generated, prepared or reconstructed shapes as watertight meshes or as voxels.

    GLB, OBJ and PLY carry the colours that the texture network paints from around; result.json, index.html.
    """
    from vonmodel.inference.export import ExportSettings
    from vonmodel.inference.export import export as export_shapes
    from vonmodel.inference.session import ModelSession

    texture = None if options["plain"] else options["texture_seed"]
    settings = ExportSettings(tuple(dict.fromkeys(options["formats"])), options["level"], texture)
    with user_errors(), progress_bar(as_json) as progress:
        session = ModelSession(open_chosen_model(run, class_name, runs, options))
        output = options["output"] or session.source.run / "exported" / session.source.checkpoint.name
        shapes = chosen_shapes(session, options)
        result = export_shapes(session, shapes, settings, output, lambda done, total: progress("shapes", done, total))
    print_result(result, output, as_json, f"{len(shapes)} exported")
