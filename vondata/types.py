"""Types of the preparation: items of a collection, rejections, work functions and progress events."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vondata.errors import VonError

Kind = Literal["shapes", "images", "renders"]
"""`renders` are views of meshes; they are photos to be prepared, and not part of a training dataset."""
Stage = Literal[
    "planning",
    "running",
    "finished",
    "writing",
    "sketching",
    "matching",
    "drawing",
    "packing",
    "merging",
    "verifying",
]

MAX_ID_LENGTH = 120
# All except those that represent bytes of a file name (surrogateescape).
_LONE_SURROGATE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


class Rejected(VonError):
    """Raised by a work function if an item cannot be used; becomes a row of the manifest and never stops a run.

    Args:
        reason: a name from `manifests/reasons.toml`.
        detail: what was found, in words.

    Attributes:
        mask: (h, w) bool, the rejected object mask of a photo; None without one. It is not pickled.
    """

    http_status = 422
    mask: Any = None

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"

    def __reduce__(self) -> tuple[type[Rejected], tuple[str, str]]:
        """Pickles, as rejections are raised in worker processes."""
        return type(self), (self.reason, self.detail)


@dataclass(frozen=True)
class Item:
    """One model or photo of a collection, which becomes one row of the manifest. Picklable.

    Attributes:
        id: stable and safe as a file name (see `file_safe`), unique within class and kind, never a list index.
        class_name: the class it belongs to.
        source: the path as shown to the user.
        inputs: the files whose bytes determine the result; the first one's SHA-256 is the row's `sha256`.
        fields: further inputs of the work function (annotation, axes, ...) as JSON values; they determine the result
            as well.
        rejected: reason and detail if planning finds that the item cannot be used; then no work is done.
        collection: where the item comes from, such as `shapenet /data/ShapeNetCore.v2`; planning a collection again
            drops the rows of items that have vanished from it.
        versions: size and content tag, from the listing, of inputs that are URLs; empty for local files.
    """

    id: str
    class_name: str
    source: str
    inputs: tuple[str, ...]
    fields: Mapping[str, Any] = field(default_factory=dict)
    rejected: tuple[str, str] | None = None
    collection: str = ""
    versions: tuple[str, ...] = ()


# (item, settings, output path) -> values of the row's columns. A top-level function or functools.partial, since it is
# pickled; raises Rejected; writes its output atomically.
Work = Callable[[Item, Any, Path], Mapping[str, Any]]


@dataclass(frozen=True)
class Event:
    """Progress of a run.

    Attributes:
        stage: planning (items are being listed), running (before the first item), finished (an item is done), writing
            (the manifests), sketching (shapes to match photos against), matching (photos), drawing (thumbnails),
            packing (shards), merging (datasets), verifying (prepared files).
        done: items planned or finished so far, rows to write, shapes, photos or pictures done.
        total: their number in this run; None while planning and writing.
        row: of the finished item.
    """

    stage: Stage
    done: int
    total: int | None = None
    row: Mapping[str, Any] | None = None


def file_safe(text: str) -> str:
    """A file name made from `text`, at most 120 characters of A-Z a-z 0-9 . _ -.

    Changed text gets a hash of the original appended, so that different texts stay different.
    """
    safe = _UNSAFE.sub("_", text).lstrip(".-")
    if safe == text and 0 < len(text) <= MAX_ID_LENGTH:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{safe[: MAX_ID_LENGTH - 9]}-{digest}".lstrip("-")


def printable(text: str) -> str:
    r"""`text` as valid Unicode: bytes of a file name that are not UTF-8 become `\xNN`, lone surrogates `\uNNNN`."""
    text = _LONE_SURROGATE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
