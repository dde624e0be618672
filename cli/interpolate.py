"""`von interpolate`: from shape to shape and from texture to texture."""

from __future__ import annotations

from typing import Any

import click
from voncli.command import Command, option
from voncli.model_options import chosen_sampling, model_options, open_chosen_model, sampling_options
from voncli.options import (
    chosen_output,
    chosen_shapes,
    film_options,
    film_settings,
    json_option,
    label_of,
    output_options,
    shape_options,
    texture_option,
    viewpoint_options,
)
from voncli.output import print_result, progress_bar, user_errors


@click.command(cls=Command, short_help="Go from shape to shape, from texture to texture.")
@shape_options
@texture_option(multiple=True)
@viewpoint_options
@option(
    "--curve",
    type=click.Choice(["spherical", "linear"]),
    default="spherical",
    show_default=True,
    help="Go between codes along a great circle or along a line.",
)
@option(
    "--count",
    "pictures",
    type=click.IntRange(2, 256),
    default=8,
    show_default=True,
    old=("--pictures",),
    help="Show this many pictures of each way.",
)
@film_options
@model_options
@sampling_options
@output_options("RUN/interpolated/CHECKPOINT-SHAPES")
@json_option
def interpolate(as_json: bool, **options: Any) -> None:
    """Goes from shape to shape (two or more of --shape), texture to texture (of --texture), or both.

    Writes strips and films, result.json and index.html. With both, also each of the two alone.
    """
    from vonmodel.inference.interpolate import InterpolateSettings
    from vonmodel.inference.interpolate import interpolate as interpolate_codes
    from vonmodel.inference.sampling import Seed

    settings = InterpolateSettings(
        curve=options["curve"],
        pictures=options["pictures"],
        azimuth_deg=options["azimuth"],
        elevation_deg=options["elevation"],
        film=film_settings(options),
    )
    with user_errors(), progress_bar(as_json) as progress:
        model = open_chosen_model(options, chosen_sampling(options))
        label = label_of(options["shapes"] or ["0"])
        output = chosen_output(options, model.results / "interpolated" / f"{model.checkpoint}-{label}")
        shapes = chosen_shapes(model.session, options["shapes"])
        textures = [model.session.texture(seed) for seed in options["textures"] or (Seed(0),)]
        result = interpolate_codes(
            model.session, shapes, textures, settings, output, lambda done, total: progress("paths", done, total)
        )
    print_result(result, output, as_json, f"{len(result['objects'])} paths")
