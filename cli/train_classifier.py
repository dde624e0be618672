"""`von train-classifier`: the classifier of shapes that the Fréchet distance of shapes is measured with."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from voncli.model_options import choose_device, progress_bar
from voncli.options import LOCAL_PATH, folder_option, json_option, print_json
from voncli.output import user_errors

if TYPE_CHECKING:
    from vonmodel.evaluation.shape_classifier import ClassifierSettings

CLASSIFIER_FILE = "shape-classifier.safetensors"


@click.command("train-classifier", short_help="Trains a classifier of shapes, for scores.")
@click.option("--class", "classes", multiple=True, help="A class to tell apart; repeat. [default: all prepared ones]")
@click.option("--resolution", type=int, help="Voxels along an edge. [default: that of the latest run, else 32]")
@click.option(
    "--representation",
    type=click.Choice(["occupancy", "distance"]),
    help="What a volume holds. [default: that of the latest run, else occupancy]",
)
@click.option("--base-channels", type=click.IntRange(min=1), default=16, show_default=True, help="Width.")
@click.option("--steps", type=click.IntRange(min=1), help="Batches. [default: ten passes, 200 at least]")
@click.option("--batch-size", type=click.IntRange(min=2), default=16, show_default=True, help="Shapes a step.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of everything random.")
@click.option("--output", type=LOCAL_PATH, help=f"The file. [default: RUNS/{CLASSIFIER_FILE}]")
@folder_option("runs", help="Where the runs are.")
@folder_option("data", help="The prepared dataset.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@json_option
def train_classifier(data: Path, runs: Path, output: Path | None, as_json: bool, **options: Any) -> None:
    """Trains a classifier of shapes on the prepared classes, for von evaluate --shape-fid.

    Its accuracy on the held-out shapes (parts val and test) and its hash stand beside every score it gives.
    """
    from vonmodel.evaluation.shape_classifier import train_classifier as train

    output = output or runs / CLASSIFIER_FILE
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
