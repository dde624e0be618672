"""Precedence of option values: option, variable, von.toml, default."""

import os
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from voncli.main import main as von
from voncli.options import json_option
from voncli.output import print_json
from voncli.settings import folder_option, load_settings

Run = Callable[..., Result]


def build() -> click.Group:
    """A command like von: verbs, a group of verbs, folders."""

    @click.group(context_settings={"auto_envvar_prefix": "VON"})
    @click.pass_context
    def main(context: click.Context) -> None:
        context.default_map = load_settings(main)

    @main.command()
    @folder_option("data", help="Data.")
    @folder_option("shapenet", "--root", "--shapenet", help="Root.")
    @click.option("--class", "class_name", default="chair")
    @click.option("--item-timeout", default=1.0)
    @json_option
    def train(data: Path, shapenet: Path | None, class_name: str, item_timeout: float, as_json: bool) -> None:
        values = {"data": data, "root": shapenet, "class": class_name, "timeout": item_timeout}
        print_json(values) if as_json else click.echo(" ".join(f"{key}={value}" for key, value in values.items()))

    @main.group()
    def prepare() -> None: ...

    @prepare.command()
    @click.option("--workers", default=1)
    @click.option("--size", default=10)
    def images(workers: int, size: int) -> None:
        click.echo(f"workers={workers} size={size}")

    @prepare.command()
    @click.option("--workers", default=1)
    def shapes(workers: int) -> None:
        click.echo(f"workers={workers}")

    return main


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str, toml: str = "", **variables: str) -> Result:
        if toml:
            Path("von.toml").write_text(toml, "utf-8")
        return CliRunner().invoke(build(), arguments, env=variables)

    return invoke


def test_defaults(run: Run) -> None:
    assert run("train").stdout == "data=data root=None class=chair timeout=1.0\n"


def test_option_before_variable_before_file_before_default(run: Run) -> None:
    toml = '[paths]\ndata = "file"\n[train]\nclass = "car"\n'
    assert "data=file" in run("train", toml=toml).stdout
    assert "data=variable" in run("train", toml=toml, VON_DATA="variable").stdout
    assert "data=option" in run("train", "--data", "option", toml=toml, VON_DATA="variable").stdout
    assert "class=car" in run("train", toml=toml).stdout
    assert "class=sofa" in run("train", toml=toml, VON_TRAIN_CLASS_NAME="sofa").stdout
    assert "class=bed" in run("train", "--class", "bed", toml=toml, VON_TRAIN_CLASS_NAME="sofa").stdout


@pytest.mark.parametrize("flag", ["--root", "--shapenet"])
def test_a_folder_may_have_two_spellings(run: Run, flag: str) -> None:
    assert "root=x" in run("train", flag, "x").stdout
    assert "root=y" in run("train", toml='[paths]\nshapenet = "y"').stdout


@pytest.mark.parametrize("key", ["item-timeout", "item_timeout"])
def test_options_are_named_as_on_the_command_line(run: Run, key: str) -> None:
    assert "timeout=5.0" in run("train", toml=f"[train]\n{key} = 5").stdout


def test_options_of_a_group_hold_for_the_verbs_that_have_them(run: Run) -> None:
    toml = "[prepare]\nworkers = 3\nsize = 7\n[prepare.images]\nworkers = 4\n"
    assert run("prepare", "shapes", toml=toml).stdout == "workers=3\n"
    assert run("prepare", "images", toml=toml).stdout == "workers=4 size=7\n"


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[paths]\ndate = 'x'", "von.toml [paths]: unknown name 'date'; did you mean 'data'?"),
        ("[trian]\n", "unknown name 'trian'; did you mean 'train'?"),
        ("[train]\ntimeout_item = 3", "von.toml [train]: unknown name 'timeout_item'"),
        ("[prepare]\nworker = 3", "von.toml [prepare]: unknown name 'worker'; did you mean 'workers'?"),
        ("[prepare.images]\nsise = 3", "von.toml [prepare] [images]: unknown name 'sise'; did you mean 'size'?"),
        ("train = 3", "von.toml: train must be a table"),
        ("paths = 3", "von.toml: paths must be a table"),
        ("[train", "von.toml is not valid TOML"),
    ],
)
def test_mistakes_in_the_file_are_wrong_usage(run: Run, toml: str, message: str) -> None:
    result = run("train", toml=toml)
    assert result.exit_code == 2
    assert message in result.stderr


def test_json_is_all_there_is_on_standard_output(run: Run) -> None:
    assert run("train", "--json").stdout.startswith('{\n  "data": "data"')


@pytest.mark.parametrize(
    "arguments",
    [
        "train --output s3://bucket/runs/chair",
        "evaluate --classifier s3://bucket/classifier.safetensors",
        "train-classifier --output s3://bucket/classifier.safetensors",
        "generate --output s3://bucket/pictures",
        "edit --shape s3://bucket/reconstructed",
        "interpolate --runs s3://bucket/runs",
        "transfer --photo https://example.org/photo.jpg",
        "reconstruct https://example.org/photo.jpg",
        "export --output s3://bucket/meshes",
        "demo s3://bucket/demo",
        "merge s3://bucket/a s3://bucket/b --output c",
    ],
)
def test_a_url_is_refused_where_a_path_is_needed(arguments: str) -> None:
    result = CliRunner().invoke(von, arguments.split())
    assert result.exit_code == 2
    url = next(word for word in arguments.split() if "://" in word)
    assert f"{url} is a URL; a local path is needed here" in " ".join(result.output.split())


@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "nothing"])
def test_what_is_no_file_is_named(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "von.toml"
    match kind:
        case "pipe":
            os.mkfifo(file)
        case "folder":
            file.mkdir()
        case "loop":
            file.symlink_to(file)
        case "nothing":
            file.symlink_to(tmp_path / "gone")
    with pytest.raises(click.UsageError, match="not a regular file"):
        load_settings(build(), file)
