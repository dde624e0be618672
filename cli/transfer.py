"""`von transfer`: the textures of photos on other shapes."""

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
    LOCAL_PATH,
    chosen_shapes,
    film_options,
    film_settings,
    json_option,
    read_photos,
    shape_options,
    viewpoint_options,
)
from voncli.output import user_errors


@click.command(short_help="Paints shapes in the textures of photos.")
@model_options
@sampling_options
@click.option(
    "--texture-from",
    "photos",
    type=LOCAL_PATH,
    multiple=True,
    required=True,
    help="A photo whose texture to take; as often as wanted.",
)
@click.option("--mask", "masks", type=LOCAL_PATH, multiple=True, help="Its mask, one for each photo in turn.")
@shape_options
@viewpoint_options
@click.option("--views", type=click.IntRange(0, 64), default=5, show_default=True, help="Other azimuths.")
@film_options
@output_option("transferred")
@json_option
def transfer(run: Path | None, class_name: str | None, runs: Path, as_json: bool, **options: Any) -> None:
    """Paints generated, prepared or reconstructed shapes in the textures of photos.

    Writes pictures and turntables, result.json (texture codes) and index.html.
    """
    from vonmodel.inference.session import ModelSession
    from vonmodel.inference.transfer import TransferSettings
    from vonmodel.inference.transfer import transfer as transfer_textures

    settings = TransferSettings(options["azimuth"], options["elevation"], options["views"], film_settings(options))
    with user_errors(), progress_bar(as_json) as progress:
        session = ModelSession(open_chosen_model(run, class_name, runs, options))
        output = options["output"] or session.source.run / "transferred" / session.source.checkpoint.name
        photos = read_photos(options["photos"], options["masks"], session.config.image_size)
        shapes = chosen_shapes(session, options)
        result = transfer_textures(
            session, photos, shapes, settings, output, lambda done, total: progress("shapes", done, total)
        )
    print_result(result, output, as_json, f"{len(shapes)} shapes in {len(photos)} photos' textures")
