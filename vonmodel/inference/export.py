"""Export of shapes as textured meshes, optionally smoothed, decimated and scaled, and as voxels."""

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
from vonmodel.inference.texture_baking import MAX_TEXTURE_PX, MIN_TEXTURE_PX, painted_mesh, textured_mesh
from vonmodel.inference.views import View, base_viewpoint, draw_views, other_azimuths
from vonmodel.mesh import SurfaceMesh, UpAxis, glb_bytes, mesh_statistics, write_mesh
from vonmodel.reports.album import Plate, Strip, Written, replaced_folder, write_account, write_each
from vonmodel.reports.html import decimated, viewer_mesh
from vonmodel.reports.provenance import code_text
from vonmodel.representation import is_shell, surface_field

FileFormat = Literal["glb", "obj", "ply", "stl", "usdz", "binvox"]
Origin = Literal["grid", "floor", "centre"]
MIN_FACES = 100
_SMOOTHING_STEPS = 10
Progress = Callable[[int, int], None]
"""Called with the shapes done and their number."""


class NoSurfaceError(VonError, ValueError):
    """A shape without a surface at the level."""


class ExportSettingsError(VonError, ValueError):
    """Export settings out of their range."""

    exit_code = 2


@dataclass(frozen=True)
class ExportSettings:
    """Formats and processing of exported shapes.

    Attributes:
        formats: of the files.
        level: value of the volume on the surface; the representation's own if None.
        texture: seed of the texture of the meshes; None for none.
        texture_px: texels along an edge of the texture image; if None, from the model's image size.
        vertex_colours: vertex colours only, without a texture image.
        grid: voxels along an edge of the grid that the surface is extracted from, interpolated cubically; the model's
            own if None.
        smooth: Taubin smoothing, which removes the steps of the grid from a surface and keeps its volume.
        faces: largest number of faces, by quadric decimation; None keeps all.
        height: of the object in the files, in their units; None leaves object units (the cube's edge is 2).
        origin: the centre of the grid, the centre of the object's bounding box, or the centre of its base.
        up: of the files but GLB, see `vonmodel.mesh.mesh_bytes`.
    """

    formats: tuple[FileFormat, ...] = ("glb",)
    level: float | None = None
    texture: Seed | None = Seed(0)  # noqa: RUF009  # a tuple
    texture_px: int | None = None
    vertex_colours: bool = False
    grid: int | None = None
    smooth: bool = False
    faces: int | None = None
    height: float | None = None
    origin: Origin = "grid"
    up: UpAxis = "y"

    def __post_init__(self) -> None:
        if self.faces is not None and self.faces < MIN_FACES:
            raise ExportSettingsError(f"a mesh keeps at least {MIN_FACES} faces, not {self.faces}")
        if self.texture_px is not None and not MIN_TEXTURE_PX <= self.texture_px <= MAX_TEXTURE_PX:
            raise ExportSettingsError(
                f"a texture has {MIN_TEXTURE_PX} to {MAX_TEXTURE_PX} texels an edge, not {self.texture_px}"
            )
        if self.height is not None and not 0.0 < self.height < float("inf"):
            raise ExportSettingsError(f"an object cannot be {self.height} high")
        if self.grid is not None and not 8 <= self.grid <= 512:
            raise ExportSettingsError(f"a surface is taken from 8 to 512 voxels an edge, not {self.grid}")


def shape_glb(session: ModelSession, shape: Shape, texture: Any = None, level: float | None = None) -> bytes:
    """A shape as the content of a .glb file, with its texture image if a texture code (k,) is given.

    Raises:
        NoSurfaceError: the shape has no surface at the level.
    """
    mesh = surface_of(session, shape, level)
    return glb_bytes(mesh if texture is None else textured_mesh(session, shape, texture, mesh))


def surface_of(
    session: ModelSession, shape: Shape, level: float | None = None, grid: int | None = None
) -> SurfaceMesh:
    """The watertight surface of a shape, extracted from the model's grid or a finer one.

    Raises:
        NoSurfaceError: nothing of the shape exceeds the level.
    """
    mesh = session.mesh(shape, level, grid)
    if not len(mesh.faces):
        asked, highest = session.level if level is None else level, shape.volume.max().item()
        raise NoSurfaceError(
            f"{shape.name} has no surface at level {asked:.4g}: its highest value is {highest:.4g}; "
            "choose a lower level"
        )
    return mesh


def smoothed(mesh: SurfaceMesh, steps: int = _SMOOTHING_STEPS) -> SurfaceMesh:
    """The mesh after Taubin smoothing: every step moves vertices towards the mean of their neighbours and back out.

    The result is blended with 2 % of the original, so that close vertices do not coincide.
    """
    import open3d as o3d

    rough = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(mesh.vertices), o3d.utility.Vector3iVector(mesh.faces.astype(np.int32))
    )
    smooth = rough.filter_smooth_taubin(number_of_iterations=steps)
    return dataclasses.replace(mesh, vertices=0.98 * np.asarray(smooth.vertices) + 0.02 * mesh.vertices)


def placed(mesh: SurfaceMesh, height: float | None, origin: Origin) -> SurfaceMesh:
    """The mesh scaled to a height and moved to the given origin."""
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    scale = 1.0 if height is None else height / float(high[2] - low[2])
    middle = (low + high) / 2.0
    match origin:
        case "grid":
            start = np.zeros(3)
        case "centre":
            start = middle
        case "floor":
            start = np.array([middle[0], middle[1], low[2]])
    return dataclasses.replace(mesh, vertices=(mesh.vertices - start) * scale)


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
        shapes: the shapes to export.
        settings: of the files.
        output: the folder; an older export in it is replaced.
        progress: called after every shape.

    Returns:
        the content of result.json.

    Raises:
        NoSurfaceError: a shape has no surface at the level.
        OutputError: the folder holds something other than an older export.
        SeedError: the texture's seed is out of range.
    """
    with replaced_folder(output, "export") as folder:
        written = write_each(shapes, partial(_export_one, session, settings, folder), folder, progress)
        asked = dataclasses.asdict(settings) | {
            "texture": None if settings.texture is None else str(settings.texture)
        }
        lead = (
            "Watertight meshes, y up and the front towards +z unless asked otherwise; voxels in the object frame, "
            "z up and the front at +y."
        )
        words = f"Exported {session.source.class_name}s", lead
        return write_account(folder, "export", session.source.provenance, asked, words, written)


def write_shape_files(
    session: ModelSession, shape: Shape, settings: ExportSettings, texture: Any, folder: Path, stem: str = "shape"
) -> tuple[SurfaceMesh, dict[str, Path]]:
    """Writes `<stem>.<format>` for every format; errors as `export`."""
    mesh = surface_of(session, shape, settings.level, settings.grid)
    if settings.smooth:
        mesh = smoothed(mesh)
    if settings.faces is not None:
        mesh = decimated(mesh, settings.faces)
    if texture is not None and set(settings.formats) - {"binvox", "stl"}:
        if settings.vertex_colours or not set(settings.formats) & {"glb", "obj", "usdz"}:
            mesh = painted_mesh(session, shape, texture, mesh)
        else:
            mesh = textured_mesh(session, shape, texture, mesh, settings.texture_px)
    mesh = placed(mesh, settings.height, settings.origin)
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
            write_mesh(files[format], mesh, extras, up=settings.up)
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
        "texture_px": None if mesh.atlas is None else len(mesh.atlas.image),
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
