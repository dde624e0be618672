"""Reads and writes ShapeNet's .binvox voxel grids.

Voxel i of d is centred at (i + 1/2) / d * scale + translate in the coordinates of the model. The package `binvox`
decodes the runs; comment lines, inconsistent sizes and grids that are not cubes, which it gets wrong, are handled
before. Runs are encoded here, with the same bytes as the package, whose own loop takes a second per file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
import numpy.typing as npt
from binvox import Binvox

from vondata.io.files import atomic_path
from vondata.shapes import voxelize as bits
from vondata.shapes.polygons import TriangleSoup
from vondata.shapes.source_file import Limits, read_bytes
from vondata.types import Rejected

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

MAX_EDGE = 512
MAX_RUN_BYTES = 32 * 2**20  # a solid on a grid of MAX_EDGE needs a tenth of it; only noise needs more
_MAX_RUN = 255


@dataclass(frozen=True, eq=False)
class VoxelGrid:
    """A cubic voxel grid and its placement.

    Attributes:
        occupancy: (d, d, d) indexed [x, y, z].
        translate: the corner of the cube, in the coordinates of the model.
        scale: the edge of the cube.
    """

    occupancy: Bools
    translate: tuple[float, float, float]
    scale: float

    def to_model(self, indices: Floats) -> Floats:
        """Model coordinates (..., 3) of voxel indices; whole indices are centres of voxels."""
        return np.asarray((indices + 0.5) / self.occupancy.shape[0] * self.scale + np.array(self.translate))

    def from_model(self, positions: Floats) -> Floats:
        """Voxel indices, with fractions, of model coordinates (..., 3); inverse of `to_model`."""
        return np.asarray((positions - np.array(self.translate)) / self.scale * self.occupancy.shape[0] - 0.5)


def read_binvox(path: Path, limits: Limits) -> VoxelGrid:
    """Reads a .binvox file.

    Raises:
        Rejected: source_missing, source_unreadable, too_large, format_unknown, file_corrupt, binvox_not_cubic.
    """
    content = read_bytes(path, limits)
    if not content.startswith(b"#binvox"):
        raise Rejected("format_unknown", f"the file begins with {content[:16]!r}, not with #binvox")
    try:
        dims, translate, scale, runs = _parse_header(content)
    except (ValueError, LookupError) as error:
        what = "its header has no dim" if isinstance(error, KeyError) else error
        raise Rejected("file_corrupt", f"as BINVOX: {what}") from error
    if len(set(dims)) != 1:
        raise Rejected("binvox_not_cubic", f"the grid has {' x '.join(map(str, dims))} voxels")
    if not 1 <= dims[0] <= MAX_EDGE:
        raise Rejected("too_large", f"the grid has {dims[0]:,} voxels along an edge; the limit is {MAX_EDGE}")
    if len(runs) > MAX_RUN_BYTES:
        raise Rejected("too_large", f"{len(runs):,} bytes of runs; the limit is {MAX_RUN_BYTES:,}")
    if len(runs) % 2 and runs[-1:] in (b"\n", b"\0"):  # as some transfers of files append
        runs = runs[:-1]
    if len(runs) % 2:
        raise Rejected("file_corrupt", f"as BINVOX: {len(runs):,} bytes of runs, which come in pairs")
    counted = int(np.frombuffer(runs, dtype=np.uint8)[1::2].sum())
    if counted != dims[0] ** 3:
        raise Rejected("file_corrupt", f"as BINVOX: {counted:,} voxels in runs, {dims[0] ** 3:,} in the header")
    with NamedTemporaryFile(suffix=".binvox") as plain:
        plain.write(_header(dims[0], translate, scale) + runs)
        plain.flush()
        model = Binvox.read(plain.name, mode="dense")
    return VoxelGrid(np.ascontiguousarray(model.numpy()), translate, scale)


def export_binvox(
    path: Path,
    occupancy: Bools,
    *,
    translate: tuple[float, float, float] | None = None,
    scale: float | None = None,
) -> None:
    """Writes voxels as .binvox, atomically.

    Args:
        path: the file.
        occupancy: (N, N, N) indexed [x, y, z].
        translate: corner of the cube; by default that of the object frame, whose first voxel is centred at -1.
        scale: edge of the cube; by default that of the object frame, whose last voxel is centred at 1.

    Raises:
        ValueError: the grid is not a cube.
    """
    size = occupancy.shape[0]
    if occupancy.ndim != 3 or set(occupancy.shape) != {size} or size < 2:
        raise ValueError(f"a .binvox file holds a cube, not {occupancy.shape}")
    half_voxel = 1.0 / (size - 1)
    corner = translate if translate is not None else (-1.0 - half_voxel,) * 3
    edge = scale if scale is not None else 2.0 + 2.0 * half_voxel
    with atomic_path(path) as temporary:
        temporary.write_bytes(_header(size, corner, edge) + encode_runs(occupancy))


def encode_runs(occupancy: Bools) -> bytes:
    """The run lengths of a grid indexed [x, y, z], in the file's order: y fastest, then z, then x."""
    flat = np.ascontiguousarray(occupancy.transpose(0, 2, 1)).reshape(-1)  # the file's order, not a change of frame
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    lengths = np.diff(np.append(starts, flat.size))
    pieces = -(-lengths // _MAX_RUN)
    counts = np.full(int(pieces.sum()), _MAX_RUN, dtype=np.uint8)
    counts[np.cumsum(pieces) - 1] = lengths - (pieces - 1) * _MAX_RUN
    return np.stack([np.repeat(flat[starts].view(np.uint8), pieces), counts], axis=1).tobytes()


def filled(grid: VoxelGrid) -> VoxelGrid:
    """The grid with its enclosed cavities filled, for files that hold the surface only."""
    size = grid.occupancy.shape[0]
    closed = bits.unpack(bits.flooded_complement(bits.pack(grid.occupancy), size), size)
    return VoxelGrid(closed, grid.translate, grid.scale)


def isosurface(grid: VoxelGrid, limits: Limits) -> TriangleSoup:
    """The surface halfway between occupied and empty voxels, in model coordinates.

    Raises:
        Rejected: empty_mesh (no voxel is set), too_large.
    """
    if not grid.occupancy.any():
        raise Rejected("empty_mesh", "no voxel is set")
    from skimage.measure import marching_cubes

    padded = np.pad(grid.occupancy, 1)
    sides = sum(int(np.count_nonzero(np.diff(padded, axis=axis))) for axis in range(3))
    limits.check_mesh(sides, sides)  # a vertex per voxel face next to an empty cell, and more triangles than that
    vertices, faces, _, _ = marching_cubes(padded.astype(np.float32), level=0.5)
    limits.check_mesh(len(vertices), len(faces))
    return TriangleSoup(grid.to_model(vertices.astype(np.float64) - 1.0), faces.astype(np.int64))


def sample_grid(grid: VoxelGrid, positions: Floats) -> Bools:
    """Whether positions (..., 3) in model coordinates are inside: trilinear occupancy of at least 0.5."""
    from scipy.ndimage import map_coordinates

    indices = np.moveaxis(grid.from_model(positions), -1, 0)
    occupancy = grid.occupancy.astype(np.float32)
    return np.asarray(map_coordinates(occupancy, indices, order=1, mode="grid-constant") >= 0.5)


def _parse_header(content: bytes) -> tuple[tuple[int, ...], tuple[float, float, float], float, bytes]:
    """Size, translation, scale and the bytes of the runs; comment lines may appear anywhere before `data`."""
    fields: dict[bytes, list[bytes]] = {}
    at = 0
    while at < len(content):
        end = content.find(b"\n", at, at + 1024)
        if end < 0:
            break
        words = content[at:end].split()
        at = end + 1
        if words and words[0] == b"data":
            dims = tuple(int(word) for word in fields[b"dim"])
            x, y, z = (float(word) for word in fields.get(b"translate", [b"0", b"0", b"0"]))
            (scale,) = (float(word) for word in fields.get(b"scale", [b"1"])[:1])
            if len(dims) != 3 or not np.isfinite([x, y, z, scale]).all() or scale <= 0:
                raise ValueError(f"a grid of {dims} voxels, scaled by {scale}, moved by {x, y, z}")
            return dims, (x, y, z), scale, content[at:]
        if words and not words[0].startswith(b"#"):
            fields[words[0]] = words[1:]
    raise ValueError("the header does not end")


def _header(size: int, translate: tuple[float, float, float], scale: float) -> bytes:
    numbers = " ".join(str(float(each)) for each in translate)
    return f"#binvox 1\ndim {size} {size} {size}\ntranslate {numbers}\nscale {float(scale)}\ndata\n".encode()
