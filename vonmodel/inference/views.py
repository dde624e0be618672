"""Views (shape, viewpoint and texture), sequences that vary one of the three, and turntable films."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vonmodel.inference.sampling import Rendering, Seed
from vonmodel.inference.session import ModelSession, Shape
from vonmodel.inference.texture_baking import painted_mesh
from vonmodel.mesh import write_image
from vonmodel.reports.album import Picture
from vonmodel.reports.html import decimated, viewer_mesh
from vonmodel.reports.provenance import code_text
from vonmodel.reports.video import FilmSettings, film_frames, write_film

MAX_ELEVATION_DEG = 60.0


@dataclass(frozen=True, eq=False)
class View:
    """One picture to render.

    Attributes:
        name: of its file.
        caption: of the picture.
        shape: the shape.
        viewpoint: azimuth and elevation in radians.
        texture: (k,) the texture code.
    """

    name: str
    caption: str
    shape: Shape
    viewpoint: tuple[float, float]
    texture: Float[Tensor, " k"]


def base_viewpoint(
    session: ModelSession, shape: Shape, azimuth_deg: float | None, elevation_deg: float | None
) -> tuple[float, float]:
    """The given viewpoint in radians; an angle that is not given is sampled from the class's viewpoints."""
    azimuth, elevation = session.viewpoints(1, 0 if shape.seed is None else shape.seed.seed)[0]
    return (
        float(azimuth if azimuth_deg is None else np.radians(azimuth_deg)),
        float(elevation if elevation_deg is None else np.radians(elevation_deg)),
    )


def render_views(session: ModelSession, views: Sequence[View]) -> Float[Tensor, "n 3 R R"]:
    """The images of views, in [-1, 1]."""
    return _render(session, views).images


def _render(session: ModelSession, views: Sequence[View]) -> Rendering:
    textures = torch.stack([view.texture for view in views])
    viewpoints = np.array([view.viewpoint for view in views], dtype=np.float64)
    return session.render([view.shape for view in views], viewpoints, textures)


def origin_of(*views: View) -> dict[str, Any]:
    """The content of views for their provenance: the shape's name, both codes, the angles in degrees.

    A value that differs between them is a list under the plural name, such as azimuths_deg.
    """
    each = [_origin_of_one(view) for view in views]
    values = {name: list(dict.fromkeys(one[name] for one in each)) for name in each[0]}
    return {
        (name if len(some) == 1 else _plural(name)): some[0] if len(some) == 1 else some
        for name, some in values.items()
    }


def _plural(name: str) -> str:
    stem = name.removesuffix("_deg")
    return f"{stem}s{name[len(stem) :]}"


def _origin_of_one(view: View) -> dict[str, Any]:
    azimuth, elevation = (round(float(each), 4) for each in np.degrees(view.viewpoint))
    return {
        "shape": view.shape.name,
        "shape_code": None if view.shape.code is None else code_text(view.shape.code.tolist()),
        "texture_code": code_text(view.texture.tolist()),
        "azimuth_deg": azimuth,
        "elevation_deg": elevation,
    }


def png_origin(session: ModelSession, *views: View) -> dict[str, str]:
    """The text chunks of a picture of views."""
    return session.source.provenance.png_text(**origin_of(*views))


def turnable(session: ModelSession, shape: Shape, texture: Float[Tensor, " k"]) -> str | None:
    """The painted surface of a shape for a page's 3D view; None if it is empty."""
    return viewer_mesh(painted_mesh(session, shape, texture, decimated(session.mesh(shape))))


def draw_views(session: ModelSession, views: Sequence[View], folder: Path, name: str) -> tuple[Picture, ...]:
    """Writes the images of views as `folder/name/<view>.png` and returns them with their captions."""
    rendering = _render(session, views)
    for view, image, silhouette in zip(views, rendering.images, rendering.sketch.silhouette, strict=True):
        write_image(folder / name / f"{view.name}.png", image, png_origin(session, view), silhouette)
    return tuple(Picture(f"{name}/{view.name}.png", view.caption) for view in views)


def turntable(base: View, frames: int) -> list[View]:
    """Views of one turn around the object, at the elevation of the base and starting with it."""
    azimuth, elevation = base.viewpoint
    return [
        dataclasses.replace(base, viewpoint=(azimuth + 2.0 * np.pi * frame / frames, elevation))
        for frame in range(frames)
    ]


def other_shapes(session: ModelSession, base: View, count: int) -> list[View]:
    """The base, then the shapes of the seeds after its own (from 0 if it has none)."""
    first = Seed(0) if base.shape.seed is None else base.shape.seed.after(1)
    shapes = session.shapes([first.after(step) for step in range(count)])
    return [
        dataclasses.replace(base, caption=base.shape.name),
        *(
            dataclasses.replace(base, name=f"shape-{index + 1}", caption=shape.name, shape=shape)
            for index, shape in enumerate(shapes)
        ),
    ]


def other_azimuths(base: View, count: int) -> list[View]:
    """The base, then other azimuths, evenly spaced."""
    around = turntable(base, count + 1)
    names = [base.name, *(f"azimuth-{index + 1}" for index in range(count))]
    return [
        dataclasses.replace(view, name=name, caption=degrees_text(view.viewpoint[0]))
        for name, view in zip(names, around, strict=True)
    ]


def other_elevations(base: View, count: int) -> list[View]:
    """The base, then elevations from 0 to 60 degrees."""
    azimuth, elevation = base.viewpoint
    angles = np.radians(np.linspace(0.0, MAX_ELEVATION_DEG, count)).tolist()
    return [
        dataclasses.replace(base, caption=degrees_text(elevation)),
        *(
            dataclasses.replace(
                base, name=f"elevation-{index + 1}", caption=degrees_text(angle), viewpoint=(azimuth, angle)
            )
            for index, angle in enumerate(angles)
        ),
    ]


def other_textures(session: ModelSession, base: View, first: Seed, count: int, caption: str) -> list[View]:
    """The base with its caption, then the textures of this seed and those after it."""
    seeds = [first.after(step) for step in range(count)]
    return [
        dataclasses.replace(base, caption=caption),
        *(
            dataclasses.replace(
                base, name=f"texture-{index + 1}", caption=f"seed {seed}", texture=session.texture(seed)
            )
            for index, seed in enumerate(seeds)
        ),
    ]


def degrees_text(angle: float) -> str:
    """An angle in radians as text in degrees, from -180° to 180°."""
    return f"{round(float(np.degrees(np.angle(np.exp(1j * angle)))))}°"


def write_turntable(
    session: ModelSession, base: View, film: FilmSettings, folder: Path, name: str, stem: str = "turntable"
) -> tuple[Picture, ...]:
    """Writes the film as `folder/name/<stem>.<format>`; nothing without a film format."""
    if film.format is None:
        return ()
    file = f"{name}/{stem}.{film.format}"
    views = turntable(base, film.frames)
    write_film(folder / file, film_frames(render_views(session, views), film.size_px), png_origin(session, *views))
    return (Picture(file, "turntable"),)
