"""Lists the photos of folders, and those of Pix3D with its validated annotation."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from vondata.classes import ObjectClass, known_classes, listed
from vondata.errors import VonError
from vondata.images.photo_files import describe_bytes, photo_format
from vondata.images.pix3d_camera import Viewpoint, ViewpointError, viewpoint_of_pix3d
from vondata.images.settings import ImageSettings
from vondata.io.listing import TOP, CollectionMissingError, SourceTree, Verdict, relative_id
from vondata.types import Item, file_safe, printable

# A file with one of these suffixes becomes a row whatever its bytes are; the row says why it cannot be used.
PHOTO_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"),
    *(".avif", ".heic", ".heif", ".jp2", ".jxl", ".ppm", ".pgm", ".tga", ".svg", ".psd"),
)
START_BYTES = 64


def photo_items(tree: SourceTree, classes: Sequence[ObjectClass]) -> Iterator[Item]:
    """The files anywhere under `<root>/<class>`, one item each; files that are not photos are rejected items.

    Hidden files and folders are left out; a linked folder is a rejected item and not followed. A root without class
    folders is treated as the folder of one class: the only requested one, or the one of its name.

    Args:
        tree: of the folder with the photos.
        classes: the classes to take; one without a folder has no items.

    Yields:
        items in order of class and path.

    Raises:
        CollectionMissingError: it is not a folder, holds none of the classes, or holds no photo.
    """
    if not tree.is_folder():
        raise CollectionMissingError(
            f"{tree} is not a folder: give the folder that holds a folder of photos per class"
        )
    folders = _class_folders(tree, classes)
    if not folders:
        names = listed([each.name for each in classes])
        raise CollectionMissingError(
            f"{tree} holds none of the folders {names}; if all of its photos are of one class, name that class"
        )
    found = False
    for name, folder in folders.items():
        for item in _folder_items(tree, folder, name):
            found = True
            yield item
    if not found:
        raise CollectionMissingError(f"{tree} holds no photo in {', '.join(map(tree.place, folders.values()))}")


def _class_folders(tree: SourceTree, classes: Sequence[ObjectClass]) -> dict[str, PurePosixPath]:
    present = {each.name: TOP / each.name for each in classes if tree.is_folder(TOP / each.name)}
    # If folders are named after classes, the photos beside or below them are not of the requested class.
    if present or any(tree.is_folder(TOP / each.name) for each in known_classes()):
        return present
    flat = classes if len(classes) == 1 else [each for each in classes if each.name == tree.name]
    return {each.name: TOP for each in flat}


def _folder_items(tree: SourceTree, folder: PurePosixPath, class_name: str) -> Iterator[Item]:
    collection = f"photos {printable(str(tree))}"

    def item(file: PurePosixPath, verdict: tuple[str, str] | None) -> Item:
        files = (file,) if verdict is None else ()  # files outside of the folder are not even hashed
        return Item(
            id=relative_id(file.relative_to(folder)),
            class_name=class_name,
            source=printable(tree.place(file)),
            inputs=tuple(map(tree.place, files)),
            rejected=verdict,
            collection=collection,
            versions=tree.versions(*files),
        )

    skipped = list[tuple[PurePosixPath, Verdict]]()
    for file in tree.walk(folder, PHOTO_SUFFIXES, skipped):
        yield item(file, _why_not_photo(tree, file, folder))
    for file, (reason, detail) in skipped:
        yield item(file, (reason, printable(detail)))


def _why_not_photo(tree: SourceTree, file: PurePosixPath, folder: PurePosixPath) -> tuple[str, str] | None:
    """Reason and detail for rejecting a path without decoding it; None for a possible photo."""
    verdict = tree.why_not_usable(file, folder)
    if verdict is not None or file.suffix.lower() in PHOTO_SUFFIXES:
        return verdict
    start = tree.start(file, START_BYTES)
    # Unreadable files, and those zeroed by a disk error, are passed on: the decoder says what is wrong.
    if start is None or photo_format(start) is not None or (start and not start.strip(b"\0")):
        return None
    return "not_a_photo", describe_bytes(start) if start else "the file is empty"


ANNOTATION_FILE = "pix3d.json"
MAX_ANNOTATION_BYTES = 256 * 2**20  # the published file has 17 MB
UNKNOWN_CLASS = "unknown"  # its manifest holds the entries that belong to no class
SHOWN_CHARACTERS = 60


class AnnotationFileError(VonError, ValueError):
    """`pix3d.json` as a whole cannot be used."""


class _BadEntryError(VonError):
    """A field of an entry is missing or invalid; the message says which."""


def pix3d_items(tree: SourceTree, classes: Sequence[ObjectClass], settings: ImageSettings) -> Iterator[Item]:
    """The photos of these classes in a folder with Pix3D's layout, one item per entry of `pix3d.json`.

    Entries with an unknown category, and entries without one, are rejected rows of a class called `unknown`; they are
    skipped if only some of the known classes are requested.

    Args:
        tree: of the folder that holds `pix3d.json`, `img/` and `mask/`.
        classes: the classes to take.
        settings: which truncated, occluded and tilted photos are taken.

    Yields:
        items in the order of the file; rejected ones for invalid or unwanted entries.

    Raises:
        CollectionMissingError: it holds no `pix3d.json`.
        AnnotationFileError: it is too large, is not JSON or is not a list.
    """
    wanted = {each.pix3d_category: each.name for each in classes}
    everything = {each.name for each in known_classes()} <= {each.name for each in classes}
    reader = _Reader(tree, settings, f"pix3d {printable(str(tree))}")
    first, used = dict[str, str](), dict[str, str]()  # digests by id: of the first entry, and of the one that is used
    for entry in _read_entries(tree):
        category = entry.get("category") if isinstance(entry, dict) else None
        class_name = wanted.get(category) if isinstance(category, str) else None
        if class_name is not None:
            item, digest = reader.item(entry, class_name), _digest(entry)
            shared_id = item.id
            if first.setdefault(shared_id, digest) != digest:
                item = replace(item, id=file_safe(f"{shared_id}-{digest}"))
            if item.rejected is None and used.setdefault(shared_id, digest) != digest:
                detail = "an earlier entry with the same photo and mask has other values"
                item = replace(item, inputs=(), versions=(), rejected=("duplicate", detail))
            yield item
        elif everything:
            yield reader.stray(entry, category)


def _read_entries(tree: SourceTree) -> list[Any]:
    file = TOP / ANNOTATION_FILE
    path = tree.place(file)
    try:
        size = tree.size(file)
        if size > MAX_ANNOTATION_BYTES:
            raise AnnotationFileError(
                f"{path} has {size / 2**20:,.0f} MB, more than the {MAX_ANNOTATION_BYTES >> 20} that are read; "
                "split the collection into several folders"
            )
        entries = json.loads(tree.read(file))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CollectionMissingError(f"{tree} holds no {ANNOTATION_FILE}: give the folder Pix3D lies in") from error
    except OSError as error:
        raise AnnotationFileError(f"{path} cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, AnnotationFileError):
            raise
        raise AnnotationFileError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(entries, list):
        raise AnnotationFileError(f"{path} must hold a list of annotations, not {_kind_of(entries)}")
    return entries


@dataclass(frozen=True)
class _Reader:
    """Converts annotation entries to items."""

    tree: SourceTree
    settings: ImageSettings
    collection: str

    def item(self, entry: Mapping[str, Any], class_name: str) -> Item:
        """The item of an entry, rejected if the entry is invalid or not wanted."""
        item = Item(_id_of(entry), class_name, self._source_of(entry), (), collection=self.collection)
        try:
            if verdict := self._why_not_readable(entry):
                return replace(item, rejected=verdict)
            files = [PurePosixPath(entry[field]) for field in ("img", "mask")]
            item = replace(item, inputs=tuple(map(self.tree.place, files)), versions=self.tree.versions(*files))
            if verdict := self._why_not_wanted(entry):
                return replace(item, rejected=verdict)
            viewpoint = _viewpoint(entry)
            if abs(viewpoint.roll) > math.radians(self.settings.max_roll_deg):
                detail = f"the camera is rolled by {math.degrees(viewpoint.roll):.1f} degrees"
                return replace(item, rejected=("in_plane_rotation", detail))
            return replace(item, fields=_facts(entry, viewpoint))
        except _BadEntryError as error:
            return replace(item, rejected=("annotation_invalid", str(error)))

    def stray(self, entry: object, category: object) -> Item:
        """The rejected item of an entry that belongs to no class."""
        if not isinstance(entry, dict):
            verdict = "annotation_invalid", f"the entry is {_kind_of(entry)}: {_shown(entry)}"
        elif not isinstance(category, str):
            verdict = "annotation_invalid", f"category is {_kind_of(category)}: {_shown(category)}"
        else:
            verdict = "category_unknown", f"no file of manifests/classes has the category {_shown(category)}"
        known = entry if isinstance(entry, dict) else {"entry": entry}
        return Item(
            _id_of(known), UNKNOWN_CLASS, self._source_of(known), (), rejected=verdict, collection=self.collection
        )

    def _why_not_readable(self, entry: Mapping[str, Any]) -> tuple[str, str] | None:
        for field, missing in (("img", "source_missing"), ("mask", "mask_missing")):
            path = _relative_path(entry, field)
            if path is None:
                return "outside_root", f"{field} names {_shown(entry[field])}"
            if verdict := self.tree.why_not_usable(path):
                reason, detail = verdict
                return (missing if reason == "source_missing" else reason), f"{field}: {detail}"
        return None

    def _why_not_wanted(self, entry: Mapping[str, Any]) -> tuple[str, str] | None:
        keep = self.settings
        kept = {
            "truncated": keep.keep_truncated,
            "occluded": keep.keep_occluded,
            "slightly_occluded": keep.keep_slightly_occluded,
        }
        flags = {name: _boolean(entry, name) for name in kept}  # all are read, so that invalid ones are found
        for name, is_set in flags.items():
            if is_set and not kept[name]:
                return name, f"the annotation says {name}"
        return None

    def _source_of(self, entry: Mapping[str, Any]) -> str:
        named = entry.get("img")
        if not isinstance(named, str):
            return printable(self.tree.place(TOP / ANNOTATION_FILE))
        return printable(self.tree.place(PurePosixPath(named.encode("utf-8", "backslashreplace").decode())))


def _id_of(entry: Mapping[str, Any]) -> str:
    """`pix3d-0001` for `img/chair/0001.png`; anything unusual about the paths adds a hash."""
    image, mask = entry.get("img"), entry.get("mask")
    if not isinstance(image, str):
        return f"pix3d-{_digest(entry)}"
    path = PurePosixPath(image)
    usual = len(path.parts) == 3 and mask == f"mask/{path.parts[1]}/{path.stem}.png"
    return file_safe(f"pix3d-{path.stem}" if usual else f"pix3d-{path.stem}-{_digest([image, mask])}")


def _facts(entry: Mapping[str, Any], viewpoint: Viewpoint) -> dict[str, Any]:
    """The fields of the entry that the preparation needs."""
    width, height = _numbers(entry, "img_size", (2,)).tolist()
    left, top, right, bottom = box = _numbers(entry, "bbox", (4,)).tolist()
    if not (0 <= left <= right <= width and 0 <= top <= bottom <= height):
        raise _BadEntryError(f"bbox {_shown(box)} does not lie in a picture of {width:g} x {height:g}")
    return {
        "azimuth_deg": math.degrees(viewpoint.azimuth),
        "elevation_deg": math.degrees(viewpoint.elevation),
        "roll_deg": math.degrees(viewpoint.roll),
        "bbox": box,
        "img_size": [width, height],
        "truncated": _boolean(entry, "truncated"),
    }


def _viewpoint(entry: Mapping[str, Any]) -> Viewpoint:
    rotation, translation = _numbers(entry, "rot_mat", (3, 3)), _numbers(entry, "trans_mat", (3,))
    try:
        return viewpoint_of_pix3d(rotation, translation, _numbers(entry, "cam_position", (3,)))
    except ViewpointError as error:
        raise _BadEntryError(str(error)) from error


def _numbers(entry: Mapping[str, Any], field: str, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """A field as an array of finite numbers of this shape."""
    value = _field(entry, field)
    if not _is_nested(value, shape):
        raise _BadEntryError(f"{field} must be {' x '.join(map(str, shape))} finite numbers, not {_shown(value)}")
    return np.array(value, dtype=np.float64)


def _is_nested(value: object, shape: tuple[int, ...]) -> bool:
    if not shape:
        # Numbers beyond a million are invalid in every field; below, squares stay finite.
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6
    return isinstance(value, list) and len(value) == shape[0] and all(_is_nested(each, shape[1:]) for each in value)


def _boolean(entry: Mapping[str, Any], field: str) -> bool:
    """A flag, which Pix3D writes as a boolean or as a string."""
    value = _field(entry, field)
    match value.strip().lower() if isinstance(value, str) else value:
        case bool(flag):
            return flag
        case "true":
            return True
        case "false":
            return False
    raise _BadEntryError(f'{field} must be true, false, "true" or "false", not {_shown(value)}')


def _relative_path(entry: Mapping[str, Any], field: str) -> PurePosixPath | None:
    """A field that names a file below the root; None if the path itself leads outside."""
    value = _field(entry, field)
    if not isinstance(value, str) or not value.strip():
        raise _BadEntryError(f"{field} must be a path, not {_shown(value)}")
    path = PurePosixPath(value)
    return None if path.is_absolute() or ".." in path.parts else path


def _field(entry: Mapping[str, Any], field: str) -> Any:
    if field not in entry:
        raise _BadEntryError(f"{field} is missing")
    return entry[field]


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def _kind_of(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
