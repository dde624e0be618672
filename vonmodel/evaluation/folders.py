"""Reading folders to score: images, meshes, point clouds and voxels, prepared datasets and generated results.

Items are read one by one. A file that cannot be used is left out with its reason.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from vondata.dataset.manifest import Split, dataset_classes, manifest_path, prepared, read_manifest
from vondata.dataset.shape_file import load_distance, load_occupancy
from vondata.dataset.shards import OutputFiles
from vondata.errors import VonError
from vondata.frames import Axis, axes_to_object
from vondata.images.decoding import decode_photo
from vondata.images.settings import ImageSettings
from vondata.images.sources import PHOTO_SUFFIXES
from vondata.io.files import ReadableFile
from vondata.io.listing import TOP, Verdict, open_tree
from vondata.shapes import binvox
from vondata.shapes.implicit import at_least_as_thick, signed_distance
from vondata.shapes.point_distance import Points
from vondata.shapes.polygons import TriangleSoup
from vondata.shapes.reading import detect_format, read_triangles
from vondata.shapes.source_file import Limits, read_bytes
from vondata.shapes.sources import MESH_SUFFIXES
from vondata.types import Kind, Rejected, printable
from vonmodel.config import ModelConfig
from vonmodel.data.resampling import held_thickness
from vonmodel.evaluation.inception import file_sha256
from vonmodel.evaluation.samples import in_order_of_hash
from vonmodel.evaluation.shape_metrics import sample_surface
from vonmodel.mesh import SurfaceMesh, surface_mesh
from vonmodel.reports.gallery import SIDECAR, read_gallery_files
from vonmodel.representation import signed_volume
from vonmodel.seeding import numpy_generator

ARRAY_SUFFIXES = (".npz", ".npy")
SHAPE_SUFFIXES = (*MESH_SUFFIXES, ".binvox", *ARRAY_SUFFIXES)
GENERATED_AXES: tuple[Axis, Axis] = ("y", "z")
"""Up and front of the meshes of generated results."""
MAX_ARRAY_BYTES = 1 << 30
READ_AHEAD = 4
Frame = Literal["unit", "none"]
Read = TypeVar("Read")


class FolderError(VonError, ValueError):
    """A folder that cannot be scored."""


@dataclass(frozen=True)
class FolderItem:
    """A file of a folder, or a part of one.

    Attributes:
        name: its path below the folder, or its id in a dataset.
        file: what is read.
        origin: an ordinary file, one written by preparation, or one written by generation.
        index: which cloud of an array (n, k, 3); None for a whole file.
    """

    name: str
    file: ReadableFile
    origin: Literal["file", "prepared", "generated"] = "file"
    index: int | None = None


@dataclass(frozen=True)
class Refused:
    """A file that was left out, and the reason."""

    folder: str
    file: str
    reason: str


@dataclass(frozen=True)
class Folder:
    """The images and shapes of a folder.

    Attributes:
        title: its name in tables.
        path: its path.
        entries: its images and its shapes, ordered by the hash of their names, so that the first n are a sample.
        prefers: the kind that is scored if it holds both.
    """

    title: str
    path: Path
    entries: dict[Kind, tuple[FolderItem, ...]]
    prefers: Kind

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds it holds, the preferred one first."""
        return tuple(sorted((kind for kind, found in self.entries.items() if found), key=self.prefers.__ne__))


def open_folder(
    path: Path, *, class_name: str | None = None, split: Split | None = None, patterns: Sequence[str] = ()
) -> Folder:
    """Lists the images and shapes of a folder; nothing is decoded yet.

    Args:
        path: a folder of files, a prepared dataset or the folder of a class in it, a generated result, or one file
            with an array of point clouds.
        class_name: the class of a dataset of several.
        split: of a dataset; all if None.
        patterns: files below an ordinary folder must match one of these; without patterns all known suffixes count.

    Raises:
        FolderError: it does not exist, is empty, or holds several classes and none is named.
        ManifestMissingError, GalleryError: the dataset has no such class, or the generation is damaged.
    """
    if path.is_file() and path.suffix.lower() not in SHAPE_SUFFIXES:
        raise FolderError(f"{path} is neither a folder nor a file of a shape or of point clouds")
    if path.is_file():
        found: dict[Kind, list[FolderItem]] = {"images": [], "shapes": list(_parts(FolderItem(path.name, path)))}
        return _folder(path, found, "shapes")
    if not path.is_dir():
        raise FolderError(f"{path}: no such folder")
    if (path / SIDECAR).is_file():
        images, meshes = read_gallery_files(path / SIDECAR)
        made: dict[Kind, list[str]] = {"images": images, "shapes": meshes}
        return _folder(
            path,
            {kind: [FolderItem(name, path / name, "generated") for name in names] for kind, names in made.items()},
            "images",
        )
    data, classes = (path.parent, [path.name]) if _is_class_folder(path) else (path, dataset_classes(path))
    if classes:
        return _dataset(path, data, classes, class_name, split)
    skipped = list[tuple[PurePosixPath, Verdict]]()
    found = {"images": [], "shapes": []}
    for relative in open_tree(path).walk(TOP, (), skipped):
        file, suffix = path / relative, relative.suffix.lower()
        if patterns and not any(relative.match(pattern) for pattern in patterns):
            continue
        if suffix in SHAPE_SUFFIXES:
            found["shapes"] += _parts(FolderItem(relative.as_posix(), file))
        elif suffix in PHOTO_SUFFIXES:
            found["images"].append(FolderItem(relative.as_posix(), file))
    for relative, (reason, why) in skipped:
        if reason != "linked_folder":  # what that leads to is found at its own place
            raise FolderError(f"{path / relative} cannot be read with the others: {why}")
    return _folder(path, found, "shapes")  # pictures beside meshes are their textures


def _folder(path: Path, found: dict[Kind, list[FolderItem]], prefers: Kind) -> Folder:
    if not any(found.values()):
        raise FolderError(f"{path} holds no image and no shape of a known format")
    ordered: dict[Kind, tuple[FolderItem, ...]] = {
        kind: tuple(entries[place] for place in in_order_of_hash([each.name for each in entries]))
        for kind, entries in found.items()
    }
    return Folder(path.resolve().name or str(path), path, ordered, prefers)


def _is_class_folder(path: Path) -> bool:
    kinds: tuple[Kind, ...] = ("images", "shapes")
    return any(manifest_path(path.parent, path.name, kind).is_file() for kind in kinds)


def _dataset(path: Path, data: Path, classes: Sequence[str], class_name: str | None, split: Split | None) -> Folder:
    if class_name is None and len(classes) > 1:
        raise FolderError(
            f"{path} is a dataset of several classes: name {' or '.join(str(path / each) for each in classes)}"
        )
    name = class_name or classes[0]
    found: dict[Kind, list[FolderItem]] = {}
    kinds: tuple[Kind, ...] = ("images", "shapes")
    for kind in kinds:
        if manifest_path(data, name, kind).is_file():
            files = OutputFiles(data, name, kind)
            ids = prepared(read_manifest(data, name, kind), split)["id"]
            found[kind] = [FolderItem(id, files[id], "prepared") for id in sorted(ids)]
    return _folder(path, found, "images")


def _parts(entry: FolderItem) -> Iterator[FolderItem]:
    """The entry itself, or each point cloud of an array (n, k, 3)."""
    if isinstance(entry.file, Path) and entry.file.suffix.lower() == ".npy":
        try:
            shape = np.load(entry.file, mmap_mode="r", allow_pickle=False).shape
        except (OSError, ValueError, EOFError):
            shape = ()  # the error is reported when it is read
        if len(shape) == 3 and shape[2] == 3 and len(set(shape)) > 1:
            yield from (FolderItem(f"{entry.name}:{index}", entry.file, "file", index) for index in range(shape[0]))
            return
    yield entry


@dataclass
class ReadRecord:
    """A record of reading a folder.

    Attributes:
        names: of the items read, in order.
        refused: files that were left out.
        sizes: number of images of each width and height.
        digests: SHA-256 of the bytes of each file that was read.
    """

    names: list[str] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    digests: list[str] = field(default_factory=list)

    @property
    def sha256(self) -> str:
        """Hash of the contents, independent of file names and order."""
        return hashlib.sha256("\n".join(sorted(self.digests)).encode()).hexdigest()


def read_images(
    folder: Folder, reading: ReadRecord, *, batch_size: int, size: int | None = None, maximum: int | None = None
) -> Iterator[list[UInt8[Tensor, "3 _ _"]]]:
    """The images of a folder on white, batch by batch; only the next few batches are in memory.

    Args:
        folder: the folder.
        reading: filled while reading.
        batch_size: images at a time.
        size: resize images to this many pixels along an edge; not resized if None.
        maximum: read at most this many files.
    """
    entries = folder.entries["images"][:maximum]
    batch = list[Tensor]()
    for entry, pixels in _in_order(folder, entries, lambda each: image_pixels(each, size), reading):
        width, height = pixels.shape[2], pixels.shape[1]
        reading.sizes[f"{width}x{height}"] = reading.sizes.get(f"{width}x{height}", 0) + 1
        reading.names.append(entry.name)
        batch.append(pixels)
        if len(batch) == batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


def _in_order(
    folder: Folder, entries: Sequence[FolderItem], read: Callable[[FolderItem], Read], reading: ReadRecord
) -> Iterator[tuple[FolderItem, Read]]:
    """Reads entries in order, a few ahead in other threads; those that cannot be read are recorded."""
    threads = max(1, torch.get_num_threads())

    def attempt(entry: FolderItem) -> tuple[Read, str] | Refused:
        try:
            return read(entry), file_sha256(entry.file) + ("" if entry.index is None else f":{entry.index}")
        except Rejected as error:
            return Refused(folder.title, entry.name, f"{error.detail} ({error.reason})")
        except (VonError, OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
            return Refused(folder.title, entry.name, printable(str(error))[:300])

    with ThreadPoolExecutor(threads) as pool:
        block = threads * READ_AHEAD
        for start in range(0, len(entries), block):
            some = entries[start : start + block]
            for entry, found in zip(some, pool.map(attempt, some), strict=True):
                if isinstance(found, Refused):
                    reading.refused.append(found)
                else:
                    reading.digests.append(found[1])
                    yield entry, found[0]


def image_pixels(entry: FolderItem, size: int | None = None) -> UInt8[Tensor, "3 h w"]:
    """An image composed on white."""
    if entry.origin == "prepared":  # on white already; the file may be a member of a shard
        with entry.file.open("rb") as content, Image.open(content) as photo:
            rgb = np.asarray(photo.convert("RGB"))
    else:
        assert isinstance(entry.file, Path)
        decoded = decode_photo(entry.file, max_pixels=ImageSettings.max_pixels)
        rgb = decoded.rgb
        if decoded.alpha is not None:
            opacity = decoded.alpha[..., None].astype(np.float32) / 255.0
            rgb = np.rint(rgb * opacity + 255.0 * (1.0 - opacity)).astype(np.uint8)
    if size is not None and rgb.shape[:2] != (size, size):
        rgb = np.asarray(Image.fromarray(rgb).resize((size, size), Image.Resampling.BICUBIC))
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))


@dataclass(frozen=True)
class ShapeReading:
    """How shapes are read.

    Attributes:
        points: number of points sampled on each surface or from each cloud.
        up: up axis of files; known for prepared shapes and generated meshes.
        front: axis of files that the front faces.
        frame: "unit" moves the centre of each shape's bounding box to the origin and scales its farthest point to a
            distance of 1; "none" leaves shapes as they are.
        seed: of the points; equal surfaces get equal points.
    """

    points: int = 2048
    up: Axis = "y"
    front: Axis = "-z"
    frame: Frame = "unit"
    seed: int = 0


@dataclass(frozen=True, eq=False)
class ReadShape:
    """A shape in the object frame.

    Attributes:
        points: (k, 3) of its surface.
        mesh: the surface; None for a point cloud.
    """

    points: Points
    mesh: SurfaceMesh | None


def read_shapes(
    folder: Folder, reading: ReadRecord, how: ShapeReading, *, maximum: int | None = None
) -> Iterator[tuple[FolderItem, ReadShape]]:
    """The shapes of a folder one by one; files that cannot be read are recorded, and others take their place.

    Args:
        folder: the folder.
        reading: filled while reading.
        how: how files are read.
        maximum: number of readable shapes to stop at.
    """
    for entry, shape in _in_order(folder, folder.entries["shapes"], lambda each: read_shape(each, how), reading):
        reading.names.append(entry.name)
        yield entry, shape
        if maximum is not None and len(reading.names) >= maximum:
            return


def read_shape(entry: FolderItem, how: ShapeReading) -> ReadShape:
    """Reads a shape.

    Raises:
        Rejected: it cannot be read, has no surface, or has fewer points than requested.
        ShapeFileError: a prepared shape is damaged.
    """
    vertices, faces = _surface(entry)
    axes = GENERATED_AXES if entry.origin == "generated" else (how.up, how.front)
    if not _is_prepared(entry):
        vertices = vertices @ axes_to_object(*axes).T
    used = vertices if faces is None else vertices[np.unique(faces)]
    if not len(used):
        raise Rejected("empty_mesh", "no surface and no points")
    if not np.isfinite(used).all():
        raise Rejected("not_finite", "a position is infinite or not a number")
    if how.frame == "unit":
        middle = (used.min(axis=0) + used.max(axis=0)) / 2.0
        radius = float(np.linalg.norm(used - middle, axis=1).max())
        vertices = (vertices - middle) / max(radius, 1e-30)
    rng = numpy_generator(how.seed, "surface points")
    if faces is None:
        if len(vertices) < how.points:
            raise Rejected("empty_mesh", f"{len(vertices):,} points, and {how.points:,} are asked for")
        chosen = rng.choice(len(vertices), how.points, replace=False) if len(vertices) > how.points else slice(None)
        return ReadShape(vertices[chosen], None)
    mesh = SurfaceMesh(vertices, faces)
    points = sample_surface(mesh, how.points, rng)
    if not len(points):
        raise Rejected("empty_mesh", "the surface has no area")
    return ReadShape(points, mesh)


Surface = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64] | None]
"""Vertices and faces; no faces for a point cloud."""


def _is_prepared(entry: FolderItem) -> bool:
    """Whether a file lies in the object frame, as preparation writes it."""
    if entry.origin == "prepared":
        return True
    if not isinstance(entry.file, Path) or entry.file.suffix.lower() != ".npz":
        return False
    with zipfile.ZipFile(entry.file) as archive:
        return "distance_coarse.npy" in archive.namelist()


def _surface(entry: FolderItem) -> Surface:
    if _is_prepared(entry):
        return _prepared_surface(entry.file)
    assert isinstance(entry.file, Path)
    limits = Limits()
    if entry.file.suffix.lower() in ARRAY_SUFFIXES:
        return _array_surface(entry.file, entry.index)
    content = read_bytes(entry.file, limits)
    if detect_format(content, entry.file) == "binvox":
        soup = binvox.isosurface(binvox.filled(binvox.read_binvox(entry.file, limits)), limits)
    else:
        soup = read_triangles(content, entry.file, limits)
    return _soup_surface(soup)


def _soup_surface(soup: TriangleSoup) -> Surface:
    vertices = np.asarray(soup.vertices, dtype=np.float64)
    return vertices, np.asarray(soup.faces, dtype=np.int64) if len(soup.faces) else None


def _prepared_surface(file: ReadableFile) -> Surface:
    """The surface of a prepared shape at subvoxel precision, from its signed distance."""
    occupancy, distance = load_occupancy(file), load_distance(file)
    if not occupancy.any():
        raise Rejected("empty_mesh", "the prepared shape is empty")
    half = held_thickness(len(occupancy))
    signed = at_least_as_thick(signed_distance(occupancy, distance), occupancy, half)
    volume = signed_volume(torch.from_numpy(np.asarray(signed, dtype=np.float32)), ModelConfig.band)
    mesh = surface_mesh(volume.numpy(), 0.5)
    return mesh.vertices, mesh.faces


def _array_surface(path: Path, index: int | None) -> Surface:
    """Points (k, 3), voxels (n, n, n), or vertices and faces of a numpy file, read without pickle."""
    if path.stat().st_size > MAX_ARRAY_BYTES and index is None:
        raise Rejected("too_large", f"the file has more than {MAX_ARRAY_BYTES:,} bytes")
    loaded = np.load(path, mmap_mode="r" if index is not None else None, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return _surface_of_array(np.asarray(loaded if index is None else loaded[index]))
    with loaded:
        names = set(loaded.files)
        if {"vertices", "faces"} <= names:
            vertices, faces = np.asarray(loaded["vertices"], dtype=np.float64), loaded["faces"].astype(np.int64)
            if (
                faces.ndim != 2
                or faces.shape[1] != 3
                or not 0 <= faces.min(initial=0) <= faces.max(initial=0) < len(vertices)
            ):
                raise Rejected("file_corrupt", f"faces of shape {faces.shape} for {len(vertices):,} vertices")
            return vertices, faces
        known = [name for name in ("points", "pos", "xyz", "voxels", "occupancy", "vertices") if name in names]
        if not known and len(names) != 1:
            raise Rejected(
                "format_unknown", f"none of its arrays {', '.join(sorted(names))} is called points or voxels"
            )
        return _surface_of_array(loaded[(known or sorted(names))[0]])


def _surface_of_array(array: npt.NDArray[Any]) -> Surface:
    if array.dtype.kind not in "biuf":
        raise Rejected("format_unknown", f"an array of {array.dtype}, not of numbers")
    array = array[0] if array.ndim == 4 and len(array) == 1 else array
    if array.ndim == 2 and array.shape[1] == 3:
        return np.asarray(array, dtype=np.float64), None
    if array.ndim == 3 and len(set(array.shape)) == 1 and 2 <= len(array) <= binvox.MAX_EDGE:
        mesh = surface_mesh(np.asarray(array, dtype=np.float32), 0.5)
        return mesh.vertices, mesh.faces
    raise Rejected("format_unknown", f"an array of shape {array.shape}, not points (k, 3) and no voxels (n, n, n)")
