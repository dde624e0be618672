"""`von pack`: a dataset as WebDataset shards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from voncli.command import Command, option
from voncli.options import json_option
from voncli.output import disk_errors, print_json, user_errors
from voncli.settings import FolderType, folder_option

if TYPE_CHECKING:
    from vondata.dataset.shards import ShardedPart
    from vondata.io.fs import RemoteFolder
    from vondata.types import Kind


@click.command(cls=Command, short_help="Write a prepared dataset as a few large files.")
@folder_option("data", help="Pack this prepared dataset, a folder or URL.")
@option("--class", "class_names", multiple=True, metavar="NAME", help="Pack this class too. [default: all]")
@option("--shard-size", default="500MB", show_default=True, metavar="SIZE", help="Make shards about this large.")
@option(
    "-o",
    "--output",
    type=FolderType("used"),
    required=True,
    old=("--into",),
    heading="Output",
    help="Write the shards into this new folder, or behind this URL.",
)
@json_option
def pack(
    data: Path, output: Path | RemoteFolder, class_names: tuple[str, ...], shard_size: str, as_json: bool
) -> None:
    """Writes the prepared shapes and photos into a few large files, which training reads as it does the dataset."""
    from voncli.output import ProgressReporter

    from vondata.dataset.shards import write_shards

    parts = _parts(data, class_names)
    with user_errors(), ProgressReporter() as progress, disk_errors(output):
        packed = write_shards(data, output, parts, shard_bytes=_bytes(shard_size), on_event=progress)
    if as_json:
        print_json({"data": str(data), "into": str(output), "parts": [_as_json(part) for part in packed]})
    else:
        _print(packed, output)


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


def _print(packed: list[ShardedPart], into: Path | RemoteFolder) -> None:
    from voncli.output import print_table

    rows = [
        [part.class_name, part.kind, f"{part.files:,}", f"{len(part.shards):,}", f"{part.bytes / 1e6:,.1f}"]
        for part in packed
    ]
    print_table(f"Shards in {into}", ["class", "kind", "files", "shards", "MB"], rows)
    click.echo(f"\nvon train --data {into}  trains on them.")
