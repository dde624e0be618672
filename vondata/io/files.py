"""A file that lies within another one, as a member of a tar does: opened as any other."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class FileSlice:
    """Some bytes of a file.

    Attributes:
        path: the file.
        offset: where the bytes begin.
        size: how many there are.
        name: what to call them in messages.
    """

    path: Path
    offset: int
    size: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} in {self.path}"

    def open(self, mode: Literal["rb"] = "rb") -> io.BytesIO:
        """The bytes, read at once.

        Raises:
            OSError: the file is not there or ends early.
        """
        with open(self.path, mode) as file:
            content = os.pread(file.fileno(), self.size, self.offset)
        if len(content) < self.size:
            raise OSError(f"{self.path} ends before {self.name}; pack or fetch it again")
        return io.BytesIO(content)


# What a prepared shape or photo is read from.
OutputFile = Path | FileSlice
