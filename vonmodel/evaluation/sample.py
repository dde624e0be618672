"""Which prepared items stand for a collection in a score, and the hash that names their content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from vondata.slices import OutputFile

from .weights import file_sha256


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
