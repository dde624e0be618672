"""Finds the models of a collection: ShapeNetCore trees and plain folders of meshes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

from vondata.classes import ObjectClass
from vondata.frames import Axis, axes_to_object
from vondata.io.listing import CollectionMissingError, relative_id, walk_files
from vondata.types import Item, file_safe, printable

Source = Literal["mesh", "binvox"]
MESH_SUFFIXES = (".obj", ".off", ".ply", ".stl", ".glb", ".gltf")
BINVOX_SUFFIX = ".binvox"
# Of formats that are not read: such files are rows with a reason, and not passed over without a word.
FOREIGN_SUFFIXES = frozenset(
    {".3ds", ".3mf", ".amf", ".blend", ".dae", ".fbx", ".iges", ".igs", ".lwo", ".ma", ".max", ".mb", ".skp", ".step"}
    | {".stp", ".usd", ".usda", ".usdc", ".usdz", ".wrl", ".x3d"}
)
# What a model's folder is searched for first: version 2 of ShapeNetCore, then version 1.
_SHAPENET_MESHES = ("models/model_normalized.obj", "model.obj")
_SHAPENET_BINVOX = ("models/model_normalized.solid.binvox", "model.solid.binvox")
_SHAPENET_UP: Axis = "y"
# By its own README, version 1 of ShapeNetCore has its models' front at +x; in version 2 it is at -z.
_SHAPENET_FRONT: dict[int, Axis] = {1: "x", 2: "-z"}
# Which of several grids of one model: the solid, then what may be one, then the surface alone.
_GRID_RANK = {"solid": 0, "presolid": 1, "": 2, "surface": 3}


def shapenet_items(
    root: Path,
    classes: Sequence[ObjectClass],
    *,
    source: Source = "mesh",
    up: Axis | None = None,
    front: Axis | None = None,
) -> Iterator[Item]:
    """The models of these classes in a ShapeNetCore tree (version 1 or 2), one item per model folder.

    Args:
        root: the folder with one folder per synset.
        classes: the classes to look for; one without a folder has no items.
        source: which file is read where a model has both a mesh and .binvox files; the other one is the fall-back.
        up: the axis that points up; None takes y.
        front: the axis that the object's front faces; None takes +x for files in the layout of version 1 (`model.obj`
            in the model's folder) and -z for all others.

    Yields:
        items in order of class and model, rejected ones for folders without a mesh.

    Raises:
        CollectionMissingError: root is not a folder, or none of the classes' synsets is in it.
        ValueError: up and front lie on the same axis.
    """
    for version in (1, 2):
        axes_to_object(up or _SHAPENET_UP, front or _SHAPENET_FRONT[version])
    if not root.is_dir():
        raise CollectionMissingError(f"{root} is not a folder: give the folder that holds ShapeNetCore's synsets")
    present = [each for each in classes if (root / each.synset).is_dir()]
    if not present:
        synsets = ", ".join(f"{each.synset} ({each.name})" for each in classes)
        raise CollectionMissingError(f"{root} holds none of the synset folders {synsets}")
    for each in present:
        collection = _Collection(root, each.name, f"shapenet {printable(str(root))}", up, front)
        for name in sorted(os.listdir(root / each.synset)):
            folder = root / each.synset / name
            if not name.startswith(".") and folder.is_dir():
                yield _model_item(folder, collection, source)


def mesh_folder_items(
    root: Path,
    class_name: str,
    up: Axis,
    front: Axis,
    *,
    source: Source = "mesh",
    patterns: Sequence[str] = (),
) -> Iterator[Item]:
    """The meshes anywhere under a folder, one item per file; linked folders are not followed.

    Args:
        root: the folder to search.
        class_name: the class all of them belong to.
        up: the axis of the meshes that points up.
        front: the axis of the meshes that the object's front faces.
        source: whether meshes or .binvox files are taken; of several grids of one model the solid.
        patterns: of these files one at least must match the path below the root, or the end of it, such as
            `normalized_model.obj` or `*/models/*.ply`; none takes all files with a suffix of a mesh.

    Raises:
        CollectionMissingError: root is not a folder, or there is no such file under it.
        ValueError: up and front are not two different axes.
    """
    axes_to_object(up, front)
    if not root.is_dir():
        raise CollectionMissingError(f"{root} is not a folder: give the folder that holds the meshes")
    collection = _Collection(root, class_name, f"meshes {printable(str(root))}", up, front)
    suffixes = (*MESH_SUFFIXES, *FOREIGN_SUFFIXES) if source == "mesh" else (BINVOX_SUFFIX,)
    empty, unreadable = True, list[OSError]()
    for folder, paths in groupby(walk_files(root, MESH_SUFFIXES, unreadable), key=lambda path: path.parent):
        chosen = [path for path in paths if _is_chosen(path.relative_to(root), suffixes, patterns)]
        solids = _solids(chosen)
        for path in chosen:
            empty, id = False, relative_id(path.relative_to(root))
            if (solid := solids.get(path, path)) != path:
                detail = f"{printable(solid.name)} in {printable(str(folder))} is taken, the solid of the same model"
                yield collection.reject(id, path, "surface_grid", detail)
            else:
                yield collection.item(id, path)
    for error in unreadable:
        place = Path(os.fsdecode(error.filename))
        yield collection.reject(relative_id(place.relative_to(root)), place, "source_unreadable", str(error))
    if empty and not unreadable:
        known = MESH_SUFFIXES if source == "mesh" else suffixes
        wanted = f"that matches {' or '.join(patterns)}" if patterns else f"ending in {', '.join(known)}"
        raise CollectionMissingError(f"{root} holds no file {wanted}")


def _is_chosen(relative: Path, suffixes: Sequence[str], patterns: Sequence[str]) -> bool:
    if patterns:
        return any(relative.match(pattern) for pattern in patterns)
    return relative.suffix.lower() in suffixes


def _solids(paths: Sequence[Path]) -> dict[Path, Path]:
    """For each .binvox file of a folder, the one of the same model that is most likely its solid."""
    groups: dict[str, list[Path]] = {}
    for path in paths:
        if path.suffix.lower() == BINVOX_SUFFIX:
            groups.setdefault(_grid_of(path)[0], []).append(path)
    solid = {name: min(group, key=lambda path: (_grid_of(path)[1], path.name)) for name, group in groups.items()}
    return {path: solid[name] for name, group in groups.items() for path in group}


def _grid_of(path: Path) -> tuple[str, int]:
    """The name of the model that a .binvox file belongs to, and how far from a solid it is by its name."""
    name, _, kind = path.stem.rpartition(".")
    if name and kind.lower() in _GRID_RANK:
        return name, _GRID_RANK[kind.lower()]
    return path.stem, _GRID_RANK[""]


@dataclass(frozen=True)
class _Collection:
    """What all items of one folder share."""

    root: Path
    class_name: str
    name: str
    up: Axis | None
    front: Axis | None

    def item(self, id: str, path: Path, version: int = 2) -> Item:
        """An item of a file, in the axes given or in those of a version of ShapeNetCore."""
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
            fields={"up": self.up or _SHAPENET_UP, "front": self.front or _SHAPENET_FRONT[version]},
            collection=self.name,
        )

    def reject(self, id: str, path: Path, reason: str, detail: str) -> Item:
        """A rejected item."""
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
    found = list(walk_files(folder, MESH_SUFFIXES, unreadable))
    meshes = _ranked(found, folder, _SHAPENET_MESHES, MESH_SUFFIXES)
    grids = _ranked(found, folder, _SHAPENET_BINVOX, (BINVOX_SUFFIX,))
    choices = meshes + grids if source == "mesh" else grids + meshes
    if choices:
        return collection.item(id, choices[0], _version(choices[0].relative_to(folder)))
    if unreadable:
        return collection.reject(id, folder, "source_unreadable", str(unreadable[0]))
    searched = (
        f"none of {', '.join(_SHAPENET_MESHES)}, and no other file ending in {', '.join(MESH_SUFFIXES)}, .binvox"
    )
    return collection.reject(id, folder, "no_mesh", searched)


def _version(relative: Path) -> int:
    """The version of ShapeNetCore in whose layout a file lies: `model.*` in the model's own folder is the first."""
    return 1 if len(relative.parts) == 1 and relative.name.split(".")[0] == "model" else 2


def _ranked(found: list[Path], folder: Path, known: tuple[str, ...], suffixes: tuple[str, ...]) -> list[Path]:
    """The files with one of the suffixes, those with a known name first, of grids the solid ones."""
    matching = [path for path in found if path.suffix.lower() in suffixes]
    matching.sort(key=lambda path: _grid_of(path)[1])
    first = [path for name in known if (path := folder / name) in matching]
    return first + [path for path in matching if path not in first]
