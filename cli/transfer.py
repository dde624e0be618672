"""`von transfer`: the textures of photos on other shapes."""

from __future__ import annotations

import dataclasses
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
    mask_option,
    output_options,
    read_photos,
    shape_options,
    viewpoint_options,
)
from voncli.output import print_result, progress_bar, user_errors
from voncli.settings import LOCAL_PATH


@click.command(cls=Command, short_help="Paint shapes in the textures of photos.")
@option(
    "--photo",
    "photos",
    type=LOCAL_PATH,
    multiple=True,
    required=True,
    old=("--texture-from",),
    heading="Photos",
    help="Take the texture of this photo; repeat for more.",
)
@mask_option
@shape_options
@viewpoint_options
@option(
    "--view-count",
    "views",
    type=click.IntRange(0, 64),
    default=5,
    show_default=True,
    old=("--views",),
    help="Show each shape at this many other azimuths.",
)
@film_options
@model_options
@sampling_options
@output_options("RUN/transferred/CHECKPOINT-PHOTOS")
@json_option
def transfer(as_json: bool, **options: Any) -> None:
    """Paints generated, prepared or reconstructed shapes in the textures of photos.

    Writes pictures and turntables, result.json (texture codes) and index.html. A photo of no use is left out.
    """
    from vonmodel.inference.edit import TransferSettings
    from vonmodel.inference.edit import transfer as transfer_textures

    settings = TransferSettings(options["azimuth"], options["elevation"], options["views"], film_settings(options))
    with user_errors(), progress_bar(as_json) as progress:
        model = open_chosen_model(options, chosen_sampling(options))
        label = label_of(options["photos"])
        output = chosen_output(options, model.results / "transferred" / f"{model.checkpoint}-{label}")
        photos, refused = read_photos(options["photos"], options["masks"], model.session.config.image_size)
        shapes = chosen_shapes(model.session, options["shapes"])
        result = transfer_textures(
            model.session, photos, shapes, settings, output, lambda done, total: progress("shapes", done, total)
        )
    result |= {"refused": [dataclasses.asdict(each) for each in refused]}
    print_result(result, output, as_json, f"{len(shapes)} shapes in {len(photos)} photos' textures")
