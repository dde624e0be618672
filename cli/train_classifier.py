"""`von train-classifier`: the classifier of shapes that the Fréchet distance of shapes is measured with."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from voncli.command import Command, option
from voncli.model_options import choose_device, device_option
from voncli.options import json_option, random_seed_option
from voncli.output import print_json, progress_bar, user_errors
from voncli.settings import LOCAL_PATH, folder_option

if TYPE_CHECKING:
    from vonmodel.evaluation.shape_classifier import ClassifierSettings

CLASSIFIER_FILE = "shape-classifier.safetensors"


@click.command("train-classifier", cls=Command)
@option(
    "--class",
    "classes",
    multiple=True,
    metavar="NAME",
    help="Tell this class from the others; repeat for each. [default: all prepared ones]",
)
@option("--resolution", type=int, help="See this many voxels along an edge. [default: as the latest run, else 32]")
@option(
    "--representation",
    type=click.Choice(["occupancy", "distance"]),
    help="See volumes that hold this. [default: as the latest run, else occupancy]",
)
@option(
    "--base-channels",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Make the first layer this wide.",
)
@option("--steps", type=click.IntRange(min=1), help="Take this many batches. [default: ten passes, 200 at least]")
@option(
    "--batch-size", type=click.IntRange(min=2), default=16, show_default=True, help="Take this many shapes at once."
)
@random_seed_option("Draw everything random with this seed.")
@folder_option("data", help="Train on this prepared dataset.")
@folder_option("runs", help="Look for the latest run in this folder.")
@device_option
@option(
    "-o",
    "--output",
    type=LOCAL_PATH,
    heading="Output",
    help=f"Write the classifier into this file. [default: RUNS/{CLASSIFIER_FILE}]",
)
@option("--overwrite", is_flag=True, heading="Output", help="Replace an older classifier in that file.")
@json_option
def train_classifier(
    data: Path, runs: Path, output: Path | None, overwrite: bool, as_json: bool, **options: Any
) -> None:
    """Trains a classifier of shapes on the prepared classes, for von evaluate --shape-fid.

    Its accuracy on the held-out shapes (parts val and test) and its hash stand beside every score it gives.
    """
    from vonmodel.evaluation.shape_classifier import train_classifier as train

    output = output or runs / CLASSIFIER_FILE
    if output.is_file() and not overwrite:
        raise click.UsageError(f"--output {output} is there: name another file, or let --overwrite replace it")
    with user_errors(), progress_bar(as_json) as progress:
        settings = _settings(runs, **options)
        info, sha256 = train(data, settings, output, lambda done, total: progress("classifier", done, total))
    if as_json:
        print_json({"classifier": output, "sha256": sha256, **dataclasses.asdict(info)})
        return
    held_out = sum(info.held_out.values())
    click.echo(f"Accuracy {info.accuracy:.1%} on {held_out} held-out shapes:")
    for name in info.classes:
        click.echo(
            f"  {name}: {info.correct[name]} of {info.held_out[name]} right, {info.trained[name]} to learn from"
        )
    click.echo(f"Classifier of {info.representation} on {info.resolution} voxels, SHA-256 {sha256}")
    click.echo(f"written to {output}")


def _settings(
    runs: Path,
    classes: tuple[str, ...],
    resolution: int | None,
    representation: Any,
    device: str,
    **others: Any,
) -> ClassifierSettings:
    """The settings that the options say; what a volume is, from the latest run where they say nothing."""
    from vondata.classes import load_class
    from vonmodel.evaluation.shape_classifier import ClassifierSettings
    from vonmodel.run_folder import RunError, latest_run

    settings = ClassifierSettings(
        classes=tuple(load_class(name).name for name in classes), device=choose_device(device), **others
    )
    try:
        model = latest_run(runs).config().model
    except RunError:
        pass
    else:
        settings = dataclasses.replace(settings, resolution=model.resolution, representation=model.representation)
    given = {"resolution": resolution, "representation": representation}
    return dataclasses.replace(settings, **{name: value for name, value in given.items() if value is not None})
