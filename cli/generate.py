"""`von generate`: images, sketches and meshes of a trained model, with a page to look at them."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import click
from voncli.command import Command, option
from voncli.model_options import chosen_sampling, open_chosen_model, result_options
from voncli.options import (
    AZIMUTH,
    ELEVATION,
    chosen_output,
    level_option,
    random_seed_option,
)
from voncli.output import counted, note, print_json, progress_bar, user_errors


@click.command(cls=Command)
@option(
    "--count",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    old=("--shapes",),
    help="Generate this many shapes.",
)
@option(
    "--view-count",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    old=("--views",),
    help="Render each shape from this many viewpoints.",
)
@option(
    "--texture-count",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    old=("--textures",),
    help="Render each view in this many textures.",
)
@random_seed_option("Draw codes and viewpoints with this seed.")
@option(
    "--azimuth",
    "azimuths",
    type=AZIMUTH,
    multiple=True,
    heading="Viewpoint",
    help="View shapes from this azimuth in degrees; repeat for more. [default: drawn for the class]",
)
@option(
    "--elevation",
    "elevations",
    type=ELEVATION,
    multiple=True,
    heading="Viewpoint",
    help="View them from this many degrees above the horizon; every azimuth is combined with every elevation. "
    "[default: drawn for the class]",
)
@level_option
@result_options("RUN/generated/CHECKPOINT-seedSEED")
def generate(as_json: bool, **options: Any) -> None:
    """Generates shapes, and renders each from every viewpoint in every texture.

    Writes PNG images and sketches, generated.json (codes and viewpoints) and index.html; then GLB meshes, which take
    seconds each, and their 3D views on the page. Stopped among its meshes, the same command goes on with them.
    """
    from vonmodel.inference.generate import GenerateSettings, is_unfinished
    from vonmodel.inference.generate import generate as generate_gallery

    settings = GenerateSettings(
        shapes=options["count"],
        views=options["view_count"],
        textures=options["texture_count"],
        seed=options["seed"],
        azimuths_deg=options["azimuths"],
        elevations_deg=options["elevations"],
        level=options["level"],
    )
    with user_errors(), progress_bar(as_json) as progress:
        model = open_chosen_model(options, chosen_sampling(options))
        default = model.results / "generated" / f"{model.checkpoint}-seed{settings.seed}"
        is_continued = partial(is_unfinished, model.session.source, settings)
        output = chosen_output(options, default, is_continued)
        meshes_of = " of a generation that was stopped" if is_continued(output) else ""

        def tell_pictures(page: Path) -> None:
            if not as_json:
                note(f"the pictures are in {page}; meshes{meshes_of} follow")

        gallery = generate_gallery(model.session.source, settings, output, progress, tell_pictures)
    page = output / "index.html"
    if as_json:
        print_json({"page": page, "folder": output, **dataclasses.asdict(gallery)})
        return
    pictures = len(gallery.shapes) * len(gallery.viewpoints_deg) * len(gallery.texture_codes)
    meshes = sum(shape.mesh is not None for shape in gallery.shapes)
    made = f"{counted(pictures, 'image')} and {counted(meshes, 'mesh')}"
    note(f"{made} of checkpoint {model.checkpoint}, seed {settings.seed}; open", err=False)
    click.echo(str(page))
