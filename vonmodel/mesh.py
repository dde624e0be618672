"""Surfaces of volumes, with what is painted on them, and images and sketches as PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from vondata.io.files import atomic_path
from vondata.shapes.implicit import isosurface


@dataclass(frozen=True, eq=False)
class TextureAtlas:
    """A mesh's surface laid out in an image.

    Attributes:
        source: (n,) for every texture vertex the vertex of the mesh; one on a seam has several.
        faces: (f, 3) texture vertices of the mesh's faces, in their order.
        uvs: (n, 2) column and row in [0, 1] from the image's upper left corner.
        image: (s, s, 3) sRGB.
    """

    source: npt.NDArray[np.int64]
    faces: npt.NDArray[np.int64]
    uvs: npt.NDArray[np.float32]
    image: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class SurfaceMesh:
    """A closed triangle mesh in the object frame.

    Attributes:
        vertices: (v, 3)
        faces: (f, 3) vertex indices, counterclockwise seen from outside.
        colours: (v, 3) sRGB; None for a mesh without.
        atlas: its texture; None for a mesh without.
    """

    vertices: npt.NDArray[np.float64]
    faces: npt.NDArray[np.int64]
    colours: npt.NDArray[np.uint8] | None = None
    atlas: TextureAtlas | None = None

    def normals(self) -> npt.NDArray[np.float64]:
        """(v, 3) unit normals of the vertices: those of the faces around, by their areas."""
        corners = self.vertices[self.faces]
        across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        summed = [
            np.bincount(self.faces.reshape(-1), np.repeat(across[:, axis], 3), minlength=len(self.vertices))
            for axis in range(3)
        ]
        normals = np.stack(summed, axis=1)
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        # Where thin parts meet, faces may cancel out: any unit vector is as good as another.
        return np.where(length > 0, normals / np.where(length > 0, length, 1.0), [0.0, 0.0, 1.0])


def surface_mesh(volume: npt.NDArray[np.floating], level: float) -> SurfaceMesh:
    """The surface where a volume crosses a level, closed also where the object reaches the border of the grid.

    Args:
        volume: (N, N, N) [x, y, z] in the object frame, higher inside; taken as 0 outside the grid.
        level: above 0.

    Returns:
        A watertight mesh; without faces where the volume nowhere exceeds the level.
    """
    return SurfaceMesh(*isosurface(volume, level, outside=0.0))


def mesh_statistics(mesh: SurfaceMesh) -> dict[str, int | float]:
    """Vertices, faces, area and volume (of a cube of edge 2), connected parts and the share of the largest."""
    from scipy import sparse

    corners = mesh.vertices[mesh.faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    pairs = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]]])
    count = len(mesh.vertices)
    graph = sparse.coo_matrix((np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    parts, labels = sparse.csgraph.connected_components(graph, directed=False)
    areas = 0.5 * np.linalg.norm(across, axis=1)
    by_part = np.bincount(labels[mesh.faces[:, 0]], areas, minlength=max(1, parts)) if count else np.zeros(1)
    area = float(areas.sum())
    return {
        "vertices": count,
        "faces": len(mesh.faces),
        "area": round(area, 6),
        "volume": round(float((corners[:, 0] * across).sum() / 6.0), 6),
        "parts": int(parts),
        "largest_part": round(float(by_part.max() / area), 6) if area > 0 else 0.0,
    }


def write_image(
    path: Path,
    image: Float[Tensor, "3 h w"],
    text: Mapping[str, str] | None = None,
    silhouette: Float[Tensor, "1 h w"] | None = None,
) -> None:
    """Writes an image with values in [-1, 1] as an 8-bit PNG, with text chunks by keyword.

    With the silhouette of an object on white the picture is transparent around it, see `cut_out_pixels`.
    """
    pixels = to_pixels(image).transpose(1, 2, 0) if silhouette is None else cut_out_pixels(image, silhouette)
    write_png(path, pixels, text)


def write_grey(path: Path, values: Float[Tensor, "h w"], text: Mapping[str, str] | None = None) -> None:
    """Writes values in [0, 1] as an 8-bit grey PNG, 1 white, with text chunks by keyword."""
    write_png(path, to_pixels(2.0 * values - 1.0), text)


def to_pixels(images: Float[Tensor, "*any"]) -> npt.NDArray[np.uint8]:
    """Values in [-1, 1] to the nearest of 0..255; what lies beyond is clipped."""
    levels = (images.detach().cpu().double() + 1.0) * 127.5
    return levels.clamp(0.0, 255.0).round().numpy().astype(np.uint8)


def cut_out_pixels(image: Float[Tensor, "3 h w"], silhouette: Float[Tensor, "1 h w"]) -> npt.NDArray[np.uint8]:
    """An image on white as transparent pixels (h, w, 4), which give the image again when laid on white.

    Args:
        image: in [-1, 1], the object on white: I = a C + (1 - a).
        silhouette: opacity a in [0, 1]; raised where I is too dark for it.
    """
    shown = image.detach().cpu().double().clamp(-1.0, 1.0)
    darkest = (1.0 - shown.amin(dim=0, keepdim=True)) / 2.0
    opacity = torch.maximum(silhouette.detach().cpu().double().clamp(0.0, 1.0), darkest)
    opacity = (opacity * 255.0).ceil() / 255.0  # the opacity that is stored decides the colours
    colours = torch.where(opacity > 0.0, (shown - (1.0 - opacity)) / opacity.clamp(min=1e-9), torch.ones_like(shown))
    return to_pixels(torch.cat([colours, 2.0 * opacity - 1.0])).transpose(1, 2, 0)


def write_png(path: Path, pixels: npt.NDArray[np.uint8], text: Mapping[str, str] | None = None) -> None:
    """Writes pixels (h, w[, 3 or 4]) as PNG, with text chunks by keyword."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(png_bytes(pixels, text))


def png_bytes(pixels: npt.NDArray[np.uint8], text: Mapping[str, str] | None = None, *, fast: bool = False) -> bytes:
    """Pixels (h, w[, 3 or 4]) as the content of a PNG file, with text chunks by keyword."""
    chunks = PngInfo()
    for keyword, value in (text or {}).items():
        chunks.add_itxt(keyword, value)
    file = io.BytesIO()
    options: dict[str, Any] = {"compress_level": 1} if fast else {"optimize": True}
    Image.fromarray(pixels).save(file, "PNG", pnginfo=chunks, **options)
    return file.getvalue()
