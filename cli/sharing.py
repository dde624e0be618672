"""`von pull` and `von push`: download and upload run folders (Hugging Face Hub, S3, other URLs, folders)."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

import click
from voncli.command import Command, option
from voncli.model_options import checkpoint_option, chosen_checkpoint
from voncli.options import json_option
from voncli.output import note, print_json, progress_bar, user_errors
from voncli.settings import LOCAL_PATH, folder_option


@click.command(cls=Command)
@click.argument("place")
@folder_option("runs", heading="Output", help="Write the run below this folder, under its own name.")
@option(
    "-o", "--output", type=LOCAL_PATH, heading="Output", help="Write the run into this folder. [default: RUNS/NAME]"
)
@option("--overwrite", is_flag=True, heading="Output", help="Replace a run in that folder.")
@json_option
def pull(place: str, runs: Path, output: Path | None, overwrite: bool, as_json: bool) -> None:
    """Downloads a run that von push uploaded: from hf://USER/NAME, s3://BUCKET/NAME, any other URL, or a folder.

    USER/NAME alone means the Hugging Face Hub. Every file is checked against its hash, and nothing is executed.
    """
    from vonmodel.sharing import pull_run

    place = hub_url(place)
    if "://" not in place and not Path(place).exists():
        raise click.ClickException(
            f"{place}: no such folder; a run elsewhere is named by hf://USER/NAME, s3://BUCKET/NAME or another URL"
        )
    target = output or runs / (re.sub(r"[^\w.-]+", "-", place.rstrip("/").rpartition("/")[2]) or "run")
    with user_errors(), progress_bar(as_json) as progress:
        run = pull_run(
            place, target, overwrite=overwrite, on_file=lambda _, done, total: progress("files", done, total)
        )
    if as_json:
        print_json(asdict(run))
        return
    note(f"A model of class {run.class_name}, checkpoint {run.checkpoint}, {run.bytes / 1e6:,.1f} MB:", err=False)
    click.echo(run.place)


def hub_url(place: str) -> str:
    """The place as a URL or path; USER/NAME that is not a folder means the Hub."""
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", place) and not Path(place).exists():
        return f"hf://{place}"
    return place if "://" in place else str(Path(place).expanduser())


@click.command(cls=Command)
@click.argument("run", type=LOCAL_PATH)
@click.argument("place")
@checkpoint_option
@option("--overwrite", is_flag=True, heading="Output", help="Replace an existing run.")
@json_option
def push(run: Path, place: str, checkpoint: str, overwrite: bool, as_json: bool) -> None:
    """Uploads the RUN folder with one checkpoint to PLACE.

    PLACE is hf://USER/NAME, s3://BUCKET/NAME, any other URL, or a folder; --run of every verb takes it. A model card
    (README.md) has sizes and scores, von-run.json the hash of every file.
    """
    from vonmodel.builtin import builtin_name, unpack_builtin
    from vonmodel.run_folder import RunFolder
    from vonmodel.sharing import push_run

    with user_errors(), progress_bar(as_json) as progress:
        if (name := builtin_name(run)) is not None:
            run = unpack_builtin(name).path
        shared = push_run(
            run,
            hub_url(place),
            checkpoint=chosen_checkpoint(RunFolder(run), checkpoint),
            overwrite=overwrite,
            on_file=lambda _, done, total: progress("files", done, total),
        )
    if as_json:
        print_json(asdict(shared))
        return
    note(f"{shared.checkpoint} of class {shared.class_name}, {shared.bytes / 1e6:,.1f} MB, is at", err=False)
    click.echo(shared.place)
