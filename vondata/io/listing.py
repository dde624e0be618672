"""File listings of a collection: a local folder in a stable order, or the listing of a URL."""

from __future__ import annotations

import hashlib
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from vondata.errors import VonError
from vondata.io.fs import YEAR_OF_NS, DataFolder, FolderLike, RemoteError, RemoteFile
from vondata.types import file_safe, printable

TOP = PurePosixPath()
Verdict = tuple[str, str]  # reason and detail

logger = logging.getLogger(__name__)


class CollectionMissingError(VonError, FileNotFoundError):
    """The folder of a collection does not exist, or does not have the collection's layout."""


class SourceTree(ABC):
    """The folder of a collection and the files under it, by their relative paths.

    Attributes:
        folder: absolute, so that ids and resumes do not depend on where a command is run.
        name: of the folder, which may be that of a class.
    """

    def __init__(self, folder: DataFolder, name: str) -> None:
        self.folder, self.name = folder, name
        self._prefix = f"{folder.place.rstrip('/')}/"

    def __str__(self) -> str:
        return str(self.folder)

    def place(self, file: PurePosixPath) -> str:
        """The path or URL of a file or folder."""
        if file == TOP:
            return self.folder.place
        return str(file) if file.is_absolute() else f"{self._prefix}{file}"

    @abstractmethod
    def is_folder(self, file: PurePosixPath = TOP) -> bool:
        """Whether there is a folder with this path."""

    @abstractmethod
    def entries(self, folder: PurePosixPath = TOP) -> dict[str, bool]:
        """The names in a folder, in order, and whether each is a folder."""

    @abstractmethod
    def walk(
        self, top: PurePosixPath, suffixes: Collection[str], skipped: list[tuple[PurePosixPath, Verdict]]
    ) -> Iterator[PurePosixPath]:
        """All files under a folder, ordered by path, and empty folders with the suffix of a file.

        Hidden files and folders are left out and linked folders are not followed.

        Args:
            top: the folder to search.
            suffixes: of files, in lower case; an empty folder with one is yielded like a file, to be rejected.
            skipped: filled with the folders that cannot be listed or are links, and with links without a suffix that
                lead nowhere, as to a folder that is gone; each with reason and detail.
        """

    @abstractmethod
    def why_not_usable(self, file: PurePosixPath, top: PurePosixPath = TOP) -> Verdict | None:
        """Reason and detail for a path that must not or cannot be read; None for a regular file inside `top`."""

    @abstractmethod
    def why_endless(self, folder: PurePosixPath) -> Verdict | None:
        """Reason and detail for a folder that contains itself by a link; None for any other."""

    @abstractmethod
    def versions(self, *files: PurePosixPath) -> tuple[str, ...]:
        """Size and content tag of files from the listing of a URL; empty for local files."""

    @abstractmethod
    def size(self, file: PurePosixPath) -> int:
        """Bytes of a file.

        Raises:
            OSError: there is none.
        """

    @abstractmethod
    def read(self, file: PurePosixPath) -> bytes:
        """The content of a file.

        Raises:
            OSError: it cannot be read.
        """

    @abstractmethod
    def start(self, file: PurePosixPath, count: int) -> bytes | None:
        """The first bytes of a file; None if it cannot be read, or reading it would need a request to a store.

        A file whose first bytes are unknown is prepared, which reports why it cannot be read.
        """


class FolderTree(SourceTree):
    """A local folder."""

    def __init__(self, folder: DataFolder) -> None:
        super().__init__(DataFolder(os.path.abspath(folder.path)), folder.path.resolve().name)

    def is_folder(self, file: PurePosixPath = TOP) -> bool:
        """Whether it is a folder, or a link to one."""
        return os.path.isdir(self.place(file))

    def entries(self, folder: PurePosixPath = TOP) -> dict[str, bool]:
        """The names in a folder, in order, and whether each is a folder."""
        found = sorted(os.scandir(self.place(folder)), key=lambda entry: entry.name)
        return {
            each.name: os.path.isdir(each.path) for each in found
        }  # a link in a circle is no folder, and no error

    def walk(
        self, top: PurePosixPath, suffixes: Collection[str], skipped: list[tuple[PurePosixPath, Verdict]]
    ) -> Iterator[PurePosixPath]:
        """See `SourceTree.walk`."""

        def note(error: OSError) -> None:
            skipped.append((self._below(os.fsdecode(error.filename)), ("source_unreadable", str(error))))

        for parent, folders, names in os.walk(self.place(top), onerror=note):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            below = self._below(parent)
            for name in folders:
                if verdict := self._why_not_followed(below / name):
                    skipped.append((below / name, verdict))
            for name in sorted(name for name in names if not name.startswith(".")):
                file = below / name
                lost = None if "." in name or os.path.exists(self.place(file)) else self.why_not_usable(file)
                if lost:
                    skipped.append((file, lost))
                else:
                    yield file
            if not folders and not names and below.suffix.lower() in suffixes:
                yield below

    def why_not_usable(self, file: PurePosixPath, top: PurePosixPath = TOP) -> Verdict | None:
        """Links are resolved first: a link that leads out of `top` counts as a path outside of it."""
        path = self.place(file)
        try:
            target = Path(os.path.realpath(path))
            if not target.is_relative_to(os.path.realpath(self.place(top))):
                return "outside_root", f"it leads to {printable(str(target))}"
            if not target.exists():
                return "source_missing", f"{printable(path)} is not there"
            if not target.is_file():
                return "source_unreadable", f"{printable(path)} is not a regular file"
        except (OSError, ValueError) as error:  # ValueError: a NUL in a path from an annotation
            return "source_unreadable", f"{printable(path)!r} is not a usable path: {error}"
        return None

    def why_endless(self, folder: PurePosixPath) -> Verdict | None:
        """A link to a folder that it lies in leads back to itself."""
        path = self.place(folder)
        target = os.path.realpath(path)
        if os.path.islink(path) and Path(os.path.realpath(os.path.dirname(path))).is_relative_to(target):
            return "linked_folder", f"it leads back to {printable(target)}, in which it lies"
        return None

    def _why_not_followed(self, folder: PurePosixPath) -> Verdict | None:
        """Reason and detail for a link to a folder; None for a folder."""
        path = self.place(folder)
        if not os.path.islink(path):
            return None
        target = os.path.realpath(path)
        if not Path(target).is_relative_to(os.path.realpath(self.place(TOP))):
            return "outside_root", f"it leads to {printable(target)}"
        return self.why_endless(folder) or ("linked_folder", f"it leads to {printable(target)}")

    def versions(self, *files: PurePosixPath) -> tuple[str, ...]:
        """Empty: sizes and times are read when they are compared."""
        return ()

    def size(self, file: PurePosixPath) -> int:
        """Bytes of a file."""
        return os.stat(self.place(file)).st_size

    def read(self, file: PurePosixPath) -> bytes:
        """The content of a file."""
        return Path(self.place(file)).read_bytes()

    def start(self, file: PurePosixPath, count: int) -> bytes | None:
        """The first bytes; None if they cannot be read."""
        try:
            with open(self.place(file), "rb") as opened:
                return opened.read(count)
        except OSError:
            return None

    def _below(self, path: str) -> PurePosixPath:
        return PurePosixPath(path[len(self.folder.place) :].replace(os.sep, "/").lstrip("/"))


class ListedTree(SourceTree):
    """A folder at a URL, from a single listing.

    Raises:
        RemoteError: it cannot be listed or is empty.
    """

    def __init__(self, folder: DataFolder) -> None:
        super().__init__(folder, folder.place.rpartition("/")[2])
        self.files = {}
        for name, info in folder.listing().items():
            if _is_plain(name):
                self.files[PurePosixPath(name)] = info
            else:
                logger.warning("%s: skipped an object whose name is not a path: %r", folder, name)
        if not self.files:
            raise RemoteError(f"{folder} is empty or not there; check the name of the bucket and of the folder in it")
        self._entries: dict[PurePosixPath, dict[str, bool]] = {TOP: {}}
        for file in self.files:
            self._enter(file)

    def _enter(self, file: PurePosixPath) -> None:
        """Adds a file to its folder, and the folder to its parents."""
        is_folder, new = False, True
        while new and file != TOP:
            new = file.parent not in self._entries
            entries = self._entries.setdefault(file.parent, {})
            entries[file.name] = entries.get(file.name, False) or is_folder
            file, is_folder = file.parent, True

    def is_folder(self, file: PurePosixPath = TOP) -> bool:
        """Whether there are files under this name."""
        return file in self._entries

    def entries(self, folder: PurePosixPath = TOP) -> dict[str, bool]:
        """The names in a folder, in order, and whether each is a folder."""
        return dict(sorted(self._entries[folder].items()))

    def walk(
        self, top: PurePosixPath, suffixes: Collection[str], skipped: list[tuple[PurePosixPath, Verdict]]
    ) -> Iterator[PurePosixPath]:
        """See `SourceTree.walk`; here no folder is empty, and every listed file is readable."""
        visible = [name for name in sorted(self._entries[top]) if not name.startswith(".")]
        yield from (top / name for name in visible if top / name in self.files)
        for name in visible:
            if top / name in self._entries:
                yield from self.walk(top / name, suffixes, skipped)

    def why_not_usable(self, file: PurePosixPath, top: PurePosixPath = TOP) -> Verdict | None:
        """A store has no links: every listed file is usable."""
        if file in self.files:
            return None
        if self.is_folder(file):
            return "source_unreadable", f"{printable(self.place(file))} is not a regular file"
        return "source_missing", f"{printable(self.place(file))} is not there"

    def why_endless(self, folder: PurePosixPath) -> Verdict | None:
        """None: a store has no links."""
        return None

    def versions(self, *files: PurePosixPath) -> tuple[str, ...]:
        """Size and content tag of files."""
        return tuple(f"{self.files[file].size} {YEAR_OF_NS + self.files[file].tag}" for file in files)

    def size(self, file: PurePosixPath) -> int:
        """Bytes of a file."""
        if file not in self.files:
            raise FileNotFoundError(f"{self.place(file)} is not there")
        return self.files[file].size

    def read(self, file: PurePosixPath) -> bytes:
        """The content of a file."""
        return RemoteFile(self.place(file)).open().read()

    def start(self, file: PurePosixPath, count: int) -> bytes | None:
        """None: a request per file would take longer than preparing it."""
        return None


def open_tree(folder: FolderLike) -> SourceTree:
    """The file tree of a collection's folder; a URL is listed.

    Raises:
        RemoteError: a URL cannot be listed, or is empty.
    """
    known = DataFolder.at(folder)
    return ListedTree(known) if known.is_remote else FolderTree(known)


def relative_id(relative: PurePosixPath) -> str:
    """An id from the path below the root, with a hash that distinguishes `a/b.jpg` and `a_b.png`."""
    digest = hashlib.sha256(os.fsencode(relative.as_posix())).hexdigest()[:8]
    return file_safe(f"{file_safe('_'.join(relative.with_suffix('').parts))}-{digest}")


def _is_plain(name: str) -> bool:
    parts = name.split("/")
    return (
        name == str(PurePosixPath(name))
        and all(0 < len(os.fsencode(part)) < 256 for part in parts)
        and not {".", ".."} & set(parts)
        and "\0" not in name
    )
