"""Renders view requests: images and sketches as PNG, surfaces as mesh files, turntables as WebP."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from vonmodel.inference.sampling import Seed
from vonmodel.inference.session import ModelSession
from vonmodel.inference.texture_baking import painted_mesh, textured_mesh
from vonmodel.mesh import (
    MeshFormat,
    SurfaceMesh,
    cut_out_pixels,
    glb_bytes,
    mesh_bytes,
    mesh_statistics,
    png_bytes,
    to_pixels,
)
from vonmodel.reports.provenance import Provenance
from vonmodel.reports.video import FRAMES_A_SECOND, film_frames
from vonmodel.studio.view_request import CodeName, LatentMix, Purpose, StoredShape, ViewRequest

Pixels = npt.NDArray[np.uint8]
FILM_FRAMES = 36
FILM_PX = 256


def render_strip(session: ModelSession, request: ViewRequest) -> bytes:
    """Image, silhouette and depth side by side as one PNG of R x 3R pixels.

    The image is transparent around the object. In the sketches the object is dark on white; nearer is darker.
    """
    sketch, image = _rendered(session, request)
    opaque = torch.ones_like(sketch[0])
    sketches = [to_pixels(torch.cat([part.expand(3, -1, -1), opaque])).transpose(1, 2, 0) for part in sketch]
    transparent = cut_out_pixels(image, (1.0 - sketch[0]) / 2.0)
    return png_bytes(np.concatenate([transparent, *sketches], axis=1), fast=True)


def render_image(session: ModelSession, request: ViewRequest) -> bytes:
    """The image as PNG, transparent around the object, with its provenance as text."""
    (silhouette, _), image = _rendered(session, request)
    pixels = cut_out_pixels(image, (1.0 - silhouette) / 2.0)
    return png_bytes(pixels, _provenance(session, request).png_text(**content_of(request)))


def render_surface(session: ModelSession, request: ViewRequest) -> bytes | None:
    """The shape's surface as GLB, its statistics and its score as extras; None if it is empty."""
    shape = request.shape_of(session)
    mesh = session.mesh(shape)
    if not len(mesh.faces):
        return None
    extras = _extras(session, request, mesh, only="shape")
    if shape.volume.shape[-1] == session.config.resolution:
        score = session.score(shape)
        extras["score"] = score if math.isfinite(score) else None
    return glb_bytes(mesh, session.source.class_name, extras)


def render_painted_surface(session: ModelSession, request: ViewRequest) -> bytes | None:
    """The shape's surface in its texture as GLB, colours at the vertices; None if it is empty."""
    mesh = _painted(session, request, textured=False)
    return None if mesh is None else _glb(session, request, mesh)


def render_mesh_file(session: ModelSession, request: ViewRequest, format: MeshFormat) -> bytes | None:
    """The shape's surface as a mesh file; None if it is empty.

    GLB and USDZ have a texture image, OBJ and PLY colours at the vertices, STL neither.
    """
    if format == "stl":
        plain = session.mesh(request.shape_of(session))
        return mesh_bytes(plain, format) if len(plain.faces) else None
    mesh = _painted(session, request, textured=format in ("glb", "usdz"))
    if mesh is None:
        return None
    return _glb(session, request, mesh) if format == "glb" else mesh_bytes(mesh, format)


def _painted(session: ModelSession, request: ViewRequest, *, textured: bool) -> SurfaceMesh | None:
    """The painted surface, made once for a shape and texture; None if it is empty."""
    shape, texture = request.shape_of(session), request.texture_of(session)
    paint = textured_mesh if textured else painted_mesh
    key = (paint.__name__, shape.key, texture.numpy().tobytes())
    mesh = session.remembered(key, lambda: paint(session, shape, texture, session.mesh(shape)))
    return mesh if len(mesh.faces) else None


def _glb(session: ModelSession, request: ViewRequest, mesh: SurfaceMesh) -> bytes:
    return glb_bytes(mesh, session.source.class_name, _extras(session, request, mesh))


def render_film(session: ModelSession, request: ViewRequest, on_step: Callable[[], None]) -> bytes:
    """A turntable of `FILM_FRAMES` frames as animated WebP, starting at the requested viewpoint.

    Args:
        session: the model.
        request: the view.
        on_step: called after every frame.
    """
    shape, texture = request.shape_of(session), request.texture_of(session)
    azimuth, elevation = request.viewpoint
    frames = []
    for angle in azimuth + np.linspace(0.0, 2.0 * np.pi, FILM_FRAMES, endpoint=False):
        frames.append(session.image(shape, float(angle), elevation, texture).cpu())
        on_step()
    first, *rest = (Image.fromarray(frame) for frame in film_frames(torch.stack(frames), FILM_PX))
    file = io.BytesIO()
    duration_ms = round(1000 / FRAMES_A_SECOND)
    first.save(file, "WEBP", save_all=True, append_images=rest, duration=duration_ms, loop=0, quality=85, method=4)
    return file.getvalue()


def content_of(request: ViewRequest, only: Purpose | None = None) -> dict[str, Any]:
    """The content of a view for its provenance: codes as in links, angles in degrees; `only` one of the two codes."""
    content: dict[str, Any] = {}
    mixes: dict[Purpose, LatentMix] = {"shape": request.shape, "texture": request.texture}
    for name, mix in mixes.items():
        if only not in (None, name):
            continue
        content[name] = _describe_code(mix.start)
        if mix.end is not None and mix.fraction > 0.0:
            content |= {f"{name}_to": _describe_code(mix.end), f"{name}_mix": mix.fraction}
    if only is None:
        content |= {"azimuth_deg": request.azimuth_deg, "elevation_deg": request.elevation_deg}
    return content


def _describe_code(code: CodeName | StoredShape) -> str | list[float]:
    match code:
        case StoredShape():
            return str(code)
        case Seed():
            return f"seed {code}"
        case _:
            return list(code)


def _extras(
    session: ModelSession, request: ViewRequest, mesh: SurfaceMesh, only: Purpose | None = None
) -> dict[str, Any]:
    made_from = _provenance(session, request).record(**content_of(request, only))
    return {"von": made_from, "statistics": mesh_statistics(mesh)}


def _provenance(session: ModelSession, request: ViewRequest) -> Provenance:
    """The model's provenance with the truncation of the view."""
    own = session.source.provenance
    return dataclasses.replace(own, sampling={**own.sampling, "truncation": request.shape.truncation})


def _rendered(session: ModelSession, request: ViewRequest) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Silhouette and depth (1, R, R) as displayed and the image (3, R, R), all in [-1, 1]."""
    shape, texture = request.shape_of(session), request.texture_of(session)
    rendering = session.render([shape], np.array([request.viewpoint]), texture[None])
    silhouette, depth = rendering.sketch.silhouette[0], rendering.sketch.normalized_depth[0]
    shown = torch.where(silhouette > 0.5, 0.15 + 0.375 * (depth + 1.0), torch.ones_like(depth))
    return (1.0 - 2.0 * silhouette, 2.0 * shown - 1.0), rendering.images[0]
