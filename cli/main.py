"""The `von` command: its verbs and what all of them share."""

from __future__ import annotations

import click
from voncli.command import Group
from voncli.config import config
from voncli.demo import demo
from voncli.doctor import doctor
from voncli.edit import edit, interpolate, transfer
from voncli.evaluate import evaluate
from voncli.export import export
from voncli.generate import generate
from voncli.inspect import inspect
from voncli.list import list_all
from voncli.object_class import object_class
from voncli.pack import merge, pack
from voncli.prepare import prepare
from voncli.reconstruct import reconstruct
from voncli.render import render
from voncli.serve import serve
from voncli.settings import load_settings
from voncli.sharing import pull, push
from voncli.train import train
from voncli.train_classifier import train_classifier

from vondata import __version__

HEADINGS = {
    "Data": ("demo", "render", "prepare", "inspect", "pack", "merge", "class"),
    "Training and scores": ("train", "evaluate", "train-classifier", "pull", "push"),
    "Pictures and shapes": ("generate", "edit", "interpolate", "transfer", "reconstruct", "export", "serve"),
    "This machine": ("list", "config", "doctor"),
}
VERBS = (
    config,
    demo,
    doctor,
    edit,
    evaluate,
    export,
    generate,
    inspect,
    interpolate,
    list_all,
    merge,
    object_class,
    pack,
    prepare,
    pull,
    push,
    reconstruct,
    render,
    serve,
    train,
    train_classifier,
    transfer,
)


@click.group(
    cls=Group,
    headings=HEADINGS,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "VON"},
)
@click.version_option(__version__, "-V", "--version", prog_name="von", help="Print the version and leave.")
@click.pass_context
def main(context: click.Context) -> None:
    """Visual Object Networks: raw 3D models and photos in; trained shape, viewpoint and texture out.

    Folders and defaults come from options, VON_* variables or von.toml in the current folder, in this order.
    """
    context.default_map = load_settings(main)


for verb in VERBS:
    main.add_command(verb)
