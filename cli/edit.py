"""`von edit`: shape, viewpoint and texture of objects changed one at a time."""

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
from voncli.options import (
    SEED,
    chosen_shapes,
    film_options,
    film_settings,
    json_option,
    shape_options,
    viewpoint_options,
)
from voncli.output import user_errors


@click.command(short_help="Changes shape, viewpoint and texture one at a time.")
@model_options
@sampling_options
@shape_options
@viewpoint_options
@click.option("--texture-seed", type=SEED, default="0", show_default=True, help="The texture.")
@click.option(
    "--alternatives", type=click.IntRange(1, 64), default=6, show_default=True, help="Changes of each kind."
)
@film_options
@output_option("edited")
@json_option
def edit(run: Path | None, class_name: str | None, runs: Path, as_json: bool, **options: Any) -> None:
    """Changes shape, azimuth, elevation and texture of objects one at a time, the others fixed.

    Writes for every object the picture, what each change makes of it, a turntable, a grid of textures by azimuths,
    result.json (codes and viewpoints) and index.html.
    """
    from vonmodel.inference.edit import EditSettings
    from vonmodel.inference.edit import edit as edit_shapes
    from vonmodel.inference.session import ModelSession

    settings = EditSettings(
        azimuth_deg=options["azimuth"],
        elevation_deg=options["elevation"],
        texture=options["texture_seed"],
        alternatives=options["alternatives"],
        film=film_settings(options),
    )
    with user_errors(), progress_bar(as_json) as progress:
        session = ModelSession(open_chosen_model(run, class_name, runs, options))
        output = options["output"] or session.source.run / "edited" / session.source.checkpoint.name
        shapes = chosen_shapes(session, options)
        result = edit_shapes(session, shapes, settings, output, lambda done, total: progress("objects", done, total))
    print_result(result, output, as_json, f"{len(shapes)} edited")
