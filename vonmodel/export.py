"""What leaves the model as a file: surfaces as GLB, OBJ and PLY, images and sketches as PNG.

open3d and trimesh take over a second to import, so only the functions that make meshes do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from vondata.dataset.shape_file import atomic_path
from vondata.frames import object_to_gltf, voxel_to_object
from vonmodel.config import Representation
from vonmodel.glb import encode_glb

SURFACE_DISTANCE = 0.012
"""Distance in cube edges of the surface drawn around a distance function's zero (the published value)."""
_CLEARANCE = 1e-3


@dataclass(frozen=True)
class SurfaceMesh:
    """A closed triangle mesh in the object frame.

    Attributes:
        vertices: (v, 3)
        faces: (f, 3) vertex indices, counterclockwise seen from outside.
        colours: (v, 3) sRGB; None for a mesh without.
    """

    vertices: npt.NDArray[np.float64]
    faces: npt.NDArray[np.int64]
    colours: npt.NDArray[np.uint8] | None = None

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


def surface_level(representation: Representation, resolution: int) -> float:
    """The value of a volume on its surface.

    Occupancy: 1/2. Distance functions exp(-8 d): d = 0.012 cube edges as published, but never less than half a
    voxel's diagonal, below which thin parts fall through the grid.
    """
    if representation == "occupancy":
        return 0.5
    half_diagonal = 0.5 * math.sqrt(3.0) / (resolution - 1)
    return math.exp(-8.0 * max(SURFACE_DISTANCE, half_diagonal))


def surface_mesh(volume: npt.NDArray[np.floating], level: float) -> SurfaceMesh:
    """The surface where a volume crosses a level, closed also where the object reaches the border of the grid.

    Args:
        volume: (N, N, N) [x, y, z] in the object frame, higher inside; taken as 0 outside the grid.
        level: above 0.

    Returns:
        A watertight mesh; without faces where the volume nowhere exceeds the level.
    """
    import open3d as o3d

    padded = np.pad(np.asarray(volume, dtype=np.float32), 1)
    # A value on the level would put a vertex on a grid point, where several triangles shrink to nothing.
    offset = padded - level
    padded = np.where(np.abs(offset) < _CLEARANCE, level + np.copysign(_CLEARANCE, offset), padded).astype(np.float32)
    if padded.max() <= level:
        return SurfaceMesh(np.empty((0, 3)), np.empty((0, 3), dtype=np.int64))
    mesh = o3d.t.geometry.TriangleMesh.create_isosurfaces(o3d.core.Tensor.from_numpy(padded), [level])
    # open3d's vertices are (k, j, i). Turned round they are indices; that mirrors the mesh, hence its faces as well.
    index = mesh.vertex.positions.numpy()[:, ::-1].astype(np.float64) - 1.0
    faces = mesh.triangle.indices.numpy()[:, ::-1].astype(np.int64)
    return SurfaceMesh(np.asarray(voxel_to_object(index, len(volume)), dtype=np.float64), faces)


def glb_bytes(mesh: SurfaceMesh) -> bytes:
    """A mesh as binary glTF: y up, front towards +z, in object units (the cube's edge is 2)."""
    return encode_glb(object_to_gltf(mesh.vertices), mesh.faces, object_to_gltf(mesh.normals()), mesh.colours)


def write_glb(path: Path, mesh: SurfaceMesh) -> None:
    """Writes a mesh as binary glTF, see `glb_bytes`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(glb_bytes(mesh))


def write_mesh(path: Path, mesh: SurfaceMesh) -> None:
    """Writes a mesh as .glb, .obj or .ply, whichever the path ends in; all in glTF's frame, colours at the vertices.

    Read back with `von prepare meshes --up y --front z`.

    Raises:
        ValueError: the path ends otherwise.
    """
    if path.suffix == ".glb":
        write_glb(path, mesh)
    elif path.suffix in (".obj", ".ply"):
        import trimesh

        shape = trimesh.Trimesh(
            object_to_gltf(mesh.vertices), mesh.faces, vertex_colors=mesh.colours, process=False, validate=False
        )
        content = shape.export(file_type=path.suffix.removeprefix("."))
        with atomic_path(path) as temporary:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    else:
        raise ValueError(f"{path}: meshes are written as .glb, .obj or .ply")


def write_image(path: Path, image: Float[Tensor, "3 h w"]) -> None:
    """Writes an image with values in [-1, 1] as an 8-bit PNG."""
    _write_png(path, to_pixels(image).transpose(1, 2, 0))


def write_grey(path: Path, values: Float[Tensor, "h w"]) -> None:
    """Writes values in [0, 1] as an 8-bit grey PNG, 1 white."""
    _write_png(path, to_pixels(2.0 * values - 1.0))


def to_pixels(images: Float[Tensor, "*any"]) -> npt.NDArray[np.uint8]:
    """Values in [-1, 1] to the nearest of 0..255; what lies beyond is clipped."""
    levels = (images.detach().cpu().double() + 1.0) * 127.5
    return levels.clamp(0.0, 255.0).round().numpy().astype(np.uint8)


def _write_png(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG", optimize=True)
