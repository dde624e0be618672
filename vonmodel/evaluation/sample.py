"""Which prepared items stand for a collection in a score, and the hash that names their content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from vondata.dataset.shards import OutputFiles
from vondata.io.files import OutputFile
from vondata.types import Kind
from vonmodel.evaluation.weights import file_sha256


class Sample:
    """The prepared items that count.

    Attributes:
        ids: in the order of the hash of the id: a part of a class taken by number is a sample of all its sources.
    """

    def __init__(self, data: Path, class_name: str, kind: Kind, ids: Sequence[str], maximum: int | None) -> None:
        """Chooses at most `maximum` of the ids of a class, in the order of their hashes."""
        self._chosen = in_order_of_hash(ids)[:maximum]
        self.ids = tuple(ids[index] for index in self._chosen)
        files = OutputFiles(data, class_name, kind)
        self._files = [files[id] for id in self.ids]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def sha256(self) -> str:
        """Hash of the content: of every item's id and bytes, in the order of the ids."""
        return content_sha256(self.ids, self._files)


def in_order_of_hash(ids: Sequence[str]) -> list[int]:
    """The positions of ids in the order of their hashes: the first of them are a sample of all sources alike."""

    def digest(position: int) -> bytes:
        return hashlib.blake2b(ids[position].encode(), digest_size=8).digest()

    return sorted(range(len(ids)), key=digest)


def content_sha256(ids: Iterable[str], files: Iterable[OutputFile]) -> str:
    """Hash of every item's id and bytes, in the order of the ids, as hexadecimal digits."""
    digest = hashlib.sha256()
    for id, file in sorted(zip(ids, files, strict=True), key=lambda pair: pair[0]):
        digest.update(f"{id} {file_sha256(file)}\n".encode())
    return digest.hexdigest()
