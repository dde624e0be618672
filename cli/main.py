"""The `von` command: its verbs and what all of them share."""

from __future__ import annotations

import click

from .demo import demo
from .edit import edit
from .evaluate import evaluate
from .export import export
from .generate import generate
from .inspect import inspect
from .interpolate import interpolate
from .merge import merge
from .pack import pack
from .prepare import prepare
from .reconstruct import reconstruct
from .serve import serve
from .settings import load_settings
from .train import train
from .train_classifier import train_classifier
from .transfer import transfer


@click.group(context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "VON"})
@click.version_option(package_name="von", prog_name="von")
@click.pass_context
def main(context: click.Context) -> None:
    """Visual Object Networks: raw 3D models and photos in; trained shape, viewpoint and texture out.

    Folders and defaults come from options, VON_* variables or von.toml in the current folder, in this order.
    """
    context.default_map = load_settings(main)


main.add_command(demo)
main.add_command(edit)
main.add_command(evaluate)
main.add_command(export)
main.add_command(generate)
main.add_command(inspect)
main.add_command(interpolate)
main.add_command(merge)
main.add_command(pack)
main.add_command(prepare)
main.add_command(reconstruct)
main.add_command(serve)
main.add_command(train)
main.add_command(transfer)
main.add_command(train_classifier)
