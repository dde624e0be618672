"""The `von` command line: its verbs, imported on demand, and their shared settings."""

from __future__ import annotations

import click
from voncli.command import Group
from voncli.settings import load_settings

from vondata.version import __version__

VERBS = {
    "Data": {
        "demo": "Write procedural chairs and cars with photos.",
        "render": "Render meshes: images, masks, depth, normals, cameras.",
        "prepare": "Turn raw meshes and photos into a dataset.",
        "inspect": "Show what a prepared dataset holds.",
        "pack": "Write a prepared dataset as WebDataset shards.",
        "merge": "Join prepared datasets into a new one.",
        "class": "List, check and make object classes.",
        "import-published": "Import weights and data of the 2018 release.",
    },
    "Training and scores": {
        "train": "Train the shape, texture and joint stages.",
        "evaluate": "Score a trained model.",
        "score": "Score any folders of images or shapes.",
        "train-classifier": "Train a classifier of shapes, for scores.",
        "pull": "Download a trained model from a URL or folder.",
        "push": "Upload a trained model to a URL or folder.",
    },
    "Pictures and shapes": {
        "generate": "Generate shapes and images of them.",
        "edit": "Change shape, viewpoint and texture one at a time.",
        "interpolate": "Interpolate between shapes, textures or classes.",
        "transfer": "Transfer the textures of photos to shapes.",
        "reconstruct": "Find shape, viewpoint and texture of photos.",
        "invert": "Find the shape codes of meshes.",
        "export": "Write shapes as meshes or voxels.",
        "serve": "Serve a page to explore a model by hand.",
    },
    "This machine": {
        "list": "List runs, checkpoints and datasets.",
        "config": "Show the settings in force and where they come from.",
        "doctor": "Check the installation, devices and kernels.",
    },
}
"""The help line of each verb, by heading."""


def load_verb(name: str) -> click.Command:  # noqa: PLR0911, PLR0912, PLR0915  # one for each verb
    """Imports one verb only: importing all of them would double the start-up time."""
    match name:
        case "demo":
            from voncli.demo import demo

            return demo
        case "render":
            from voncli.render import render

            return render
        case "prepare":
            from voncli.prepare import prepare

            return prepare
        case "inspect":
            from voncli.inspect import inspect

            return inspect
        case "pack":
            from voncli.pack import pack

            return pack
        case "merge":
            from voncli.pack import merge

            return merge
        case "class":
            from voncli.object_class import object_class

            return object_class
        case "import-published":
            from voncli.import_published import import_published

            return import_published
        case "train":
            from voncli.train import train

            return train
        case "evaluate":
            from voncli.evaluate import evaluate

            return evaluate
        case "score":
            from voncli.score import score

            return score
        case "train-classifier":
            from voncli.evaluate import train_classifier

            return train_classifier
        case "pull":
            from voncli.sharing import pull

            return pull
        case "push":
            from voncli.sharing import push

            return push
        case "generate":
            from voncli.generate import generate

            return generate
        case "edit":
            from voncli.edit import edit

            return edit
        case "interpolate":
            from voncli.edit import interpolate

            return interpolate
        case "transfer":
            from voncli.edit import transfer

            return transfer
        case "reconstruct":
            from voncli.reconstruct import reconstruct

            return reconstruct
        case "invert":
            from voncli.reconstruct import invert

            return invert
        case "export":
            from voncli.export import export

            return export
        case "serve":
            from voncli.serve import serve

            return serve
        case "list":
            from voncli.list import list_all

            return list_all
        case "config":
            from voncli.config import config

            return config
        case "doctor":
            from voncli.doctor import doctor

            return doctor
    raise KeyError(name)


@click.group(
    cls=Group,
    verbs=VERBS,
    load=load_verb,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "VON"},
)
@click.version_option(__version__, "-V", "--version", prog_name="von", help="Print the version and exit.")
@click.pass_context
def main(context: click.Context) -> None:
    """Visual Object Networks: images generated from a 3D shape, a viewpoint and a texture, each under control.

    Folders and defaults come from options, VON_* variables or von.toml in the current folder, in this order.
    """
    context.default_map = load_settings(main)
