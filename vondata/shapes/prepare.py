"""One model's way from its file to a prepared shape."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vondata.frames import axes_to_object
from vondata.item import Item
from vondata.shapes.cleaning import Mesh, clean_mesh
from vondata.shapes.distance import Method, distance_field
from vondata.shapes.reading import Limits, read_bytes, read_triangles
from vondata.shapes.solid import fill_solid
from vondata.shapes.topology import find_topology
from vondata.shapes.voxelize import surface_voxels, to_voxels
from vondata.storage import PreparedShape, save_shape


@dataclass(frozen=True)
class ShapeSettings:
    """What decides a prepared shape.

    Attributes:
        resolution: voxels along an edge of the cube.
        distance: fast, or exact everywhere at ten to fifty times the cost.
        limits: what a file may ask for.
    """

    resolution: int = 128
    distance: Method = "fast"
    limits: Limits = Limits()


def prepare_shape(item: Item, settings: ShapeSettings, output: Path) -> dict[str, Any]:
    """Prepares one model; the work of a ledger.

    Args:
        item: its first input is the file; its fields name the axes `up` and `front`.
        settings: what to make of it.
        output: the .npz to write.

    Returns:
        the columns of the manifest that describe the shape.

    Raises:
        Rejected: the file is missing, unreadable, corrupt, too large, empty or flat.
    """
    path = Path(item.inputs[0])
    clock = _Clock()
    rotation = axes_to_object(item.fields["up"], item.fields["front"])
    mesh = clean_mesh(read_triangles(read_bytes(path, settings.limits), path, settings.limits), rotation)
    load_s = clock.lap()
    shape, row = _measure(mesh, settings, clock)
    save_shape(output, shape)
    return row | {"load_s": load_s, "save_s": clock.lap()}


def _measure(mesh: Mesh, settings: ShapeSettings, clock: _Clock) -> tuple[PreparedShape, dict[str, Any]]:
    topology = find_topology(mesh.faces)
    vertices = to_voxels(mesh.vertices, settings.resolution)
    surface = surface_voxels(vertices, mesh.faces, settings.resolution)
    solid = fill_solid(vertices, mesh.faces, topology, surface)
    voxelize_s = clock.lap()
    distance = distance_field(vertices, mesh.faces, settings.resolution, settings.distance)
    shape = PreparedShape(solid.occupancy, surface, distance, mesh.scale, mesh.centre, mesh.rotation)
    row = {
        "faces": mesh.source_faces,
        "vertices": mesh.source_vertices,
        "degenerate_faces": mesh.degenerate_faces,
        "duplicate_faces": mesh.duplicate_faces,
        "watertight": topology.watertight,
        "open_edges": topology.open_edges,
        "fill": float(np.count_nonzero(solid.occupancy) / solid.occupancy.size),
        "leak": solid.leak,
        "enclosed_voxels": solid.enclosed_voxels,
        "leaked_voxels": solid.leaked_voxels,
        "resolution": settings.resolution,
        "scale": mesh.scale,
        "centre_x": mesh.centre[0],
        "centre_y": mesh.centre[1],
        "centre_z": mesh.centre[2],
        "voxelize_s": voxelize_s,
        "distance_s": clock.lap(),
    }
    return shape, row


class _Clock:
    """Times the phases of one item."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last call."""
        before, self._since = self._since, time.perf_counter()
        return round(self._since - before, 4)
