"""Python API of data preparation: `vondata.prepare_shapes` and `vondata.prepare_images`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from vondata.classes import ObjectClass, known_classes, load_class
from vondata.dataset.manifest import manifest_path
from vondata.errors import VonError
from vondata.frames import Axis
from vondata.images.near_duplicates import review_of
from vondata.images.prepare import prepare_image
from vondata.images.settings import ImageSettings
from vondata.images.sources import photo_items, pix3d_items
from vondata.io.fs import DataFolder, FolderLike, mirror
from vondata.io.listing import open_tree
from vondata.matching import MatchCount, match_photos_at
from vondata.pipeline.plan import PrepareOptions
from vondata.pipeline.run import PreparationResult, prepare
from vondata.shapes.prepare import ShapeSettings, prepare_shape
from vondata.shapes.sources import duplicate_review, mesh_folder_items, shapenet_items
from vondata.types import Event, Item

OnEvent = Callable[[Event], None]


class SourceError(VonError, ValueError):
    """Arguments that name no source of items, or an unsuitable one."""

    exit_code = 2


@dataclass(frozen=True)
class PreparedImages:
    """Result of `prepare_images`.

    Attributes:
        result: rows prepared and rejected, by class.
        viewpoints: number of photos matched against the shapes of their class, by class.
    """

    result: PreparationResult
    viewpoints: dict[str, MatchCount]


def prepare_shapes(
    root: FolderLike,
    data: FolderLike = "data",
    *,
    layout: Literal["shapenet", "meshes"] = "shapenet",
    class_names: Sequence[str] = (),
    settings: ShapeSettings | None = None,
    binvox: bool = False,
    up: Axis | None = None,
    front: Axis | None = None,
    patterns: Sequence[str] = (),
    options: PrepareOptions | None = None,
    on_event: OnEvent | None = None,
) -> PreparationResult:
    """Prepares meshes as grids of surface, solid and distance, with a manifest row each; finished items are kept.

    Args:
        root: a ShapeNetCore tree, or a folder of OBJ, OFF, PLY, STL or GLB files; a path or URL.
        data: the dataset's folder or URL.
        layout: whether `root` holds a folder per synset, or meshes of the one named class.
        class_names: classes to prepare; if empty, all known ones.
        settings: resolution and method of the distances.
        binvox: take .binvox files instead of meshes.
        up: the axis that points up; None for y.
        front: the axis that the front faces; None for -z, or x for files in the layout of ShapeNetCore v1.
        patterns: of the files to take from a folder of meshes, see `vondata.shapes.sources.mesh_folder_items`.
        options: workers, limits; None runs in this process.
        on_event: called with the progress.

    Raises:
        SourceError: a folder of meshes without exactly one class.
        UnknownClassError: a class is not known.
        CollectionMissingError: `root` is not a folder, or holds no such files.
        DatasetBusyError, DataFolderError: see `vondata.pipeline.run.prepare`.
    """
    classes, source = _classes(class_names), open_tree(root)
    kind: Literal["binvox", "mesh"] = "binvox" if binvox else "mesh"
    if layout == "shapenet":
        items = shapenet_items(source, classes, source=kind, up=up, front=front)
    elif len(class_names) == 1:
        name, axes = classes[0].name, (up or "y", front or "-z")
        items = mesh_folder_items(source, name, *axes, source=kind, patterns=patterns)
    else:
        raise SourceError("a folder of meshes is of one class: name it in class_names")
    settings = settings or ShapeSettings()
    review = duplicate_review(settings.drop_duplicates)
    return prepare("shapes", items, prepare_shape, settings, data, options or PrepareOptions(), on_event, review)


def prepare_images(
    data: FolderLike = "data",
    *,
    pix3d: FolderLike | None = None,
    photos: FolderLike | None = None,
    class_names: Sequence[str] = (),
    settings: ImageSettings | None = None,
    match_viewpoints: bool = True,
    options: PrepareOptions | None = None,
    on_event: OnEvent | None = None,
) -> PreparedImages:
    """Prepares photos as cut-outs with mask and viewpoint, with a manifest row each; finished items are kept.

    Args:
        data: the dataset's folder or URL.
        pix3d: a folder in Pix3D's layout, with annotations.
        photos: a folder with a folder of photos per class, without annotations.
        class_names: classes to prepare; if empty, all known ones.
        settings: size of the pictures, and which photos are taken.
        match_viewpoints: estimate viewpoints of photos without annotation from the prepared shapes of their class.
        options: workers, limits; None runs in this process.
        on_event: called with the progress.

    Raises:
        SourceError: neither pix3d nor photos is given.
        AnnotationFileError: pix3d.json cannot be read.
        UnknownClassError, CollectionMissingError, DatasetBusyError, DataFolderError: as `prepare_shapes`.
    """
    if pix3d is None and photos is None:
        raise SourceError("which photos? Name pix3d, photos or both")
    classes, settings, options = _classes(class_names), settings or ImageSettings(), options or PrepareOptions()
    sources: list[Iterator[Item]] = []
    if pix3d is not None:
        sources.append(pix3d_items(open_tree(pix3d), classes, settings))
    if photos is not None:
        sources.append(photo_items(open_tree(photos), classes))
    items = itertools.chain.from_iterable(sources)
    folder = DataFolder.at(data)
    result = prepare("images", items, prepare_image, settings, folder, options, on_event, review_of(settings))
    if not match_viewpoints:
        return PreparedImages(result, {})
    copy, notify = mirror(folder), on_event or _ignore
    matched = {
        name: match_photos_at(folder, copy, name, workers=options.workers or 1, on_event=notify)
        for name in result.classes
        if manifest_path(copy, name, "shapes").is_file()
    }
    return PreparedImages(result, matched)


def _classes(names: Sequence[str]) -> tuple[ObjectClass, ...]:
    return tuple(load_class(name) for name in dict.fromkeys(names)) or known_classes()


def _ignore(event: Event) -> None:
    """Ignores progress."""
