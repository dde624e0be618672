"""Safe reading of a run's files: only regular files inside the run, of bounded size; JSON with one error type."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vondata.errors import VonError
from vondata.io import json_file

MAX_LINE_BYTES = 1 << 20
MAX_JSON_BYTES = 1 << 24


class UnsafeFileError(VonError, OSError):
    """A file of a run that is refused: a link out of the run, a pipe, a device, or a file over its size limit."""

    http_status = 404

    def __str__(self) -> str:
        return self.message


def open_run_file(run: Path, *parts: str) -> int:
    """Opens a file of a run for reading, as a file descriptor.

    The file must be regular and must lie inside the run folder once all links are resolved. Opening does not block,
    so a pipe with no writer cannot stop the server.

    Args:
        run: the run folder; it may itself be a link.
        parts: the path inside it.

    Raises:
        FileNotFoundError: there is no such file.
        UnsafeFileError: it is not a regular file inside the run.
    """
    path = run.joinpath(*parts)
    real = path.resolve(strict=True)
    if not real.is_relative_to(run.resolve()):
        raise UnsafeFileError(f"{path} is a link that leads out of the run folder")
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    if not stat.S_ISREG(real.stat().st_mode):  # opening a device may already have an effect
        raise UnsafeFileError(f"{path} is not a regular file")
    descriptor = os.open(real, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnsafeFileError(f"{path} is not a regular file")
    return descriptor


def read_run_file(run: Path, *parts: str, max_bytes: int) -> bytes:
    """The content of a file of a run; see `open_run_file`.

    Raises:
        FileNotFoundError: there is no such file.
        UnsafeFileError: it is not a regular file inside the run, or larger than `max_bytes`.
    """
    with open(open_run_file(run, *parts), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise UnsafeFileError(f"{run.joinpath(*parts)} has {size} bytes; at most {max_bytes} are read")
        return file.read(max_bytes)


def check_run_files(run: Path, *files: tuple[str, ...]) -> None:
    """Checks that files that other code will open are regular and inside the run; missing ones pass.

    Raises:
        UnsafeFileError: one is not.
    """
    for parts in files:
        try:
            os.close(open_run_file(run, *parts))
        except FileNotFoundError:
            continue


class JsonError(VonError, ValueError):
    """JSON that cannot be read, or that does not hold what is expected."""


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text; stricter than `json.loads`, and with one error for all damage.

    Raises:
        JsonError: it is not JSON or not UTF-8, nested too deeply, or holds NaN, an infinity, a number beyond float or
            a duplicate key.
    """
    try:
        return json_file.parse_json(text, "it")
    except json_file.JsonFileError as error:
        raise JsonError(f"is not valid JSON: {error.what}") from error


def parse_object(text: str | bytes) -> dict[str, Any]:
    """The object of a JSON text.

    Raises:
        JsonError: see `parse_json`; or it is not an object.
    """
    values = parse_json(text)
    if not isinstance(values, dict):
        raise JsonError(f"holds {type(values).__name__} in place of an object")
    return values


def read_lines(file: Path) -> Iterator[str]:
    """The lines of a text file without their ends, one at a time; those beyond `MAX_LINE_BYTES` are left out.

    Raises:
        OSError: it cannot be read.
        UnsafeFileError: it is not a regular file.
    """
    with open(open_run_file(file.parent, file.name), "rb") as stream:
        while line := stream.readline(MAX_LINE_BYTES):
            if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                while (rest := stream.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                    pass
                continue
            yield line.decode("utf-8", "replace").rstrip("\n")
