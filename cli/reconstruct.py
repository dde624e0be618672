"""`von reconstruct`: from photos to shape, viewpoint and texture."""

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
from voncli.options import LOCAL_PATH, FiniteRange, film_options, film_settings, json_option, read_photos
from voncli.output import user_errors


@click.command(short_help="Finds shape, viewpoint and texture of photos.")
@click.argument("photos", type=LOCAL_PATH, nargs=-1, required=True)
@model_options
@sampling_options
@click.option("--mask", "masks", type=LOCAL_PATH, multiple=True, help="A mask, one for each photo in turn.")
@click.option("--shapes", type=click.IntRange(1, 4096), help="Generated shapes to begin with. [default: up to 96]")
@click.option("--starts", type=click.IntRange(1, 256), default=12, show_default=True, help="Fits begun.")
@click.option("--steps", type=click.IntRange(1, 10_000), default=60, show_default=True, help="Of the last fits.")
@click.option(
    "--camera-distance",
    type=FiniteRange(1.5, 20.0),
    default=3.5,
    show_default=True,
    help="How far the photo's camera stands, in half edges of the object's cube; the model's own stands at 2.",
)
@click.option("--views", type=click.IntRange(0, 64), default=5, show_default=True, help="New azimuths to show.")
@click.option("--textures", type=click.IntRange(1, 64), default=6, show_default=True, help="Other textures to show.")
@film_options
@output_option("reconstructed")
@json_option
def reconstruct(
    photos: tuple[Path, ...], run: Path | None, class_name: str | None, runs: Path, as_json: bool, **options: Any
) -> None:
    """Finds the shape, the viewpoint and the texture that PHOTOS show.

    Writes new views, other textures, a turntable and a GLB mesh of each, result.json (codes, viewpoint, overlap of
    the silhouettes) and index.html. The folder serves as --from of edit, interpolate, transfer and export.
    """
    from vonmodel.inference.session import ModelSession
    from vonmodel.reconstruction.reconstruct import Reconstructor, ReconstructSettings
    from vonmodel.reconstruction.results import ReportSettings, reconstruct_photos

    starts, steps = options["starts"], options["steps"]
    settings = ReconstructSettings(
        options["shapes"],
        rounds=((starts, max(1, steps * 2 // 5)), (min(4, starts), steps)),
        camera_distance=options["camera_distance"],
    )
    report = ReportSettings(options["views"], options["textures"], film_settings(options))
    with user_errors(), progress_bar(as_json) as progress:
        session = ModelSession(open_chosen_model(run, class_name, runs, options))
        output = options["output"] or session.source.run / "reconstructed" / session.source.checkpoint.name
        read = read_photos(photos, options["masks"], session.config.image_size)
        result = reconstruct_photos(Reconstructor(session, settings), read, report, output, progress)
    if not as_json:
        for each in result["objects"]:
            click.echo(
                f"{each['name']}: azimuth {each['azimuth_deg']:.0f}, elevation {each['elevation_deg']:.0f} degrees, "
                f"silhouettes overlap {each['overlap']:.2f}, {each['seconds']:.1f} s"
            )
    photos_read = "1 photo" if len(read) == 1 else f"{len(read)} photos"
    print_result(result, output, as_json, f"{photos_read} reconstructed")
