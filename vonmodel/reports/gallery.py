"""Gallery of generated objects: JSON file and HTML page with shapes in 3D and images of all views and textures."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vondata.errors import VonError
from vondata.io.files import atomic_path
from vonmodel.reports.html import Page
from vonmodel.reports.metrics_log import Line, figures_of, newest
from vonmodel.reports.provenance import Provenance

FORMAT = 1
SIDECAR = "generated.json"
WHOLE = 0.99
"""Fraction of a shape in its largest piece from which on it counts as one piece."""
PAGE = "index.html"


@dataclass(frozen=True)
class ViewFiles:
    """The pictures of one shape from one viewpoint, as paths relative to the gallery's folder.

    Attributes:
        silhouette: grey, white where the object is.
        depth: grey, nearest white, background black.
        images: one for every texture.
    """

    silhouette: str
    depth: str
    images: tuple[str, ...]


@dataclass(frozen=True)
class GeneratedShape:
    """One shape and its files.

    Attributes:
        name: its folder inside the gallery's.
        code: its shape code.
        mesh: its surface as GLB; None if the volume has no surface at the level.
        faces: triangles of the surface.
        largest_piece: fraction of the generated solid in its largest piece.
        score: larger is better, see `Gallery.scores_by`.
        views: its pictures, one entry for every viewpoint.
    """

    name: str
    code: tuple[float, ...]
    mesh: str | None
    faces: int
    largest_piece: float
    score: float
    views: tuple[ViewFiles, ...]


@dataclass(frozen=True)
class Gallery:
    """The record of a generation, which together with the checkpoint is enough to reproduce each picture.

    Attributes:
        class_name: the object class.
        run: the run folder as given.
        checkpoint: name, stage, step and sha256 of the networks.
        seed: of the codes and viewpoints.
        image_size: pixels along an edge of every picture.
        resolution: voxels along an edge of the volumes.
        level: value of the volumes on the surface of the meshes.
        sampling: truncation of the codes, and which pieces of the shapes are kept.
        viewpoints_deg: azimuth and elevation of every viewpoint.
        texture_codes: the textures, shared by all shapes.
        shapes: the shapes.
        versions: of VON and torch.
        complete: whether all meshes have been made.
        scores_by: whether the scores are those of the shape critic, or tell how typical the codes are.
    """

    class_name: str
    run: str
    checkpoint: dict[str, Any]
    seed: int
    image_size: int
    resolution: int
    level: float
    sampling: dict[str, Any]
    viewpoints_deg: tuple[tuple[float, float], ...]
    texture_codes: tuple[tuple[float, ...], ...]
    shapes: tuple[GeneratedShape, ...]
    versions: dict[str, str]
    complete: bool = True
    scores_by: Literal["critic", "code"] = "critic"

    @property
    def provenance(self) -> Provenance:
        """The model that made it."""
        sizes = (self.resolution, self.image_size)
        return Provenance(self.class_name, self.run, self.checkpoint, *sizes, self.versions, self.sampling)

    @property
    def best_first(self) -> tuple[GeneratedShape, ...]:
        """The shapes in one piece first, each group by descending score."""
        return tuple(sorted(self.shapes, key=lambda shape: (shape.largest_piece < WHOLE, -shape.score)))

    def save(self, folder: Path) -> None:
        """Writes the JSON file beside the pictures."""
        with atomic_path(folder / SIDECAR) as temporary:
            content = {"format": FORMAT, **dataclasses.asdict(self)}
            temporary.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


class GalleryError(VonError, ValueError):
    """A file that is not an intact record of a generation."""


def unfinished_shapes(
    folder: Path, gallery: Gallery, codes: Mapping[str, tuple[float, ...]]
) -> tuple[GeneratedShape, ...] | None:
    """The shapes of a generation whose pictures are all there and whose meshes are not complete.

    Args:
        folder: where it may be.
        gallery: the record that the generation must agree with in everything but its shapes.
        codes: the shape codes that it must have, by the shapes' names.

    Returns:
        None if the folder holds something else, or a complete generation.
    """
    expected = json.loads(json.dumps({"format": FORMAT, **dataclasses.asdict(gallery), "complete": False}))
    try:
        said = json.loads((folder / SIDECAR).read_text("utf-8"))
        if {**said, "shapes": []} != {**expected, "shapes": []}:
            return None
        shapes = tuple(_shape_of_record(each) for each in said["shapes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if [(shape.name, shape.code) for shape in shapes] != list(codes.items()):
        return None
    pictures = [
        file for shape in shapes for view in shape.views for file in (view.silhouette, view.depth, *view.images)
    ]
    return shapes if all((folder / file).is_file() for file in pictures) else None


def _shape_of_record(record: Mapping[str, Any]) -> GeneratedShape:
    views = tuple(ViewFiles(each["silhouette"], each["depth"], tuple(each["images"])) for each in record["views"])
    return GeneratedShape(**{**record, "code": tuple(record["code"]), "views": views})


def read_gallery_codes(file: Path) -> dict[str, tuple[float, ...]]:
    """The shape codes of a generation, by the names of its shapes.

    Raises:
        GalleryError: the file is damaged, or something else.
    """
    try:
        shapes = json.loads(file.read_text("utf-8"))["shapes"]
        return {str(shape["name"]): tuple(float(each) for each in shape["code"]) for shape in shapes}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GalleryError(f"{file} is not a generation, or a damaged one ({error}); generate again") from error


def read_gallery_files(file: Path) -> tuple[list[str], list[str]]:
    """The images and the meshes of a generation, as paths below its folder.

    Raises:
        GalleryError: the file is damaged, something else, or names files elsewhere.
    """
    try:
        shapes = json.loads(file.read_text("utf-8"))["shapes"]
        images = [str(image) for shape in shapes for view in shape["views"] for image in view["images"]]
        meshes = [str(shape["mesh"]) for shape in shapes if shape["mesh"] is not None]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GalleryError(f"{file} is not a generation, or a damaged one ({error}); generate again") from error
    for name in (*images, *meshes):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise GalleryError(f"{file} names {name!r}, which is not in its folder")
    return images, meshes


def write_page(
    folder: Path, gallery: Gallery, metrics: Sequence[Line], meshes: Mapping[str, str | None] | None = None
) -> Path:
    """Writes the page of a gallery.

    Args:
        folder: of the gallery's files.
        gallery: the record to show.
        metrics: the metric lines of the gallery's checkpoint.
        meshes: by the shape's name its painted surface, see `viewer_mesh`; shapes without one have no 3D view.
            None while the meshes are still being made, which the page then says.

    Returns:
        The page to open.
    """
    return gallery_page(gallery, metrics, meshes).write(folder / PAGE)


def gallery_page(gallery: Gallery, metrics: Sequence[Line], meshes: Mapping[str, str | None] | None = None) -> Page:
    """The page of a gallery; arguments as `write_page`."""
    nearest = _nearest_of(gallery, metrics)
    near = {shape.name: said for shape, said in zip(gallery.shapes, nearest, strict=True)}
    shapes = [_shape(gallery, each, near[each.name], (meshes or {}).get(each.name)) for each in gallery.best_first]
    return Page(
        "generated.html",
        {
            "title": f"Generated {gallery.class_name}s",
            "meshes_follow": meshes is None,
            "lead": _summary(gallery),
            "shapes": shapes,
            "image_size": gallery.image_size,
            "figures": figures_of(metrics),
            "checkpoint": gallery.checkpoint["name"],
            "origin": origin_facts(gallery.provenance, seed=gallery.seed, level=gallery.level),
            "file": SIDECAR,
        },
    )


def origin_facts(
    provenance: Provenance, *, seed: int | None = None, level: float | None = None
) -> dict[str, str | None]:
    """The facts at the end of a page on the model that made it, by name; None if not applicable."""
    checkpoint = provenance.checkpoint
    volumes = f"{provenance.resolution}³" + ("" if level is None else f", surface at {level:.4g}")
    return {
        "Run": provenance.run,
        "Checkpoint": f"{checkpoint['name']} (stage {checkpoint['stage']}, step {checkpoint['step']})",
        "SHA-256": str(checkpoint["sha256"]),
        "Seed": None if seed is None else str(seed),
        "Volumes": volumes,
        "Images": f"{provenance.image_size} × {provenance.image_size} pixels",
        "Versions": ", ".join(f"{name} {version}" for name, version in provenance.versions.items()),
    }


def _summary(gallery: Gallery) -> str:
    counts = (
        (len(gallery.shapes), "shape"),
        (len(gallery.viewpoints_deg), "viewpoint"),
        (len(gallery.texture_codes), "texture"),
    )
    summary = " × ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts)
    if len(gallery.shapes) > 1:
        by = "the score of the shape critic" if gallery.scores_by == "critic" else "how typical their codes are"
        summary += f", best first: shapes in one piece, by {by}"
    if gallery.checkpoint["stage"] == "shape":
        summary += ". The textures are those of untrained networks: this checkpoint is of the shape stage."
    return summary


def _shape(gallery: Gallery, shape: GeneratedShape, nearest: str, mesh: str | None) -> dict[str, Any]:
    """The template's variables of a shape: first one view in all textures, then all views in the first texture."""
    title = shape.name.replace("-", " ").capitalize()
    facts = [f"{shape.faces:,} faces".replace(",", "\u202f")] if shape.mesh else []
    angles = [viewpoint_text(*each) for each in gallery.viewpoints_deg]
    textures = [f"texture {index + 1}" for index in range(len(gallery.texture_codes))]

    def strip(label: str, pictures: Iterable[tuple[str, str, str]]) -> dict[str, Any]:
        shown = [
            {"file": file, "caption": caption, "alternative": f"{title}, {what}"} for file, caption, what in pictures
        ]
        return {"label": label, "pictures": shown, "count": len(shown)}

    def views(index: int, start: int = 0) -> list[tuple[str, str, str]]:
        return [
            (view.images[index], angle, f"{textures[index]}, {angle}")
            for view, angle in list(zip(shape.views, angles, strict=True))[start:]
        ]

    first = zip(shape.views[0].images, textures, strict=True)
    strips = [
        strip(f"textures, seen from {angles[0]}", [(file, name, f"{name}, {angles[0]}") for file, name in first])
    ]
    if len(angles) > 1:
        strips.append(strip(f"other viewpoints, {textures[0]}", views(0, start=1)))
        more = [
            strip(f"other viewpoints, {textures[index]}", views(index, start=1)) for index in range(1, len(textures))
        ]
    else:
        more = []
    for name in ("silhouette", "depth"):
        files = [getattr(view, name) for view in shape.views]
        more.append(
            strip(name, [(file, angle, f"{name}, {angle}") for file, angle in zip(files, angles, strict=True)])
        )
    return {
        "name": shape.name,
        "title": title,
        "facts": " · ".join([*facts, nearest] if nearest else facts),
        "mesh": shape.mesh,
        "view": mesh,
        "strips": strips,
        "more": more,
    }


def _nearest_of(gallery: Gallery, metrics: Sequence[Line]) -> list[str]:
    """The overlap of each shape with its nearest training shape, if it was measured with the same seed."""
    measured = newest([line for line in metrics if line.get("seed") == gallery.seed], "shapes")
    overlaps = measured["nearest_iou"] if measured else []
    known = [f"IoU {overlap:.2f} with its nearest training shape" for overlap in overlaps[: len(gallery.shapes)]]
    return known + [""] * (len(gallery.shapes) - len(known))


def viewpoint_text(azimuth_deg: float, elevation_deg: float) -> str:
    """A viewpoint as text."""
    return (
        f"{azimuth_deg:.0f}°, {elevation_deg:.0f}° up"
        if elevation_deg >= 0
        else f"{azimuth_deg:.0f}°, {elevation_deg:.0f}°"
    )
