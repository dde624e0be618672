"""`von merge`: datasets of several runs as one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from voncli.options import LOCAL_PATH, json_option, print_json
from voncli.output import disk_errors, user_errors

if TYPE_CHECKING:
    from vondata.pipeline.merge import MergedPart


@click.command(short_help="Joins prepared datasets into a new one.")
@click.argument("datasets", nargs=-1, type=LOCAL_PATH, required=True)
@click.option("--into", type=LOCAL_PATH, required=True, help="New folder of the joined dataset.")
@click.option("--mixed-settings", is_flag=True, help="Join also what was prepared with different settings, as it is.")
@click.option(
    "--prefer-first", is_flag=True, help="Where an id stands for different things, take the first dataset's."
)
@click.option("--copy", is_flag=True, help="Copy the files. [default: link them where the disk can]")
@json_option
def merge(
    datasets: tuple[Path, ...], into: Path, mixed_settings: bool, prefer_first: bool, copy: bool, as_json: bool
) -> None:
    """Joins two or more DATASETS, as of parts prepared on several machines, into a new one."""
    from voncli.output import ProgressReporter

    from vondata.pipeline.merge import MergeOptions
    from vondata.pipeline.merge import merge as merge_datasets

    options = MergeOptions(mixed_settings, prefer_first, copy)
    with user_errors(), ProgressReporter() as progress, disk_errors(f"--into {into}"):
        parts = merge_datasets(datasets, into, options, progress)
    if as_json:
        print_json({"into": str(into), "parts": [asdict(part) for part in parts]})
    else:
        _print(datasets, into, parts)


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
