"""Temporary files and folders: created below the system's temporary folder, removed also after a killed run."""

from __future__ import annotations

import errno
import functools
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from vondata.errors import VonError

LOCK_NAME = ".von-lock"
FULL = (errno.ENOSPC, errno.EDQUOT)
_FOLDER = re.compile(r"von-[a-z]+-[a-z0-9_]{8}")


class ScratchError(VonError, OSError):
    """No files can be written to the temporary folder."""

    def __init__(self, why: str) -> None:
        try:
            folder = tempfile.gettempdir()
        except OSError:
            folder = os.environ.get("TMPDIR", "/tmp")
        super().__init__(
            f"no files can be written to the temporary folder {folder} ({why})",
            hint="make room there, or set the environment variable TMPDIR to another folder",
        )


@contextmanager
def scratch_errors() -> Iterator[None]:
    """Turns a full disk, in a block that writes to temporary files alone, into an error that names their folder.

    Raises:
        ScratchError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL or isinstance(error, VonError):
            raise
        raise ScratchError(error.strerror or "the disk is full") from error


@contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """A temporary folder `von-<purpose>-...` that is removed with the block.

    A process that is killed leaves its folder behind; the next process removes it, as nobody holds its lock.

    Args:
        purpose: lower-case letters.

    Raises:
        ScratchError: none can be made.
    """
    _remove_abandoned()
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"von-{purpose}-"))
        lock = FileLock(folder / LOCK_NAME)
        lock.acquire()
    except OSError as error:
        raise ScratchError(error.strerror or str(error)) from error
    try:
        yield folder
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def scratch_file() -> IO[bytes]:
    """A temporary file without a name, which the system removes when it is closed or its process ends.

    Raises:
        ScratchError: none can be made.
    """
    try:
        return tempfile.TemporaryFile(prefix="von-")
    except OSError as error:
        raise ScratchError(error.strerror or str(error)) from error


@functools.cache
def _remove_abandoned() -> None:
    """Removes scratch folders of killed processes, once in a process."""
    try:
        entries = [entry for entry in os.scandir(tempfile.gettempdir()) if _FOLDER.fullmatch(entry.name)]
    except OSError:
        return
    for entry in entries:
        path = Path(entry.path, LOCK_NAME)
        try:
            if entry.is_dir(follow_symlinks=False) and path.is_file():
                with FileLock(path, blocking=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
        except (Timeout, OSError):  # in use, or another user's
            continue
