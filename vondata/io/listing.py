"""The files of a collection: folders walked in a stable order, and the listing of a URL laid out as such a folder."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from vondata.errors import VonError
from vondata.io.fs import RemoteError, RemoteFolder, StoreError, fetch, file_system, store_errors
from vondata.types import Item, file_safe, printable


class CollectionMissingError(VonError, FileNotFoundError):
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


# What an object's version is told by, in the words of the file systems: S3, Google, Azure, HTTP and others.
TAGS = ("ETag", "etag", "md5Hash", "checksum", "LastModified", "mtime", "created")
YEAR_OF_NS = 365 * 24 * 3600 * 10**9

logger = logging.getLogger(__name__)


def lay_out(folder: RemoteFolder, root: Path, contents: Collection[str] = ()) -> int:
    """Makes the tree of a remote folder's listing under `root`; returns the number of files.

    Args:
        folder: what to list.
        root: where to.
        contents: files directly in the folder that are needed with their content.

    Raises:
        RemoteError: the folder cannot be listed or is empty.
    """
    system, top = file_system(folder.url)
    top = top.rstrip("/")
    made, parent = 0, ""
    try:
        with store_errors(folder):
            listing: dict[str, Any] = system.find(top, detail=True)
    except StoreError:
        raise
    except OSError as error:
        raise RemoteError(f"{folder} cannot be listed: {error or type(error).__name__}") from error
    for name, info in listing.items():
        relative = name.removeprefix(top).removeprefix("/")
        if not _is_plain(relative):
            logger.warning("%s: passed over an object whose name is no path: %r", folder, name)
            continue
        path = f"{root}/{relative}"
        if (above := os.path.dirname(path)) != parent:
            os.makedirs(above, exist_ok=True)
            parent = above
        _stand_in(path, info)
        made += 1
    for name in contents:
        if (root / name).is_file():
            fetch((folder / name).url, root / name)
    if not made:
        raise RemoteError(f"{folder} is empty or not there; check the name of the bucket and of the folder in it")
    return made


def remote_items(items: Iterable[Item], root: Path, folder: RemoteFolder) -> Iterator[Item]:
    """Items that were planned on the tree of a listing, as items of the remote folder itself."""
    here, there = str(root), folder.url
    for item in items:
        yield replace(
            item,
            source=item.source.replace(here, there, 1),
            inputs=tuple(each.replace(here, there, 1) for each in item.inputs),
            rejected=item.rejected and (item.rejected[0], item.rejected[1].replace(here, there)),
            collection=item.collection.replace(here, there, 1),
            versions=tuple(_version(each) for each in item.inputs),
        )


def tag_of(info: Mapping[str, Any]) -> int:
    """A number of 54 bits that changes with an object's content, as far as its file system tells."""
    known = [str(info[tag]) for tag in TAGS if info.get(tag)]
    # Where there is a tag of the content, copying the collection elsewhere changes nothing.
    digest = hashlib.blake2b(repr(known[:1]).encode("utf-8", "surrogateescape"), digest_size=8)
    return int.from_bytes(digest.digest(), "big") >> 10


def _is_plain(relative: str) -> bool:
    parts = relative.split("/")
    return (
        relative == str(PurePosixPath(relative))
        and all(0 < len(os.fsencode(part)) < 256 for part in parts)
        and not {".", ".."} & set(parts)
        and "\0" not in relative
    )


def _stand_in(path: str, info: Mapping[str, Any]) -> None:
    """An empty file of an object's size and tag."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.ftruncate(handle, int(info.get("size") or 0))
        os.utime(handle, ns=(0, YEAR_OF_NS + tag_of(info)))
    finally:
        os.close(handle)


def _version(path: str) -> str:
    state = os.stat(path)
    return f"{state.st_size} {state.st_mtime_ns}"
