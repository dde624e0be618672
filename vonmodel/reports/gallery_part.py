"""What a generation wrote: the shapes, viewpoints and textures, and the file of every picture."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vondata.dataset.shape_file import atomic_path

FORMAT = 1
SIDECAR = "generated.json"
PAGE = "index.html"


def versions() -> dict[str, str]:
    """Of what decides the content of a result."""
    return {name: version(name) for name in ("von", "torch")}


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
        mesh: its surface as GLB; None where the volume has no surface at the level.
        faces: triangles of the surface.
        views: its pictures, one entry for every viewpoint.
    """

    name: str
    code: tuple[float, ...]
    mesh: str | None
    faces: int
    views: tuple[ViewFiles, ...]


@dataclass(frozen=True)
class Gallery:
    """Everything a generation wrote; with the checkpoint it is enough to draw each picture again.

    Attributes:
        class_name: the object class.
        run: the run folder as given.
        checkpoint: name, stage, step and sha256 of the networks.
        seed: what the codes and viewpoints were drawn with.
        image_size: pixels along an edge of every picture.
        resolution: voxels along an edge of the volumes.
        level: value of the volumes on the surface of the meshes.
        viewpoints_deg: azimuth and elevation of every viewpoint.
        texture_codes: the textures, shared by all shapes.
        shapes: the shapes.
        versions: of VON and torch.
    """

    class_name: str
    run: str
    checkpoint: dict[str, Any]
    seed: int
    image_size: int
    resolution: int
    level: float
    viewpoints_deg: tuple[tuple[float, float], ...]
    texture_codes: tuple[tuple[float, ...], ...]
    shapes: tuple[GeneratedShape, ...]
    versions: dict[str, str]

    def save(self, folder: Path) -> None:
        """Writes the JSON file beside the pictures."""
        with atomic_path(folder / SIDECAR) as temporary:
            content = {"format": FORMAT, **dataclasses.asdict(self)}
            temporary.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
