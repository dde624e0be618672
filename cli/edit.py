"""`von edit`, `von interpolate` and `von transfer`: change shape, viewpoint and texture of a model's objects."""

from __future__ import annotations

import dataclasses
from typing import Any

import click
from voncli.command import Command, option
from voncli.model_options import chosen_sampling, open_chosen_model, result_options
from voncli.options import (
    chosen_output,
    chosen_shapes,
    film_options,
    film_settings,
    label_of,
    mask_option,
    read_photos,
    shape_options,
    texture_option,
    viewpoint_options,
)
from voncli.output import counted, print_result, progress_bar, user_errors
from voncli.settings import LOCAL_PATH


@click.command(cls=Command)
@shape_options
@texture_option()
@viewpoint_options
@option(
    "--count",
    "alternatives",
    type=click.IntRange(1, 64),
    default=6,
    show_default=True,
    old=("--alternatives",),
    help="Make this many changes of each kind.",
)
@film_options
@result_options("RUN/edited/CHECKPOINT-SHAPES")
def edit(as_json: bool, **options: Any) -> None:
    """Changes shape, azimuth, elevation and texture of objects one at a time, with the others fixed.

    Writes for every object its picture, the changed pictures, a turntable, a grid of textures by azimuths,
    result.json (codes and viewpoints) and index.html.
    """
    from vonmodel.inference.edit import EditSettings
    from vonmodel.inference.edit import edit as edit_shapes

    settings = EditSettings(
        azimuth_deg=options["azimuth"],
        elevation_deg=options["elevation"],
        texture=options["texture"],
        alternatives=options["alternatives"],
        film=film_settings(options),
    )
    with user_errors(), progress_bar(as_json) as progress:
        model = open_chosen_model(options, chosen_sampling(options))
        label = label_of(options["shapes"] or ["0"])
        output = chosen_output(options, model.results / "edited" / f"{model.checkpoint}-{label}")
        shapes = chosen_shapes(model.session, options["shapes"])
        result = edit_shapes(
            model.session, shapes, settings, output, lambda done, total: progress("objects", done, total)
        )
    print_result(result, output, as_json, f"{counted(len(shapes), 'shape')} edited")


@click.command(cls=Command)
@shape_options
@texture_option(multiple=True)
@viewpoint_options
@option(
    "--curve",
    type=click.Choice(["spherical", "linear"]),
    default="spherical",
    show_default=True,
    help="Interpolate codes along a great circle or along a line.",
)
@option(
    "--count",
    "pictures",
    type=click.IntRange(2, 256),
    default=8,
    show_default=True,
    old=("--pictures",),
    help="Render this many pictures of each path.",
)
@option(
    "--to-class",
    metavar="NAME",
    help="Interpolate from the class of --class to this one; for a model of several classes.",
)
@film_options
@result_options("RUN/interpolated/CHECKPOINT-SHAPES")
def interpolate(as_json: bool, **options: Any) -> None:
    """Interpolates between shapes (two or more --shape), textures (two or more --texture) or classes.

    Writes strips and films, result.json and index.html. With shapes and textures, also each of the two alone.
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
        to_class=options["to_class"],
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
    print_result(result, output, as_json, counted(len(result["objects"]), "path"))


@click.command(cls=Command)
@option(
    "--photo",
    "photos",
    type=LOCAL_PATH,
    multiple=True,
    required=True,
    old=("--texture-from",),
    heading="Photos",
    help="Use the texture of this photo; repeat for more.",
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
    help="Render each shape at this many other azimuths.",
)
@film_options
@result_options("RUN/transferred/CHECKPOINT-PHOTOS")
def transfer(as_json: bool, **options: Any) -> None:
    """Renders generated, prepared or reconstructed shapes in the textures of photos.

    Writes pictures and turntables, result.json (texture codes) and index.html. Photos that cannot be used are left
    out.
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
    print_result(
        result, output, as_json, f"{counted(len(shapes), 'shape')} in the textures of {counted(len(photos), 'photo')}"
    )
