"""`von generate`: images, sketches and meshes of a trained model, with a page to look at them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click
from voncli.model_options import model_options, open_chosen_model, progress_bar, sampling_options
from voncli.options import AZIMUTH, ELEVATION, LOCAL_PATH, FiniteRange, json_option, print_json
from voncli.output import user_errors


@click.command(short_help="Generates shapes and paints views of them.")
@model_options
@sampling_options
@click.option("--shapes", type=click.IntRange(min=1), default=8, show_default=True, help="Shapes to generate.")
@click.option("--views", type=click.IntRange(min=1), default=4, show_default=True, help="Viewpoints of each shape.")
@click.option("--textures", type=click.IntRange(min=1), default=3, show_default=True, help="Textures of each view.")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of codes and viewpoints."
)
@click.option(
    "--azimuth", "azimuths", type=AZIMUTH, multiple=True, help="Degrees; repeat for more. [default: the class's]"
)
@click.option(
    "--elevation",
    "elevations",
    type=ELEVATION,
    multiple=True,
    help="Degrees; every azimuth meets every elevation. [default: the class's]",
)
@click.option(
    "--level",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    help="Value of the volume on the meshes' surface. [default: 0.5; distance functions: d = 0.012]",
)
@click.option(
    "--output",
    type=LOCAL_PATH,
    help="The folder to write. [default: RUN/generated/<checkpoint>-seed<seed>]",
)
@json_option
def generate(run: Path | None, class_name: str | None, runs: Path, as_json: bool, **options: Any) -> None:
    """Generates shapes, sees each from every viewpoint and paints each view in every texture.

    Writes PNG images and sketches, GLB meshes, generated.json (codes and viewpoints) and index.html.
    """
    from vonmodel.inference import generate as synthesis

    settings = synthesis.GenerateSettings(
        shapes=options["shapes"],
        views=options["views"],
        textures=options["textures"],
        seed=options["seed"],
        azimuths_deg=options["azimuths"],
        elevations_deg=options["elevations"],
        level=options["level"],
    )
    with user_errors(), progress_bar(as_json) as progress:
        source = open_chosen_model(run, class_name, runs, options)
        output = options["output"] or synthesis.default_output(source.run, source.checkpoint, settings.seed)
        gallery = synthesis.generate(source, settings, output, lambda done, total: progress("shapes", done, total))
    page = output / "index.html"
    if as_json:
        print_json({"page": page, "folder": output, **dataclasses.asdict(gallery)})
        return
    pictures = len(gallery.shapes) * len(gallery.viewpoints_deg) * len(gallery.texture_codes)
    meshes = sum(shape.mesh is not None for shape in gallery.shapes)
    click.echo(
        f"{pictures} images and {meshes} meshes of checkpoint {source.checkpoint.name}, seed {settings.seed}; open"
    )
    click.echo(str(page))
