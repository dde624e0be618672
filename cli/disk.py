"""What to say where a disk is full, or a folder takes no files."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import click

FULL = (errno.ENOSPC, errno.EDQUOT)
DISK_ERRORS = (*FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST)


@contextmanager
def disk_errors(place: object) -> Iterator[None]:
    """Says in words that nothing can be written to a place, or that its disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        named = f" {error.filename}" if error.filename else ""
        raise click.ClickException(
            f"{place} cannot be written ({error.strerror}{named}): make room or name another folder, then run the "
            "same command again"
        ) from error


def in_words(error: OSError) -> str:
    """What went wrong with which file, where it may have been any of those that a command reads and writes."""
    where = f"{error.filename}: " if error.filename else ""
    what = f"{where}{error.strerror or error}"
    # A write that fails does not know the name of its file.
    return f"{what}; make room where the command writes, then run it again" if error.errno in FULL else what
