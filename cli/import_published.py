"""`von import-published`: the weights released in 2018 become a run, the data archive a prepared dataset."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from voncli.command import Command, option
from voncli.options import json_option, random_seed_option
from voncli.output import ProgressReporter, disk_errors, note, print_json, user_errors
from voncli.settings import LOCAL_PATH, check_folder, folder_option

if TYPE_CHECKING:
    from vondata.classes import ObjectClass

# Objects on the sample sheet.
SHOWN = 8


@click.command(cls=Command)
@click.argument("root", type=LOCAL_PATH)
@option("--class", "class_name", metavar="NAME", help="Import this class. [default: the only one there is]")
@option(
    "--representation",
    type=click.Choice(["distance", "occupancy"]),
    help="Import the weights of this shape representation. [default: distance if there are both]",
)
@option("--limit", type=click.IntRange(min=1), help="Import at most this many shapes and photos.")
@option(
    "--workers",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Prepare data in this many processes; 0 runs in this one.",
)
@option("--size", type=click.IntRange(32, 1024), default=128, show_default=True, help="Prepare photos at this size.")
@random_seed_option("Use this seed for training, and for the networks without a file.")
@folder_option("data", help="Write the prepared dataset into this folder.", urls="refused")
@folder_option("runs", heading="Output", help="Keep runs in this folder.")
@option(
    "-o",
    "--output",
    type=LOCAL_PATH,
    heading="Output",
    help="Write the run into this new folder. [default: RUNS/CLASS]",
)
@json_option
def import_published(root: Path, data: Path, runs: Path, as_json: bool, **options: Any) -> None:
    """Imports what ROOT holds of the 2018 release of Visual Object Networks.

    Weights (the folder final_models, or that of a training with the release's code) become a run for all verbs:
    generate, edit, evaluate, and train, which continues with the joint stage. The data archive (objects and images)
    becomes a prepared dataset. Files are read without running any code in them.
    """
    check_folder(root, "ROOT")
    with user_errors(), disk_errors(data):
        known = _classes(root, options["class_name"])
        run = _import_run(root, runs, known, options)
        dataset = _import_data(root, data, known, options)
    if run is None and not dataset:
        what = f"class {options['class_name']}" if options["class_name"] else "the release"
        raise click.ClickException(
            f"{root} holds nothing of {what}: neither models_2D and models_3D, nor latest_net_G_3D.pth and the other "
            "networks, nor objects and images"
        )
    if as_json:
        print_json({"run": run, "data": dataset or None})
        return
    for kind, counts in dataset.items():
        for name, each in counts.items():
            note(f"{name}: {each['prepared']:,} {kind} prepared, {each['rejected']:,} rejected, in {data}", err=False)
    if run is not None:
        drawn = f", except {', '.join(run['drawn_at_random'])}, drawn at random" if run["drawn_at_random"] else ""
        note(
            f"{run['representation']} model of {run['class']}, {run['resolution']}^3 voxels, {run['image_size']} px",
            err=False,
        )
        note(f"All networks of the release are in it{drawn}. Samples: {run['sheet']}", err=False)
        click.echo(run["run"])


def _classes(root: Path, wanted: str | None) -> tuple[ObjectClass, ...]:
    """The class given, or all that the release folder holds.

    Raises:
        UnknownClassError: no class file has this name.
    """
    from vondata.classes import known_classes, load_class
    from vondata.published import archive_classes, archive_folder
    from vonmodel.published import find_weights

    if wanted is not None:
        return (load_class(wanted),)
    archive = archive_folder(root)
    data = archive_classes(archive) if archive is not None else ()
    return tuple(
        each
        for each in known_classes()
        if each.name in data
        or find_weights(root, each.name, "distance") is not None
        or find_weights(root, each.name, "occupancy") is not None
    )


def _import_run(
    root: Path, runs: Path, known: tuple[ObjectClass, ...], options: dict[str, Any]
) -> dict[str, Any] | None:
    """Imports the weights as a run and draws a sample sheet; None if there are no weights.

    Raises:
        click.UsageError: there are weights of several classes.
        PublishedWeightsError, RunError, CheckpointError: they are unusable, or the run cannot be written.
    """
    from vonmodel.published import find_weights, import_weights

    found = {each.name: find_weights(root, each.name, options["representation"]) for each in known}
    weights = {name: each for name, each in found.items() if each is not None}
    if not weights:
        return None
    if len(weights) > 1:
        raise click.UsageError(f"{root} has weights of {', '.join(weights)}: name the class with --class")
    ((name, files),) = weights.items()
    run = options["output"] or runs / name
    config = import_weights(files, run, name, seed=options["seed"])
    try:
        sheet = _draw_sheet(run, name, options["seed"])
    except click.ClickException:
        shutil.rmtree(run)  # so that the next try may use the same folder
        raise
    return {
        "run": str(run),
        "class": name,
        "representation": files.representation,
        "resolution": config.model.resolution,
        "image_size": config.model.image_size,
        "drawn_at_random": list(files.missing),
        "sheet": str(sheet),
    }


def _draw_sheet(run: Path, class_name: str, seed: int) -> Path:
    """Draws the sample sheet of a run, and checks that its shapes are finite and not empty.

    Raises:
        click.ClickException: they are not, so these are not the weights of a model.
    """
    import numpy as np
    import torch

    from vondata.classes import load_class
    from vonmodel.checkpoint import load_model
    from vonmodel.training.log import draw_sheet, save_sheet, sheet_codes

    prior = load_class(class_name)
    model, _ = load_model(run)
    codes = sheet_codes(
        model, lambda count, rng: np.radians(prior.sample_viewpoints(count, rng)), seed=seed, count=SHOWN
    )
    with torch.no_grad():
        opacity = model.opacity(model.generate_shapes(codes.shape))
    if not torch.isfinite(opacity).all():
        raise click.ClickException(f"{run}: the shapes of these weights are not finite")
    if not (opacity > 0.5).any():
        raise click.ClickException(f"{run}: the shapes of these weights are empty; is it the other --representation?")
    sheet = run / "samples" / "imported.png"
    save_sheet(draw_sheet(model, codes, images=True), sheet)
    return sheet


def _import_data(
    root: Path, data: Path, known: tuple[ObjectClass, ...], options: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Prepares the data archive; returns counts by kind and class, empty without an archive.

    Raises:
        CollectionMissingError, DatasetBusyError, DataFolderError: it cannot be read, or the dataset not be written.
    """
    from vondata.images.near_duplicates import review_of
    from vondata.images.prepare import prepare_image
    from vondata.images.settings import ImageSettings
    from vondata.pipeline.plan import PrepareOptions
    from vondata.pipeline.run import prepare
    from vondata.published import (
        PublishedShapeSettings,
        archive_folder,
        distance_items,
        image_items,
        prepare_distance,
    )

    archive = archive_folder(root)
    if archive is None:
        return {}
    archive = archive.resolve()
    chosen = PrepareOptions(workers=options["workers"], limit=options["limit"])
    pictures = ImageSettings(size=options["size"])
    with ProgressReporter() as progress:
        shapes = prepare(
            "shapes",
            distance_items(archive, known),
            prepare_distance,
            PublishedShapeSettings(),
            data,
            chosen,
            progress,
        )
        images = prepare(
            "images",
            image_items(archive, known),
            prepare_image,
            pictures,
            data,
            chosen,
            progress,
            review_of(pictures),
        )
    counted = {
        result.kind: {
            name: {"found": count.found, "prepared": count.prepared, "rejected": count.rejected}
            for name, count in result.classes.items()
        }
        for result in (shapes, images)
    }
    return {kind: counts for kind, counts in counted.items() if counts}
