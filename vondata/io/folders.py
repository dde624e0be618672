"""Finding files under a folder: in a stable order, each with a stable id, never outside of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from vondata.types import file_safe, printable


class CollectionMissingError(FileNotFoundError):
    """The folder given as a collection is none, or holds nothing that looks like one."""


def walk_files(folder: Path, suffixes: Collection[str], unreadable: list[OSError]) -> Iterator[Path]:
    """Files under a folder with one of these suffixes, ordered by path, and empty folders that are named like one.

    Hidden ones are left out, linked folders are not followed, and folders that cannot be listed go to `unreadable`.
    """
    for parent, folders, names in os.walk(folder, onerror=unreadable.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        shown = sorted(name for name in names if not name.startswith("."))
        yield from (path for name in shown if (path := Path(parent, name)).suffix.lower() in suffixes)
        if not folders and not names and Path(parent).suffix.lower() in suffixes:
            yield Path(parent)


def relative_id(relative: Path) -> str:
    """An id from the path below the root: readable, and with a hash that keeps `a/b.jpg` and `a_b.png` apart."""
    digest = hashlib.sha256(os.fsencode(relative.as_posix())).hexdigest()[:8]
    return file_safe(f"{file_safe('_'.join(relative.with_suffix('').parts))}-{digest}")


def why_not_usable(path: Path, root: Path) -> tuple[str, str] | None:
    """Reason and detail for which a path must not or cannot be read; None for a regular file inside of root.

    Links are followed for the verdict: one that leads out of root is as good as a path that names a place outside.
    """
    try:
        target = Path(os.path.realpath(path))
        if not target.is_relative_to(os.path.realpath(root)):
            return "outside_root", f"it leads to {printable(str(target))}"
        if not target.exists():
            return "source_missing", f"{printable(str(path))} is not there"
        if not target.is_file():
            return "source_unreadable", f"{printable(str(path))} is not a regular file"
    except (OSError, ValueError) as error:  # ValueError: a NUL in a path that an annotation made up
        return "source_unreadable", f"{printable(str(path))!r} is no usable path: {error}"
    return None
