"""Generation: n shapes x views x textures as images, sketches, meshes, a JSON file and a page."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vonmodel.checkpoint import CheckpointInfo
from vonmodel.data.datasets import ViewpointSampler
from vonmodel.inference.sampling import Viewpoints, generate_volumes, render_sketches, sample_codes, sample_viewpoints
from vonmodel.inference.session import LoadedModel
from vonmodel.mesh import surface_mesh, write_glb, write_grey, write_image
from vonmodel.model import VonModel
from vonmodel.projection import SurfaceSketch
from vonmodel.reports.album import replaced_folder
from vonmodel.reports.gallery import Gallery, GeneratedShape, ViewFiles, write_page
from vonmodel.reports.metrics_log import read_metrics
from vonmodel.representation import surface_field, surface_level

BATCH = 16
"""Images painted at a time, which bounds memory and changes nothing else."""


def write_shape(
    folder: Path, source: LoadedModel, code: Tensor, viewpoints: Viewpoints, texture_codes: Tensor, level: float
) -> GeneratedShape:
    """Draws and writes one shape with all its pictures."""
    folder.mkdir()
    model = source.model
    device = next(model.parameters()).device
    with torch.inference_mode():
        volume = generate_volumes(model, code[None], source.sampling.pieces)
        views = tuple(
            _write_view(folder, f"view-{index + 1}", sketch, model, texture_codes.to(device))
            for index, sketch in enumerate(_sketches(model, volume, viewpoints))
        )
    mesh = surface_mesh(surface_field(model.config, volume[0])[0].cpu().numpy(), level)
    if len(mesh.faces):
        write_glb(folder / "mesh.glb", mesh)
    return GeneratedShape(
        name=folder.name,
        code=tuple(code.tolist()),
        mesh=f"{folder.name}/mesh.glb" if len(mesh.faces) else None,
        faces=len(mesh.faces),
        views=views,
    )


def _sketches(model: VonModel, volume: Tensor, viewpoints: Viewpoints) -> Iterator[SurfaceSketch]:
    """One sketch (1, 1, R, R) of the volume (1, 1, N, N, N) from every viewpoint."""
    sketches = render_sketches(model, volume.expand(len(viewpoints), -1, -1, -1, -1), viewpoints)
    return (SurfaceSketch(*item) for item in zip(*(torch.split(each, 1) for each in sketches), strict=True))


def _write_view(folder: Path, view: str, sketch: SurfaceSketch, model: VonModel, texture_codes: Tensor) -> ViewFiles:
    """Writes the pictures of one shape from one viewpoint: its sketch (one item) and the images in all textures."""
    write_grey(folder / f"{view}-silhouette.png", sketch.silhouette[0, 0])
    write_grey(folder / f"{view}-depth.png", (sketch.normalized_depth[0, 0] + 1.0) / 2.0)
    images: list[Tensor] = []
    for codes in torch.split(texture_codes, BATCH):
        same = SurfaceSketch(*(each.expand(len(codes), -1, -1, -1) for each in sketch))
        images.extend(model.paint(same, codes))
    names = [f"{view}-texture-{index + 1}.png" for index in range(len(images))]
    for name, image in zip(names, images, strict=True):
        write_image(folder / name, image)
    return ViewFiles(
        silhouette=f"{folder.name}/{view}-silhouette.png",
        depth=f"{folder.name}/{view}-depth.png",
        images=tuple(f"{folder.name}/{name}" for name in names),
    )


Progress = Callable[[int, int], None]
"""Called with the shapes done and their number."""


@dataclass(frozen=True)
class GenerateSettings:
    """What to generate.

    Attributes:
        shapes: how many shapes.
        views: how many viewpoints, where none are given.
        textures: how many textures.
        seed: what codes and viewpoints are drawn with.
        azimuths_deg: seen from these; drawn from the class's viewpoints where empty.
        elevations_deg: seen from these; drawn where empty. With both given, every azimuth meets every elevation.
        level: value of the volume on the surface of the meshes; the representation's own where None.
    """

    shapes: int = 8
    views: int = 4
    textures: int = 3
    seed: int = 0
    azimuths_deg: tuple[float, ...] = ()
    elevations_deg: tuple[float, ...] = ()
    level: float | None = None


def default_output(run: Path, checkpoint: CheckpointInfo, seed: int) -> Path:
    """Where a generation goes when no folder is named."""
    return run / "generated" / f"{checkpoint.name}-seed{seed}"


def choose_viewpoints(settings: GenerateSettings, sampler: ViewpointSampler) -> Viewpoints:
    """The viewpoints of a generation, the same for all its shapes, in the order of their azimuth.

    An angle that is not given is drawn from the class's viewpoints.
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
    """Writes a generation into a folder, whole or not at all, and its page.

    Args:
        source: the model.
        settings: what to generate.
        output: the folder; an older generation in it is replaced.
        progress: told after every shape.

    Raises:
        OutputError: the folder holds something else than an older generation.
    """
    config = source.model.config
    viewpoints = choose_viewpoints(settings, source.sampler)
    drawn = partial(sample_codes, seed=settings.seed, truncation=source.sampling.truncation)
    shape_codes = drawn(settings.shapes, config.shape_code_size, purpose="shape")
    texture_codes = drawn(settings.textures, config.texture_code_size, purpose="texture")
    level = surface_level(config) if settings.level is None else settings.level
    with replaced_folder(output) as folder:
        shapes = []
        for index, code in enumerate(shape_codes):
            name = f"shape-{index + 1:0{max(2, len(str(settings.shapes)))}d}"
            shapes.append(write_shape(folder / name, source, code, viewpoints, texture_codes, level))
            if progress is not None:
                progress(index + 1, settings.shapes)
        gallery = Gallery(
            class_name=source.class_name,
            run=str(source.run),
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
        write_page(folder, gallery, read_metrics(source.run, source.checkpoint.sha256))
    return gallery
