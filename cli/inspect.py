"""`von inspect`: what a prepared dataset holds, in numbers and as a page."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from voncli.command import Command, option
from voncli.options import json_option
from voncli.output import disk_errors, print_json, user_errors
from voncli.settings import FolderType, check_folder, folder_option

if TYPE_CHECKING:
    from vondata.types import Event, Kind


@click.command(cls=Command)
@click.argument("folder", type=FolderType("copied"), required=False)
@folder_option("data", help="Show this dataset if FOLDER is not given.")
@option("--workers", type=click.IntRange(min=0), help="Draw pictures in this many processes. [default: one per core]")
@option("--page/--no-page", default=True, show_default=True, heading="Output", help="Write the HTML page.")
@option("--verify", is_flag=True, help="Compare every file with its checksum; damage ends with exit code 1.")
@json_option
def inspect(folder: Path | None, data: Path, workers: int | None, page: bool, verify: bool, as_json: bool) -> None:
    """Shows what the prepared dataset in FOLDER holds and writes an HTML page, report/index.html."""
    from vondata.dataset.manifest import dataset_classes

    named, folder = "--data" if folder is None else "FOLDER", folder or data
    check_folder(folder, named)
    if not dataset_classes(folder):
        raise click.UsageError(
            f"{folder} holds no prepared dataset (no <class>/shapes.parquet or <class>/images.parquet): "
            "name the folder that von prepare wrote"
        )
    if verify:
        _verify(folder, as_json)
        return
    with user_errors():
        parts = [_describe(folder, name, kind) for name in dataset_classes(folder) for kind in _kinds(folder, name)]
    try:
        path = _write_page(folder, workers) if page else None
    except click.ClickException as error:
        raise click.ClickException(f"{error.message} (--no-page prints the counts without a page)") from error
    if as_json:
        print_json({"data": str(folder), "report": None if path is None else str(path), "parts": parts})
    else:
        _print(folder, parts, path)


def _verify(data: Path, as_json: bool) -> None:
    """Prints the damaged files, and exits with code 1 if there are any."""
    from voncli.output import ProgressReporter

    from vondata.pipeline.verify import verify_dataset

    files = 0

    def count(event: Event) -> None:
        nonlocal files
        files = event.done
        progress(event)

    with user_errors(), ProgressReporter() as progress:
        damages = list(verify_dataset(data, count))
    if as_json:
        print_json({"data": str(data), "files": files, "damaged": [asdict(damage) for damage in damages]})
    for each in () if as_json else damages:
        click.echo(f"{each.file}: {each.what}; {each.remedy}")
    if not as_json and not damages:
        click.echo(f"{data}: {files:,} prepared files, their manifests and journals are intact.")
    if damages:
        raise click.exceptions.Exit(1)


def _kinds(data: Path, class_name: str) -> list[Kind]:
    from vondata.dataset.manifest import DATASET_KINDS, manifest_path

    return [kind for kind in DATASET_KINDS if manifest_path(data, class_name, kind).is_file()]


def _describe(data: Path, class_name: str, kind: Kind) -> dict[str, Any]:
    from vondata.dataset.manifest import SPLIT_SHARES, prepared, read_manifest
    from vondata.dataset.metadata import read_dataset

    frame = read_manifest(data, class_name, kind)
    good = prepared(frame)
    record = read_dataset(data).get(class_name, {}).get(kind)
    return {
        "class": class_name,
        "kind": kind,
        "found": len(frame),
        "prepared": len(good),
        "rejected": len(frame) - len(good),
        "median_seconds": None if good["seconds"].isna().all() else round(float(good["seconds"].median()), 4),
        "reasons": {str(reason): int(count) for reason, count in frame["reason"].value_counts().items()},
        "splits": {split: int((good["split"] == split).sum()) for split in SPLIT_SHARES},
        "settings": None if record is None else record.settings,
    }


def _write_page(data: Path, workers: int | None) -> Path:
    from dask.system import CPU_COUNT
    from voncli.output import ProgressReporter

    from vondata.report.page import write_report

    with ProgressReporter() as progress, disk_errors(data / "report"):
        return write_report(data, workers=CPU_COUNT if workers is None else workers, on_event=progress)


def _print(data: Path, parts: list[dict[str, Any]], page: Path | None) -> None:
    from voncli.output import print_table

    rows = [
        [
            part["class"],
            part["kind"],
            f"{part['found']:,}",
            f"{part['prepared']:,}",
            f"{part['rejected']:,}",
            "" if part["median_seconds"] is None else f"{part['median_seconds']:.2f}",
            " ".join(f"{name} {count:,}" for name, count in part["splits"].items()),
            ", ".join(f"{reason} {count:,}" for reason, count in part["reasons"].items()),
        ]
        for part in parts
    ]
    columns = ["class", "kind", "found", "prepared", "rejected", "s an item", "splits", "reasons"]
    print_table(f"Dataset {data}", columns, rows)
    if page is not None:
        click.echo(f"\n{page}  is the page to open.")
