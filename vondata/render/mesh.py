"""Triangle meshes with materials: render meshes, parts with texture coordinates, procedural textures, normals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar, assert_never

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Pixels = npt.NDArray[np.uint8]
Colour = tuple[float, float, float]
Surface = Literal["wood", "cloth", "stripes", "checks", "leather", "lacquer", "plastic", "metal"]

TEXTURE_SIZE = 128

WOODS: dict[str, Colour] = {
    "beech": (0.80, 0.60, 0.40),
    "oak": (0.68, 0.47, 0.27),
    "cherry": (0.60, 0.30, 0.16),
    "walnut": (0.40, 0.25, 0.15),
    "mahogany": (0.42, 0.17, 0.10),
    "ebony": (0.26, 0.20, 0.17),
}
DYES: dict[str, Colour] = {
    "crimson": (0.68, 0.12, 0.14),
    "terracotta": (0.74, 0.36, 0.22),
    "mustard": (0.82, 0.63, 0.20),
    "olive": (0.42, 0.46, 0.20),
    "forest": (0.13, 0.37, 0.23),
    "teal": (0.10, 0.47, 0.50),
    "sky": (0.38, 0.60, 0.80),
    "navy": (0.13, 0.20, 0.44),
    "plum": (0.42, 0.18, 0.40),
    "sand": (0.76, 0.68, 0.54),
    "stone": (0.52, 0.51, 0.50),
    "charcoal": (0.25, 0.25, 0.27),
}
LACQUERS: dict[str, Colour] = {
    "ivory": (0.86, 0.83, 0.75),
    "red": (0.76, 0.10, 0.10),
    "yellow": (0.90, 0.70, 0.10),
    "green": (0.20, 0.50, 0.26),
    "blue": (0.12, 0.32, 0.66),
    "silver": (0.66, 0.68, 0.70),
    "graphite": (0.33, 0.34, 0.37),
    "black": (0.20, 0.20, 0.21),
    "orange": (0.88, 0.40, 0.10),
    "burgundy": (0.40, 0.07, 0.12),
}


Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Finish:
    """Surface type and colour of a part, from which its texture is generated.

    Attributes:
        surface: surface type.
        colour: base colour, sRGB in [0, 1].
    """

    surface: Surface
    colour: Colour


@dataclass(frozen=True, eq=False)
class Material:
    """Surface properties for the renderer and the MTL file.

    Attributes:
        colour: mean colour, sRGB in [0, 1].
        texture: (h, w, 3) tileable sRGB image, or None for a plain surface; the grain runs along its height.
        tile_m: size of one tile in metres.
        gloss: strength of highlight and reflection, 0 (felt) to 1 (chrome).
    """

    colour: Colour
    texture: Pixels | None = None
    tile_m: float = 0.5
    gloss: float = 0.1


def make_material(finish: Finish, rng: np.random.Generator) -> Material:
    """Generates the texture of a finish."""
    tile_m, gloss = 0.5, 0.0
    match finish.surface:
        case "wood":
            brightness, tile_m, gloss = _grain(rng), 0.6, 0.18
        case "cloth":
            brightness = _weave(rng)
        case "stripes":
            brightness = _weave(rng) + _stripes(rng)[None, :]
        case "checks":
            bands = _stripes(rng)
            brightness = _weave(rng) + bands[None, :] + bands[:, None]
        case "leather":
            brightness, gloss = _creases(rng), 0.35
        case "lacquer":
            brightness, gloss = 0.02 * _noise(rng, 6.0, 6.0), 0.4
        case "plastic":
            return Material(finish.colour, gloss=0.3)
        case "metal":
            return Material(finish.colour, gloss=0.9)
        case _:
            assert_never(finish.surface)
    return Material(finish.colour, _tinted(finish.colour, brightness), tile_m, gloss)


def linear_colour(encoded: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Linear light of sRGB values in [0, 1], with the sRGB curve approximated by a square."""
    return np.asarray(encoded * encoded)


def one_of(rng: np.random.Generator, choices: tuple[Choice, ...]) -> Choice:
    """A random choice; repeated ones are more likely."""
    return choices[int(rng.integers(len(choices)))]


def quantile_choice(shares: Mapping[Choice, float], quantile: float) -> Choice:
    """The choice at a quantile in [0, 1) of the cumulative shares, which sum to 1."""
    edges = np.cumsum(list(shares.values()))
    return list(shares)[min(int(np.searchsorted(edges, quantile, side="right")), len(edges) - 1)]


def pick(rng: np.random.Generator, palette: dict[str, Colour], names: Sequence[str] | None = None) -> Colour:
    """A random colour of a palette, slightly lightened or darkened."""
    chosen = palette[str(rng.choice(list(names or palette)))]
    shade = rng.uniform(0.88, 1.1)
    red, green, blue = (float(np.clip(channel * shade, 0.0, 1.0)) for channel in chosen)
    return red, green, blue


def _noise(rng: np.random.Generator, along: float, across: float) -> npt.NDArray[np.float64]:
    """(TEXTURE_SIZE, TEXTURE_SIZE) tileable noise of unit standard deviation, blurred by the given sigmas."""
    noise = ndimage.gaussian_filter(rng.standard_normal((TEXTURE_SIZE, TEXTURE_SIZE)), (along, across), mode="wrap")
    return np.asarray((noise - noise.mean()) / noise.std())


def _grain(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Wood grain: growth rings distorted by low-frequency noise, and fine pores."""
    rings = np.arange(TEXTURE_SIZE) / TEXTURE_SIZE * int(rng.integers(5, 10))
    bent = np.sin(2.0 * np.pi * (rings[None, :] + 0.35 * _noise(rng, 30.0, 12.0)))
    return 0.10 * bent + 0.05 * _noise(rng, 12.0, 0.8) + 0.05 * _noise(rng, 24.0, 6.0)


def _weave(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    threads = np.sin(2.0 * np.pi * np.arange(TEXTURE_SIZE) * 32 / TEXTURE_SIZE)
    return 0.05 * threads[None, :] * threads[:, None] + 0.05 * _noise(rng, 1.0, 1.0) + 0.02 * _noise(rng, 8.0, 8.0)


def _stripes(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    repeats = int(rng.integers(4, 8))
    phase = np.arange(TEXTURE_SIZE) / TEXTURE_SIZE * repeats % 1.0
    return np.where(phase < rng.uniform(0.3, 0.6), 0.22, -0.18)


def _creases(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return -0.06 * np.abs(_noise(rng, 2.0, 2.0)) + 0.05 * _noise(rng, 14.0, 14.0)


def _tinted(colour: Colour, brightness: npt.NDArray[np.float64]) -> Pixels:
    """A colour modulated by relative brightness around 0."""
    pixels = np.asarray(colour) * (1.0 + brightness[..., None])
    return (255.0 * np.clip(pixels, 0.0, 1.0) + 0.5).astype(np.uint8)


Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# Edges with a larger dihedral angle are shaded as sharp.
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
        """The same mesh with another material."""
        return replace(self, material=material)

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> PartMesh:
        """The translated mesh."""
        return replace(self, vertices=self.vertices + np.array([x, y, z]))

    def turned(self, rotation: Floats, about: Sequence[float] = (0.0, 0.0, 0.0)) -> PartMesh:
        """The mesh rotated by a (3, 3) matrix about a point."""
        return replace(self, vertices=(self.vertices - about) @ rotation.T + about)

    def mirrored(self) -> PartMesh:
        """The mirror image at the plane x = 0, with faces still oriented outwards."""
        return replace(
            self, vertices=self.vertices * [-1.0, 1.0, 1.0], faces=self.faces[:, ::-1], uvs=self.uvs[:, ::-1]
        )

    def flipped(self) -> PartMesh:
        """The mesh with reversed face orientation."""
        return replace(self, faces=self.faces[:, ::-1], uvs=self.uvs[:, ::-1])

    def keeping(self, faces: Flags) -> PartMesh:
        """The mesh with only some of its faces and all vertices."""
        return replace(self, faces=self.faces[faces], uvs=self.uvs[faces])


@dataclass(frozen=True, eq=False)
class RenderMesh:
    """Triangles for rendering; model frame (y up, front -z).

    Attributes:
        corners: (f, 3, 3) positions.
        normals: (f, 3, 3) shading normals of the corners.
        uvs: (f, 3, 2) texture coordinates as (column, row downwards), 1 is one repeat of the texture.
        material: (f,) indices into materials.
        materials: surfaces.
        colours: (f, 3, 3) linear colours of the corners, which multiply the materials'; None is white.
        in_front: (f,) faces of an occluder in front of the object; None without one.
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
    """The enclosed volume of a closed mesh; positive if its faces are oriented outwards."""
    corners = mesh.vertices[mesh.faces]
    return float(np.einsum("ij,ij->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6.0)


def boundary_edges(mesh: PartMesh) -> int:
    """The number of directed edges without their opposite: 0 for a closed, consistently oriented mesh."""
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
    """Shading normals: at every corner the mean of the adjacent faces within the crease angle.

    Faces are weighted by their angle at the corner, so that the normals do not depend on the triangulation.

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
    """Unique rows of (n, d) after rounding, and the inverse indices.

    Columns are combined into one integer per row, which is ten times faster than `np.unique` with an axis.
    """
    whole = np.rint(rows * 10.0**decimals).astype(np.int64)
    key = np.zeros(len(rows), dtype=np.int64)
    for column in whole.T:
        _, folded = np.unique(key, return_inverse=True)
        key = folded * (np.ptp(column) + 1) + (column - column.min())
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    return whole[first] / 10.0**decimals, inverse
