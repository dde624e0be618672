"""`von interpolate`: from shape to shape and from texture to texture."""

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


@click.command(short_help="Goes from shape to shape, texture to texture.")
@model_options
@sampling_options
@shape_options
@viewpoint_options
@click.option("--texture-seed", "textures", type=SEED, multiple=True, help="A texture to go through. [default: 0]")
@click.option("--curve", type=click.Choice(["spherical", "linear"]), default="spherical", show_default=True)
@click.option("--pictures", type=click.IntRange(2, 256), default=8, show_default=True, help="Of the strip.")
@film_options
@output_option("interpolated")
@json_option
def interpolate(run: Path | None, class_name: str | None, runs: Path, as_json: bool, **options: Any) -> None:
    """Goes from shape to shape (two or more of --seed), texture to texture (of --texture-seed), or both.

    Writes strips and films, result.json and index.html. With both, also each of the two alone.
    """
    from vonmodel.inference.interpolate import InterpolateSettings
    from vonmodel.inference.interpolate import interpolate as interpolate_codes
    from vonmodel.inference.sampling import Seed
    from vonmodel.inference.session import ModelSession

    settings = InterpolateSettings(
        curve=options["curve"],
        pictures=options["pictures"],
        azimuth_deg=options["azimuth"],
        elevation_deg=options["elevation"],
        film=film_settings(options),
    )
    with user_errors(), progress_bar(as_json) as progress:
        session = ModelSession(open_chosen_model(run, class_name, runs, options))
        output = options["output"] or session.source.run / "interpolated" / session.source.checkpoint.name
        shapes = chosen_shapes(session, options)
        textures = [session.texture(seed) for seed in options["textures"] or (Seed(0),)]
        result = interpolate_codes(
            session, shapes, textures, settings, output, lambda done, total: progress("paths", done, total)
        )
    print_result(result, output, as_json, f"{len(result['objects'])} paths")
