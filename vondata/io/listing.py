"""Listings of collections: files of a folder in a stable order, and a URL's listing as a tree of empty files."""

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
    """The folder of a collection does not exist, or holds nothing of the collection's layout."""


def walk_files(folder: Path, suffixes: Collection[str], unreadable: list[OSError]) -> Iterator[Path]:
    """All files under a folder, ordered by path, and empty folders whose name has the suffix of a file.

    Hidden files and folders are left out and linked folders are not followed.

    Args:
        folder: to search.
        suffixes: of files, in lower case; an empty folder with one of them is found like a file, to be rejected.
        unreadable: gets the errors of folders that cannot be listed.
    """
    for parent, folders, names in os.walk(folder, onerror=unreadable.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))
        if not folders and not names and Path(parent).suffix.lower() in suffixes:
            yield Path(parent)


def relative_id(relative: Path) -> str:
    """An id made of the path below the root, with a hash that keeps `a/b.jpg` and `a_b.png` apart."""
    digest = hashlib.sha256(os.fsencode(relative.as_posix())).hexdigest()[:8]
    return file_safe(f"{file_safe('_'.join(relative.with_suffix('').parts))}-{digest}")


def why_not_usable(path: Path, root: Path) -> tuple[str, str] | None:
    """Reason and detail of a path that must not or cannot be read; None for a regular file inside of root.

    Links are resolved first: a link that leads out of root is treated as a path outside of it.
    """
    try:
        target = Path(os.path.realpath(path))
        if not target.is_relative_to(os.path.realpath(root)):
            return "outside_root", f"it leads to {printable(str(target))}"
        if not target.exists():
            return "source_missing", f"{printable(str(path))} is not there"
        if not target.is_file():
            return "source_unreadable", f"{printable(str(path))} is not a regular file"
    except (OSError, ValueError) as error:  # ValueError: a NUL in a path from an annotation
        return "source_unreadable", f"{printable(str(path))!r} is no usable path: {error}"
    return None


# Keys of fsspec's file information that change with the content: of S3, Google, Azure, HTTP and others.
TAGS = ("ETag", "etag", "md5Hash", "checksum", "LastModified", "mtime", "created")
YEAR_OF_NS = 365 * 24 * 3600 * 10**9

logger = logging.getLogger(__name__)


def lay_out(folder: RemoteFolder, root: Path, contents: Collection[str] = ()) -> int:
    """Makes a tree of empty files of a remote folder's listing under `root`; returns the number of files.

    Args:
        folder: to list.
        root: of the tree.
        contents: names of files directly in the folder that are fetched with their content.

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
            logger.warning("%s: skipped an object whose name is no path: %r", folder, name)
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
    """Items planned on the tree of a listing, with the paths and versions of the remote folder."""
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
    """A 54-bit hash of an object's version, as far as its file system reports one."""
    known = [str(info[tag]) for tag in TAGS if info.get(tag)]
    # Only the first key counts: a content tag stays the same when the collection is copied elsewhere.
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
    """A sparse file with an object's size, and its version as file time."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.ftruncate(handle, int(info.get("size") or 0))
        os.utime(handle, ns=(0, YEAR_OF_NS + tag_of(info)))
    finally:
        os.close(handle)


def _version(path: str) -> str:
    state = os.stat(path)
    return f"{state.st_size} {state.st_mtime_ns}"
