"""How `von prepare` tells what became of a run: as a table, as JSON, and as exit code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from voncli.running import Running

    from vondata.io.fs import RemoteFolder
    from vondata.pipeline.ledger import PreparationResult
    from vondata.types import Kind

DONE_WITH_REJECTS = 3
LOG_FILE = "prepare.log"


def log_file(data: Path | RemoteFolder) -> Path:
    """Where warnings go, and tracebacks of bugs."""
    from vondata.io.mirror import cache_folder

    return (data / "journal" if isinstance(data, Path) else cache_folder()) / LOG_FILE


def _manifest(data: Path | RemoteFolder, class_name: str, kind: Kind) -> str:
    from vondata.dataset.manifest import manifest_path

    return str(
        manifest_path(data, class_name, kind) if isinstance(data, Path) else data / class_name / f"{kind}.parquet"
    )


def result_as_json(result: PreparationResult, data: Path | RemoteFolder, page: Path | None) -> dict[str, Any]:
    """The result for machines."""
    return {
        "kind": result.kind,
        "data": str(data),
        "seconds": round(result.seconds, 3),
        "report": None if page is None else str(page),
        "classes": {
            name: {
                "found": count.found,
                "worked": count.worked,
                "prepared": count.prepared,
                "rejected": count.rejected,
                "reasons": dict(count.reasons.most_common()),
                "vanished": count.vanished,
                "other_settings": count.other_settings,
                "manifest": _manifest(data, name, result.kind),
            }
            for name, count in result.classes.items()
        },
    }


def print_preparation(result: PreparationResult, data: Path | RemoteFolder, page: Path | None) -> None:
    """The result for people."""
    from voncli.console import print_table

    rows = [
        [name, *(f"{number:,}" for number in (count.found, count.worked, count.prepared, count.rejected))]
        for name, count in sorted(result.classes.items())
    ]
    print_table(
        f"{result.kind.capitalize()} in {data}", ["class", "found", "worked on", "prepared", "rejected"], rows
    )
    reasons = [
        [name, reason, f"{number:,}"]
        for name, count in sorted(result.classes.items())
        for reason, number in count.reasons.most_common()
    ]
    if reasons:
        click.echo()
        print_table("Rejected", ["class", "reason", "items"], reasons)
        click.echo(f"von prepare --explain {reasons[0][1]} says what a reason means.")
    click.echo()
    for name, count in sorted(result.classes.items()):
        click.echo(_manifest(data, name, result.kind))
        if count.vanished:
            click.echo(f"  {count.vanished:,} rows left it: their items are not in the collection any more.")
        if count.other_settings:
            click.echo(
                f"  {count.other_settings:,} of its items were prepared with other settings, outside of this run."
            )
    if page is not None:
        click.echo(f"{page}  is the page to look at.")
    elif not isinstance(data, Path):
        click.echo(f"von inspect {data}  copies it here and writes the page to look at.")
    click.echo(f"Done in {_duration(result.seconds)}.")


def end(result: PreparationResult, running: Running, log: Path) -> None:
    """Says what went wrong, and ends the program with the exit code that the result calls for."""
    counts: Sequence[Any] = list(result.classes.values())
    for name in dict.fromkeys(running.class_names):
        if name not in result.classes:
            click.echo(f"Nothing was found of class {name}.", err=True)
    bugs = sum(count.reasons["internal_error"] for count in counts)
    if bugs:
        click.echo(f"VON failed on {bugs} items, which is a bug; {log} has the tracebacks.", err=True)
        raise click.exceptions.Exit(1)
    found, rejected = sum(count.found for count in counts), sum(count.rejected for count in counts)
    if running.max_rejected is not None and running.max_rejected.is_exceeded(rejected, found):
        click.echo(f"{rejected} of {found} items were rejected, more than --max-rejected allows.", err=True)
        raise click.exceptions.Exit(DONE_WITH_REJECTS)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
