"""Self-contained HTML pages from jinja2 templates, and meshes for their 3D views."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vondata.frames import object_to_gltf
from vondata.io.files import atomic_path
from vonmodel.mesh import SurfaceMesh, without_crumbs

TEMPLATES = "templates"


@dataclass(frozen=True)
class Page:
    """A template and its variables.

    Attributes:
        template: its file's name.
        context: the template's variables. Text is escaped; HTML must be `Markup`.
    """

    template: str
    context: Mapping[str, Any] = field(default_factory=dict)

    def render(self) -> str:
        """The page as HTML."""
        return _environment().get_template(self.template).render(self.context)

    def write(self, path: Path) -> Path:
        """Writes the page atomically and returns its path."""
        with atomic_path(path) as temporary:
            temporary.write_text(self.render(), "utf-8")
        return path


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("vonmodel.reports", TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["asset"] = _asset
    environment.filters["thousands"] = lambda number: f"{number:,}".replace(",", "\u202f")
    environment.filters["lines"] = lambda text: Markup("<br>").join(str(text).split("\n"))
    return environment


def _asset(name: str) -> Markup:
    """A style sheet or script of the templates' folder, for inclusion in the page."""
    return Markup((files(__package__) / TEMPLATES / name).read_text("utf-8"))  # a file of this package


MAX_FACES = 30_000
MAX_VERTICES = 65_535
"""Indices have 16 bits."""
_COLLAPSED = 1e-6  # share of the largest piece's volume
CLAY = (201, 190, 178)


def viewer_mesh(mesh: SurfaceMesh, max_faces: int = MAX_FACES) -> str | None:
    """A mesh in the text format of viewer.js; None for an empty mesh.

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
    """The mesh with at most `max_faces` faces and `MAX_VERTICES` vertices, by quadric decimation.

    Vertex colours are kept, a texture is not. Pieces that collapse to nothing are removed.
    """
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
        whole = replace(
            mesh,
            vertices=np.asarray(simple.vertices).copy(),
            faces=np.asarray(simple.triangles).astype(np.int64),
            colours=None if mesh.colours is None else np.clip(colours * 255.0, 0, 255).round().astype(np.uint8),
            atlas=None,
        )
        mesh = without_crumbs(whole, _COLLAPSED)
        if len(mesh.faces) > target:  # cannot be simplified further
            break
    return mesh
