"""Editing: shape, viewpoint or texture of an object changed independently; texture transfer from photos."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vonmodel.inference.photo import CutPhoto
from vonmodel.inference.sampling import Seed
from vonmodel.inference.session import ModelSession, Shape
from vonmodel.inference.views import (
    View,
    base_viewpoint,
    draw_views,
    other_azimuths,
    other_elevations,
    other_shapes,
    other_textures,
    png_origin,
    render_views,
    turnable,
    write_turntable,
)
from vonmodel.mesh import write_grey, write_image, write_png
from vonmodel.reports.album import Picture, Plate, Strip, Written, replaced_folder, write_account, write_each
from vonmodel.reports.video import FilmSettings, grid_of

Progress = Callable[[int, int], None]
"""Called with the objects done and their number."""

GRID_PX = 96


@dataclass(frozen=True)
class EditSettings:
    """What to edit and how to show it.

    Attributes:
        azimuth_deg: of the viewpoint; sampled from the class's viewpoints if None.
        elevation_deg: the same.
        texture: the texture's seed.
        alternatives: number of changes of each kind.
        film: the turntable.
    """

    azimuth_deg: float | None = None
    elevation_deg: float | None = None
    texture: Seed = Seed(0)  # noqa: RUF009  # a tuple
    alternatives: int = 6
    film: FilmSettings = field(default_factory=FilmSettings)


def edit(
    session: ModelSession,
    shapes: Sequence[Shape],
    settings: EditSettings,
    output: Path,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Writes pictures, films, result.json and a page of every shape; the folder appears complete or not at all.

    Args:
        session: the model.
        shapes: the shapes to edit.
        settings: what to change and how to show it.
        output: the folder; an older edit in it is replaced.
        progress: called after every shape.

    Returns:
        the content of result.json.

    Raises:
        OutputError: the folder holds something other than an older edit.
        SeedError: the texture's seed is out of range.
        FilmError: the turntable's format cannot be written here.
    """
    with replaced_folder(output, "edit") as folder:
        edit_one = partial(_edit_one, session, settings, folder)
        written = write_each(shapes, edit_one, folder, progress)
        asked = dataclasses.asdict(settings) | {"texture": str(settings.texture)}
        lead = "Shape, viewpoint and texture, each changed alone. The framed picture is the original."
        words = f"Edited {session.source.class_name}s", lead
        return write_account(folder, "edit", session.source.provenance, asked, words, written)


def _edit_one(session: ModelSession, settings: EditSettings, folder: Path, shape: Shape, name: str) -> Written:
    """Writes one object's pictures."""
    viewpoint = base_viewpoint(session, shape, settings.azimuth_deg, settings.elevation_deg)
    texture, count = settings.texture, settings.alternatives
    base = View("image", "", shape, viewpoint, session.texture(texture))
    rows = {
        "shape": other_shapes(session, base, count),
        "azimuth": other_azimuths(base, count),
        "elevation": other_elevations(base, count),
        "texture": other_textures(session, base, texture.after(1), count, f"seed {texture}"),
    }
    strips = [
        Strip(f"{kind} changed", draw_views(session, views, folder, name), framed=True)
        for kind, views in rows.items()
    ]
    sketch = _write_sketch(session, base, folder, name)
    films = (*write_turntable(session, base, settings.film, folder, name), _write_grid(session, rows, folder, name))
    azimuth_deg, elevation_deg = (float(each) for each in np.degrees(viewpoint))
    said = {
        "shape": shape.name,
        "shape_code": None if shape.code is None else shape.code.tolist(),
        "azimuth_deg": azimuth_deg,
        "elevation_deg": elevation_deg,
        "texture": f"seed {texture}",
        "texture_code": base.texture.tolist(),
        "pictures": {kind: [each.file for each in strip.pictures] for kind, strip in zip(rows, strips, strict=True)},
        "sketch": [each.file for each in sketch],
        "films": [each.file for each in films],
    }
    facts = f"azimuth {azimuth_deg:.0f}°, elevation {elevation_deg:.0f}°, texture of seed {texture}"
    return said, Plate(
        shape.name, facts, (*strips, Strip("sketch", sketch)), films, (), turnable(session, shape, base.texture)
    )


def _write_sketch(session: ModelSession, base: View, folder: Path, name: str) -> tuple[Picture, ...]:
    sketch = session.sketch(base.shape, *base.viewpoint)
    origin = png_origin(session, base)
    write_grey(folder / name / "silhouette.png", sketch.silhouette[0, 0], origin)
    write_grey(folder / name / "depth.png", (sketch.normalized_depth[0, 0] + 1.0) / 2.0, origin)
    return Picture(f"{name}/silhouette.png", "silhouette"), Picture(f"{name}/depth.png", "depth")


def _write_grid(session: ModelSession, rows: dict[str, list[View]], folder: Path, name: str) -> Picture:
    """Writes all textures at all azimuths as one picture."""
    grid = [
        render_views(session, [dataclasses.replace(view, texture=other.texture) for view in rows["azimuth"]])
        for other in rows["texture"]
    ]
    shown = [
        dataclasses.replace(view, texture=other.texture) for other in rows["texture"] for view in rows["azimuth"]
    ]
    write_png(folder / name / "grid.png", grid_of(grid, GRID_PX), png_origin(session, *shown))
    return Picture(f"{name}/grid.png", "textures downwards, azimuths across")


@dataclass(frozen=True)
class TransferSettings:
    """How to show the textured shapes.

    Attributes:
        azimuth_deg: of the viewpoint; sampled from the class's viewpoints if None.
        elevation_deg: the same.
        views: number of further azimuths.
        film: a turntable for every photo.
    """

    azimuth_deg: float | None = None
    elevation_deg: float | None = None
    views: int = 5
    film: FilmSettings = field(default_factory=FilmSettings)


def transfer(
    session: ModelSession,
    photos: Sequence[CutPhoto],
    shapes: Sequence[Shape],
    settings: TransferSettings,
    output: Path,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Writes every shape in every photo's texture, with result.json and a page.

    Args:
        session: the model, whose texture encoder encodes the photos.
        photos: the photos that textures are taken from (see `read_photo`).
        shapes: the shapes to texture.
        settings: how to show them.
        output: the folder; an older transfer in it is replaced.
        progress: called after every shape.

    Returns:
        the content of result.json.

    Raises:
        OutputError: the folder holds something other than an older transfer.
        FilmError: the turntable's format cannot be written here.
    """
    with replaced_folder(output, "transfer") as folder:
        textures = [session.encode_texture(photo.image) for photo in photos]
        (folder / "photos").mkdir()
        for index, photo in enumerate(photos):
            write_image(folder / "photos" / f"photo-{index + 1:02d}.png", photo.image, silhouette=photo.mask)
        paint = partial(_paint_shape, session, settings, list(zip(photos, textures, strict=True)), folder)
        written = write_each(shapes, paint, folder, progress)
        lead = "Framed: the photo, cut out. Beside it each shape in the photo's texture, from around."
        words = f"Photos' textures on {session.source.class_name}s", lead
        return write_account(
            folder, "transfer", session.source.provenance, dataclasses.asdict(settings), words, written
        )


def _paint_shape(
    session: ModelSession,
    settings: TransferSettings,
    textured: Sequence[tuple[CutPhoto, Tensor]],
    folder: Path,
    shape: Shape,
    name: str,
) -> Written:
    """Writes one shape in the texture code of every photo."""
    viewpoint = base_viewpoint(session, shape, settings.azimuth_deg, settings.elevation_deg)
    strips: list[Strip] = []
    films: list[Picture] = []
    for place, (photo, texture) in enumerate(textured, start=1):
        base = View("image", "", shape, viewpoint, texture)
        views = other_azimuths(base, settings.views)
        views = [dataclasses.replace(view, name=f"photo-{place:02d}-{view.name}") for view in views]
        pictures = draw_views(session, views, folder, name)
        source = Picture(f"photos/photo-{place:02d}.png", "the photo")
        strips.append(Strip(f"texture of {photo.name}", (source, *pictures), framed=True))
        films += write_turntable(session, base, settings.film, folder, name, f"turntable-{place:02d}")
    facts = f"azimuth {np.degrees(viewpoint[0]):.0f}°, elevation {np.degrees(viewpoint[1]):.0f}°"
    return _describe(shape, viewpoint, textured, strips, films), Plate(shape.name, facts, tuple(strips), tuple(films))


def _describe(
    shape: Shape,
    viewpoint: tuple[float, float],
    textured: Sequence[tuple[CutPhoto, Tensor]],
    strips: Sequence[Strip],
    films: Sequence[Picture],
) -> dict[str, Any]:
    azimuth_deg, elevation_deg = (float(each) for each in np.degrees(viewpoint))
    return {
        "shape": shape.name,
        "shape_code": None if shape.code is None else shape.code.tolist(),
        "azimuth_deg": azimuth_deg,
        "elevation_deg": elevation_deg,
        "textures": [
            {
                "photo": photo.name,
                "mask_origin": photo.origin,
                "texture_code": texture.tolist(),
                "pictures": [each.file for each in strip.pictures],
            }
            for (photo, texture), strip in zip(textured, strips, strict=True)
        ],
        "films": [each.file for each in films],
    }
