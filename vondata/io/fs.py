"""Local folders and fsspec URLs such as s3://bucket/key: listing, download, upload and mirroring.

Local paths are read through `os` and not through fsspec's local file system.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import posixpath
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from vondata.errors import VonError
from vondata.io.files import ScratchError, cache_folder, scratch_errors, scratch_folder
from vondata.types import Item, Rejected

MAX_INPUT_BYTES = 2 << 30  # of one input file; no mesh or photo is larger
# URL schemes whose fsspec package comes with an extra of this project.
EXTRAS = {
    "s3": "visual-object-networks[s3]",
    "s3a": "visual-object-networks[s3]",
    "hf": "visual-object-networks[hub]",
}
# Keys of fsspec's file information that change with the content: of S3, Google, Azure, HTTP and others.
TAGS = ("ETag", "etag", "md5Hash", "checksum", "LastModified", "mtime", "created")
YEAR_OF_NS = 365 * 24 * 3600 * 10**9
NOT_COPIED = ("journal", "report")  # of a dataset: used only by preparation, or derived from the copy
KEPT = ("sketches.npz",)  # derived from the copy and kept beside it
BATCH_FILES = 512  # fetched in one call
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


class RemoteError(VonError, RuntimeError):
    """A URL cannot be used; the message says why."""


class DeliveryError(VonError, OSError):
    """An output could not be written to its URL.

    Args:
        number: errno, as of OSError.
        message: which file, and why.
    """

    def __init__(self, number: int | None, message: str) -> None:
        super().__init__(message)
        self.errno = number
        self.strerror = message

    def __reduce__(self) -> tuple[type[DeliveryError], tuple[int | None, str]]:
        """Pickles with the error number, which OSError keeps outside of its attributes."""
        return type(self), (self.errno, self.message)


class StoreError(RemoteError, OSError):
    """An object store cannot be reached, or needs credentials."""


@dataclass(frozen=True)
class FileInfo:
    """Size and version of a file in the listing of a store.

    Attributes:
        size: in bytes.
        tag: a 54-bit hash of its version, if the store reports one.
    """

    size: int
    tag: int


@dataclass(frozen=True)
class DataFolder:
    """A local folder, or one at a URL such as s3://bucket/data; see `DataFolder.at`.

    Attributes:
        place: the path or the URL, without a trailing slash.
    """

    place: str

    @classmethod
    def at(cls, place: FolderLike) -> DataFolder:
        """The folder at a path or URL; file:// is a path."""
        if isinstance(place, DataFolder):
            return place
        text = os.fspath(place)
        if is_url(text) and not text.lower().startswith("file://"):
            return cls(text.rstrip("/"))
        return cls(str(Path(text[len("file://") :] if is_url(text) else text)))

    def __str__(self) -> str:
        return self.place

    def __truediv__(self, name: str) -> DataFolder:
        return DataFolder(f"{self.place}/{name}" if self.is_remote else os.path.join(self.place, name))

    @property
    def is_remote(self) -> bool:
        """Whether it is at a URL."""
        return is_url(self.place)

    @property
    def path(self) -> Path:
        """The path of a local folder.

        Raises:
            RemoteError: it is at a URL.
        """
        if self.is_remote:
            raise RemoteError(f"{self} is a URL; only a path of this machine will do here")
        return Path(self.place)

    @property
    def is_taken(self) -> bool:
        """Whether it exists as a file or a folder that is not empty.

        Raises:
            OSError: it cannot be listed.
        """
        if not self.is_remote:
            return self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir()))
        system, path = file_system(self.place)
        with store_errors(self):
            return bool(system.exists(path) and system.ls(path, detail=False))

    def listing(self) -> dict[str, FileInfo]:
        """All files under a folder at a URL, by their relative path; one request lists many files.

        Raises:
            RemoteError: it cannot be listed.
        """
        system, top = file_system(self.place)
        top = top.rstrip("/")
        try:
            with store_errors(self):
                found: dict[str, Any] = system.find(top, detail=True)
        except StoreError:
            raise
        except OSError as error:
            raise RemoteError(f"{self} cannot be listed: {error or type(error).__name__}") from error
        return {
            name.removeprefix(top).removeprefix("/"): FileInfo(int(info.get("size") or 0), _tag_of(info))
            for name, info in found.items()
        }


FolderLike = DataFolder | str | os.PathLike[str]
"""The folder arguments of the public functions, which convert them to a `DataFolder`."""


@dataclass(frozen=True)
class RemoteFile:
    """A file at a URL, opened like any other file."""

    url: str

    def __str__(self) -> str:
        return self.url

    def open(self, mode: Literal["rb"] = "rb") -> io.BytesIO:
        """The bytes, read into memory.

        Raises:
            OSError: they cannot be read, or are more than MAX_INPUT_BYTES.
        """
        system, path = file_system(self.url)
        with store_errors(self.url):
            if (system.size(path) or 0) > MAX_INPUT_BYTES:
                raise OSError(f"{self.url} is too large")
            return io.BytesIO(system.cat_file(path))


def is_url(place: str) -> bool:
    """Whether this is a URL and not a path."""
    return _URL.match(place) is not None


def file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL and the path in it.

    Raises:
        RemoteError: no file system is known for this scheme, or its package is missing.
    """
    import fsspec

    scheme = url.partition("://")[0].lower()
    try:
        # Listings are read once per run and must not be cached from an earlier one.
        return file_system_of(scheme), str(fsspec.core.strip_protocol(url))
    except ImportError as error:
        extra = EXTRAS.get(scheme)
        remedy = f"pip install '{extra}'" if extra else str(error)
        raise RemoteError(f"{url}: reading {scheme}:// needs one more package: {remedy}") from error
    except ValueError as error:
        raise RemoteError(f"{url}: unknown scheme {scheme}:// ({error}); s3:// and file:// work") from error


@contextmanager
def store_errors(place: object) -> Iterator[None]:
    """Converts errors of a store's own package, which are not OSErrors, to StoreErrors.

    Args:
        place: URL that is read or written.

    Raises:
        StoreError: the store cannot be reached, or needs credentials.
    """
    try:
        yield
    except _package_errors() as error:
        raise StoreError(
            f"{place} cannot be reached: {error}; credentials and endpoint are those of the store's own tools"
        ) from error


def _package_errors() -> tuple[type[Exception], ...]:
    package = sys.modules.get("botocore.exceptions")  # imported only by stores of this kind
    return () if package is None else (package.BotoCoreError,)


@functools.cache
def file_system_of(scheme: str) -> Any:
    """Fsspec's file system of a scheme such as s3, opened once per process."""
    import fsspec

    return fsspec.filesystem(scheme, use_listings_cache=False)


def exists(place: str) -> bool:
    """Whether there is a file at a path or URL."""
    if not is_url(place):
        return Path(place).exists()
    system, path = file_system(place)
    with store_errors(place):
        return bool(system.exists(path))


def fetch(url: str, target: Path) -> bool:
    """Downloads a file; False if it does not exist.

    Raises:
        OSError: it cannot be read.
    """
    system, path = file_system(url)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with store_errors(url):
            system.get_file(path, str(target))
    except FileNotFoundError:
        return False
    return True


def deliver(source: Path, url: str) -> None:
    """Uploads a local file to a URL, where it appears atomically.

    Raises:
        DeliveryError: it could not be written.
    """
    system, path = file_system(url)
    try:
        with store_errors(url):
            system.makedirs(posixpath.dirname(path), exist_ok=True)
            system.put_file(str(source), path)
    except OSError as error:
        raise DeliveryError(error.errno, f"{url} cannot be written: {error}") from error


def remove(place: str) -> None:
    """Removes a file at a path or URL if it exists."""
    if not is_url(place):
        Path(place).unlink(missing_ok=True)
        return
    system, path = file_system(place)
    with store_errors(place):
        if system.exists(path):
            system.rm_file(path)


@contextmanager
def fetched(item: Item) -> Iterator[Item]:
    """The item with local copies of its remote inputs, for the duration of the block.

    In the detail of a rejection raised by the block, the copies' paths are replaced by the URLs.

    Raises:
        Rejected: source_missing, source_unreadable or too_large.
    """
    if not any(is_url(each) for each in item.inputs):
        yield item
        return
    with scratch_folder("input") as scratch:
        copies = [Path(scratch, str(number), posixpath.basename(each)) for number, each in enumerate(item.inputs)]
        for url, copy in zip(item.inputs, copies, strict=True):
            fetch_input(url, copy)
        try:
            yield replace(item, inputs=tuple(map(str, copies)))
        except Rejected as verdict:
            detail = verdict.detail
            for url, copy in zip(item.inputs, copies, strict=True):
                detail = detail.replace(str(copy), url)
            raise Rejected(verdict.reason, detail) from verdict


def fetch_input(url: str, copy: Path) -> None:
    """Downloads an input.

    Raises:
        Rejected: source_missing, source_unreadable or too_large.
        ScratchError: this machine has no room for it.
    """
    system, path = file_system(url)
    try:
        with store_errors(url):
            size = system.size(path)
        if size is not None and size > MAX_INPUT_BYTES:
            raise Rejected("too_large", f"{url} has {size / 2**20:,.0f} MB")
        with scratch_errors():
            is_there = fetch(url, copy)
        if not is_there:
            raise FileNotFoundError(url)
    except ScratchError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Rejected("source_missing", f"{url} is not there") from error
    except (OSError, ValueError) as error:
        raise Rejected("source_unreadable", f"{url} cannot be read: {error}") from error


@contextmanager
def delivered(output: str) -> Iterator[Path]:
    """The local path to write an output to; for a URL, it is uploaded when the block ends without error.

    Files written into the folder beside it, named like the output without suffix, are uploaded first.
    """
    if not is_url(output):
        yield Path(output)
        return
    with scratch_folder("output") as scratch:
        path = scratch / posixpath.basename(output)
        with scratch_errors():
            yield path
        for each in sorted(path.with_suffix("").rglob("*")):
            if each.is_file():
                deliver(each, f"{posixpath.dirname(output)}/{each.relative_to(scratch).as_posix()}")
        deliver(path, output)


def _tag_of(info: Mapping[str, Any]) -> int:
    known = [str(info[tag]) for tag in TAGS if info.get(tag)]
    # Only the first key is used: a content tag stays the same when the collection is copied elsewhere.
    digest = hashlib.blake2b(repr(known[:1]).encode("utf-8", "surrogateescape"), digest_size=8)
    return int.from_bytes(digest.digest(), "big") >> 10


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
    folder: DataFolder, on_progress: Callable[[int, int], None] | None = None, *, max_bytes: int | None = None
) -> Path:
    """Updates the local copy of a dataset; only changed files are fetched.

    Args:
        folder: the dataset.
        on_progress: called with the bytes fetched so far, and all bytes.
        max_bytes: maximum number of bytes to fetch; None for no limit.

    Returns:
        the copy, below `cache_folder()`; the folder itself if it is local.

    Raises:
        RemoteError: the URL cannot be used, or holds no dataset.
        MirrorTooLargeError: more would have to be fetched; nothing is fetched.
    """
    if not folder.is_remote:
        return folder.path
    system, top = file_system(folder.place)
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", folder.place)[-60:].strip("-")
    root = cache_folder() / "datasets" / f"{name}-{hashlib.sha256(folder.place.encode()).hexdigest()[:8]}"
    copies = [
        _Copy(f"{top.rstrip('/')}/{relative}", root / relative, info.size, YEAR_OF_NS + info.tag)
        for relative, info in folder.listing().items()
        if _is_wanted(relative)
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
        if on_progress is not None:
            on_progress(here, total)
    return root


def _is_wanted(relative: str) -> bool:
    parts = relative.split("/")
    return parts[0] not in NOT_COPIED and all(part not in {"", ".", ".."} for part in parts)


def _fetch(system: Any, copies: list[_Copy]) -> None:
    for copy in copies:
        copy.path.parent.mkdir(parents=True, exist_ok=True)
    # The file time marks a complete download, so an interrupted one is fetched again.
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
