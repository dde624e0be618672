"""Where a run keeps what it makes: in the data folder itself, or behind a URL with journal and tables copied there.

A remote dataset lies under its URL as it would on disk. A run copies the journal here, appends to the copy, and sends
what it appended every half a minute as a small object beside the journal, so that a run which breaks off loses no
more than that. Outputs go straight from the workers to the URL. At the end journal and tables are sent whole.
"""

from __future__ import annotations

import logging
import os
import posixpath
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from vondata.dataset.manifest import SUFFIX, manifest_path
from vondata.dataset.metadata import FILE_NAME, PartRecord, record_part
from vondata.dataset.shards import ShardedDatasetError, index_path
from vondata.io.fs import RemoteFolder, deliver, exists, fetch, file_system, remove, store_errors
from vondata.io.lease import Leases
from vondata.io.scratch import scratch_folder
from vondata.pipeline.journal import journal_path
from vondata.types import Kind

SEND_EVERY_S = 30.0

logger = logging.getLogger(__name__)


class Store:
    """A dataset in a folder of this machine, or of one that all machines share.

    Attributes:
        folder: where journal and tables are written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def shared_folder(self) -> Path | None:
        """The folder that workers elsewhere must see; None where they reach outputs by URL."""
        return self.folder

    def open_part(self, class_name: str, kind: Kind) -> None:
        """To be called before the journal of a class and kind is opened.

        Raises:
            ShardedDatasetError: they lie in shards.
        """
        if index_path(self.folder, class_name, kind).is_file():
            raise ShardedDatasetError(self.folder, class_name, kind)

    def output_prefix(self, class_name: str, kind: Kind) -> str:
        """What stands before the name of an output file."""
        return f"{self.folder / class_name / kind}{os.sep}"

    def has(self, output: str) -> bool:
        """Whether an output is there."""
        return os.path.isfile(output)

    def remove(self, output: str) -> None:
        """Removes an output, of an earlier run, if it is there."""
        Path(output).unlink(missing_ok=True)

    def save(self) -> None:
        """To be called after every item."""

    def record(self, class_name: str, kind: Kind, record: PartRecord) -> None:
        """Writes down how a part was prepared."""
        record_part(self.folder, class_name, kind, record)

    def close_part(self, class_name: str, kind: Kind) -> None:
        """To be called when the tables of a class and kind are written."""


class RemoteStore(Store):
    """A dataset behind a URL, with a working copy of its journals and tables.

    Args:
        data: the dataset.
        folder: for the working copy; by default one that goes with the store.
    """

    def __init__(self, data: RemoteFolder, folder: Path | None = None) -> None:
        self._data = data
        self._scratch = ExitStack()
        super().__init__(folder or self._scratch.enter_context(scratch_folder("data")))
        self._leases = Leases()
        self._outputs: dict[str, set[str]] = {}  # names that are there, by folder
        self._sent: dict[str, int] = {}  # bytes of each journal that are at the URL, by name
        self._due = time.monotonic() + SEND_EVERY_S
        try:
            fetch((data / FILE_NAME).url, self.folder / FILE_NAME)
        except BaseException:
            self._scratch.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._send_journals()
        finally:
            self._leases.release()
            self._scratch.close()

    @property
    def shared_folder(self) -> Path | None:
        """None: workers reach outputs by URL."""
        return None

    def open_part(self, class_name: str, kind: Kind) -> None:
        """Takes the lease, fetches journal and tables, and lists the outputs that are there.

        Raises:
            ShardedDatasetError: they lie in shards.
            DatasetBusyError: another process writes this class and kind.
        """
        if exists((self._data / class_name / index_path(Path(), class_name, kind).name).url):
            raise ShardedDatasetError(self._data, class_name, kind)
        journal = journal_path(self.folder, class_name, kind)
        self._leases.take(self._url(journal.with_suffix(".lease")))
        fetch(self._url(journal), journal)
        joined = self._join_pieces(journal)
        self._sent[journal.name] = journal.stat().st_size if journal.is_file() else 0
        if not joined:  # else the tables are older than the journal
            for table in _tables(self.folder, class_name, kind):
                fetch(self._url(table), table)
        prefix = self.output_prefix(class_name, kind)
        self._outputs[prefix] = set(self._names(prefix.rstrip("/"), SUFFIX[kind]))

    def output_prefix(self, class_name: str, kind: Kind) -> str:
        """What stands before the name of an output."""
        return f"{self._data / class_name / kind}/"

    def has(self, output: str) -> bool:
        """Whether an output was there when the part was opened."""
        prefix, _, name = output.rpartition("/")
        return name in self._outputs[f"{prefix}/"]

    def remove(self, output: str) -> None:
        """Removes an output of an earlier run."""
        if self.has(output):
            remove(output)

    def save(self) -> None:
        """Sends what the journals have grown by, now and then."""
        if time.monotonic() > self._due:
            self._send_journals()
            self._due = time.monotonic() + SEND_EVERY_S

    def record(self, class_name: str, kind: Kind, record: PartRecord) -> None:
        """Writes down how a part was prepared, beside what others have written down meanwhile."""
        fetch((self._data / FILE_NAME).url, self.folder / FILE_NAME)
        super().record(class_name, kind, record)
        deliver(self.folder / FILE_NAME, (self._data / FILE_NAME).url)

    def close_part(self, class_name: str, kind: Kind) -> None:
        """Sends the journal whole and the tables.

        Raises:
            DatasetBusyError: another process has taken the lease over; what was done since the last sending is lost.
        """
        self._leases.check()
        journal = journal_path(self.folder, class_name, kind)
        pieces = self._pieces(journal)
        if pieces or journal.stat().st_size > self._sent[journal.name]:
            deliver(journal, self._url(journal))
            self._sent[journal.name] = journal.stat().st_size
            for url in pieces.values():
                remove(url)
        for table in _tables(self.folder, class_name, kind):
            deliver(table, self._url(table))

    def has_unsent(self, class_name: str, kind: Kind) -> bool:
        """Whether the journal of an opened part has grown since it was fetched or sent."""
        journal = journal_path(self.folder, class_name, kind)
        return journal.is_file() and journal.stat().st_size > self._sent[journal.name]

    def _send_journals(self) -> None:
        """Sends what the journals have grown by, each as a piece named after where it begins."""
        for name, sent in self._sent.items():
            journal = self.folder / "journal" / name
            size = journal.stat().st_size if journal.is_file() else 0
            if size > sent:
                self._leases.check()
                piece = journal.with_name(f"{name}.{sent:015d}")
                with open(journal, "rb") as whole, open(piece, "wb") as file:
                    whole.seek(sent)
                    shutil.copyfileobj(whole, file)
                deliver(piece, self._url(piece))
                piece.unlink()
                self._sent[name] = size

    def _join_pieces(self, journal: Path) -> bool:
        """Appends the pieces of runs that broke off; False when there is none that the journal lacks."""
        joined = False
        for start, url in sorted(self._pieces(journal).items()):
            length = journal.stat().st_size if journal.is_file() else 0
            if start != length:
                continue  # part of the journal already: a run broke off before it had removed the piece
            piece = journal.with_suffix(".piece")
            if fetch(url, piece):
                with open(piece, "rb") as file, open(journal, "ab") as whole:
                    shutil.copyfileobj(file, whole)
                piece.unlink()
                joined = True
        return joined

    def _pieces(self, journal: Path) -> dict[int, str]:
        """URLs of a journal's pieces by where each begins."""
        folder = posixpath.dirname(self._url(journal))
        starts = {name: name.removeprefix(f"{journal.name}.") for name in self._names(folder, "")}
        return {int(start): f"{folder}/{name}" for name, start in starts.items() if start.isdecimal()}

    def _names(self, folder: str, suffix: str) -> list[str]:
        """The names of the files in a remote folder."""
        system, path = file_system(folder)
        try:
            with store_errors(folder):
                found = system.find(path, maxdepth=1)
            return [posixpath.basename(each) for each in found if str(each).endswith(suffix)]
        except FileNotFoundError:
            return []

    def _url(self, path: Path) -> str:
        return (self._data / path.relative_to(self.folder).as_posix()).url


def open_store(data: Path | RemoteFolder) -> Store:
    """The store of a data folder or URL.

    Raises:
        RemoteError: the URL cannot be used.
    """
    # Workers elsewhere have a current folder of their own.
    return RemoteStore(data) if isinstance(data, RemoteFolder) else Store(data.absolute())


def _tables(folder: Path, class_name: str, kind: Kind) -> tuple[Path, Path]:
    table = manifest_path(folder, class_name, kind)
    return table, table.with_suffix(".csv")
