"""A local copy of a remote dataset, updated on demand: for training, evaluation and the report, which reread it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vondata.io.files import cache_folder
from vondata.io.fs import RemoteError, RemoteFolder, StoreError, file_system, store_errors
from vondata.io.listing import YEAR_OF_NS, tag_of

NOT_COPIED = ("journal", "report")  # used by preparation alone, or made from the copy
KEPT = ("sketches.npz",)  # made from the copy and kept beside it
BATCH_FILES = 512  # fetched in one call


class MirrorTooLargeError(RemoteError):
    """More bytes would have to be fetched than allowed."""


@dataclass(frozen=True)
class _Copy:
    """A remote file and the path of its copy."""

    remote: str
    path: Path
    size: int
    time_ns: int

    @property
    def is_current(self) -> bool:
        try:
            state = self.path.stat()
        except OSError:
            return False
        return (state.st_size, state.st_mtime_ns) == (self.size, self.time_ns)


def mirror(
    folder: RemoteFolder, tell: Callable[[int, int], None] | None = None, *, max_bytes: int | None = None
) -> Path:
    """Updates this machine's copy of a remote dataset; only changed files are fetched.

    Args:
        folder: the dataset.
        tell: called with the bytes fetched so far, and all bytes.
        max_bytes: at most this many are fetched; None for any number.

    Returns:
        the copy, below `cache_folder()`.

    Raises:
        RemoteError: the URL cannot be used, or holds no dataset.
        MirrorTooLargeError: more would have to be fetched; nothing is.
    """
    system, top = file_system(folder.url)
    top = top.rstrip("/")
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", folder.url)[-60:].strip("-")
    root = cache_folder() / "datasets" / f"{name}-{hashlib.sha256(folder.url.encode()).hexdigest()[:8]}"
    try:
        with store_errors(folder):
            listing: dict[str, Any] = system.find(top, detail=True)
    except StoreError:
        raise
    except OSError as error:
        raise RemoteError(f"{folder} cannot be listed: {error or type(error).__name__}") from error
    copies = [
        _Copy(remote, root / relative, int(info["size"]), YEAR_OF_NS + tag_of(info))
        for remote, info in listing.items()
        if _is_wanted(relative := remote.removeprefix(top).removeprefix("/"))
    ]
    if not copies:
        raise RemoteError(f"{folder} holds no dataset; check the name of the bucket and of the folder in it")
    missing = [copy for copy in copies if not copy.is_current]
    total = sum(copy.size for copy in copies)
    here = total - sum(copy.size for copy in missing)
    if max_bytes is not None and total - here > max_bytes:
        raise MirrorTooLargeError(f"{folder}: {(total - here) / 1e9:,.1f} GB would have to be fetched")
    _remove_others(root, {copy.path for copy in copies})
    for start in range(0, len(missing), BATCH_FILES):
        batch = missing[start : start + BATCH_FILES]
        _fetch(system, batch)
        here += sum(copy.size for copy in batch)
        if tell is not None:
            tell(here, total)
    return root


def _is_wanted(relative: str) -> bool:
    parts = relative.split("/")
    return parts[0] not in NOT_COPIED and all(part not in {"", ".", ".."} for part in parts)


def _fetch(system: Any, copies: list[_Copy]) -> None:
    for copy in copies:
        copy.path.parent.mkdir(parents=True, exist_ok=True)
    # The file time marks a complete copy, so an interrupted one is fetched again.
    with store_errors(copies[0].remote):
        system.get([copy.remote for copy in copies], [str(copy.path) for copy in copies])
    for copy in copies:
        os.utime(copy.path, ns=(copy.time_ns, copy.time_ns))


def _remove_others(root: Path, wanted: set[Path]) -> None:
    for parent, _, names in os.walk(root):
        if Path(parent).relative_to(root).parts[:1] in {(each,) for each in NOT_COPIED}:
            continue
        for name in names:
            if (path := Path(parent, name)) not in wanted and name not in KEPT:
                path.unlink()
