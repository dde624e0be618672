"""The files of one generated shape: its surface, its sketches and its images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from vonmodel.export import surface_mesh, write_glb, write_grey, write_image
from vonmodel.inference.draw import Viewpoints, draw_shapes, sketch_views
from vonmodel.model import VonModel
from vonmodel.projection import FramedSketch
from vonmodel.reports.gallery_part import GeneratedShape, ViewFiles

BATCH = 16
"""Images painted at a time, which bounds memory and changes nothing else."""


def write_shape(
    folder: Path, model: VonModel, code: Tensor, viewpoints: Viewpoints, texture_codes: Tensor, level: float
) -> GeneratedShape:
    """Draws and writes one shape with all its pictures."""
    folder.mkdir()
    device = next(model.parameters()).device
    with torch.inference_mode():
        volume = draw_shapes(model, code[None])
        views = tuple(
            _write_view(folder, f"view-{index + 1}", sketch, model, texture_codes.to(device))
            for index, sketch in enumerate(_sketches(model, volume, viewpoints))
        )
    mesh = surface_mesh(volume[0, 0].cpu().numpy(), level)
    if len(mesh.faces):
        write_glb(folder / "mesh.glb", mesh)
    return GeneratedShape(
        name=folder.name,
        code=tuple(code.tolist()),
        mesh=f"{folder.name}/mesh.glb" if len(mesh.faces) else None,
        faces=len(mesh.faces),
        views=views,
    )


def _sketches(model: VonModel, volume: Tensor, viewpoints: Viewpoints) -> Iterator[FramedSketch]:
    """One sketch (1, 1, R, R) of the volume (1, 1, N, N, N) from every viewpoint."""
    sketches = sketch_views(model, volume.expand(len(viewpoints), -1, -1, -1, -1), viewpoints)
    return (FramedSketch(*item) for item in zip(*(torch.split(each, 1) for each in sketches), strict=True))


def _write_view(folder: Path, view: str, sketch: FramedSketch, model: VonModel, texture_codes: Tensor) -> ViewFiles:
    """Writes the pictures of one shape from one viewpoint: its sketch (one item) and the images in all textures."""
    write_grey(folder / f"{view}-silhouette.png", sketch.silhouette[0, 0])
    write_grey(folder / f"{view}-depth.png", (sketch.normalized_depth[0, 0] + 1.0) / 2.0)
    images: list[Tensor] = []
    for codes in torch.split(texture_codes, BATCH):
        same = FramedSketch(*(each.expand(len(codes), -1, -1, -1) for each in sketch))
        images.extend(model.paint(same, codes))
    names = [f"{view}-texture-{index + 1}.png" for index in range(len(images))]
    for name, image in zip(names, images, strict=True):
        write_image(folder / name, image)
    return ViewFiles(
        silhouette=f"{folder.name}/{view}-silhouette.png",
        depth=f"{folder.name}/{view}-depth.png",
        images=tuple(f"{folder.name}/{name}" for name in names),
    )
