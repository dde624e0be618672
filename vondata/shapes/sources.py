"""Lists the models of ShapeNetCore trees and mesh folders, and finds duplicate shapes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vondata.classes import ObjectClass, listed
from vondata.dataset.manifest import split_of
from vondata.frames import Axis, axes_to_object
from vondata.io.listing import TOP, CollectionMissingError, SourceTree, Verdict, relative_id
from vondata.pipeline.run import Review
from vondata.shapes.reading import files_beside
from vondata.types import Item, file_safe, printable

Source = Literal["mesh", "binvox"]
MESH_SUFFIXES = (".obj", ".off", ".ply", ".stl", ".glb", ".gltf")
BINVOX_SUFFIX = ".binvox"
# Unsupported formats: such files become rejected rows with a reason instead of being skipped silently.
FOREIGN_SUFFIXES = frozenset(
    {".3ds", ".3mf", ".amf", ".blend", ".dae", ".fbx", ".iges", ".igs", ".lwo", ".ma", ".max", ".mb", ".skp", ".step"}
    | {".stp", ".usd", ".usda", ".usdc", ".usdz", ".wrl", ".x3d"}
)
PACKED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".zip")  # behind that of a mesh; rejected, too, not skipped
_SHAPE_SUFFIXES = (*MESH_SUFFIXES, BINVOX_SUFFIX, *FOREIGN_SUFFIXES)
# Files tried first in a model's folder: version 2 of ShapeNetCore, then version 1.
_SHAPENET_MESHES = ("models/model_normalized.obj", "model.obj")
_SHAPENET_BINVOX = ("models/model_normalized.solid.binvox", "model.solid.binvox")
_SHAPENET_UP: Axis = "y"
# By its own README, version 1 of ShapeNetCore has its models' front at +x; in version 2 it is at -z.
_SHAPENET_FRONT: dict[int, Axis] = {1: "x", 2: "-z"}
# Order of preference among several grids of one model: solid, possibly solid, surface only.
_GRID_RANK = {"solid": 0, "presolid": 1, "": 2, "surface": 3}


def shapenet_items(
    tree: SourceTree,
    classes: Sequence[ObjectClass],
    *,
    source: Source = "mesh",
    up: Axis | None = None,
    front: Axis | None = None,
) -> Iterator[Item]:
    """The models of these classes in a ShapeNetCore tree (version 1 or 2), one item per model folder.

    A .binvox file named like the mesh is the same model and no item of its own. Every other mesh is a rejected item:
    a second one in a model's folder (`second_mesh`), one directly in the synset's folder (`loose_mesh`).

    Args:
        tree: of the folder with one folder per synset.
        classes: the classes to look for; one without a folder has no items.
        source: which file is read where a model has both a mesh and .binvox files; the other one is the fallback.
        up: the axis that points up; None takes y.
        front: the axis that the object's front faces; None takes +x for files in the layout of version 1 (`model.obj`
            in the model's folder) and -z for all others.

    Yields:
        items in order of class and model, rejected ones for folders without a mesh and for further meshes.

    Raises:
        CollectionMissingError: it is not a folder, or none of the classes' synsets is in it.
        ValueError: up and front lie on the same axis.
    """
    for version in (1, 2):
        axes_to_object(up or _SHAPENET_UP, front or _SHAPENET_FRONT[version])
    if not tree.is_folder():
        raise CollectionMissingError(f"{tree} is not a folder: give the folder that holds ShapeNetCore's synsets")
    wanted = [each for each in classes if each.synset]
    if not wanted:
        named = ", ".join(each.name for each in classes)
        raise CollectionMissingError(f"ShapeNetCore has no folder of class {named}: prepare its meshes from a folder")
    present = [each for each in wanted if tree.is_folder(TOP / each.synset)]
    if not present:
        synsets = listed([f"{each.synset} ({each.name})" for each in wanted])
        raise CollectionMissingError(f"{tree} holds none of the synset folders {synsets}")
    for each in present:
        collection = _Collection(tree, each.name, f"shapenet {printable(str(tree))}", up, front)
        for name, is_folder in tree.entries(TOP / each.synset).items():
            if name.startswith("."):
                continue
            file = TOP / each.synset / name
            if is_folder and (verdict := tree.why_endless(file)):
                yield collection.reject(file_safe(name), file, *verdict)
            elif is_folder:
                yield from _model_items(file, collection, source)
            elif _is_chosen(file, _SHAPE_SUFFIXES, ()):
                detail = "it lies beside the models' folders, not in one"
                yield collection.reject(relative_id(PurePosixPath(name)), file, "loose_mesh", detail)
            elif (verdict := tree.why_not_usable(file)) and not file.suffix:  # a link that may have led to a folder
                yield collection.reject(file_safe(name), file, *verdict)


def mesh_folder_items(
    tree: SourceTree,
    class_name: str,
    up: Axis,
    front: Axis,
    *,
    source: Source = "mesh",
    patterns: Sequence[str] = (),
) -> Iterator[Item]:
    """The meshes anywhere under a folder, one item per file; a linked folder is a rejected item and not followed.

    Args:
        tree: of the folder to search.
        class_name: the class all of them belong to.
        up: the axis of the meshes that points up.
        front: the axis of the meshes that the object's front faces.
        source: whether to take meshes or .binvox files; of several grids of one model, the solid one.
        patterns: glob patterns of which at least one must match the end of the path below the folder, such as
            `normalized_model.obj` or `*/models/*.ply`; without patterns every file with a known suffix is taken.

    Raises:
        CollectionMissingError: it is not a folder, or there is no such file under it.
        ValueError: up and front are not two different axes.
    """
    axes_to_object(up, front)
    if not tree.is_folder():
        raise CollectionMissingError(f"{tree} is not a folder: give the folder that holds the meshes")
    collection = _Collection(tree, class_name, f"meshes {printable(str(tree))}", up, front)
    suffixes = (*MESH_SUFFIXES, *FOREIGN_SUFFIXES) if source == "mesh" else (BINVOX_SUFFIX,)
    empty, skipped = True, list[tuple[PurePosixPath, Verdict]]()
    for folder, files in groupby(tree.walk(TOP, MESH_SUFFIXES, skipped), key=lambda file: file.parent):
        chosen = [file for file in files if _is_chosen(file, suffixes, patterns)]
        solids = _solids(chosen)
        for file in chosen:
            empty, id = False, relative_id(file)
            if (solid := solids.get(file, file)) != file:
                where = printable(tree.place(folder))
                detail = f"{printable(solid.name)} in {where} is taken, the solid of the same model"
                yield collection.reject(id, file, "surface_grid", detail)
            else:
                yield collection.item(id, file)
    for file, verdict in skipped:
        yield collection.reject(relative_id(file), file, *verdict)
    if empty and not skipped:
        known = MESH_SUFFIXES if source == "mesh" else suffixes
        wanted = f"that matches {' or '.join(patterns)}" if patterns else f"ending in {', '.join(known)}"
        raise CollectionMissingError(f"{tree} holds no file {wanted}")


def _is_chosen(file: PurePosixPath, suffixes: Sequence[str], patterns: Sequence[str]) -> bool:
    if patterns:
        return any(file.match(pattern) for pattern in patterns)
    kind = file.suffix.lower()
    return kind in suffixes or (kind in PACKED_SUFFIXES and PurePosixPath(file.stem).suffix.lower() in suffixes)


def _solids(paths: Sequence[PurePosixPath]) -> dict[PurePosixPath, PurePosixPath]:
    """Maps each .binvox file of a folder to the file of the same model that is most likely solid."""
    groups: dict[str, list[PurePosixPath]] = {}
    for path in paths:
        if path.suffix.lower() == BINVOX_SUFFIX:
            groups.setdefault(_grid_of(path)[0], []).append(path)
    solid = {name: min(group, key=lambda path: (_grid_of(path)[1], path.name)) for name, group in groups.items()}
    return {path: solid[name] for name, group in groups.items() for path in group}


def _grid_of(path: PurePosixPath) -> tuple[str, int]:
    """The model name and `_GRID_RANK` of a .binvox file, from its file name."""
    name, _, kind = path.stem.rpartition(".")
    if name and kind.lower() in _GRID_RANK:
        return name, _GRID_RANK[kind.lower()]
    return path.stem, _GRID_RANK[""]


@dataclass(frozen=True)
class _Collection:
    """The fields that all items of one folder share."""

    tree: SourceTree
    class_name: str
    name: str
    up: Axis | None
    front: Axis | None

    def item(self, id: str, file: PurePosixPath, version: int = 2) -> Item:
        """The item of a file, with the given axes or those of a ShapeNetCore version."""
        if verdict := self.tree.why_not_usable(file):
            return self.reject(id, file, *verdict)
        place = self.tree.place(file)
        return Item(
            id=id,
            class_name=self.class_name,
            source=printable(place),
            inputs=(place, *self._beside(place)),
            fields={"up": self.up or _SHAPENET_UP, "front": self.front or _SHAPENET_FRONT[version]},
            collection=self.name,
            versions=self.tree.versions(file),
        )

    def _beside(self, place: str) -> tuple[str, ...]:
        """The external files of a mesh; for a URL they are unknown and not fetched."""
        return () if self.tree.folder.is_remote else files_beside(Path(place))

    def reject(self, id: str, file: PurePosixPath, reason: str, detail: str) -> Item:
        """A rejected item."""
        return Item(
            id=id,
            class_name=self.class_name,
            source=printable(self.tree.place(file)),
            inputs=(),
            rejected=(reason, printable(detail)),
            collection=self.name,
        )


def _model_items(folder: PurePosixPath, collection: _Collection, source: Source) -> Iterator[Item]:
    """The item of a model's folder, and rejected ones for its further meshes, unreadable and linked folders."""
    id, skipped = file_safe(folder.name), list[tuple[PurePosixPath, Verdict]]()
    found = list(collection.tree.walk(folder, MESH_SUFFIXES, skipped))
    meshes = _ranked(found, folder, _SHAPENET_MESHES, MESH_SUFFIXES)
    grids = _ranked(found, folder, _SHAPENET_BINVOX, (BINVOX_SUFFIX,))
    known = meshes + grids if source == "mesh" else grids + meshes
    read = set(known)
    choices = known + [file for file in found if file not in read and _is_chosen(file, _SHAPE_SUFFIXES, ())]
    if choices:
        yield collection.item(id, choices[0], _version(choices[0].relative_to(folder)))
    elif not skipped:
        searched = (
            f"none of {', '.join(_SHAPENET_MESHES)}, and no other file ending in {', '.join(MESH_SUFFIXES)}, .binvox"
        )
        yield collection.reject(id, folder, "no_mesh", searched)
    for file in choices[1:]:
        if not _is_same_model(file, choices[0]):
            detail = f"{choices[0].relative_to(folder)} is taken, as a folder holds one model"
            yield collection.reject(relative_id(file.relative_to(folder.parent)), file, "second_mesh", detail)
    for number, (file, verdict) in enumerate(skipped):
        is_model = not choices and number == 0
        own_id = id if is_model else relative_id(file.relative_to(folder.parent))
        yield collection.reject(own_id, folder if is_model else file, *verdict)


def _is_same_model(file: PurePosixPath, other: PurePosixPath) -> bool:
    """Whether one of two files is the .binvox grid of the other, by their names; two meshes are two models."""
    is_grid = BINVOX_SUFFIX in (file.suffix.lower(), other.suffix.lower())
    return is_grid and _grid_of(file)[0] == _grid_of(other)[0]


def _version(relative: PurePosixPath) -> int:
    """The ShapeNetCore version of a file's layout: 1 for `model.*` directly in the model's folder, else 2."""
    return 1 if len(relative.parts) == 1 and relative.name.split(".")[0] == "model" else 2


def _ranked(
    found: list[PurePosixPath], folder: PurePosixPath, known: tuple[str, ...], suffixes: tuple[str, ...]
) -> list[PurePosixPath]:
    """The files with one of the suffixes: known names first, then by `_GRID_RANK`."""
    matching = [path for path in found if path.suffix.lower() in suffixes]
    matching.sort(key=lambda path: _grid_of(path)[1])
    first = [path for name in known if (path := folder / name) in matching]
    return first + [path for path in matching if path not in first]


Bytes = npt.NDArray[np.uint8]
Row = Mapping[str, Any]

REASON = "duplicate_shape"
POINTS = 6  # along an axis
MAX_STEPS = 2  # in 1/255 of the cube's edge: a voxel at 128^3
MAX_AREA = 0.002  # relative to the larger area: coordinates with three digits
_USED = ("id", "status", "reason", "leaked_voxels", "distance_hash", "area", "resolution", "duplicate_of")
_FORM = re.compile(rf"[0-9a-f]{{{2 * POINTS**3}}}")


def distance_hash(distance: npt.NDArray[np.float32]) -> str:
    """The hash of an (N, N, N) distance field in cube edges, two hexadecimal digits a point."""
    at = (np.arange(POINTS) + 0.5) / POINTS * distance.shape[0] - 0.5
    low = np.floor(at).astype(np.int64)
    high, share = np.minimum(low + 1, distance.shape[0] - 1), at - low
    values: npt.NDArray[np.floating[Any]] = distance
    for axis in range(3):
        across = share.reshape([-1 if each == axis else 1 for each in range(3)])
        values = values.take(low, axis) * (1 - across) + values.take(high, axis) * across
    steps = np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)
    return bytes(steps.tobytes()).hex()


def duplicate_review(drop: bool) -> Review:
    """The review of a class's shapes: duplicates share the split of their original, or are dropped.

    Args:
        drop: reject duplicates; otherwise `duplicate_of` and `split` are set, and earlier rejections are taken back.
    """
    return Review(REASON, _rejections if drop else lambda rows: {}, _unmarked if drop else _marked)


def find_same_shapes(rows: Iterable[Row]) -> dict[str, str]:
    """Maps the id of each duplicate shape to the id of its original.

    Of equal shapes the original is the one with the fewest voxels behind holes, then the one with the lowest id.

    Args:
        rows: of a class's shapes; those that are prepared, or were rejected as duplicates, are compared.
    """
    from scipy.spatial import KDTree

    shapes = sorted((row for row in rows if _takes_part(row)), key=lambda row: (row["leaked_voxels"] or 0, row["id"]))
    if len(shapes) < 2:
        return {}
    hashes = np.frombuffer(bytes.fromhex("".join(row["distance_hash"] for row in shapes)), np.uint8)
    hashes = hashes.reshape(-1, POINTS**3)
    area = np.array([row["area"] for row in shapes])
    size = np.array([row["resolution"] for row in shapes])
    # Means over blocks of points differ by no more than the points do, and 27 dimensions suit a k-d tree.
    blocks = hashes.reshape(-1, 3, 2, 3, 2, 3, 2).mean(axis=(2, 4, 6)).reshape(-1, 27)
    pairs = KDTree(blocks).query_pairs(MAX_STEPS + 1e-6, p=np.inf, output_type="ndarray")
    original: dict[int, int] = {}
    for first, second in sorted(map(tuple, np.sort(pairs, axis=1).tolist()), key=lambda pair: (pair[1], pair[0])):
        is_same = size[first] == size[second] and _are_near(hashes[first], hashes[second], area[[first, second]])
        if is_same and first not in original:
            original.setdefault(second, first)
    return {shapes[second]["id"]: shapes[first]["id"] for second, first in original.items()}


def _rejections(rows: Iterable[Row]) -> dict[str, tuple[str, str]]:
    found = find_same_shapes(rows)
    return {id: (REASON, f"the same shape as {original}, which is kept") for id, original in found.items()}


def _marked(rows: Iterable[Row]) -> dict[str, dict[str, str | None]]:
    """New values for the rows whose `duplicate_of` is out of date."""
    known = [{name: row.get(name) for name in _USED} for row in rows]
    return _changes(known, find_same_shapes(known))


def _unmarked(rows: Iterable[Row]) -> dict[str, dict[str, str | None]]:
    return _changes(rows, {})


def _changes(rows: Iterable[Row], found: Mapping[str, str]) -> dict[str, dict[str, str | None]]:
    changes = {}
    for row in rows:
        original = found.get(row["id"])
        if row.get("duplicate_of") != original:
            changes[row["id"]] = {"duplicate_of": original, "split": split_of(original or row["id"])}
    return changes


def _takes_part(row: Row) -> bool:
    text, area = row.get("distance_hash"), row.get("area")
    is_hashed = isinstance(text, str) and _FORM.fullmatch(text) is not None
    return is_hashed and area is not None and (row["status"] == "prepared" or row["reason"] == REASON)


def _are_near(first: Bytes, second: Bytes, area: npt.NDArray[np.float64]) -> bool:
    steps = np.abs(first.astype(np.int16) - second.astype(np.int16)).max()
    return bool(steps <= MAX_STEPS and abs(area[0] - area[1]) <= MAX_AREA * area.max())
