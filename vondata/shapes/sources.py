"""Which models a collection holds: ShapeNetCore trees and plain folders of meshes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vondata.classes import ObjectClass
from vondata.frames import Axis, axes_to_object
from vondata.io.listing import CollectionMissingError
from vondata.types import Item, file_safe, printable

Source = Literal["mesh", "binvox"]
MESH_SUFFIXES = (".obj", ".off", ".ply", ".stl", ".glb", ".gltf")
BINVOX_SUFFIX = ".binvox"
# What a model's folder is searched for first: version 2 of ShapeNetCore, then version 1.
_SHAPENET_MESHES = ("models/model_normalized.obj", "model.obj")
_SHAPENET_BINVOX = ("models/model_normalized.solid.binvox", "models/model_normalized.surface.binvox", "model.binvox")


def shapenet_items(root: Path, classes: Sequence[ObjectClass], *, source: Source = "mesh") -> Iterator[Item]:
    """The models of these classes in a ShapeNetCore tree (version 1 or 2), one item per model folder.

    Args:
        root: the folder with one folder per synset.
        classes: the classes to look for; one without a folder has no items.
        source: which file is read where a model has both a mesh and .binvox files; the other one is the fall-back.

    Yields:
        items in order of class and model, rejected ones for folders without a mesh.

    Raises:
        CollectionMissingError: root is not a folder, or none of the classes' synsets is in it.
    """
    if not root.is_dir():
        raise CollectionMissingError(f"{root} is not a folder: give the folder that holds ShapeNetCore's synsets")
    present = [each for each in classes if (root / each.synset).is_dir()]
    if not present:
        synsets = ", ".join(f"{each.synset} ({each.name})" for each in classes)
        raise CollectionMissingError(f"{root} holds none of the synset folders {synsets}")
    for each in present:
        collection = _Collection(root, each.name, "y", "-z", f"shapenet {printable(str(root))}")
        for name in sorted(os.listdir(root / each.synset)):
            folder = root / each.synset / name
            if not name.startswith(".") and folder.is_dir():
                yield _model_item(folder, collection, source)


def mesh_folder_items(
    root: Path, class_name: str, up: Axis, front: Axis, *, source: Source = "mesh"
) -> Iterator[Item]:
    """The meshes anywhere under a folder, one item per file; linked folders are not followed.

    Args:
        root: the folder to search.
        class_name: the class all of them belong to.
        up: the axis of the meshes that points up.
        front: the axis of the meshes that the object's front faces.
        source: whether meshes or .binvox files are taken.

    Raises:
        CollectionMissingError: root is not a folder, or there is no such file under it.
        ValueError: up and front are not two different axes.
    """
    axes_to_object(up, front)
    if not root.is_dir():
        raise CollectionMissingError(f"{root} is not a folder: give the folder that holds the meshes")
    collection = _Collection(root, class_name, up, front, f"meshes {printable(str(root))}")
    suffixes = MESH_SUFFIXES if source == "mesh" else (BINVOX_SUFFIX,)
    empty, unreadable = True, list[OSError]()
    for path in _walk(root, unreadable):
        if path.suffix.lower() in suffixes:
            empty = False
            yield collection.item(_relative_id(path.relative_to(root)), path)
    for error in unreadable:
        folder = Path(os.fsdecode(error.filename))
        yield collection.reject(_relative_id(folder.relative_to(root)), folder, "source_unreadable", str(error))
    if empty and not unreadable:
        raise CollectionMissingError(f"{root} holds no file ending in {', '.join(suffixes)}")


@dataclass(frozen=True)
class _Collection:
    """What all items of one folder share."""

    root: Path
    class_name: str
    up: Axis
    front: Axis
    name: str

    def item(self, id: str, path: Path) -> Item:
        target = os.path.realpath(path)
        if not Path(target).is_relative_to(os.path.realpath(self.root)):
            return self.reject(id, path, "outside_root", f"the file is a link to {printable(target)}")
        if not os.path.exists(path):
            return self.reject(id, path, "source_missing", "the file is a link to nothing")
        if not os.path.isfile(path):
            return self.reject(id, path, "source_unreadable", "not a regular file")
        return Item(
            id=id,
            class_name=self.class_name,
            source=printable(str(path)),
            inputs=(str(path),),
            fields={"up": self.up, "front": self.front},
            collection=self.name,
        )

    def reject(self, id: str, path: Path, reason: str, detail: str) -> Item:
        return Item(
            id=id,
            class_name=self.class_name,
            source=printable(str(path)),
            inputs=(),
            rejected=(reason, printable(detail)),
            collection=self.name,
        )


def _model_item(folder: Path, collection: _Collection, source: Source) -> Item:
    id, unreadable = file_safe(folder.name), list[OSError]()
    found = list(_walk(folder, unreadable))
    meshes = _ranked(found, folder, _SHAPENET_MESHES, MESH_SUFFIXES)
    grids = _ranked(found, folder, _SHAPENET_BINVOX, (BINVOX_SUFFIX,))
    choices = meshes + grids if source == "mesh" else grids + meshes
    if choices:
        return collection.item(id, choices[0])
    if unreadable:
        return collection.reject(id, folder, "source_unreadable", str(unreadable[0]))
    searched = (
        f"none of {', '.join(_SHAPENET_MESHES)}, and no other file ending in {', '.join(MESH_SUFFIXES)}, .binvox"
    )
    return collection.reject(id, folder, "no_mesh", searched)


def _ranked(found: list[Path], folder: Path, known: tuple[str, ...], suffixes: tuple[str, ...]) -> list[Path]:
    """The files with one of the suffixes, those with a known name first."""
    matching = [path for path in found if path.suffix.lower() in suffixes]
    first = [path for name in known if (path := folder / name) in matching]
    return first + [path for path in matching if path not in first]


def _walk(folder: Path, unreadable: list[OSError]) -> Iterator[Path]:
    """All entries under a folder that are not folders, and empty folders that look like a mesh; ordered by path.

    Hidden ones are left out, linked folders are not followed, and folders that cannot be listed go to `unreadable`.
    """
    for parent, folders, names in os.walk(folder, onerror=unreadable.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))
        if not folders and not names and Path(parent).suffix.lower() in MESH_SUFFIXES:
            yield Path(parent)


def _relative_id(relative: Path) -> str:
    """An id from the path below the root: readable, and with a hash that keeps `a/b.obj` and `a_b.ply` apart."""
    digest = hashlib.sha256(os.fsencode(relative.as_posix())).hexdigest()[:8]
    return file_safe(f"{file_safe('_'.join(relative.with_suffix('').parts))}-{digest}")
