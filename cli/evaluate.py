"""`von evaluate`: scores of a trained model, printed and recorded in its run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from .model_source import choose_device, choose_run, model_options, progress_bar, user_errors
from .settings import json_option, print_json

if TYPE_CHECKING:
    from vondata.manifest import Split
    from vonmodel.evaluation.settings import ScoreSettings

SCORES = ("fid", "kid", "precision_recall", "shapes")


@click.command()
@click.option("--fid", is_flag=True, help="Fréchet distance between generated images and prepared photos.")
@click.option("--kid", is_flag=True, help="Kernel distance between them.")
@click.option("--precision-recall", is_flag=True, help="Precision, recall, density and coverage of generated images.")
@click.option("--shapes", is_flag=True, help="Overlap of generated shapes with training shapes and each other.")
@model_options
@click.option(
    "--features",
    type=click.Choice(["inception", "random"]),
    default="inception",
    show_default=True,
    help="inception gives the published FID and needs its weights; random needs none and compares models only.",
)
@click.option(
    "--inception-weights",
    "weights",
    type=click.Path(path_type=Path),
    help="pt_inception-2015-12-05-6726825d.pth. [default: $VON_INCEPTION_WEIGHTS, else the cache ~/.cache/von]",
)
@click.option("--download", is_flag=True, help="Fetch the Inception weights (91 MB) into the cache first.")
@click.option("--samples", type=click.IntRange(min=2), help="Images to generate. [default: as many as photos]")
@click.option("--max-images", type=click.IntRange(min=2), help="At most so many photos and generated images.")
@click.option(
    "--shape-samples", type=click.IntRange(min=1), default=16, show_default=True, help="Shapes to generate."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of codes and viewpoints.")
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Changes no score.")
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test", "all"]),
    default="train",
    show_default=True,
    help="The photos that count as real.",
)
@click.option(
    "--untrained/--no-untrained",
    default=None,
    help="Score the initial weights too. [default: with --features random only]",
)
@json_option
def evaluate(run: Path | None, class_name: str | None, runs: Path, as_json: bool, **options: Any) -> None:
    """Scores a trained model and records the result in its run's metrics.jsonl.

    Without a choice of scores, all of them are measured.
    """
    from vonmodel.evaluation.score import score

    checkpoint, data, download = options.pop("checkpoint"), options.pop("data"), options.pop("download")
    settings = _settings(**options)
    with user_errors(), progress_bar(as_json) as progress:
        if download and settings.images and settings.features == "inception" and settings.weights is None:
            from vonmodel.evaluation.weights import download_weights

            download_weights(lambda done, total: progress("Inception weights, bytes", done, total or done))
        folder = choose_run(run, class_name, runs)
        lines = score(folder, data, settings, checkpoint=checkpoint, progress=progress)
    if as_json:
        print_json({"run": folder.path, "metrics": folder.path / "metrics.jsonl", "results": lines})
        return
    click.echo(f"Class {lines[0]['class']}, checkpoint {lines[0]['checkpoint']['name']}, seed {settings.seed}")
    for line in lines:
        click.echo(_describe(line))
    click.echo(f"recorded in {folder.path / 'metrics.jsonl'}")


def _settings(split: Split | Literal["all"], device: str, **others: Any) -> ScoreSettings:
    from vonmodel.evaluation.settings import ScoreSettings

    if not any(others[name] for name in SCORES):
        others |= dict.fromkeys(SCORES, True)
    return ScoreSettings(split=None if split == "all" else split, device=choose_device(device), **others)


def _describe(line: Mapping[str, Any]) -> str:
    """A metric line in words."""
    match line["metric"]:
        case "fid":
            text = f"FID: {line['value']:.4g} ({_measured_on(line)})"
            if line["untrained"] is not None:
                share = line["value"] / line["untrained"]
                text += f"\n     {line['untrained']:.4g} for the untrained model, of which this is {share:.1%}"
            if not line["comparable"]:
                text += "\n     random features: not comparable with published values"
            return text
        case "kid":
            spread = f"± {line['spread']:.2g} over {line['subsets']} subsets of {line['subset_size']}"
            return f"KID: {line['value']:.4g} {spread} ({_measured_on(line)})"
        case "precision_recall":
            scores = ", ".join(f"{name} {line[name]:.3f}" for name in ("precision", "recall", "density", "coverage"))
            return f"Images: {scores} ({_measured_on(line)})"
        case "shapes":
            return (
                f"Shapes: {line['over_half']} of {line['generated']} overlap a training shape with IoU over 0.5, the "
                f"two most alike each other with {line['pairwise_iou_max']:.2f} ({line['training']} training shapes)"
            )
        case name:
            raise AssertionError(f"no words for the metric {name}")


def _measured_on(line: Mapping[str, Any]) -> str:
    return (
        f"{line['generated']} generated images, {line['real']} photos of split {line['split']}, "
        f"features {line['features']}, {line['resize']} resizing"
    )
