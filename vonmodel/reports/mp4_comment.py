"""Writing and reading the comment of an MP4 file, the metadata item `©cmt` that players and `ffprobe` show."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

TOOL = b"\xa9too"
COMMENT = b"\xa9cmt"
MAX_MOOV_BYTES = 2**26
_HEADER = struct.Struct(">I4s")
_UTF8 = struct.pack(">II", 1, 0)  # type of the value, and no locale


def is_mp4(start: bytes) -> bool:
    """Whether a file that begins with these bytes, eight or more, is MP4."""
    return start[4:8] == b"ftyp"


def write_comment(path: Path, comment: str, tool: str) -> None:
    """Writes a comment and the name of the program into an MP4 file, replacing its metadata.

    The `moov` box is rewritten at the end of the file, so that the offsets in it stay valid.

    Raises:
        ValueError: the file is not an MP4 file.
    """
    with path.open("r+b") as file:
        places = {kind: (start, end) for kind, start, end in _top_boxes(file)}
        if b"moov" not in places:
            raise ValueError("an MP4 file without a moov box")
        start, end = places[b"moov"]
        body = _body(file, start, end)
        kept = b"".join(body[first:last] for kind, first, _, last in _boxes(body) if kind != b"udta")
        items = _box(b"ilst", _item(TOOL, tool), _item(COMMENT, comment))
        handler = _box(b"hdlr", bytes(8), b"mdirappl", bytes(9))
        moov = _box(b"moov", kept, _box(b"udta", _box(b"meta", bytes(4), handler, items)))
        if end == file.seek(0, 2):
            file.truncate(start)
        else:
            file.seek(start + 4)
            file.write(b"free")
        file.seek(0, 2)
        file.write(moov)


def read_comment(path: Path) -> str | None:
    """The comment of an MP4 file; None if it has none, or is damaged."""
    try:
        with path.open("rb") as file:
            moov = next((_body(file, start, end) for kind, start, end in _top_boxes(file) if kind == b"moov"), b"")
        meta = _inside(_inside(moov, b"udta"), b"meta")[4:]
        data = _inside(_inside(_inside(meta, b"ilst"), COMMENT), b"data")
        return data[len(_UTF8) :].decode("utf-8") or None
    except ValueError:
        return None


def _box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return _HEADER.pack(_HEADER.size + len(body), kind) + body


def _item(kind: bytes, text: str) -> bytes:
    return _box(kind, _box(b"data", _UTF8, text.encode("utf-8")))


def _top_boxes(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each box of a file."""
    end, start = file.seek(0, 2), 0
    while start < end:
        file.seek(start)
        head = file.read(16)
        size, kind, _ = _head(head, end - start)
        yield kind, start, start + size
        start += size


def _body(file: BinaryIO, start: int, end: int) -> bytes:
    if end - start > MAX_MOOV_BYTES:
        raise ValueError("the moov box of an MP4 file is too large")
    file.seek(start)
    whole = file.read(end - start)
    return whole[_head(whole[:16], len(whole))[2] :]


def _boxes(data: bytes) -> Iterator[tuple[bytes, int, int, int]]:
    """Kind, start, start of the content, and end of each box in these bytes."""
    start = 0
    while start < len(data):
        size, kind, header = _head(data[start : start + 16], len(data) - start)
        yield kind, start, start + header, start + size
        start += size


def _inside(data: bytes, wanted: bytes) -> bytes:
    """The content of the first box of a kind; empty if there is none."""
    return next((data[first:end] for kind, _, first, end in _boxes(data) if kind == wanted), b"")


def _head(head: bytes, left: int) -> tuple[int, bytes, int]:
    """Size, kind and header length of a box that begins with these bytes; `left` counts the bytes up to the end."""
    if len(head) < _HEADER.size:
        raise ValueError("an MP4 file that ends within a box")
    size, kind = _HEADER.unpack_from(head)
    header = _HEADER.size
    if size == 1 and len(head) == 16:
        (size,) = struct.unpack_from(">Q", head, _HEADER.size)
        header = 16
    elif size == 0:
        size = left
    if not header <= size <= left:
        raise ValueError("an MP4 file with a box of impossible size")
    return size, kind, header
