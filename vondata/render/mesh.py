"""Triangle meshes with materials: as renderers take them, and as parts with texture coordinates in metres."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vondata.render.textures import Material

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# Faces that bend by more are shaded as an edge.
CREASE = float(np.radians(40.0))


@dataclass(frozen=True, eq=False)
class PartMesh:
    """Triangles of one material.

    Attributes:
        vertices: (v, 3) metres; object frame (z up, the front faces +y).
        faces: (f, 3) vertex indices, counterclockwise seen from outside.
        uvs: (f, 3, 2) texture coordinates of the corners in metres; the grain of a texture runs along v.
        material: key of the object's materials.
    """

    vertices: Floats
    faces: Integers
    uvs: Floats
    material: str = ""

    def of(self, material: str) -> PartMesh:
        """The same mesh in another material."""
        return replace(self, material=material)

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> PartMesh:
        """The mesh, shifted."""
        return replace(self, vertices=self.vertices + np.array([x, y, z]))

    def turned(self, rotation: Floats, about: Sequence[float] = (0.0, 0.0, 0.0)) -> PartMesh:
        """The mesh, rotated by a (3, 3) matrix about a point."""
        return replace(self, vertices=(self.vertices - about) @ rotation.T + about)

    def mirrored(self) -> PartMesh:
        """The mirror image at the plane x = 0, still facing outwards."""
        return replace(
            self, vertices=self.vertices * [-1.0, 1.0, 1.0], faces=self.faces[:, ::-1], uvs=self.uvs[:, ::-1]
        )

    def flipped(self) -> PartMesh:
        """The mesh inside out."""
        return replace(self, faces=self.faces[:, ::-1], uvs=self.uvs[:, ::-1])

    def keeping(self, faces: Flags) -> PartMesh:
        """The mesh with only some of its faces; their vertices stay."""
        return replace(self, faces=self.faces[faces], uvs=self.uvs[faces])


@dataclass(frozen=True, eq=False)
class RenderMesh:
    """Triangles ready to be rendered; model frame (y up, front -z).

    Attributes:
        corners: (f, 3, 3) positions.
        normals: (f, 3, 3) shading normals of the corners.
        uvs: (f, 3, 2) texture coordinates as (column, row downwards), 1 is one repeat of the texture.
        material: (f,) indices into materials.
        materials: surfaces.
        colours: (f, 3, 3) linear colours of the corners, which multiply the materials'; None is white.
        in_front: (f,) faces of something else that stands in front of the object; None is none.
    """

    corners: Floats
    normals: Floats
    uvs: Floats
    material: npt.NDArray[np.int64]
    materials: tuple[Material, ...]
    colours: Floats | None = None
    in_front: Flags | None = None


def mirrored_pair(mesh: PartMesh) -> list[PartMesh]:
    """A part and its mirror image at x = 0."""
    return [mesh, mesh.mirrored()]


def concatenated(meshes: Iterable[PartMesh], material: str = "") -> PartMesh:
    """Several meshes as one."""
    parts = list(meshes)
    starts = np.cumsum([0] + [len(part.vertices) for part in parts[:-1]])
    return PartMesh(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=True)]),
        np.concatenate([part.uvs for part in parts]),
        material,
    )


def face_vectors(mesh: PartMesh) -> Floats:
    """(f, 3) normals whose length is twice the face's area."""
    corners = mesh.vertices[mesh.faces]
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def face_normals(mesh: PartMesh) -> Floats:
    """(f, 3) unit normals; zero for faces without area."""
    vectors = face_vectors(mesh)
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30))


def signed_volume(mesh: PartMesh) -> float:
    """The enclosed volume of a closed mesh: positive when its faces look outwards."""
    corners = mesh.vertices[mesh.faces]
    return float(np.einsum("ij,ij->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6.0)


def boundary_edges(mesh: PartMesh) -> int:
    """How many directed edges lack their opposite: 0 for a closed, consistently oriented mesh."""
    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    forward = edges[:, 0] * len(mesh.vertices) + edges[:, 1]
    backward = edges[:, 1] * len(mesh.vertices) + edges[:, 0]
    return int((~np.isin(forward, backward)).sum())


def corner_angles(mesh: PartMesh) -> Floats:
    """(f, 3) the angles of the triangles, radians."""
    corners = mesh.vertices[mesh.faces]
    onwards, back = np.roll(corners, -1, axis=1) - corners, np.roll(corners, 1, axis=1) - corners
    sine = np.linalg.norm(np.cross(onwards, back), axis=-1)
    return np.asarray(np.arctan2(sine, np.einsum("fij,fij->fi", onwards, back)))


def corner_normals(mesh: PartMesh, crease: float = CREASE) -> Floats:
    """Shading normals: at every corner the mean of the adjacent faces that bend by less than the crease.

    Faces count by their angle at the corner, so that it does not matter how a surface is cut into triangles.

    Args:
        mesh: the mesh; vertices at the same place count as one.
        crease: angle in radians above which an edge stays sharp.

    Returns:
        (f, 3, 3) unit vectors.
    """
    normals = face_normals(mesh)
    weighted = normals[:, None] * corner_angles(mesh)[:, :, None]
    _, place = distinct_rows(mesh.vertices)
    corner_place = place[mesh.faces.reshape(-1)]
    order = np.argsort(corner_place, kind="stable")
    counts = np.bincount(corner_place)
    starts = np.cumsum(counts) - counts
    # All pairs of corners at the same place, as two flat lists.
    repeats = counts[corner_place[order]]
    first = np.repeat(order, repeats)
    within = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    second = order[np.repeat(starts[corner_place[order]], repeats) + within]
    smooth = np.einsum("ij,ij->i", normals[first // 3], normals[second // 3]) > np.cos(crease)
    first, contribution = first[smooth], weighted.reshape(-1, 3)[second[smooth]]
    total = np.stack([np.bincount(first, each, mesh.faces.size) for each in contribution.T], axis=1)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    total = np.where(length > 0.0, total / np.maximum(length, 1e-30), [0.0, 0.0, 1.0])
    return np.asarray(total.reshape(-1, 3, 3))


def distinct_rows(rows: npt.NDArray[np.floating], decimals: int = 6) -> tuple[Floats, Integers]:
    """Rows (n, d), rounded, each once, and for every given row the index of its like.

    Column after column is folded into one integer a row; numpy's own comparison of whole rows takes ten times longer.
    """
    whole = np.rint(rows * 10.0**decimals).astype(np.int64)
    key = np.zeros(len(rows), dtype=np.int64)
    for column in whole.T:
        _, folded = np.unique(key, return_inverse=True)
        key = folded * (np.ptp(column) + 1) + (column - column.min())
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    return whole[first] / 10.0**decimals, inverse
