"""What there is to see of a model: views as PNG, surfaces as GLB. For the desk's thread."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from vonmodel.inference.session import ModelSession
from vonmodel.inference.vertex_colours import painted_mesh
from vonmodel.mesh import glb_bytes, to_pixels
from vonmodel.studio.view_request import Question

Pixels = npt.NDArray[np.uint8]


def draw_strip(session: ModelSession, question: Question) -> bytes:
    """Image, silhouette and depth side by side as one PNG of R x 3R pixels.

    In the sketches the object is dark on white; what is nearer is darker.
    """
    sketch, image = _rendered(session, question)
    silhouette, depth = sketch
    parts = [image, *(part.expand(3, -1, -1) for part in (silhouette, depth))]
    return to_png(np.concatenate([to_pixels(part).transpose(1, 2, 0) for part in parts], axis=1), fast=True)


def draw_image(session: ModelSession, question: Question) -> bytes:
    """The image alone as PNG."""
    return to_png(to_pixels(_rendered(session, question)[1]).transpose(1, 2, 0))


def to_png(pixels: Pixels, *, fast: bool = False) -> bytes:
    """Pixels (h, w, 3 or 4) as a PNG file."""
    file = io.BytesIO()
    if fast:
        Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    else:
        Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return file.getvalue()


def draw_surface(session: ModelSession, question: Question) -> bytes | None:
    """The shape's surface as GLB; None where it is empty."""
    mesh = session.mesh(question.shape_of(session))
    return glb_bytes(mesh) if len(mesh.faces) else None


def draw_painted_surface(session: ModelSession, question: Question) -> bytes | None:
    """The shape's surface in its texture as GLB, colours at the vertices; None where it is empty."""
    shape = question.shape_of(session)
    mesh = painted_mesh(session, shape, question.texture_of(session), session.mesh(shape))
    return glb_bytes(mesh) if len(mesh.faces) else None


def _rendered(session: ModelSession, question: Question) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Silhouette and depth (1, R, R) as they are shown and the image (3, R, R), all in [-1, 1]."""
    shape, texture = question.shape_of(session), question.texture_of(session)
    rendering = session.render([shape], np.array([question.viewpoint]), texture[None])
    silhouette, depth = rendering.sketch.silhouette[0], rendering.sketch.normalized_depth[0]
    shown = torch.where(silhouette > 0.5, 0.15 + 0.375 * (depth + 1.0), torch.ones_like(depth))
    return (1.0 - 2.0 * silhouette, 2.0 * shown - 1.0), rendering.images[0]
