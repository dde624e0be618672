"""`von pack` and `von merge`: a prepared dataset as WebDataset shards; several datasets joined into one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from voncli.command import Command, option
from voncli.options import json_option
from voncli.output import disk_errors, print_json, user_errors
from voncli.settings import LOCAL_PATH, FolderType, folder_option

if TYPE_CHECKING:
    from vondata.dataset.shards import ShardedPart
    from vondata.io.fs import DataFolder
    from vondata.pipeline.merge import MergedPart
    from vondata.types import Kind


@click.command(cls=Command)
@folder_option("data", help="Pack this prepared dataset, a folder or URL.")
@option(
    "--class", "class_names", multiple=True, metavar="NAME", help="Pack this class; repeat for more. [default: all]"
)
@option("--shard-size", default="500MB", show_default=True, metavar="SIZE", help="Make shards about this large.")
@option(
    "-o",
    "--output",
    type=FolderType("used"),
    required=True,
    old=("--into",),
    heading="Output",
    help="Write the shards into this new folder, or to this URL.",
)
@json_option
def pack(data: Path, output: DataFolder, class_names: tuple[str, ...], shard_size: str, as_json: bool) -> None:
    """Writes the prepared shapes and photos into WebDataset shards, which training reads like the dataset."""
    from voncli.output import ProgressReporter

    from vondata.dataset.shards import write_shards

    parts = _parts(data, class_names)
    with user_errors(), ProgressReporter() as progress, disk_errors(output):
        packed = write_shards(data, output, parts, shard_bytes=_bytes(shard_size), on_event=progress)
    if as_json:
        print_json({"data": str(data), "into": str(output), "parts": [_as_json(part) for part in packed]})
    else:
        _print_packed(packed, output)


def _parts(data: Path, class_names: tuple[str, ...]) -> list[tuple[str, Kind]]:
    from vondata.dataset.manifest import DATASET_KINDS, dataset_classes, manifest_path

    known = dataset_classes(data)
    if not known:
        raise click.UsageError(f"--data: {data} holds no prepared dataset; name the folder that von prepare wrote")
    for name in class_names:
        if name not in known:
            raise click.UsageError(f"--class: {data} has no class {name!r}; it has {', '.join(known)}")
    chosen = list(dict.fromkeys(class_names)) or known
    return [(name, kind) for name in chosen for kind in DATASET_KINDS if manifest_path(data, name, kind).is_file()]


def _bytes(size: str) -> int:
    from dask.utils import parse_bytes

    try:
        found = int(parse_bytes(size))
    except ValueError as error:
        raise click.UsageError(f"--shard-size: {error}; write it as 500MB") from error
    if found < 1:
        raise click.UsageError(f"--shard-size: {size} is too small; write it as 500MB")
    return found


def _as_json(part: ShardedPart) -> dict[str, Any]:
    return {
        "class": part.class_name,
        "kind": part.kind,
        "files": part.files,
        "bytes": part.bytes,
        "shards": part.shards,
    }


def _print_packed(packed: list[ShardedPart], into: DataFolder) -> None:
    from voncli.output import print_table

    rows = [
        [part.class_name, part.kind, f"{part.files:,}", f"{len(part.shards):,}", f"{part.bytes / 1e6:,.1f}"]
        for part in packed
    ]
    print_table(f"Shards in {into}", ["class", "kind", "files", "shards", "MB"], rows)
    click.echo(f"\nvon train --data {into}  trains on them.")


@click.command(cls=Command)
@click.argument("datasets", nargs=-1, type=LOCAL_PATH, required=True)
@option("--mixed-settings", is_flag=True, help="Also join items that were prepared with different settings.")
@option("--prefer-first", is_flag=True, help="If an id stands for different items, keep the first dataset's.")
@option("--copy", is_flag=True, help="Copy the files instead of linking them.")
@option(
    "-o",
    "--output",
    type=LOCAL_PATH,
    required=True,
    old=("--into",),
    heading="Output",
    help="Write the joined dataset into this new folder.",
)
@json_option
def merge(
    datasets: tuple[Path, ...], output: Path, mixed_settings: bool, prefer_first: bool, copy: bool, as_json: bool
) -> None:
    """Joins two or more DATASETS, such as parts prepared on several machines, into a new one."""
    from voncli.output import ProgressReporter

    from vondata.pipeline.merge import MergeOptions
    from vondata.pipeline.merge import merge as merge_datasets

    options = MergeOptions(mixed_settings, prefer_first, copy)
    with user_errors(), ProgressReporter() as progress, disk_errors(output):
        parts = merge_datasets(datasets, output, options, progress)
    if as_json:
        print_json({"into": str(output), "parts": [asdict(part) for part in parts]})
    else:
        _print_merged(datasets, output, parts)


def _print_merged(datasets: tuple[Path, ...], into: Path, parts: list[MergedPart]) -> None:
    from voncli.output import print_table

    rows = [
        [
            part.class_name,
            part.kind,
            *(f"{number:,}" for number in (part.prepared, part.rejected, *part.taken, part.same, part.settled)),
        ]
        for part in parts
    ]
    columns = ["class", "kind", "prepared", "rejected", *(f"from {data}" for data in datasets), "the same", "settled"]
    print_table(f"Dataset {into}", columns, rows)
