"""Reads source files within size limits."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from vondata.errors import VonError
from vondata.types import Rejected, printable

_MEGABYTE = 2**20
_SECTOR = 512  # bytes
_NEIGHBOURS = 24  # bytes of a sector's neighbours that may be zero, too
_ZEROS, _NOT_ZERO = bytes(_SECTOR), re.compile(rb"[^\0]")


class MeshFileError(VonError, ValueError):
    """The file violates its format; the message says how and where."""


@dataclass(frozen=True)
class Limits:
    """Size limits of one file, which bound the memory of a run.

    Attributes:
        file_mb: size of the file, in MiB.
        faces: triangles of the mesh; vertices may be three times as many.
    """

    file_mb: int = 512
    faces: int = 4_000_000

    @property
    def vertices(self) -> int:
        """The most vertices a mesh may have."""
        return 3 * self.faces

    def check_mesh(self, vertices: int, faces: int) -> None:
        """Raises Rejected (too_large) for a mesh over the limits."""
        if faces > self.faces or vertices > self.vertices:
            raise Rejected(
                "too_large", f"{vertices:,} vertices and {faces:,} triangles; the limit is {self.faces:,} triangles"
            )


def read_bytes(path: Path, limits: Limits) -> bytes:
    """The content of a regular file.

    Raises:
        Rejected: source_missing, source_unreadable, too_large or file_corrupt (no bytes at all).
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Rejected("source_unreadable", "not a regular file")
            if status.st_size > limits.file_mb * _MEGABYTE:
                size = status.st_size / _MEGABYTE
                raise Rejected("too_large", f"the file has {size:,.0f} MiB; the limit is {limits.file_mb} MiB")
            content = file.read(status.st_size)
    except FileNotFoundError as error:
        raise Rejected("source_missing", printable(str(error))) from error
    except OSError as error:
        raise Rejected("source_unreadable", printable(str(error))) from error
    if not content:
        raise Rejected("file_corrupt", "the file is empty")
    return content


def check_no_lost_block(content: bytes, start: int, end: int, offset: int = 0) -> None:
    """Checks that binary data holds no block of zeros that a disk or an unfinished transfer left in their place.

    Such blocks are whole sectors of the file, so zeros that begin or end elsewhere are data.

    Args:
        content: the bytes.
        start: where the data begin in them.
        end: where the data end.
        offset: of the bytes in their file.

    Raises:
        MeshFileError: there is such a block.
    """
    place = start
    while (place := content.find(_ZEROS, place, end)) >= 0:
        other = _NOT_ZERO.search(content, place + _SECTOR, end)
        stop = other.start() if other else end
        first = -(-(place + offset) // _SECTOR) * _SECTOR - offset
        last = (stop + offset) // _SECTOR * _SECTOR - offset
        begins, ends = first - place <= _NEIGHBOURS or place == start, stop - last <= _NEIGHBOURS or stop == end
        if begins and ends and last > first and (place, stop) != (start, end):
            raise MeshFileError(f"zeros at byte {first + offset:,}, where a disk or a transfer lost its content")
        place = stop
