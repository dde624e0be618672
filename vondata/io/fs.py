"""Remote files and folders, s3://bucket/key or any other URL of fsspec: opened, fetched, sent and removed."""

from __future__ import annotations

import functools
import io
import posixpath
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from vondata.errors import VonError
from vondata.io.files import ScratchError, scratch_errors, scratch_folder
from vondata.types import Item, Rejected

MAX_INPUT_BYTES = 2 << 30  # of one input file; a larger one is no mesh or photo
# URL schemes whose fsspec package comes with an extra of this project.
EXTRAS = {
    "s3": "visual-object-networks[s3]",
    "s3a": "visual-object-networks[s3]",
    "hf": "visual-object-networks[hub]",
}
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
class RemoteFolder:
    """A folder at a URL, such as s3://bucket/data; see `folder_of`."""

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> RemoteFolder:
        return RemoteFolder(f"{self.url}/{name}")


@dataclass(frozen=True)
class RemoteFile:
    """A file at a URL, opened as any other file."""

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
    """Whether this is a URL, not a path."""
    return _URL.match(place) is not None


def folder_of(place: str) -> Path | RemoteFolder:
    """A path or file:// URL as Path, any other URL as RemoteFolder."""
    if not is_url(place):
        return Path(place)
    if place.startswith("file://"):
        return Path(place.removeprefix("file://"))
    return RemoteFolder(place.rstrip("/"))


def file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL and the path in it.

    Raises:
        RemoteError: no file system is known for this scheme, or its package is missing.
    """
    import fsspec

    scheme = url.partition("://")[0].lower()
    try:
        # Listings are read once in a run and must not come from an earlier one.
        return _file_system(scheme), str(fsspec.core.strip_protocol(url))
    except ImportError as error:
        extra = EXTRAS.get(scheme)
        remedy = f"pip install '{extra}'" if extra else str(error)
        raise RemoteError(f"{url}: reading {scheme}:// needs one more package: {remedy}") from error
    except ValueError as error:
        raise RemoteError(f"{url}: nothing is known of {scheme}:// ({error}); s3:// and file:// work") from error


@contextmanager
def store_errors(place: object) -> Iterator[None]:
    """Turns errors of a store's own package, which are no OSErrors, into StoreErrors.

    Args:
        place: URL that is read or written.

    Raises:
        StoreError: the store cannot be reached, or needs credentials.
    """
    try:
        yield
    except _package_errors() as error:
        raise StoreError(
            f"{place} cannot be reached: {error}; credentials and endpoint are the store's own"
        ) from error


def _package_errors() -> tuple[type[Exception], ...]:
    package = sys.modules.get("botocore.exceptions")  # imported by stores of this kind alone
    return () if package is None else (package.BotoCoreError,)


@functools.cache
def _file_system(scheme: str) -> Any:
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
    """Copies a remote file to this machine; False when it does not exist.

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
    """Copies a local file to a URL, where it appears atomically.

    Raises:
        DeliveryError: it could not be written.
    """
    system, path = file_system(url)
    try:
        with store_errors(url):
            system.makedirs(posixpath.dirname(path), exist_ok=True)
            system.put_file(str(source), path)
    except OSError as error:
        raise DeliveryError(error.errno, f"{url} takes no file: {error}") from error


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
            _fetch_input(url, copy)
        try:
            yield replace(item, inputs=tuple(map(str, copies)))
        except Rejected as verdict:
            detail = verdict.detail
            for url, copy in zip(item.inputs, copies, strict=True):
                detail = detail.replace(str(copy), url)
            raise Rejected(verdict.reason, detail) from verdict


def _fetch_input(url: str, copy: Path) -> None:
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
    """The local path to write an output to; for a URL, it is sent there when the block ends without error."""
    if not is_url(output):
        yield Path(output)
        return
    with scratch_folder("output") as scratch:
        path = scratch / posixpath.basename(output)
        with scratch_errors():
            yield path
        deliver(path, output)
