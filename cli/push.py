"""`von push`: a trained model to a folder, a bucket or the Hugging Face Hub."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click
from voncli.command import Command, option
from voncli.model_options import checkpoint_option, chosen_checkpoint
from voncli.options import json_option
from voncli.output import note, print_json, progress_bar, user_errors
from voncli.pull import hub_url
from voncli.settings import LOCAL_PATH


@click.command(cls=Command, short_help="Send a trained model to a URL or folder.")
@click.argument("run", type=LOCAL_PATH)
@click.argument("place")
@checkpoint_option
@option("--overwrite", is_flag=True, heading="Output", help="Replace a run that is there.")
@json_option
def push(run: Path, place: str, checkpoint: str, overwrite: bool, as_json: bool) -> None:
    """Sends the RUN folder with one checkpoint to PLACE.

    PLACE is hf://USER/NAME, s3://BUCKET/NAME, any other URL, or a folder; --run of every verb takes it. A model card
    (README.md) has sizes and scores, von-run.json the hash of every file.
    """
    from vonmodel.run_folder import RunFolder
    from vonmodel.sharing import push_run

    with user_errors(), progress_bar(as_json) as progress:
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
