"""Matching cues of photos and sketches: silhouette, inner edges and shading, each with a score in [0, 1].

Silhouettes alone cannot tell a chair's front from its back. Inside them two things can be compared without knowing
the texture: edges lie at creases and occlusion boundaries, and brightness is a function of the normal, up to four
coefficients of the light (the linear model of Basri and Jacobs 2003).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vondata.errors import VonError
from vondata.io.files import ReadableFile
from vondata.kernels import kernel
from vondata.matching.sketching import CHANNELS, Singles

SKETCH_PX = 64
SILHOUETTE_PX = 32
SHADING_PX = 16
EDGE_CELLS = 8
EDGE_DIRECTIONS = 8
_DEPTH_WEIGHT = 3.0  # a depth step of a third of the unit sphere's radius is as strong an edge as a 60 degree crease
_SHADING_RIDGE = 0.125  # ridge regularisation of the light's four coefficients, in pixels of shading
_LIGHTNESS = 50.0  # scales CIE Lab to the order of 1
_BLOCK = 4096  # sketches converted to float32 at a time: 40 MB


class PhotoUnreadableError(VonError, ValueError):
    """A prepared photo that is missing, damaged, without alpha or without an object."""

    def __init__(self, path: ReadableFile, what: str) -> None:
        super().__init__(f"{path} is not a prepared photo: {what}; prepare it again")


@dataclass(frozen=True, eq=False)
class SketchCues:
    """Cues of n sketches; stored compactly, compared in float32.

    Attributes:
        silhouette: (n, 1024) uint8, coverage of each pixel, 255 for full coverage.
        edges: (n, 512) float16, square root of the edge strength per cell and direction, of length 1.
        shading: (n, 4, 256) float16, orthonormal basis of the shadings under any distant light.
    """

    silhouette: npt.NDArray[np.uint8]
    edges: npt.NDArray[np.float16]
    shading: npt.NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.silhouette)


@dataclass(frozen=True, eq=False)
class PhotoCues:
    """Cues of n photos, float32.

    Attributes:
        silhouette: (n, 1024) coverage of each pixel, in [0, 1].
        edges: (n, 512) square root of the edge strength per cell and direction, of length 1.
        shading: (n, 256) lightness minus its mean, of length 1.
    """

    silhouette: Singles
    edges: Singles
    shading: Singles


@dataclass(frozen=True)
class CueWeights:
    """Weights of the cues in the score."""

    silhouette: float = 1.0
    edges: float = 0.5
    shading: float = 0.3


def sketch_cues(sketches: Singles) -> SketchCues:
    """Cues of sketches (n, 4, 64, 64) from `SketchVolume.draw`."""
    covered = sketches[:, 0] > 0.0
    silhouette = _shrunk(covered.astype(np.float32), SILHOUETTE_PX)
    channels = sketches.copy()
    channels[:, 0] *= _DEPTH_WEIGHT
    light = np.concatenate([covered[:, None], sketches[:, 1:]], axis=1, dtype=np.float32)
    return SketchCues(
        np.rint(255.0 * silhouette).reshape(len(sketches), -1).astype(np.uint8),
        _edges(channels, covered).astype(np.float16),
        _orthonormal(_shrunk(light, SHADING_PX).reshape(len(sketches), CHANNELS, -1)).astype(np.float16),
    )


def read_photo(path: ReadableFile) -> npt.NDArray[np.uint8]:
    """A prepared photo at the size of the sketches, (64, 64, 4) blue, green, red, alpha.

    Raises:
        PhotoUnreadableError: the file is missing, damaged, without alpha or without an object.
    """
    try:
        with path.open("rb") as file:
            content = np.frombuffer(file.read(), np.uint8)
    except OSError as error:
        raise PhotoUnreadableError(path, "it cannot be read") from error
    photo = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
    if photo is None:
        raise PhotoUnreadableError(path, "it cannot be decoded")
    if photo.ndim != 3 or photo.shape[2] != 4 or photo.dtype != np.uint8:
        raise PhotoUnreadableError(path, "it is not an RGBA image")
    if not (photo[..., 3] > 127).any():
        raise PhotoUnreadableError(path, "its mask is empty")
    if photo.shape[:2] != (SKETCH_PX, SKETCH_PX):
        shrinks = photo.shape[0] > SKETCH_PX
        photo = cv2.resize(
            photo, (SKETCH_PX, SKETCH_PX), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        )
    return np.asarray(photo)


def photo_cues(photos: npt.NDArray[np.uint8]) -> PhotoCues:
    """Cues of photos (n, 64, 64, 4) from `read_photo`."""
    alpha = photos[..., 3].astype(np.float32) / 255.0
    inside = alpha > 0.5
    colours = np.stack(
        [cv2.cvtColor(photo[..., :3].astype(np.float32) / 255.0, cv2.COLOR_BGR2Lab) for photo in photos]
    )
    channels = np.moveaxis(colours, -1, 1) / np.float32(_LIGHTNESS)
    lightness = np.where(inside, channels[:, 0], 0.0)
    pixels = np.maximum(inside.sum(axis=(1, 2), keepdims=True), 1)
    contrast = np.where(inside, lightness - lightness.sum(axis=(1, 2), keepdims=True) / pixels, 0.0)
    return PhotoCues(
        _shrunk(alpha, SILHOUETTE_PX).reshape(len(photos), -1),
        _edges(np.ascontiguousarray(channels), inside),
        _of_length_one(_shrunk(contrast.astype(np.float32), SHADING_PX).reshape(len(photos), -1)),
    )


def similarity(photos: PhotoCues, sketches: SketchCues, weights: CueWeights) -> Singles:
    """(photos, sketches) weighted sum of the cues.

    The score of silhouettes is the Tanimoto coefficient a.b / (a.a + b.b - a.b), the intersection over union of
    binary masks; that of edges the cosine similarity; that of shading the share of the lightness' variance that the
    best light explains.
    """
    scores = np.empty((len(photos.silhouette), len(sketches)), dtype=np.float32)
    for first in range(0, len(sketches), _BLOCK):
        block = slice(first, first + _BLOCK)
        part = SketchCues(sketches.silhouette[block], sketches.edges[block], sketches.shading[block])
        scores[:, block] = _similarity(photos, part, weights)
    return scores


def _similarity(photos: PhotoCues, sketches: SketchCues, weights: CueWeights) -> Singles:
    silhouette = sketches.silhouette.astype(np.float32) / np.float32(255.0)
    common = photos.silhouette @ silhouette.T
    own = np.einsum("np,np->n", photos.silhouette, photos.silhouette)[:, None]
    total = own + np.einsum("np,np->n", silhouette, silhouette) - common
    score = weights.silhouette * common / np.maximum(total, np.float32(1e-6))
    score += weights.edges * (photos.edges @ sketches.edges.astype(np.float32).T)
    for component in range(sketches.shading.shape[1]):
        score += weights.shading * (photos.shading @ sketches.shading[:, component].astype(np.float32).T) ** 2
    return np.asarray(score, dtype=np.float32)


def _shrunk(pictures: Singles, size: int) -> Singles:
    """(..., s, s) averaged over blocks to (..., size, size)."""
    block = pictures.shape[-1] // size
    shape = (*pictures.shape[:-2], size, block, size, block)
    averaged: Singles = pictures.reshape(shape).mean(axis=(-3, -1), dtype=np.float32)
    return averaged


def _of_length_one(vectors: Singles) -> Singles:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-9), dtype=np.float32)


def _orthonormal(pictures: Singles) -> Singles:
    """(n, 4, p) orthonormal basis of the given pictures; directions with little variance are shorter than 1."""
    products = pictures @ pictures.transpose(0, 2, 1) + _SHADING_RIDGE * np.eye(CHANNELS, dtype=np.float32)
    return np.asarray(np.linalg.solve(np.linalg.cholesky(products), pictures))


def _edges(channels: Singles, inside: npt.NDArray[np.bool_]) -> Singles:
    """(n, 512) square root of the edge strength per cell and direction, of length 1.

    Args:
        channels: (n, c, 64, 64) channels whose gradients define edges.
        inside: (n, 64, 64) the object; its outermost pixels are ignored.
    """
    histograms = np.zeros((len(channels), EDGE_CELLS, EDGE_CELLS, EDGE_DIRECTIONS), dtype=np.float32)
    _count_edges(channels, _eroded(inside), histograms)
    return _of_length_one(np.sqrt(histograms).reshape(len(channels), -1))


def _eroded(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(n, s, s) pixels whose eight neighbours are all inside, too."""
    deep = np.zeros_like(inside)
    rows = inside[:, :-2] & inside[:, 1:-1] & inside[:, 2:]
    deep[:, 1:-1, 1:-1] = rows[:, :, :-2] & rows[:, :, 1:-1] & rows[:, :, 2:]
    return deep


@kernel
def _count_edges(channels: Singles, deep: npt.NDArray[np.bool_], histograms: Singles) -> None:
    size = channels.shape[2]
    for index in range(channels.shape[0]):
        for row in range(1, size - 1):
            for column in range(1, size - 1):
                if deep[index, row, column]:
                    xx, yy, xy = 0.0, 0.0, 0.0
                    for channel in range(channels.shape[1]):
                        picture = channels[index, channel]
                        dx = picture[row, column + 1] - picture[row, column - 1]
                        dy = picture[row + 1, column] - picture[row - 1, column]
                        xx, yy, xy = xx + dx * dx, yy + dy * dy, xy + dx * dy
                    direction = 0.5 * math.atan2(2.0 * xy, xx - yy) / math.pi + 0.5  # of the structure tensor
                    _vote(histograms[index], row / size, column / size, direction, math.sqrt(xx + yy))


@kernel
def _vote(histogram: Singles, down: float, across: float, direction: float, strength: float) -> None:
    """Adds an edge to the nearest cells and directions, by trilinear interpolation."""
    cells, directions = histogram.shape[0], histogram.shape[2]
    row, column, turn = down * cells - 0.5, across * cells - 0.5, direction * directions
    first_row, first_column, first_turn = math.floor(row), math.floor(column), math.floor(turn)
    for i in range(2):
        for j in range(2):
            cell_row, cell_column = int(first_row) + i, int(first_column) + j
            if 0 <= cell_row < cells and 0 <= cell_column < cells:
                share = abs(1 - i - (row - first_row)) * abs(1 - j - (column - first_column)) * strength
                histogram[cell_row, cell_column, int(first_turn) % directions] += share * (1 - turn + first_turn)
                histogram[cell_row, cell_column, int(first_turn + 1) % directions] += share * (turn - first_turn)
