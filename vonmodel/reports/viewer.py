"""Meshes for the turnable 3D views of pages: decimated, quantised and base64-coded, to be read by viewer.js."""

from __future__ import annotations

import base64
import struct
from dataclasses import replace

import numpy as np

from vondata.frames import object_to_gltf
from vonmodel.mesh import SurfaceMesh

MAX_FACES = 30_000
MAX_VERTICES = 65_535
"""Indices have 16 bits."""
CLAY = (201, 190, 178)


def viewer_mesh(mesh: SurfaceMesh, max_faces: int = MAX_FACES) -> str | None:
    """A mesh as the text that viewer.js reads; None for an empty mesh.

    The bytes before base64, little-endian: uint32 vertices, uint32 faces, float32 lowest corner (3) and extent (3);
    then uint16 positions (v, 3) between the two, y up and the front towards +z; uint16 faces (f, 3); uint8 sRGB
    colours (v, 3).

    Args:
        mesh: in the object frame.
        max_faces: a mesh with more is decimated.
    """
    if not len(mesh.faces):
        return None
    mesh = decimated(mesh, max_faces)
    positions = object_to_gltf(mesh.vertices)
    low, high = positions.min(axis=0), positions.max(axis=0)
    extent = np.maximum(high - low, 1e-9)
    colours = np.tile(np.array(CLAY, dtype=np.uint8), (len(positions), 1)) if mesh.colours is None else mesh.colours
    parts = (
        struct.pack("<2I6f", len(positions), len(mesh.faces), *low, *extent),
        np.round((positions - low) / extent * 65535).astype("<u2").tobytes(),
        mesh.faces.astype("<u2").tobytes(),
        np.ascontiguousarray(colours, dtype=np.uint8).tobytes(),
    )
    return base64.urlsafe_b64encode(b"".join(parts)).decode("ascii")


def decimated(mesh: SurfaceMesh, max_faces: int = MAX_FACES) -> SurfaceMesh:
    """The mesh with at most so many faces and `MAX_VERTICES` vertices, by quadric decimation; colours are kept."""
    while len(mesh.faces) > max_faces or len(mesh.vertices) > MAX_VERTICES:
        import open3d as o3d

        target = min(max_faces, int(0.8 * len(mesh.faces)))
        full = o3d.geometry.TriangleMesh(
            o3d.utility.Vector3dVector(mesh.vertices), o3d.utility.Vector3iVector(mesh.faces.astype(np.int32))
        )
        if mesh.colours is not None:
            full.vertex_colors = o3d.utility.Vector3dVector(mesh.colours / 255.0)
        simple = full.simplify_quadric_decimation(target)
        colours = np.asarray(simple.vertex_colors)
        mesh = replace(
            mesh,
            vertices=np.asarray(simple.vertices).copy(),
            faces=np.asarray(simple.triangles).astype(np.int64),
            colours=None if mesh.colours is None else np.clip(colours * 255.0, 0, 255).round().astype(np.uint8),
        )
        if len(mesh.faces) > target:  # what is left cannot be simplified further
            break
    return mesh
