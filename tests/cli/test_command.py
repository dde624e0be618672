"""Common behaviour of all verbs: help, headings, renamed options, option groups, repeated options, -q, -V."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from voncli.command import Command, Group, Option, option
from voncli.main import main
from voncli.options import chosen_output, label_of
from voncli.output import print_json
from voncli.settings import load_settings

from tests.harness import von
from vondata import __version__


def verbs(group: click.Group = main, path: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from verbs(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


VERBS = dict(verbs())


@pytest.mark.parametrize("name", VERBS)
def test_every_option_is_a_sentence_under_a_heading(name: str) -> None:
    command = VERBS[name]
    assert isinstance(command, Command)
    for each in command.params:
        if isinstance(each, click.Option):
            assert isinstance(each, Option)
            text = re.sub(r"\s*\[default: .*\]$", "", each.help or "")
            assert re.fullmatch(r"[A-Z].*\w.*[.]", text), (each.name, text)
            assert len(text.split()) >= 3, (each.name, text)


@pytest.mark.parametrize("name", VERBS)
def test_the_same_name_means_the_same_everywhere(name: str) -> None:
    options = {flag: each for each in VERBS[name].params if isinstance(each, Option) for flag in each.opts}
    for flag, each in options.items():
        if flag == "--output":
            assert "-o" in each.opts
        if flag == "--seed":
            assert isinstance(each.type, click.IntRange), "the random seed is a number; shapes are named by --shape"
            assert not each.multiple
        if flag.endswith("-count") or flag == "--count":
            assert isinstance(each.type, click.IntRange)
        assert flag not in {"--into", "--from", "--texture-seed", "--samples", "--frames", "--pictures"}
    assert {"-q", "-v", "--quiet", "--verbose", "--json"} <= options.keys()


def test_every_verb_stands_under_one_heading() -> None:
    listed = [name for names in main.headings.values() for name in names]
    assert sorted(listed) == sorted(main.commands)
    text = von("--help").stdout
    assert [heading for heading in main.headings if f"\n{heading}:\n" in text] == list(main.headings)


def test_help_shows_headings_in_order_and_output_last() -> None:
    text = von("generate", "--help").stdout
    places = [text.index(f"\n{heading}:\n") for heading in ("Options", "Viewpoint", "Model", "Output")]
    assert places == sorted(places)
    assert "INTEGER RANGE" not in text


def test_the_version_has_a_short_option() -> None:
    assert von("-V").stdout == von("--version").stdout == f"von, version {__version__}\n"


def build() -> Group:
    @click.group(cls=Group, context_settings={"auto_envvar_prefix": "VON"})
    @click.pass_context
    def group(context: click.Context) -> None:
        context.default_map = load_settings(group)

    @group.command()
    @option("--count", type=click.IntRange(1), default=3, old=("--pictures", "--number"), help="Make so many.")
    @option("--photos", group="photos", help="Read these.")
    @option("--pix3d", group="photos", help="Read Pix3D.")
    @option("--fid", is_flag=True, group="scores", help="Measure it.")
    @option("--kid", is_flag=True, group="scores", help="Measure that.")
    @option("--class", "classes", multiple=True, help="Take this one.")
    def make(**options: Any) -> None:
        print_json(options)

    return group


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str, toml: str = "", **variables: str) -> Any:
        Path("von.toml").write_text(toml, "utf-8")
        return CliRunner().invoke(build(), ["make", *arguments], env=variables)

    return invoke


@pytest.mark.parametrize("arguments", [("--pictures", "5"), ("--number=5",)])
def test_old_spellings_warn_and_work(run: Any, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert '"count": 5' in result.stdout
    old = arguments[0].split("=")[0]
    assert result.stderr == f"Warning: {old} is now called --count; the old name will be removed.\n"
    assert "--pictures" not in run("--help").stdout


def test_old_spellings_work_in_the_file_too(run: Any) -> None:
    assert '"count": 7' in run(toml="[make]\npictures = 7\n").stdout


@pytest.mark.parametrize(
    "arguments", [("--count", "1", "--count", "2"), ("--count", "1", "--pictures", "1"), ("--fid", "--fid")]
)
def test_an_option_given_twice_is_an_error(run: Any, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "is given 2 times; give it once" in result.stderr
    assert run("--class", "a", "--class", "b").exit_code == 0


def test_a_group_on_the_command_line_voids_the_file_and_the_variables(run: Any) -> None:
    toml = '[make]\npix3d = "p"\nkid = true\ncount = 9\n'
    assert '"pix3d": "p"' in run(toml=toml).stdout
    typed = run("--photos", "here", "--fid", toml=toml, VON_MAKE_PIX3D="v").stdout
    for part in ('"photos": "here"', '"pix3d": null', '"fid": true', '"kid": false', '"count": 9'):
        assert part in typed
    variable = run(toml=toml, VON_MAKE_PHOTOS="v").stdout
    assert '"photos": "v"' in variable
    assert '"pix3d": null' in variable
    both = run("--photos", "a", "--pix3d", "b", toml=toml).stdout
    assert ('"photos": "a"' in both, '"pix3d": "b"' in both) == (True, True)


OLD = {
    "demo": ["--chairs", "--cars", "--photos-per-object"],
    "generate": ["--shapes", "--views", "--textures"],
    "edit": ["--seed", "--from", "--texture-seed", "--alternatives", "--frames"],
    "interpolate": ["--seed", "--from", "--texture-seed", "--pictures", "--frames"],
    "transfer": ["--texture-from", "--seed", "--from", "--views", "--frames"],
    "reconstruct": ["--shapes", "--starts", "--views", "--textures", "--frames"],
    "export": ["--seed", "--from", "--texture-seed"],
    "evaluate": ["--samples", "--max-images", "--shape-samples", "--points"],
    "pack": ["--into"],
    "merge": ["--into"],
    "train": ["--run"],
    "prepare images": ["--data"],
}


@pytest.mark.parametrize("name", OLD)
def test_every_spelling_of_version_0_1_is_known(name: str) -> None:
    known = {flag for each in VERBS[name].params if isinstance(each, Option) for flag in (*each.opts, *each.old)}
    assert set(OLD[name]) <= known


def test_results_overwrite_nothing_unasked(tmp_path: Path) -> None:
    default = tmp_path / "generated" / "joint-1-seed0"
    unasked = {"output": None, "overwrite": False}
    assert chosen_output(unasked, default) == default
    default.mkdir(parents=True)
    assert chosen_output(unasked, default) == default  # an empty folder holds nothing
    (default / "index.html").touch()
    second = chosen_output(unasked, default)
    assert second.name == "joint-1-seed0-2"
    second.mkdir()
    (second / "index.html").touch()
    assert chosen_output(unasked, default).name == "joint-1-seed0-3"
    assert chosen_output({"output": None, "overwrite": True}, default) == default
    with pytest.raises(click.UsageError, match="is not empty"):
        chosen_output({"output": default, "overwrite": False}, default)
    assert chosen_output({"output": default, "overwrite": True}, second) == default


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (["7"], "seed7"),
        (["7:3", "1a2b"], "seed7-3+1a2b"),
        (["a/photo of a chair.jpg"], "photo-of-a-chair"),
        (["1", "2", "3", "4"], "seed1+3more"),
        (["..."], "unnamed"),
    ],
)
def test_folders_say_what_they_are_of(names: list[str], label: str) -> None:
    assert label_of(names) == label
