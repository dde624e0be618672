"""`von serve`: the studio, a local web page to explore a model and to watch a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from voncli.model_options import choose_device, choose_run, chosen_sampling, sampling_options
from voncli.options import LOCAL_PATH, folder_option, json_option, print_json
from voncli.output import user_errors


@click.command(short_help="Serves a page to explore a model by hand.")
@click.option("--run", type=LOCAL_PATH, help="The run folder. [default: the latest run]")
@click.option("--class", "class_name", help="The run of this class, in place of --run.")
@folder_option("runs", help="Where the runs are.")
@folder_option("data", help="The prepared dataset.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@sampling_options
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0 takes a free one.")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen on. One that other machines reach needs --allow-host.",
)
@click.option(
    "--allow-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="A name that browsers may call the studio by besides this machine's own; repeat for more.",
)
@json_option
def serve(run: Path | None, class_name: str | None, runs: Path, data: Path, as_json: bool, **options: Any) -> None:
    """Serves a page to explore a model: shape, viewpoint and texture by hand, photos, downloads.

    On a run that is still training the page shows samples, losses and scores as they come, and the model from its
    first checkpoint on. Stop it with Ctrl-C.
    """
    import asyncio

    from vonmodel.studio.server import StudioSettings
    from vonmodel.studio.server import serve as serve_studio

    def ready(address: str) -> None:
        if as_json:
            print_json({"address": address, "run": settings.run})
        else:
            click.echo(f"The studio of {settings.run} is open; Ctrl-C closes it")
            click.echo(address)

    with user_errors():
        folder = choose_run(run, class_name, runs)
        folder.config()
        settings = StudioSettings(
            run=folder.path,
            data=data,
            device=choose_device(options["device"]),
            sampling=chosen_sampling(options),
            host=options["host"],
            port=options["port"],
            allowed_hosts=options["allowed_hosts"],
        )
        try:
            asyncio.run(serve_studio(settings, ready))
        except KeyboardInterrupt:
            click.echo("closed", err=True)
