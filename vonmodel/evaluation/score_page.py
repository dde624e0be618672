"""HTML page of folder scores: the table with intervals and the nearest references, and score.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from vondata.io.files import atomic_path
from vondata.render.caster import Caster
from vondata.render.textured_mesh import grey_render_mesh
from vondata.render.views import RenderSettings, render_views
from vondata.types import Kind
from vonmodel.evaluation.folders import Folder, FolderItem, ShapeReading, image_pixels, read_shape
from vonmodel.evaluation.image_metrics import Interval
from vonmodel.evaluation.score_folders import QUANTITIES, FolderScores, FolderSettings, format_value
from vonmodel.mesh import write_png
from vonmodel.reports.html import Page

THUMBNAIL_PX = 256
RESULT, PAGE = "score.json", "index.html"


def write_scores(output: Path, scores: FolderScores, generated: Sequence[Folder], settings: FolderSettings) -> Path:
    """Writes score.json and index.html with its pictures into a folder; returns the page.

    Args:
        output: the folder, created if missing.
        scores: the scores.
        generated: the folders, in the order of the rows.
        settings: of the scores.
    """
    record = scores.record()
    output.mkdir(parents=True, exist_ok=True)
    with atomic_path(output / RESULT) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    plates = []
    for number, (row, folder) in enumerate(zip(scores.rows, generated, strict=True), 1):
        pairs = []
        for place, pair in enumerate(row.nearest, 1):
            files = []
            for side, name, holder, how in (
                ("generated", pair.generated, folder, settings.shapes),
                ("reference", pair.reference, scores.reference, settings.reference_shapes),
            ):
                file = f"pairs/{number}-{place}-{side}.png"
                with atomic_path(output / file) as temporary:
                    write_png(temporary, _thumbnail(holder, name, scores.kind, how))
                files.append({"file": file, "name": name, "side": side})
            pairs.append({"pictures": files, "ratio": pair.ratio})
        plates.append({"title": row.title, "pairs": pairs})
    return _page(scores, plates).write(output / PAGE)


def _thumbnail(folder: Folder, name: str, kind: Kind, how: ShapeReading) -> npt.NDArray[np.uint8]:
    entry = next(each for each in folder.entries[kind] if each.name == name)
    if kind == "images":
        image = Image.fromarray(image_pixels(entry).numpy().transpose(1, 2, 0))
        image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
        return np.asarray(image)
    return _shape_thumbnail(entry, how)


def _shape_thumbnail(entry: FolderItem, how: ShapeReading) -> npt.NDArray[np.uint8]:
    """A shaded view of a surface from the front and above, or the points of a cloud."""
    shape = read_shape(entry, how)
    view = RenderSettings(views=1, size=THUMBNAIL_PX, cameras="turntable")
    if shape.mesh is not None:
        caster = Caster(grey_render_mesh(shape.mesh.vertices, shape.mesh.faces))
        return next(render_views(caster, [(35.0, 20.0)], view)).image
    picture = np.full((THUMBNAIL_PX, THUMBNAIL_PX, 3), 255, dtype=np.uint8)
    points = shape.points - (shape.points.min(axis=0) + shape.points.max(axis=0)) / 2.0
    points = points / max(float(np.linalg.norm(points, axis=1).max()), 1e-30)
    azimuth = math.radians(35.0)
    across = points[:, 0] * math.cos(azimuth) + points[:, 1] * math.sin(azimuth)
    column, row = (np.rint((0.5 + 0.48 * each) * (THUMBNAIL_PX - 1)).astype(int) for each in (across, -points[:, 2]))
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        picture[(row + down).clip(max=THUMBNAIL_PX - 1), (column + right).clip(max=THUMBNAIL_PX - 1)] = (95, 88, 80)
    return picture


def _page(scores: FolderScores, plates: Sequence[Mapping[str, Any]]) -> Page:
    columns = scores.columns
    spans = {
        name: (min(each.low for each in found), max(each.high for each in found))
        for name in columns
        if (found := [row.values[name] for row in scores.rows if name in row.values])
    }
    rows = [
        {"title": row.title, "path": row.path, "notes": row.notes,
         "cells": [_cell(row.values.get(name), spans[name]) for name in columns]}
        for row in scores.rows
    ]  # fmt: skip
    lines: dict[str, list[str]] = {row.protocol_line: [] for row in scores.rows}
    for row in scores.rows:
        lines[row.protocol_line].append(row.title)
    return Page(
        "score.html",
        {
            "title": "Scores",
            "lead": f"{len(rows)} folder{'s' * (len(rows) > 1)} of {scores.kind} against {scores.reference.title}",
            "heads": [{"title": scores.title_of(name), "about": QUANTITIES[name].about} for name in columns],
            "rows": rows,
            "lines": [{"line": line, "titles": ", ".join(titles)} for line, titles in lines.items()],
            "plates": [plate for plate in plates if plate["pairs"]],
            "refused": [asdict(each) for each in scores.refused],
            "file": RESULT,
        },
    )


def _cell(found: Interval | None, span: tuple[float, float]) -> dict[str, Any] | None:
    """A value for the page: its text, and the position of its interval in the column's range, in percent."""
    if found is None:
        return None
    low, high = span
    place = partial(_percent, low=low, width=high - low)
    ends = f"{format_value(found.low)} – {format_value(found.high)}" if found.high > found.low else ""
    return {
        "value": format_value(found.value),
        "ends": ends,
        "left": place(found.low),
        "width": place(found.high) - place(found.low),
        "at": place(found.value),
    }


def _percent(value: float, *, low: float, width: float) -> float:
    return round(100.0 * (value - low) / width, 2) if width > 0.0 else 50.0
