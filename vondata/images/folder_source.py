"""Photos without annotation: a folder per class, or one folder for one class. The bytes tell what is a photo."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from vondata.classes import ObjectClass, known_classes
from vondata.images.photo_files import describe_bytes, photo_format
from vondata.io.listing import CollectionMissingError, relative_id, walk_files, why_not_usable
from vondata.types import Item, printable

# Names under which a file is taken for a photo whatever its bytes are: a row says why it cannot be used.
PHOTO_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"),
    *(".avif", ".heic", ".heif", ".jp2", ".jxl", ".ppm", ".pgm", ".tga", ".svg", ".psd"),
)
START_BYTES = 64


def photo_items(root: Path, classes: Sequence[ObjectClass]) -> Iterator[Item]:
    """The files anywhere under `<root>/<class>`, one item each; those that are no photos are rejected items.

    Hidden files and folders are left out, linked folders are not followed. A root without folders of classes is taken
    for the folder of one class: the only one asked for, or the one of its name.

    Args:
        root: the folder with the photos.
        classes: the classes to take; one without a folder has no items.

    Yields:
        items in order of class and path.

    Raises:
        CollectionMissingError: root is no folder, holds none of the classes, or holds no photo.
    """
    if not root.is_dir():
        raise CollectionMissingError(
            f"{root} is not a folder: give the folder that holds a folder of photos per class"
        )
    folders = _class_folders(root, classes)
    if not folders:
        names = ", ".join(each.name for each in classes)
        raise CollectionMissingError(
            f"{root} holds none of the folders {names}; if all of its photos are of one class, name that class"
        )
    found = False
    for name, folder in folders.items():
        for item in _folder_items(folder, name, f"photos {printable(str(root))}"):
            found = True
            yield item
    if not found:
        raise CollectionMissingError(f"{root} holds no photo in {', '.join(str(each) for each in folders.values())}")


def _class_folders(root: Path, classes: Sequence[ObjectClass]) -> dict[str, Path]:
    present = {each.name: root / each.name for each in classes if (root / each.name).is_dir()}
    # Where folders carry classes' names, the photos beside or below them are not of the class asked for.
    if present or any((root / each.name).is_dir() for each in known_classes()):
        return present
    flat = classes if len(classes) == 1 else [each for each in classes if each.name == root.resolve().name]
    return {each.name: root for each in flat}


def _folder_items(folder: Path, class_name: str, collection: str) -> Iterator[Item]:
    def item(path: Path, verdict: tuple[str, str] | None) -> Item:
        return Item(
            id=relative_id(path.relative_to(folder)),
            class_name=class_name,
            source=printable(str(path)),
            inputs=(str(path),) if verdict is None else (),  # what is outside of the folder is not even hashed
            rejected=verdict,
            collection=collection,
        )

    unreadable = list[OSError]()
    for path in walk_files(folder, PHOTO_SUFFIXES, unreadable):
        yield item(path, _why_not_photo(path, folder))
    for error in unreadable:
        yield item(Path(os.fsdecode(error.filename)), ("source_unreadable", printable(str(error))))


def _why_not_photo(path: Path, folder: Path) -> tuple[str, str] | None:
    """Reason and detail for which a path is not even tried; None for what may be a photo."""
    verdict = why_not_usable(path, folder)
    if verdict is not None or path.suffix.lower() in PHOTO_SUFFIXES:
        return verdict
    try:
        with path.open("rb") as file:
            start = file.read(START_BYTES)
    except OSError:
        return None  # whose work says why, and is done again by the next run
    # The listing of a URL is laid out as files without content: those are tried.
    if photo_format(start) is not None or (start and not start.strip(b"\0")):
        return None
    return "not_a_photo", describe_bytes(start) if start else "the file is empty"
