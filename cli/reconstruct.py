"""`von reconstruct`: from photos to shape, viewpoint and texture."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click
from voncli.command import Command, option
from voncli.model_options import chosen_sampling, open_chosen_model, result_options
from voncli.options import (
    chosen_output,
    film_options,
    film_settings,
    label_of,
    mask_option,
    read_photos,
)
from voncli.output import note, print_result, progress_bar, user_errors
from voncli.settings import LOCAL_PATH, FiniteRange


@click.command(cls=Command)
@click.argument("photos", type=LOCAL_PATH, nargs=-1, required=True)
@mask_option
@option(
    "--camera-distance",
    type=FiniteRange(1.5, 20.0),
    default=3.5,
    show_default=True,
    heading="Photos",
    help="Take the photo's camera to stand this many half edges of the object's cube away; the model's own stands at "
    "2.",
)
@option(
    "--candidate-count",
    "candidates",
    type=click.IntRange(1, 4096),
    old=("--shapes",),
    heading="Search",
    help="Begin with this many generated shapes. [default: up to 96]",
)
@option(
    "--start-count",
    "starts",
    type=click.IntRange(1, 256),
    default=12,
    show_default=True,
    old=("--starts",),
    heading="Search",
    help="Begin this many fits.",
)
@option(
    "--steps",
    type=click.IntRange(1, 10_000),
    default=60,
    show_default=True,
    heading="Search",
    help="Take this many steps in the last fits.",
)
@option(
    "--view-count",
    "views",
    type=click.IntRange(0, 64),
    default=5,
    show_default=True,
    old=("--views",),
    heading="Pictures",
    help="Show each object at this many new azimuths.",
)
@option(
    "--texture-count",
    "textures",
    type=click.IntRange(1, 64),
    default=6,
    show_default=True,
    old=("--textures",),
    heading="Pictures",
    help="Show it in this many other textures.",
)
@film_options
@result_options("RUN/reconstructed/CHECKPOINT-PHOTOS")
def reconstruct(photos: tuple[Path, ...], as_json: bool, **options: Any) -> None:
    """Finds the shape, the viewpoint and the texture that PHOTOS show.

    Writes new views, other textures, a turntable and a GLB mesh of each, result.json (codes, viewpoint, overlap of
    the silhouettes) and index.html. A photo of no use is left out. --shape of the other verbs takes the folder.
    """
    from vonmodel.reconstruction.reconstruct import Reconstructor, ReconstructSettings
    from vonmodel.reconstruction.results import ReportSettings, reconstruct_photos

    starts, steps = options["starts"], options["steps"]
    settings = ReconstructSettings(
        options["candidates"],
        rounds=((starts, max(1, steps * 2 // 5)), (min(4, starts), steps)),
        camera_distance=options["camera_distance"],
    )
    report = ReportSettings(options["views"], options["textures"], film_settings(options))
    with user_errors(), progress_bar(as_json) as progress:
        model = open_chosen_model(options, chosen_sampling(options))
        label = label_of(photos)
        output = chosen_output(options, model.results / "reconstructed" / f"{model.checkpoint}-{label}")
        read, refused = read_photos(photos, options["masks"], model.session.config.image_size)
        result = reconstruct_photos(Reconstructor(model.session, settings), read, report, output, progress)
    if not as_json:
        for each in result["objects"]:
            note(
                f"{each['name']}: azimuth {each['azimuth_deg']:.0f}, elevation {each['elevation_deg']:.0f} degrees, "
                f"silhouettes overlap {each['overlap']:.2f}, {each['seconds']:.1f} s",
                err=False,
            )
    photos_read = "1 photo" if len(read) == 1 else f"{len(read)} photos"
    result |= {"refused": [dataclasses.asdict(each) for each in refused]}
    print_result(result, output, as_json, f"{photos_read} reconstructed")
