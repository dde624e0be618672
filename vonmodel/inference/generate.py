"""Generation of random objects: n shapes x views x textures as images, sketches, meshes, a JSON file and a page."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from vondata.io.files import atomic_path, remove_leftovers
from vonmodel.checkpoint import CheckpointInfo
from vonmodel.data.datasets import ViewpointSampler
from vonmodel.inference.sampling import Seed, Viewpoints, sample_codes, sample_viewpoints
from vonmodel.inference.session import LoadedModel, ModelSession, Shape
from vonmodel.inference.texture_baking import textured_mesh
from vonmodel.inference.views import View, origin_of, png_origin
from vonmodel.mesh import SurfaceMesh, mesh_statistics, write_glb, write_grey, write_image
from vonmodel.reports.album import replaced_folder
from vonmodel.reports.gallery import PAGE, Gallery, GeneratedShape, ViewFiles, unfinished_shapes, write_page
from vonmodel.reports.html import viewer_mesh
from vonmodel.reports.metrics_log import Line, read_metrics
from vonmodel.representation import surface_level


def write_pictures(
    folder: Path, session: ModelSession, shape: Shape, viewpoints: Viewpoints, texture_codes: Tensor
) -> GeneratedShape:
    """Renders one shape from all viewpoints in all textures, into a new folder; its mesh is `write_mesh_file`'s."""
    folder.mkdir()
    views = tuple(
        _write_view(folder, f"view-{index + 1}", session, shape, tuple(viewpoint), texture_codes)
        for index, viewpoint in enumerate(viewpoints.tolist())
    )
    return GeneratedShape(
        name=folder.name,
        code=() if shape.code is None else tuple(shape.code.tolist()),
        mesh=None,
        faces=0,
        largest_piece=shape.largest_piece,
        score=session.score(shape),
        views=views,
    )


def write_mesh_file(
    folder: Path, session: ModelSession, shape: Shape, texture_code: Tensor, level: float
) -> SurfaceMesh | None:
    """Writes the surface of a shape as `mesh.glb`, with a texture image baked from painted views.

    Returns:
        the mesh; None, and no file, where nothing of the shape exceeds the level.
    """
    mesh = session.mesh(shape, level)
    if not len(mesh.faces):
        return None
    mesh = textured_mesh(session, shape, texture_code, mesh)
    front = View("mesh", "", shape, (0.0, 0.0), texture_code)
    extras = {"von": session.source.provenance.record(**origin_of(front)), "statistics": mesh_statistics(mesh)}
    write_glb(folder / MESH_FILE, mesh, folder.name, extras)
    return mesh


def _write_view(
    folder: Path,
    name: str,
    session: ModelSession,
    shape: Shape,
    viewpoint: tuple[float, float],
    texture_codes: Tensor,
) -> ViewFiles:
    """Writes the pictures of one shape from one viewpoint: its sketch and the images in all textures."""
    views = [View(name, "", shape, viewpoint, code) for code in texture_codes]
    sketch = session.sketch(shape, *viewpoint)
    silhouette, depth = sketch.silhouette[0], sketch.normalized_depth[0]
    sketched = session.source.provenance.png_text(**(origin_of(views[0]) | {"texture_code": None}))
    write_grey(folder / f"{name}-silhouette.png", silhouette[0], sketched)
    write_grey(folder / f"{name}-depth.png", (depth[0] + 1.0) / 2.0, sketched)
    images = session.paint(sketch, texture_codes)
    names = [f"{name}-texture-{index + 1}.png" for index in range(len(views))]
    for file, view, image in zip(names, views, images, strict=True):
        write_image(folder / file, image, png_origin(session, view), silhouette)
    return ViewFiles(
        silhouette=f"{folder.name}/{name}-silhouette.png",
        depth=f"{folder.name}/{name}-depth.png",
        images=tuple(f"{folder.name}/{file}" for file in names),
    )


Progress = Callable[[str, int, int], None]
"""Called with what is being written ("pictures", then "meshes"), for how many shapes it is, and of how many."""
MESH_FILE = "mesh.glb"
_VIEW_FILE = "mesh.view"
CANDIDATES = 8
"""Viewpoints sampled for each one that is kept, so that no two are nearly alike."""


@dataclass(frozen=True)
class GenerateSettings:
    """Numbers of shapes, viewpoints and textures to generate.

    Attributes:
        shapes: number of shapes.
        views: number of viewpoints, if none are given.
        textures: number of textures.
        seed: of codes and viewpoints.
        azimuths_deg: of the viewpoints; sampled from the class's viewpoints if empty.
        elevations_deg: of the viewpoints; sampled if empty. With both given, all combinations are rendered.
        level: value of the volume on the surface of the meshes; the representation's own if None.
    """

    shapes: int = 8
    views: int = 3
    textures: int = 2
    seed: int = 0
    azimuths_deg: tuple[float, ...] = ()
    elevations_deg: tuple[float, ...] = ()
    level: float | None = None


def default_output(run: Path, checkpoint: CheckpointInfo, seed: int) -> Path:
    """The output folder of a generation if none is named."""
    return run / "generated" / f"{checkpoint.name}-seed{seed}"


def choose_viewpoints(settings: GenerateSettings, sampler: ViewpointSampler) -> Viewpoints:
    """The viewpoints of a generation, the same for all its shapes, in the order of their azimuth.

    An angle that is not given is sampled from the class's viewpoints; if none is given, the viewpoints are spread.
    """
    azimuths, elevations = np.radians(settings.azimuths_deg), np.radians(settings.elevations_deg)
    if azimuths.size and elevations.size:
        return np.array(list(itertools.product(azimuths, elevations)))
    given = azimuths.size or elevations.size
    viewpoints = sample_viewpoints(given or CANDIDATES * settings.views, sampler, seed=settings.seed).copy()
    if azimuths.size:
        viewpoints[:, 0] = azimuths
    elif elevations.size:
        viewpoints[:, 1] = elevations
    else:
        viewpoints = spread_viewpoints(viewpoints, settings.views)
    return viewpoints[np.lexsort(viewpoints.T[::-1])]


def spread_viewpoints(candidates: Viewpoints, count: int) -> Viewpoints:
    """The first of these viewpoints, then one after the other the one whose nearest chosen one is farthest away."""
    azimuth, elevation = candidates.T
    flat = np.cos(elevation)
    directions = np.stack([np.sin(azimuth) * flat, np.cos(azimuth) * flat, np.sin(elevation)], axis=1)
    chosen, nearest = [0], np.full(len(candidates), -np.inf)
    while len(chosen) < count:
        nearest = np.maximum(nearest, directions @ directions[chosen[-1]])  # cosine of the angle
        chosen.append(int(nearest.argmin()))
    return candidates[chosen]


@dataclass(frozen=True)
class _Plan:
    """What a generation draws, and its record without the shapes.

    Attributes:
        viewpoints: (v, 2) azimuths and elevations in radians.
        shape_codes: (n, k) of the shapes.
        texture_codes: (t, k) of the textures.
        gallery: the record; its shapes are still missing.
    """

    viewpoints: Viewpoints
    shape_codes: Tensor
    texture_codes: Tensor
    gallery: Gallery

    @property
    def names(self) -> list[str]:
        """The names of the shapes, which are their folders."""
        count = len(self.shape_codes)
        return [f"shape-{index + 1:0{max(2, len(str(count)))}d}" for index in range(count)]

    def unfinished(self, output: Path) -> tuple[GeneratedShape, ...] | None:
        """The shapes of the same generation in a folder, if its meshes are not complete."""
        codes = {name: tuple(code) for name, code in zip(self.names, self.shape_codes.tolist(), strict=True)}
        return unfinished_shapes(output, self.gallery, codes)


def _plan(source: LoadedModel, settings: GenerateSettings) -> _Plan:
    config = source.model.config
    viewpoints = choose_viewpoints(settings, source.sampler)
    drawn = partial(sample_codes, seed=settings.seed, truncation=source.sampling.truncation)
    texture_codes = drawn(settings.textures, config.texture_code_size, purpose="texture")
    gallery = Gallery(
        class_name=source.class_name,
        run=source.provenance.run,
        checkpoint=dataclasses.asdict(source.checkpoint),
        seed=settings.seed,
        image_size=config.image_size,
        resolution=config.resolution,
        level=surface_level(config) if settings.level is None else settings.level,
        sampling=dataclasses.asdict(source.sampling),
        viewpoints_deg=tuple((float(a), float(e)) for a, e in np.degrees(viewpoints).round(6)),
        texture_codes=tuple(tuple(code) for code in texture_codes.tolist()),
        shapes=(),
        versions=dict(source.provenance.versions),
        scores_by="critic" if source.critic_trained else "code",
        complete=False,
    )
    return _Plan(viewpoints, drawn(settings.shapes, config.shape_code_size, purpose="shape"), texture_codes, gallery)


def is_unfinished(source: LoadedModel, settings: GenerateSettings, output: Path) -> bool:
    """Whether a folder holds this very generation, stopped among its meshes, which `generate` continues."""
    return _plan(source, settings).unfinished(output) is not None


def generate(
    source: LoadedModel,
    settings: GenerateSettings,
    output: Path,
    progress: Progress | None = None,
    on_pictures: Callable[[Path], None] | None = None,
) -> Gallery:
    """Writes a generation into a folder: first all pictures and a page of them, then the meshes.

    The pictures, generated.json and the page replace an older generation together. A mesh takes seconds (its texture
    is painted from 24 sides), so meshes are added afterwards, one after the other, each with its entry in
    generated.json, and the page with 3D views last. If the folder holds the same generation, stopped among its
    meshes, only the missing ones are made.

    Args:
        source: the model.
        settings: what to generate.
        output: the folder; an older generation in it is replaced, the same one unfinished is continued.
        progress: called after the pictures, and after the mesh, of every shape.
        on_pictures: called with the page once all pictures are there.

    Raises:
        OutputError: the folder holds something other than an older generation.
    """
    plan = _plan(source, settings)
    session = ModelSession(source, shapes_kept=1, sketches_kept=len(plan.viewpoints))
    metrics = read_metrics(source.run, source.checkpoint.sha256)
    shapes = plan.unfinished(output)
    if shapes is None:
        shapes = _write_all_pictures(plan, session, output, metrics, progress)
    if on_pictures is not None:
        on_pictures(output / PAGE)
    return _write_all_meshes(plan, session, output, shapes, metrics, progress)


def _write_all_pictures(
    plan: _Plan, session: ModelSession, output: Path, metrics: Sequence[Line], progress: Progress | None
) -> tuple[GeneratedShape, ...]:
    """Writes the pictures of every shape, generated.json and a page without 3D views, in place of an older result."""
    shapes = []
    with replaced_folder(output) as folder:
        for index, (name, code) in enumerate(zip(plan.names, plan.shape_codes, strict=True)):
            shape = session.shape_of_code(code, _shape_name(plan.gallery.seed, index))
            shapes.append(write_pictures(folder / name, session, shape, plan.viewpoints, plan.texture_codes))
            if progress is not None:
                progress("pictures", index + 1, len(plan.names))
        gallery = dataclasses.replace(plan.gallery, shapes=tuple(shapes))
        gallery.save(folder)
        write_page(folder, gallery, metrics)
    return gallery.shapes


def _write_all_meshes(
    plan: _Plan,
    session: ModelSession,
    output: Path,
    made: Sequence[GeneratedShape],
    metrics: Sequence[Line],
    progress: Progress | None,
) -> Gallery:
    """Writes the meshes that are missing and the page with their 3D views.

    Until the page is written, the 3D view of every mesh is a file beside it; a mesh without one is made again.
    """
    gallery, views = dataclasses.replace(plan.gallery, shapes=tuple(made)), dict[str, str | None]()
    for index, (each, code) in enumerate(zip(made, plan.shape_codes, strict=True)):
        folder = output / each.name
        remove_leftovers(folder)
        if each.mesh is None or not all((folder / file).is_file() for file in (MESH_FILE, _VIEW_FILE)):
            shape = session.shape_of_code(code, _shape_name(plan.gallery.seed, index))
            gallery = _with_mesh(gallery, index, _write_mesh(folder, session, shape, plan))
            gallery.save(output)
        if gallery.shapes[index].mesh is not None:
            views[each.name] = (folder / _VIEW_FILE).read_text("ascii")
        if progress is not None:
            progress("meshes", index + 1, len(made))
    write_page(output, gallery, metrics, views)
    for name in views:
        (output / name / _VIEW_FILE).unlink(missing_ok=True)
    gallery = dataclasses.replace(gallery, complete=True)
    gallery.save(output)
    return gallery


def _write_mesh(folder: Path, session: ModelSession, shape: Shape, plan: _Plan) -> SurfaceMesh | None:
    """Writes the mesh of a shape and, beside it, its 3D view for the page; None where it has no surface."""
    mesh = write_mesh_file(folder, session, shape, plan.texture_codes[0], plan.gallery.level)
    if mesh is not None:
        with atomic_path(folder / _VIEW_FILE) as temporary:
            temporary.write_text(viewer_mesh(mesh) or "", "ascii")
    return mesh


def _with_mesh(gallery: Gallery, index: int, mesh: SurfaceMesh | None) -> Gallery:
    """The record with the mesh of one of its shapes."""
    shapes = list(gallery.shapes)
    named, faces = (None, 0) if mesh is None else (f"{shapes[index].name}/{MESH_FILE}", len(mesh.faces))
    shapes[index] = dataclasses.replace(shapes[index], mesh=named, faces=faces)
    return dataclasses.replace(gallery, shapes=tuple(shapes))


def _shape_name(seed: int, index: int) -> str:
    """The seed that draws the shape: its first code as `7`, its third as `7:3`."""
    return f"seed {Seed(seed, index + 1)}"
