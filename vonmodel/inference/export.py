"""Export: shapes as meshes with their colours, and as voxels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vondata.errors import VonError
from vondata.shapes.binvox import VoxelGrid, export_binvox, filled
from vonmodel.inference.sampling import Seed
from vonmodel.inference.session import ModelSession, Shape
from vonmodel.inference.views import View, base_viewpoint, draw_views, other_azimuths, painted_mesh
from vonmodel.mesh import SurfaceMesh, glb_bytes, mesh_statistics, write_mesh
from vonmodel.reports.album import Plate, Strip, Written, replaced_folder, write_account, write_each
from vonmodel.reports.html import viewer_mesh
from vonmodel.reports.provenance import code_text
from vonmodel.representation import is_shell, surface_field

FileFormat = Literal["glb", "obj", "ply", "binvox"]
Progress = Callable[[int, int], None]
"""Called with the shapes done and their number."""


class NoSurfaceError(VonError, ValueError):
    """A shape that has no surface at the level."""


@dataclass(frozen=True)
class ExportSettings:
    """What to write.

    Attributes:
        formats: of the files.
        level: value of the volume on the surface; the representation's own where None.
        texture: seed of the texture whose colours the meshes get; None leaves them plain.
    """

    formats: tuple[FileFormat, ...] = ("glb",)
    level: float | None = None
    texture: Seed | None = Seed(0)  # noqa: RUF009  # a tuple


def shape_glb(session: ModelSession, shape: Shape, texture: Any = None, level: float | None = None) -> bytes:
    """A shape as the content of a .glb file, in the colours of a texture code (k,) if one is given.

    Raises:
        NoSurfaceError: the shape has no surface at the level.
    """
    mesh = surface_of(session, shape, level)
    return glb_bytes(mesh if texture is None else painted_mesh(session, shape, texture, mesh))


def surface_of(session: ModelSession, shape: Shape, level: float | None = None) -> SurfaceMesh:
    """The watertight surface of a shape.

    Raises:
        NoSurfaceError: nothing of the shape exceeds the level.
    """
    mesh = session.mesh(shape, level)
    if not len(mesh.faces):
        asked, highest = session.level if level is None else level, shape.volume.max().item()
        raise NoSurfaceError(
            f"{shape.name} has no surface at level {asked:.4g}: its highest value is {highest:.4g}; "
            "choose a lower level"
        )
    return mesh


def export(
    session: ModelSession,
    shapes: Sequence[Shape],
    settings: ExportSettings,
    output: Path,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Writes the files of every shape, pictures of it, result.json and a page.

    Args:
        session: the model.
        shapes: what to export.
        settings: how.
        output: the folder; an older export in it is replaced.
        progress: called after every shape.

    Returns:
        the content of result.json.

    Raises:
        NoSurfaceError: a shape has no surface at the level.
        OutputError: the folder holds something else than an older export.
        SeedError: the texture's seed is out of range.
    """
    with replaced_folder(output, "export") as folder:
        written = write_each(shapes, partial(_export_one, session, settings, folder), folder, progress)
        asked = dataclasses.asdict(settings) | {
            "texture": None if settings.texture is None else str(settings.texture)
        }
        lead = (
            "Watertight meshes, y up and the front towards +z; voxels in the object frame, z up and the front at +y."
        )
        words = f"Exported {session.source.class_name}s", lead
        return write_account(folder, "export", session.source.provenance, asked, words, written)


def write_shape_files(
    session: ModelSession, shape: Shape, settings: ExportSettings, texture: Any, folder: Path, stem: str = "shape"
) -> tuple[SurfaceMesh, dict[str, Path]]:
    """Writes `<stem>.<format>` for every format; errors as `export`."""
    mesh = surface_of(session, shape, settings.level)
    if texture is not None and set(settings.formats) - {"binvox"}:
        mesh = painted_mesh(session, shape, texture, mesh)
    origin = session.source.provenance.record(
        shape=shape.name,
        shape_code=None if shape.code is None else code_text(shape.code.tolist()),
        texture_code=None if texture is None else code_text(texture.tolist()),
    )
    extras = {"von": origin, "statistics": mesh_statistics(mesh)}
    files: dict[str, Path] = {}
    for format in settings.formats:
        files[format] = folder / f"{stem}.{format}"
        if format == "binvox":
            _write_voxels(session, shape, settings.level, files[format])
        else:
            write_mesh(files[format], mesh, extras)
    return mesh, files


def _export_one(session: ModelSession, settings: ExportSettings, folder: Path, shape: Shape, name: str) -> Written:
    texture = None if settings.texture is None else session.texture(settings.texture)
    mesh, files = write_shape_files(session, shape, settings, texture, folder / name)
    viewpoint = base_viewpoint(session, shape, None, None)
    shown = session.texture(Seed(0)) if texture is None else texture
    views = other_azimuths(View("image", "", shape, viewpoint, shown), 3)
    pictures = draw_views(session, views, folder, name)
    bounds = np.stack([mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)])
    said = {
        "shape": shape.name,
        "shape_code": None if shape.code is None else shape.code.tolist(),
        "texture_code": None if texture is None else texture.tolist(),
        "level": session.level if settings.level is None else settings.level,
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
        "bounds": bounds.round(6).tolist(),
        "files": {format: f"{name}/{path.name}" for format, path in files.items()},
        "bytes": {format: path.stat().st_size for format, path in files.items()},
        "pictures": [each.file for each in pictures],
    }
    downloads = tuple((format.upper(), f"{name}/{path.name}") for format, path in files.items())
    facts = f"{len(mesh.faces):,} faces, surface at {said['level']:.4g}"
    return said, Plate(
        shape.name, facts, (Strip("as the model paints it", pictures),), (), downloads, viewer_mesh(mesh)
    )


def _write_voxels(session: ModelSession, shape: Shape, level: float | None, path: Path) -> None:
    """Writes the voxels above the level; a distance function's shell is filled."""
    solid = surface_field(session.config, shape.volume)[0].cpu().numpy() > (session.level if level is None else level)
    if is_shell(session.config.representation):
        solid = filled(VoxelGrid(solid, (0.0, 0.0, 0.0), 1.0)).occupancy
    export_binvox(path, solid)
