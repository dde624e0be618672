"""Generation of random objects: n shapes x views x textures as images, sketches, meshes, a JSON file and a page."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from vonmodel.checkpoint import CheckpointInfo
from vonmodel.data.datasets import ViewpointSampler
from vonmodel.inference.sampling import Seed, Viewpoints, sample_codes, sample_viewpoints
from vonmodel.inference.session import LoadedModel, ModelSession, Shape
from vonmodel.inference.texture_baking import textured_mesh
from vonmodel.inference.views import View, origin_of, png_origin
from vonmodel.mesh import mesh_statistics, write_glb, write_grey, write_image
from vonmodel.projection import SurfaceSketch
from vonmodel.reports.album import replaced_folder
from vonmodel.reports.gallery import Gallery, GeneratedShape, ViewFiles, write_page
from vonmodel.reports.html import viewer_mesh
from vonmodel.reports.metrics_log import read_metrics
from vonmodel.representation import surface_level


def write_shape(
    folder: Path, session: ModelSession, shape: Shape, viewpoints: Viewpoints, texture_codes: Tensor, level: float
) -> tuple[GeneratedShape, str | None]:
    """Renders and writes one shape with all its pictures and its mesh in the first texture.

    Returns:
        the record of the shape, and the mesh for the page's 3D view; None for an empty shape.
    """
    folder.mkdir()
    views = tuple(
        _write_view(folder, f"view-{index + 1}", session, shape, tuple(viewpoint), texture_codes)
        for index, viewpoint in enumerate(viewpoints.tolist())
    )
    mesh = session.mesh(shape, level)
    if len(mesh.faces):
        mesh = textured_mesh(session, shape, texture_codes[0], mesh)
        front = View("mesh", "", shape, (0.0, 0.0), texture_codes[0])
        extras = {"von": session.source.provenance.record(**origin_of(front)), "statistics": mesh_statistics(mesh)}
        write_glb(folder / "mesh.glb", mesh, folder.name, extras)
    written = GeneratedShape(
        name=folder.name,
        code=() if shape.code is None else tuple(shape.code.tolist()),
        mesh=f"{folder.name}/mesh.glb" if len(mesh.faces) else None,
        faces=len(mesh.faces),
        largest_piece=shape.largest_piece,
        score=session.realness(shape),
        views=views,
    )
    return written, viewer_mesh(mesh)


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
    repeated = SurfaceSketch(*(each.expand(len(views), -1, -1, -1) for each in sketch))
    images = session.paint(repeated, texture_codes)
    names = [f"{name}-texture-{index + 1}.png" for index in range(len(views))]
    for file, view, image in zip(names, views, images, strict=True):
        write_image(folder / file, image, png_origin(session, view), silhouette)
    return ViewFiles(
        silhouette=f"{folder.name}/{name}-silhouette.png",
        depth=f"{folder.name}/{name}-depth.png",
        images=tuple(f"{folder.name}/{file}" for file in names),
    )


Progress = Callable[[int, int], None]
"""Called with the shapes done and their number."""


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
    views: int = 4
    textures: int = 3
    seed: int = 0
    azimuths_deg: tuple[float, ...] = ()
    elevations_deg: tuple[float, ...] = ()
    level: float | None = None


def default_output(run: Path, checkpoint: CheckpointInfo, seed: int) -> Path:
    """The output folder of a generation if none is named."""
    return run / "generated" / f"{checkpoint.name}-seed{seed}"


def choose_viewpoints(settings: GenerateSettings, sampler: ViewpointSampler) -> Viewpoints:
    """The viewpoints of a generation, the same for all its shapes, in the order of their azimuth.

    An angle that is not given is sampled from the class's viewpoints.
    """
    azimuths, elevations = np.radians(settings.azimuths_deg), np.radians(settings.elevations_deg)
    if azimuths.size and elevations.size:
        return np.array(list(itertools.product(azimuths, elevations)))
    count = azimuths.size or elevations.size or settings.views
    viewpoints = sample_viewpoints(count, sampler, seed=settings.seed).copy()
    if azimuths.size:
        viewpoints[:, 0] = azimuths
    elif elevations.size:
        viewpoints[:, 1] = elevations
    return viewpoints[np.lexsort(viewpoints.T[::-1])]


def generate(
    source: LoadedModel, settings: GenerateSettings, output: Path, progress: Progress | None = None
) -> Gallery:
    """Writes a generation and its page into a folder, which appears complete or not at all.

    Args:
        source: the model.
        settings: what to generate.
        output: the folder; an older generation in it is replaced.
        progress: called after every shape.

    Raises:
        OutputError: the folder holds something other than an older generation.
    """
    config = source.model.config
    viewpoints = choose_viewpoints(settings, source.sampler)
    drawn = partial(sample_codes, seed=settings.seed, truncation=source.sampling.truncation)
    shape_codes = drawn(settings.shapes, config.shape_code_size, purpose="shape")
    texture_codes = drawn(settings.textures, config.texture_code_size, purpose="texture")
    level = surface_level(config) if settings.level is None else settings.level
    session = ModelSession(source, shapes_kept=1, sketches_kept=len(viewpoints))
    with replaced_folder(output) as folder:
        shapes, meshes = list[GeneratedShape](), dict[str, str | None]()
        for index, code in enumerate(shape_codes):
            name = f"shape-{index + 1:0{max(2, len(str(settings.shapes)))}d}"
            shape = session.shape_of_code(code, _shape_name(settings.seed, index))
            written, meshes[name] = write_shape(folder / name, session, shape, viewpoints, texture_codes, level)
            shapes.append(written)
            if progress is not None:
                progress(index + 1, settings.shapes)
        gallery = Gallery(
            class_name=source.class_name,
            run=source.provenance.run,
            checkpoint=dataclasses.asdict(source.checkpoint),
            seed=settings.seed,
            image_size=config.image_size,
            resolution=config.resolution,
            level=level,
            sampling=dataclasses.asdict(source.sampling),
            viewpoints_deg=tuple((float(a), float(e)) for a, e in np.degrees(viewpoints).round(6)),
            texture_codes=tuple(tuple(code) for code in texture_codes.tolist()),
            shapes=tuple(shapes),
            versions=dict(source.provenance.versions),
        )
        gallery.save(folder)
        write_page(folder, gallery, read_metrics(source.run, source.checkpoint.sha256), meshes)
    return gallery


def _shape_name(seed: int, index: int) -> str:
    """The seed that draws the shape: its first code as `7`, its third as `7:3`."""
    return f"seed {Seed(seed, index + 1)}"
