"""Stores: a run's outputs, journal and manifests in a local folder, or at a URL with local working copies.

A remote dataset has the same layout under its URL as a local one. A run fetches the journal, appends to the copy, and
uploads the appended part every half a minute as a small object beside the journal, so that an interrupted run loses
no more than that. Workers upload outputs to the URL directly. At the end journal and manifests are uploaded whole.
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
from vondata.io.files import scratch_folder
from vondata.io.fs import DataFolder, deliver, exists, fetch, file_system, remove, store_errors
from vondata.io.lease import Leases
from vondata.pipeline.journal import journal_path
from vondata.types import Kind

SEND_EVERY_S = 30.0

logger = logging.getLogger(__name__)


class Store:
    """A dataset in a local folder, or in one that all machines share.

    Attributes:
        folder: in which journal and tables are written.
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
        """The folder that workers on other machines must see; None when they reach outputs by URL."""
        return self.folder

    def open_part(self, class_name: str, kind: Kind) -> None:
        """Prepares for a class and kind; called before its journal is opened.

        Raises:
            ShardedDatasetError: the dataset has shards.
        """
        if index_path(self.folder, class_name, kind).is_file():
            raise ShardedDatasetError(self.folder, class_name, kind)

    def output_prefix(self, class_name: str, kind: Kind) -> str:
        """The path or URL of outputs up to their file name."""
        return f"{self.folder / class_name / kind}{os.sep}"

    def has(self, output: str) -> bool:
        """Whether an output exists."""
        return os.path.isfile(output)

    def remove(self, output: str) -> None:
        """Removes an output of an earlier run if it exists."""
        Path(output).unlink(missing_ok=True)

    def save(self) -> None:
        """Saves progress; called after every item."""

    def record(self, class_name: str, kind: Kind, record: PartRecord) -> None:
        """Writes the record of a part to von-dataset.json."""
        record_part(self.folder, class_name, kind, record)

    def close_part(self, class_name: str, kind: Kind) -> None:
        """Finishes a class and kind; called when its manifests are written."""


class RemoteStore(Store):
    """A dataset at a URL, with local working copies of its journals and manifests.

    Args:
        data: the dataset, behind a URL.
        folder: of the working copies; by default a temporary one.
    """

    def __init__(self, data: DataFolder, folder: Path | None = None) -> None:
        self._data = data
        self._scratch = ExitStack()
        super().__init__(folder or self._scratch.enter_context(scratch_folder("data")))
        self._leases = Leases()
        self._outputs: dict[str, set[str]] = {}  # names of existing outputs by folder
        self._sent: dict[str, int] = {}  # uploaded bytes of each journal, by name
        self._due = time.monotonic() + SEND_EVERY_S
        try:
            fetch(str(data / FILE_NAME), self.folder / FILE_NAME)
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
        """Takes the lease, fetches journal and manifests, and lists existing outputs.

        Raises:
            ShardedDatasetError: the dataset has shards.
            DatasetBusyError: another process writes this class and kind.
        """
        if exists(str(self._data / class_name / index_path(Path(), class_name, kind).name)):
            raise ShardedDatasetError(self._data, class_name, kind)
        journal = journal_path(self.folder, class_name, kind)
        self._leases.take(self._url(journal.with_suffix(".lease")))
        fetch(self._url(journal), journal)
        joined = self._join_pieces(journal)
        self._sent[journal.name] = journal.stat().st_size if journal.is_file() else 0
        if not joined:  # otherwise the manifests are older than the journal
            for table in _tables(self.folder, class_name, kind):
                fetch(self._url(table), table)
        prefix = self.output_prefix(class_name, kind)
        self._outputs[prefix] = set(self._names(prefix.rstrip("/"), SUFFIX[kind]))

    def output_prefix(self, class_name: str, kind: Kind) -> str:
        """The URL of outputs up to their file name."""
        return f"{self._data / class_name / kind}/"

    def has(self, output: str) -> bool:
        """Whether an output existed when the part was opened."""
        prefix, _, name = output.rpartition("/")
        return name in self._outputs[f"{prefix}/"]

    def remove(self, output: str) -> None:
        """Removes an output of an earlier run."""
        if self.has(output):
            remove(output)

    def save(self) -> None:
        """Uploads what was appended to the journals, every half a minute."""
        if time.monotonic() > self._due:
            self._send_journals()
            self._due = time.monotonic() + SEND_EVERY_S

    def record(self, class_name: str, kind: Kind, record: PartRecord) -> None:
        """Writes the record of a part, keeping records that other runs have written in the meantime."""
        fetch(str(self._data / FILE_NAME), self.folder / FILE_NAME)
        super().record(class_name, kind, record)
        deliver(self.folder / FILE_NAME, str(self._data / FILE_NAME))

    def close_part(self, class_name: str, kind: Kind) -> None:
        """Uploads the whole journal and the manifests.

        Raises:
            DatasetBusyError: another process has taken over the lease; progress since the last upload is lost.
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
        """Whether the journal of an opened part has grown since it was fetched or uploaded."""
        journal = journal_path(self.folder, class_name, kind)
        return journal.is_file() and journal.stat().st_size > self._sent[journal.name]

    def _send_journals(self) -> None:
        """Uploads what was appended to each journal as a piece named after its offset."""
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
        """Appends the pieces of interrupted runs; returns whether there were any that the journal lacked."""
        joined = False
        for start, url in sorted(self._pieces(journal).items()):
            length = journal.stat().st_size if journal.is_file() else 0
            if start != length:
                continue  # already part of the journal: the run was interrupted before it removed the piece
            piece = journal.with_suffix(".piece")
            if fetch(url, piece):
                with open(piece, "rb") as file, open(journal, "ab") as whole:
                    shutil.copyfileobj(file, whole)
                piece.unlink()
                joined = True
        return joined

    def _pieces(self, journal: Path) -> dict[int, str]:
        """URLs of a journal's pieces by their offsets."""
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
        return str(self._data / path.relative_to(self.folder).as_posix())


def open_store(data: DataFolder) -> Store:
    """The store of a dataset's folder.

    Raises:
        RemoteError: the URL cannot be used.
    """
    # Absolute: workers may have another current folder.
    return RemoteStore(data) if data.is_remote else Store(data.path.absolute())


def _tables(folder: Path, class_name: str, kind: Kind) -> tuple[Path, Path]:
    table = manifest_path(folder, class_name, kind)
    return table, table.with_suffix(".csv")
