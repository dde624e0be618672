"""`von merge`: datasets of several runs as one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from voncli.command import Command, option
from voncli.options import json_option
from voncli.output import disk_errors, print_json, user_errors
from voncli.settings import LOCAL_PATH

if TYPE_CHECKING:
    from vondata.pipeline.merge import MergedPart


@click.command(cls=Command, short_help="Join prepared datasets into a new one.")
@click.argument("datasets", nargs=-1, type=LOCAL_PATH, required=True)
@option("--mixed-settings", is_flag=True, help="Join also what was prepared with different settings, as it is.")
@option("--prefer-first", is_flag=True, help="Where an id stands for different things, take the first dataset's.")
@option("--copy", is_flag=True, help="Copy the files, in place of linking them where the disk can.")
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
    """Joins two or more DATASETS, as of parts prepared on several machines, into a new one."""
    from voncli.output import ProgressReporter

    from vondata.pipeline.merge import MergeOptions
    from vondata.pipeline.merge import merge as merge_datasets

    options = MergeOptions(mixed_settings, prefer_first, copy)
    with user_errors(), ProgressReporter() as progress, disk_errors(output):
        parts = merge_datasets(datasets, output, options, progress)
    if as_json:
        print_json({"into": str(output), "parts": [asdict(part) for part in parts]})
    else:
        _print(datasets, output, parts)


def _print(datasets: tuple[Path, ...], into: Path, parts: list[MergedPart]) -> None:
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
