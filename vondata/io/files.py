"""Local files: atomic writes, temporary files and their cleanup, byte ranges, hashes, and the cache folder."""

from __future__ import annotations

import errno
import functools
import hashlib
import io
import os
import re
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from filelock import FileLock, Timeout

from vondata.errors import VonError

_CHUNK = 1 << 20
_STEM_LENGTH = 120  # of a temporary file's name
_TEMPORARY = re.compile(r"\.(?:(?P<stem>.*)\.)?[0-9a-f]{32}(?:\.[^.]*)?")


class NotRegularFileError(VonError, OSError):
    """A folder, pipe, device or dangling link where a regular file belongs."""

    exit_code = 1

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is not a regular file", hint="remove it or name another folder")


class FileTooLargeError(VonError, OSError):
    """A file has more bytes than its reader accepts."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        super().__init__(f"{path} has more than {max_bytes:,} bytes")


def require_regular(path: Path) -> None:
    """Checks that a path is a regular file or does not exist, so that opening it neither blocks nor fails.

    Raises:
        NotRegularFileError: it is something else.
        OSError: it cannot be accessed.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        if os.path.lexists(path):
            raise NotRegularFileError(path) from None
        return
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise NotRegularFileError(path) from error
    if not stat.S_ISREG(mode):
        raise NotRegularFileError(path)


@dataclass(frozen=True)
class FileSlice:
    """A byte range of a file, such as a member of a tar, opened like any other file.

    Attributes:
        path: the file.
        offset: of the first byte.
        size: number of bytes.
        name: used in messages.
    """

    path: Path
    offset: int
    size: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} in {self.path}"

    def open(self, mode: Literal["rb"] = "rb") -> io.BytesIO:
        """The bytes, read into memory.

        Raises:
            OSError: the file is missing or ends early.
        """
        with open(self.path, mode) as file:
            # Checked first, as an index may claim more bytes than there is memory for.
            ends_early = os.fstat(file.fileno()).st_size < self.offset + self.size
            file.seek(self.offset)
            content = b"" if ends_early else file.read(self.size)
        if ends_early or len(content) < self.size:
            raise OSError(f"{self.path} ends before {self.name}; write the shards again or fetch them again")
        return io.BytesIO(content)


# The file of a prepared shape or photo, or its byte range in a shard.
ReadableFile = Path | FileSlice


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, with its suffix, that replaces it when the block ends without error.

    The temporary file is flushed to disk before it is renamed, so a reader of `path` sees a complete file, even after
    a power cut. On an error the temporary file is removed and `path` is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem[:_STEM_LENGTH]}.{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        sync(temporary)
        try:
            os.replace(temporary, path)
        except IsADirectoryError as error:
            raise NotRegularFileError(path) from error
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flushes a file, or the entries of a folder, to disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders and writes their entries itself
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(folder: Path, *stems: str) -> None:
    """Removes temporary files of `atomic_path` left by killed processes.

    Args:
        folder: in which they are.
        stems: names, without suffix, of the target files, which no other process may be writing; without any, all
            temporary files of the folder are removed.
    """
    if folder.is_dir():
        for entry in os.scandir(folder):
            found = _TEMPORARY.fullmatch(entry.name)
            if found and (not stems or found["stem"] in stems):
                os.unlink(entry)


def file_sha256(path: Path, max_bytes: int | None = None) -> str:
    """SHA-256 of a file's bytes in hexadecimal.

    Raises:
        FileTooLargeError: there are more than `max_bytes`; at most that many are read.
        OSError: it cannot be read.
    """
    digest, left = hashlib.sha256(), max_bytes
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            if left is not None and max_bytes is not None:
                left -= len(chunk)
                if left < 0:
                    raise FileTooLargeError(path, max_bytes)
    return digest.hexdigest()


def cache_folder() -> Path:
    """The cache folder: `$XDG_CACHE_HOME/von`, usually ~/.cache/von.

    Without a home folder, as in some containers, it is a folder of this user below the system's temporary folder.
    """
    if configured := os.environ.get("XDG_CACHE_HOME"):
        return Path(configured) / "von"
    try:
        return Path.home() / ".cache" / "von"
    except RuntimeError:  # neither HOME nor an entry in the user database
        user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
        return Path(tempfile.gettempdir()) / f"von-{user}"


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
    """Converts a full disk, in a block that writes only temporary files, to an error that names their folder.

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
    """A temporary folder `von-<purpose>-...` that is removed at the end of the block.

    A killed process leaves its folder behind; the next process removes it, as its lock is free.

    Args:
        purpose: lower-case letters.

    Raises:
        ScratchError: it cannot be created.
    """
    remove_abandoned()
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
    """An unnamed temporary file, which the system removes when it is closed or its process ends.

    Raises:
        ScratchError: it cannot be created.
    """
    try:
        return tempfile.TemporaryFile(prefix="von-")
    except OSError as error:
        raise ScratchError(error.strerror or str(error)) from error


@functools.cache
def remove_abandoned() -> None:
    """Removes scratch folders of killed processes, once per process."""
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
