"""`von reconstruct` and `von invert`: from photos to shape, viewpoint and texture; from meshes to shape codes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from voncli.command import Command, option
from voncli.model_options import chosen_sampling, open_chosen_model, result_options
from voncli.options import (
    AZIMUTH,
    chosen_output,
    film_options,
    film_settings,
    label_of,
    mask_option,
    read_photos,
)
from voncli.output import note, print_result, progress_bar, user_errors
from voncli.prepare import AXES
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
    help="Assume this distance of the photo's camera, in half edges of the object's cube; the model's own is 2.",
)
@option(
    "--near-azimuth",
    type=AZIMUTH,
    heading="Photos",
    help="Try only viewpoints within 25 degrees of this azimuth, such as that of the second-best viewpoint.",
)
@option(
    "--start",
    type=click.Choice(["search", "regression"]),
    default="search",
    show_default=True,
    heading="Search",
    help="Start from the best sketches of generated shapes, or from the output of a small network, which is trained "
    "for minutes when a checkpoint first needs it.",
)
@option(
    "--candidate-count",
    "candidates",
    type=click.IntRange(1, 4096),
    old=("--shapes",),
    heading="Search",
    help="Search among this many generated shapes. [default: up to 96]",
)
@option(
    "--start-count",
    "starts",
    type=click.IntRange(1, 256),
    old=("--starts",),
    heading="Search",
    help="Start this many fits. [default: 12, or 8 after a regression]",
)
@option(
    "--steps",
    type=click.IntRange(1, 10_000),
    heading="Search",
    help="Optimise the last fits for this many steps. [default: 60, or 20 after a regression]",
)
@option(
    "--view-count",
    "views",
    type=click.IntRange(0, 64),
    default=5,
    show_default=True,
    old=("--views",),
    heading="Pictures",
    help="Render each object at this many new azimuths.",
)
@option(
    "--texture-count",
    "textures",
    type=click.IntRange(1, 64),
    default=6,
    show_default=True,
    old=("--textures",),
    heading="Pictures",
    help="Render it in this many other textures.",
)
@film_options
@result_options("RUN/reconstructed/CHECKPOINT-PHOTOS")
def reconstruct(photos: tuple[Path, ...], as_json: bool, **options: Any) -> None:
    """Finds the shape, the viewpoint and the texture that PHOTOS show.

    Writes new views, other textures, a turntable and a GLB mesh of each, result.json (codes, viewpoint, overlap of
    the silhouettes) and index.html. Photos that cannot be used are left out. --shape of other verbs takes the folder.
    """
    from vonmodel.reconstruction.reconstruct import Reconstructor, ReconstructSettings, rounds_of
    from vonmodel.reconstruction.results import ReportSettings, reconstruct_photos

    near = options["near_azimuth"]
    settings = ReconstructSettings(
        start=options["start"],
        rounds=rounds_of(options["start"], options["starts"], options["steps"]),
        shapes=options["candidates"],
        camera_distance=options["camera_distance"],
        near_azimuth=None if near is None else math.radians(near),
    )
    report = ReportSettings(options["views"], options["textures"], film_settings(options))
    with user_errors(), progress_bar(as_json) as progress:
        model = open_chosen_model(options, chosen_sampling(options))
        label = label_of(photos)
        output = chosen_output(options, model.results / "reconstructed" / f"{model.checkpoint}-{label}")
        read, refused = read_photos(photos, options["masks"], model.session.config.image_size)
        result = reconstruct_photos(
            Reconstructor(model.session, settings), read, report, output, _announcing(progress)
        )
    if not as_json:
        for each in result["objects"]:
            note(
                f"{each['name']}: azimuth {each['azimuth_deg']:.0f} ({each['confidence']:.0%} sure), elevation "
                f"{each['elevation_deg']:.0f} degrees, silhouettes overlap {each['overlap']:.2f}, "
                f"{each['seconds']:.1f} s{_second_best(each)}",
                err=False,
            )
    photos_read = "1 photo" if len(read) == 1 else f"{len(read)} photos"
    result |= {"refused": [dataclasses.asdict(each) for each in refused]}
    print_result(result, output, as_json, f"{photos_read} reconstructed")


TRAININGS = {
    "train": "Training the regression network for photos, once for this checkpoint: this takes minutes",
    "encoder": "Training the encoder of shapes, once for this checkpoint: this takes a minute or two",
}


def _announcing(progress: Callable[[str, int, int], None]) -> Callable[[str, int, int], None]:
    """Wraps a progress callback: prints a note before a network is trained."""
    said = set[str]()

    def report(phase: str, done: int, total: int) -> None:
        if phase in TRAININGS and phase not in said:
            said.add(phase)
            note(TRAININGS[phase])
        progress(phase, done, total)

    return report


def _second_best(found: Mapping[str, Any]) -> str:
    """The second-best viewpoint, if another one was fitted."""
    if not found["alternatives"]:
        return ""
    second = found["alternatives"][0]
    return f"; else azimuth {second['azimuth_deg']:.0f} ({second['confidence']:.0%})"


@click.command(cls=Command)
@click.argument("files", metavar="FILE|ID...", nargs=-1, required=True)
@option(
    "--up",
    type=click.Choice(AXES),
    heading="Shapes",
    help="Read this axis of the files as up. [default: y; z for voxels]",
)
@option(
    "--front",
    type=click.Choice(AXES),
    heading="Shapes",
    help="Read this axis of the files as the front. [default: z, as von export writes meshes; y for voxels; -z for "
    "ShapeNetCore's model_normalized.obj]",
)
@option(
    "--steps",
    type=click.IntRange(0, 10_000),
    default=60,
    show_default=True,
    heading="Search",
    help="Optimise the encoder's code for this many steps; 0 keeps it as it is.",
)
@result_options("RUN/inverted/CHECKPOINT-FILES")
def invert(files: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Finds the shape code nearest to each FILE (mesh, .binvox or prepared .npz) or prepared shape of this ID.

    Writes pictures of the input and of the shape of its code, result.json (codes, and how well both overlap) and
    index.html. --shape of other verbs takes the folder, and mesh files as well.
    """
    from vonmodel.reconstruction.inversion import InversionSettings, Inverter, given_shape, invert_shapes

    with user_errors(), progress_bar(as_json) as progress:
        model = open_chosen_model(options, chosen_sampling(options))
        output = chosen_output(options, model.results / "inverted" / f"{model.checkpoint}-{label_of(files)}")
        given = [given_shape(model.session, each, up=options["up"], front=options["front"]) for each in files]
        inverter = Inverter(model.session, InversionSettings(steps=options["steps"]))
        result = invert_shapes(inverter, given, output, _announcing(progress))
    if not as_json:
        for each in result["objects"]:
            before = f"{each['encoder_iou']:.2f} before the descent"
            note(f"{each['name']}: solids overlap by {each['iou']:.2f}, {before}", err=False)
    shapes = "1 shape" if len(given) == 1 else f"{len(given)} shapes"
    print_result(result, output, as_json, f"{shapes} inverted")
