"""Latent interpolation: linear or spherical paths through shape codes, texture codes or both, as strips and films."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vondata.errors import VonError
from vonmodel.inference.session import ModelSession, Shape
from vonmodel.inference.views import View, base_viewpoint, draw_views, origin_of, render_views
from vonmodel.mesh import write_png
from vonmodel.reports.album import Picture, Plate, Strip, Written, replaced_folder, write_account
from vonmodel.reports.video import FilmSettings, film_frames, grid_of, write_film

PARALLEL = 1e-4  # radians; below it chord and arc differ by less than float32's precision


def interpolate_linear(
    start: Float[Tensor, "*n k"], end: Float[Tensor, "*n k"], fractions: Float[Tensor, " m"]
) -> Float[Tensor, "m *n k"]:
    """Linear interpolation of codes: (1 - t) start + t end.

    Args:
        start: codes at fraction 0.
        end: codes at fraction 1.
        fractions: positions along the path.

    Returns:
        The codes at each fraction.
    """
    t = fractions.reshape(-1, *[1] * start.dim())
    return (1.0 - t) * start + t * end


def interpolate_spherical(
    start: Float[Tensor, "*n k"], end: Float[Tensor, "*n k"], fractions: Float[Tensor, " m"]
) -> Float[Tensor, "m *n k"]:
    """Spherical interpolation of codes: the direction turns at a constant rate, the length changes linearly.

    With directions u, v an angle a apart, the direction is (sin((1 - t) a) u + sin(t a) v) / sin a. High-dimensional
    normal codes lie close to a sphere; this path stays there, while the straight line leaves it half-way. If start
    and end are parallel, opposite or zero no great circle is defined, and the path is straight.

    Args:
        start: codes at fraction 0.
        end: codes at fraction 1.
        fractions: positions along the path.

    Returns:
        The codes at each fraction.
    """
    t = fractions.reshape(-1, *[1] * start.dim())
    tiny = torch.finfo(start.dtype).tiny
    start_length, end_length = start.norm(dim=-1, keepdim=True), end.norm(dim=-1, keepdim=True)
    u, v = start / start_length.clamp_min(tiny), end / end_length.clamp_min(tiny)
    angle = 2.0 * torch.atan2((u - v).norm(dim=-1, keepdim=True), (u + v).norm(dim=-1, keepdim=True))
    defined = (torch.sin(angle) > PARALLEL) & (start_length > 0) & (end_length > 0)
    safe = torch.where(defined, angle, torch.ones_like(angle))
    direction = (torch.sin((1.0 - t) * safe) * u + torch.sin(t * safe) * v) / torch.sin(safe)
    length = (1.0 - t) * start_length + t * end_length
    return torch.where(defined, direction * length, interpolate_linear(start, end, fractions))


Curve = Literal["linear", "spherical"]
Varied = Literal["shape", "texture", "both", "class"]
Progress = Callable[[int, int], None]
"""Called with the paths done and their number."""

STRIP_PX = 96


class PathError(VonError, ValueError):
    """Codes between which there is no path."""


class PathTooShortError(PathError):
    """Fewer than two shapes and fewer than two textures."""


@dataclass(frozen=True)
class InterpolateSettings:
    """How to interpolate, and how to show it.

    Attributes:
        curve: straight lines, or great circles, on which codes keep the length of sampled ones.
        pictures: number of pictures of the strip.
        azimuth_deg: of the viewpoint; sampled from the class's viewpoints if None.
        elevation_deg: the same.
        film: the film, which plays the path there and back.
        to_class: for a model of several classes, the class at the end of the path; it starts with the session's.
    """

    curve: Curve = "spherical"
    pictures: int = 8
    azimuth_deg: float | None = None
    elevation_deg: float | None = None
    film: FilmSettings = field(default_factory=FilmSettings)
    to_class: str | None = None


def codes_along(
    stops: Float[Tensor, "m k"], fractions: Float[Tensor, " n"], curve: Curve = "spherical"
) -> Float[Tensor, "n k"]:
    """Codes on the path through all stops; every segment takes the same fraction of it.

    Args:
        stops: at least one code; with a single one the path is constant.
        fractions: positions on the path in [0, 1].
        curve: kind of the segments.
    """
    pieces = max(1, len(stops) - 1)
    piece = (fractions * pieces).floor().clamp(0, pieces - 1).long()
    start, end = stops[piece], stops[(piece + 1).clamp_max(len(stops) - 1)]
    within = fractions * pieces - piece
    interpolate = interpolate_linear if curve == "linear" else interpolate_spherical
    return torch.cat([interpolate(*ends) for ends in zip(start, end, within[:, None], strict=True)])


def interpolate(
    session: ModelSession,
    shapes: Sequence[Shape],
    textures: Sequence[Float[Tensor, " k"]],
    settings: InterpolateSettings,
    output: Path,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Writes strips and films along the shapes, along the textures and along both, with result.json and a page.

    Args:
        session: the model.
        shapes: the shapes that the path goes through, all with codes; a single one is kept.
        textures: likewise.
        settings: of the path.
        output: the folder; an older interpolation in it is replaced.
        progress: called after every path.

    Returns:
        the content of result.json.

    Raises:
        PathError: fewer than two shapes and textures, or a shape without a code.
        OutputError: the folder holds something other than an older interpolation.
        FilmError: the film's format cannot be written here.
    """
    paths = _paths(shapes, textures, settings.to_class)
    with replaced_folder(output, "interpolate") as folder:
        written = []
        for index, varied in enumerate(paths):
            along = (
                shapes if varied != "texture" else shapes[:1],
                textures if varied != "shape" else textures[:1],
            )
            written.append(_write_path(session, *along, settings, folder, varied))
            if progress is not None:
                progress(index + 1, len(paths))
        lead = f"{settings.curve.capitalize()} paths from code to code; what does not vary stays at its first value."
        words = f"Interpolated {session.source.class_name}s", lead
        asked = dataclasses.asdict(settings)
        return write_account(folder, "interpolate", session.source.provenance, asked, words, written)


def _paths(shapes: Sequence[Shape], textures: Sequence[Tensor], to_class: str | None) -> list[Varied]:
    for shape in shapes:
        if shape.code is None:
            raise PathError(f"{shape.name} is a prepared shape, which has no code to interpolate; take seeds")
    if to_class is not None:
        return ["class"]
    varied: list[Varied] = []
    if len(shapes) > 1:
        varied.append("shape")
    if len(textures) > 1:
        varied.append("texture")
    if len(varied) == 2:
        varied.insert(0, "both")
    if not varied:
        raise PathTooShortError("there is nothing to go between: give two or more shapes, textures, or both")
    return varied


def _write_path(
    session: ModelSession,
    shapes: Sequence[Shape],
    textures: Sequence[Tensor],
    settings: InterpolateSettings,
    folder: Path,
    name: Varied,
) -> Written:
    """Writes one path's strip and film."""
    (folder / name).mkdir()
    viewpoint = base_viewpoint(session, shapes[0], settings.azimuth_deg, settings.elevation_deg)
    views = _views(session, shapes, textures, torch.linspace(0.0, 1.0, settings.pictures), settings, viewpoint)
    strip = draw_views(session, views, folder, name)
    origin = session.source.provenance.png_text(**origin_of(*views), to_class=settings.to_class)
    write_png(folder / name / "strip.png", grid_of([render_views(session, views)], STRIP_PX), origin)
    films: tuple[Picture, ...] = ()
    if settings.film.format is not None:
        file = f"{name}/film.{settings.film.format}"
        there_and_back = 0.5 - 0.5 * torch.cos(torch.linspace(0.0, 2.0 * torch.pi, settings.film.frames + 1)[:-1])
        frames = _views(session, shapes, textures, there_and_back, settings, viewpoint)
        origin = session.source.provenance.png_text(**origin_of(*frames), to_class=settings.to_class)
        write_film(folder / file, film_frames(render_views(session, frames), settings.film.size_px), origin)
        films = (Picture(file, "there and back"),)
    azimuth_deg, elevation_deg = (float(each) for each in np.degrees(viewpoint))
    said = {
        "varied": name,
        "shape_stops": [_code(shape.code) for shape in shapes],
        "texture_stops": [_code(texture) for texture in textures],
        "azimuth_deg": azimuth_deg,
        "elevation_deg": elevation_deg,
        "fractions": [index / max(1, settings.pictures - 1) for index in range(settings.pictures)],
        "pictures": [each.file for each in strip],
        "strip": f"{name}/strip.png",
        "films": [each.file for each in films],
    }
    stops = " to ".join(shape.name for shape in shapes)
    titles = {"shape": "Shape", "texture": "Texture", "both": "Shape and texture"}
    title = titles.get(name, f"{session.source.class_name.capitalize()} to {settings.to_class}")
    facts = f"{stops}, {len(textures)} texture{'s' if len(textures) > 1 else ''}, azimuth {azimuth_deg:.0f}°"
    downloads = (("Strip", f"{name}/strip.png"),)
    return said, Plate(title, facts, (Strip(f"{settings.curve} path", strip),), films, downloads)


def _views(
    session: ModelSession,
    shapes: Sequence[Shape],
    textures: Sequence[Tensor],
    fractions: Float[Tensor, " n"],
    settings: InterpolateSettings,
    viewpoint: tuple[float, float],
) -> list[View]:
    codes = codes_along(torch.stack([_known(shape.code) for shape in shapes]), fractions, settings.curve)
    painted = codes_along(torch.stack(list(textures)), fractions, settings.curve)
    if settings.to_class is not None:
        codes, painted = (session.between_classes(each, fractions, settings.to_class) for each in (codes, painted))
    made = session.shapes(list(codes))
    return [
        View(f"step-{index + 1:02d}", f"{fraction:.0%}", shape, viewpoint, texture)
        for index, (fraction, shape, texture) in enumerate(zip(fractions.tolist(), made, painted, strict=True))
    ]


def _known(code: Tensor | None) -> Tensor:
    assert code is not None  # checked by _paths
    return code


def _code(code: Tensor | None) -> list[float]:
    return [float(value) for value in _known(code)]
