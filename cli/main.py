"""The `von` command: its verbs and what all of them share."""

from __future__ import annotations

import click
from voncli.demo import demo
from voncli.edit import edit
from voncli.evaluate import evaluate
from voncli.export import export
from voncli.generate import generate
from voncli.inspect import inspect
from voncli.interpolate import interpolate
from voncli.merge import merge
from voncli.options import load_settings
from voncli.pack import pack
from voncli.prepare import prepare
from voncli.reconstruct import reconstruct
from voncli.render import render
from voncli.serve import serve
from voncli.train import train
from voncli.train_classifier import train_classifier
from voncli.transfer import transfer

from vondata import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "VON"})
@click.version_option(__version__, "-V", "--version", prog_name="von")
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
main.add_command(render)
main.add_command(serve)
main.add_command(train)
main.add_command(transfer)
main.add_command(train_classifier)
