"""`von serve`: the studio, a local web page to explore a model and to watch a training."""

from __future__ import annotations

from typing import Any

import click
from voncli.command import Command, option
from voncli.model_options import (
    choose_device,
    chosen_run,
    device_option,
    pieces_option,
    run_options,
)
from voncli.options import json_option
from voncli.output import note, print_json, user_errors

STUDIO_PORT = 8765


@click.command(cls=Command)
@option(
    "--open/--no-open",
    "open_browser",
    default=False,
    show_default=True,
    heading="Server",
    help="Open the page in this machine's browser.",
)
@option(
    "--port",
    type=click.IntRange(0, 65535),
    default=STUDIO_PORT,
    show_default=True,
    heading="Server",
    help="Listen on this port; 0 takes a free one.",
)
@option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    heading="Server",
    help="Listen on this address; one that other machines reach needs --allow-host.",
)
@option(
    "--allow-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    heading="Server",
    help="Accept requests for this host name besides this machine's own; repeat for more.",
)
@option(
    "--token/--no-token",
    default=False,
    show_default=True,
    heading="Server",
    help="Require the access token of the printed address; other machines always need it.",
)
@run_options
@device_option
@pieces_option
@json_option
def serve(as_json: bool, open_browser: bool, **options: Any) -> None:
    """Serves a page to explore a model: shape, viewpoint and texture by hand, photos, downloads.

    For a run in training, the page shows samples, losses and scores as they come, and the model from its first
    checkpoint on. Stop it with Ctrl-C.
    """
    import asyncio
    import webbrowser

    from vonmodel.builtin import spoken_run
    from vonmodel.checkpoint import chosen_class
    from vonmodel.inference.sampling import SamplingOptions
    from vonmodel.studio.server import StudioSettings
    from vonmodel.studio.server import serve as serve_studio

    def ready(address: str) -> None:
        if as_json:
            print_json({"address": address, "run": settings.run})
        else:
            note(f"The studio of {spoken_run(settings.run)} is open; Ctrl-C closes it", err=False)
            click.echo(address)
        if open_browser:
            webbrowser.open(address)

    with user_errors():
        chosen = chosen_run(options, builtin_instead=True)
        folder = chosen.folder
        chosen_class(folder.config(), chosen.class_name)
        settings = StudioSettings(
            run=folder.path,
            data=options["data"],
            device=choose_device(options["device"]),
            sampling=SamplingOptions(options["pieces"]),
            class_name=chosen.class_name,
            host=options["host"],
            port=options["port"],
            allowed_hosts=options["allowed_hosts"],
            token=options["token"],
        )
        try:
            asyncio.run(serve_studio(settings, ready))
        except KeyboardInterrupt:
            note("closed")
