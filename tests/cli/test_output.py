"""Messages and exit codes of library errors on the command line."""

import errno
import os
import re
from pathlib import Path

import click
import pytest
from voncli.main import main
from voncli.output import (
    ADVICE,
    EXIT_INTERRUPTED,
    StopRequest,
    cli_error,
    counted,
    describe_os_error,
    disk_errors,
    user_errors,
)

from tests.vondata.test_errors import error_classes
from vondata.classes import UnknownClassError
from vondata.dataset.manifest import ManifestMissingError
from vondata.dataset.shape_file import ShapeFileError
from vondata.errors import VonError


def commands(group: click.Group) -> list[click.Command]:
    nested = [commands(each) if isinstance(each, click.Group) else [each] for each in group.commands.values()]
    return [group, *(command for each in nested for command in each)]


def test_advice_is_of_errors_that_there_are() -> None:
    names = {kind.__name__ for kind in error_classes() if issubclass(kind, VonError)}
    assert set(ADVICE) <= names


def test_advice_names_options_and_verbs_that_there_are() -> None:
    options = {flag for each in commands(main) for option in each.params for flag in option.opts}
    for advice in ADVICE.values():
        assert set(re.findall(r"--[a-z-]+", advice)) <= options, advice
        assert set(re.findall(r"\bvon ([a-z-]+)", advice)) <= set(main.commands), advice


def test_the_message_stays_and_the_options_follow(tmp_path) -> None:
    error = ManifestMissingError(tmp_path, "car", "shapes")
    said = cli_error(error)
    assert said.message == f"{error} (von prepare shapenet or meshes --class car)"
    assert said.exit_code == 1
    photos = cli_error(ManifestMissingError(tmp_path, "car", "images"))
    assert photos.message.endswith("(von prepare images --class car)")


def test_a_subclass_has_the_words_of_its_base() -> None:
    class Half(ShapeFileError):
        pass

    assert cli_error(Half("a.npz", "cut")).message.endswith("(von prepare with --force)")


@pytest.mark.parametrize(("code", "kind"), [(1, click.ClickException), (2, click.UsageError)])
def test_the_exit_code_is_the_errors_own(code: int, kind: type) -> None:
    class Own(VonError):
        exit_code = code

    said = cli_error(Own("what", hint="help"))
    assert (type(said), said.message, said.exit_code) == (kind, "what; help", code)


def test_an_unknown_class_is_wrong_usage() -> None:
    said = cli_error(UnknownClassError("no class 'chiar'"))
    assert isinstance(said, click.UsageError)
    assert said.message.startswith("--class: ")


def test_ctrl_c_ends_with_the_code_of_what_was_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(click.exceptions.Exit) as ended, user_errors():
        raise KeyboardInterrupt
    assert ended.value.exit_code == EXIT_INTERRUPTED == 130
    assert "Stopped." in capsys.readouterr().err


def test_a_closed_pipe_is_a_request_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    stop = StopRequest()
    monkeypatch.setattr("voncli.output.click.echo", broken)
    monkeypatch.setattr("voncli.output.discard_output", lambda: None)
    stop.print("a line")
    assert stop.requested
    with pytest.raises(KeyboardInterrupt):
        stop.receive(15, None)


def test_counts_have_the_right_plural() -> None:
    said = [counted(1, "image"), counted(2, "image"), counted(0, "mesh"), counted(1, "mesh")]
    assert said == ["1 image", "2 images", "0 meshes", "1 mesh"]


def test_a_folder_that_cannot_be_written_to_is_named_and_not_the_temporary_file(tmp_path: Path) -> None:
    denied = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / ".out.partial"))
    assert describe_os_error(denied) == (
        f"{tmp_path} cannot be written to (Permission denied); name another folder, or make it writable"
    )
    (tmp_path / "there").write_text("")
    denied = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "there"))
    assert describe_os_error(denied) == f"{tmp_path / 'there'}: Permission denied"


@pytest.mark.parametrize(
    ("number", "file", "said"),
    [
        (errno.ENOTDIR, "out/journal", "out cannot be written (Not a directory: out/journal); name another folder, "),
        (errno.ENOSPC, "out", "out cannot be written (No space left on device); make room, or name another folder, "),
        (errno.ENOTDIR, ".out.new/a", "out cannot be written (Not a directory: .out.new/a); name another folder, "),
        (errno.EROFS, "in/.lock", "in/.lock cannot be written (Read-only file system); name another folder, "),
        (errno.EACCES, "/else/.lock", "/else/.lock cannot be written (Permission denied); name another folder, "),
    ],
)
def test_what_cannot_be_written_is_named(number: int, file: str, said: str) -> None:
    with pytest.raises(click.ClickException) as error, disk_errors(Path("out")):
        raise OSError(number, os.strerror(number), file)
    assert error.value.message == f"{said}then run the same command again"
