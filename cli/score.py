"""`von score`: any folders of images or shapes against a reference folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from voncli.command import Command, option
from voncli.evaluate import chosen_features, download_weights_for, feature_options
from voncli.model_options import choose_device
from voncli.options import check_output, json_option, output_options, random_seed_option
from voncli.output import note, print_json, print_table, progress_bar, user_errors
from voncli.prepare import AXES
from voncli.settings import LOCAL_PATH

if TYPE_CHECKING:
    from vondata.frames import Axis
    from vonmodel.evaluation.features import FeatureNetwork
    from vonmodel.evaluation.folders import Folder, ShapeReading
    from vonmodel.evaluation.score_folders import FolderScores, FolderSettings

SCORES = ("fid", "kid", "precision_recall", "chamfer", "emd", "shading_fid", "nearest")
MAX_SHOWN = 10


def _score_option(flag: str, help: str) -> Callable[[Any], Any]:
    return option(flag, is_flag=True, heading="Scores", group="scores", help=help)


def _axis_option(flag: str, default: str | None, help: str) -> Callable[[Any], Any]:
    return option(
        flag, type=click.Choice(AXES), default=default, show_default=default is not None, heading="Shapes", help=help
    )


@click.command(cls=Command)
@click.argument("folders", nargs=-1, type=LOCAL_PATH, required=True, metavar="GENERATED... [REFERENCE]")
@option(
    "--reference",
    type=LOCAL_PATH,
    heading="Folders",
    help="Compare all folders with this one. [default: the second of two folders]",
)
@option(
    "--kind",
    type=click.Choice(["images", "shapes"]),
    heading="Folders",
    help="Compare these if folders hold both. [default: by the kind of the reference's files]",
)
@option("--class", "class_name", metavar="NAME", heading="Folders", help="Use this class of prepared datasets.")
@option(
    "--split",
    type=click.Choice(["train", "val", "test", "all"]),
    default="all",
    show_default=True,
    heading="Folders",
    help="Use this split of prepared datasets.",
)
@option(
    "--pattern",
    "patterns",
    multiple=True,
    metavar="GLOB",
    heading="Folders",
    help="Use only files that match this, such as '*.glb' or 'model_normalized.obj'; repeat for more.",
)
@option(
    "--max-count",
    type=click.IntRange(min=2),
    heading="Folders",
    help="Use at most this many of each folder, sampled by the hash of their names. [default: all images, 1000 "
    "shapes]",
)
@_score_option("--fid", "Images: measure the Fréchet distance.")
@_score_option("--kid", "Images: measure the Kernel Inception Distance.")
@_score_option("--precision-recall", "Images: measure precision, recall, density and coverage.")
@_score_option("--chamfer", "Shapes: measure MMD, COV and 1-NNA by Chamfer distance.")
@_score_option("--emd", "Shapes: measure MMD, COV and 1-NNA by earth mover's distance.")
@_score_option("--shading-fid", "Shapes: measure the Fréchet distance of shaded views.")
@_score_option("--nearest", "Measure authenticity: the share farther from its nearest reference than copies are.")
@feature_options
@option(
    "--size",
    type=click.IntRange(8, 4096),
    heading="Images",
    help="Resize images to this many pixels per side first. [default: unchanged]",
)
@option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    heading="Images",
    help="Process this many images at once; scores do not depend on it.",
)
@option(
    "--point-count",
    "points",
    type=click.IntRange(8, 100_000),
    default=2048,
    show_default=True,
    heading="Shapes",
    help="Sample this many points from each surface or point cloud.",
)
@option(
    "--emd-count",
    type=click.IntRange(min=2),
    default=64,
    show_default=True,
    heading="Shapes",
    help="Measure earth mover's distances on this many shapes of each folder.",
)
@option(
    "--view-count",
    "views",
    type=click.IntRange(1, 200),
    default=20,
    show_default=True,
    heading="Shapes",
    help="Render shaded views of each shape from this many viewpoints.",
)
@option(
    "--normalize/--no-normalize",
    default=True,
    show_default=True,
    heading="Shapes",
    help="Centre each shape and scale it to the same size, or leave it as it is.",
)
@_axis_option("--up", "y", "Read this axis of the files as up.")
@_axis_option("--front", "-z", "Read this axis of the files as the front.")
@_axis_option("--reference-up", None, "Read this axis of the reference's files as up. [default: as --up]")
@_axis_option("--reference-front", None, "Read this axis of its files as the front. [default: as --front]")
@random_seed_option("Draw points, subsets and intervals with this seed.")
@option(
    "--resample-count",
    "resamples",
    type=click.IntRange(0, 100_000),
    default=200,
    show_default=True,
    heading="Scores",
    help="Draw this many bootstrap resamples for the 95 % intervals; 0 leaves them out.",
)
@option("--device", default="auto", show_default=True, help="Compute features on auto, cpu, cuda, cuda:N or mps.")
@output_options("nothing is written")
@json_option
def score(folders: tuple[Path, ...], reference: Path | None, as_json: bool, **options: Any) -> None:
    """Scores folders against a reference: images, or meshes, point clouds and voxels.

    A folder may hold any files, a prepared dataset, or the output of von generate. By default images get all of their
    scores, shapes --chamfer and --nearest. The protocol line ends with a hash: numbers with the same hash are
    comparable.
    """
    generated, reference = _sides(folders, reference)
    output, overwrite = options.pop("output"), options.pop("overwrite")
    if output is not None:
        check_output(output, overwrite=overwrite)
    with user_errors(), progress_bar(as_json) as progress:
        from vonmodel.evaluation.score_folders import common_kind, score_folders
        from vonmodel.evaluation.score_page import write_scores

        opened = [_open(each, options) for each in (*generated, reference)]
        settings = _settings(options)
        kind = common_kind(opened, options["kind"])
        network = _network(kind, settings, options, progress)
        scores = score_folders(opened[:-1], opened[-1], settings, network, kind=kind, progress=progress)
        page = None if output is None else write_scores(output, scores, opened[:-1], settings)
    if as_json:
        print_json(scores.record() | {"page": page})
        return
    _print_scores(scores)
    if page is not None:
        note("open", err=False)
        click.echo(str(page))


def _sides(folders: Sequence[Path], reference: Path | None) -> tuple[Sequence[Path], Path]:
    """The generated folders and the reference.

    Raises:
        click.UsageError: it is not clear which is which.
    """
    if reference is not None:
        return folders, reference
    if len(folders) != 2:
        raise click.UsageError("give two folders, generated and reference, or name the reference by --reference")
    return folders[:1], folders[1]


def _open(path: Path, options: dict[str, Any]) -> Folder:
    from vonmodel.evaluation.folders import open_folder

    split = None if options["split"] == "all" else options["split"]
    return open_folder(path, class_name=options["class_name"], split=split, patterns=options["patterns"])


def _settings(options: dict[str, Any]) -> FolderSettings:
    from vonmodel.evaluation.folders import ShapeReading
    from vonmodel.evaluation.score_folders import FolderSettings

    shapes = ShapeReading(options["points"], frame="unit" if options["normalize"] else "none", seed=options["seed"])
    up, front = options["up"], options["front"]
    return FolderSettings(
        scores=tuple(name for name in SCORES if options[name]),
        image_size=options["size"],
        maximum=options["max_count"],
        shapes=_placed(shapes, up, front, ""),
        reference_shapes=_placed(
            shapes, options["reference_up"] or up, options["reference_front"] or front, "reference-"
        ),
        emd_shapes=options["emd_count"],
        views=options["views"],
        seed=options["seed"],
        resamples=options["resamples"],
        batch_size=options["batch_size"],
    )


def _placed(shapes: ShapeReading, up: Axis, front: Axis, which: str) -> ShapeReading:
    if up[-1] == front[-1]:
        raise click.UsageError(f"--{which}up {up} and --{which}front {front} lie on the same axis")
    return replace(shapes, up=up, front=front)


def _network(kind: Any, settings: FolderSettings, options: dict[str, Any], progress: Any) -> FeatureNetwork | None:
    """The feature network, where a score needs one."""
    from vonmodel.evaluation.score import open_network
    from vonmodel.evaluation.score_folders import needs_network
    from vonmodel.evaluation.settings import ScoreSettings

    if not needs_network(kind, settings):
        return None
    names = ("network_size", "network_scale", "trust_code", "weights")
    chosen = ScoreSettings(
        devices=(choose_device(options["device"]),),
        **chosen_features(options["features"], options["resize"]),
        **{name: options[name] for name in names},
    )
    if options["download"]:
        download_weights_for(chosen, progress)
    return open_network(chosen)


def _print_scores(scores: FolderScores) -> None:
    from vonmodel.evaluation.score_folders import format_interval

    columns = scores.columns
    print_table(
        f"{scores.kind.capitalize()} against {scores.reference.path}, 95 % intervals",
        ["", *(scores.title_of(name) for name in columns)],
        [[row.title, *(format_interval(row.values.get(name)) for name in columns)] for row in scores.rows],
    )
    for row in scores.rows:
        for text in row.notes:
            note(f"{row.title}: {text}")
        alike = [pair for pair in row.nearest if pair.ratio == 0.0]
        for pair in alike[:MAX_SHOWN]:
            note(f"{row.title}: {pair.generated} is a copy of {pair.reference}")
    for each in scores.refused[:MAX_SHOWN]:
        note(f"Left out: {each.folder}/{each.file}: {each.reason}")
    if len(scores.refused) > MAX_SHOWN:
        note(f"Left out: {len(scores.refused) - MAX_SHOWN} more")
    for line in dict.fromkeys(row.protocol_line for row in scores.rows):
        click.echo(line)
