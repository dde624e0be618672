"""HTML page of `benchmarks.quality`: a table of the arms for each class and seed, and their contact sheets."""

from __future__ import annotations

import base64
import itertools
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment

PAGE = """<!doctype html>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Quality: arms trained for equal processor seconds</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
table { border-collapse: collapse; } th, td { padding: .25rem .75rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead { border-bottom: 1px solid #888; }
img { image-rendering: pixelated; display: block; max-width: 100%; } figure { margin: 1rem 0; } small { color: #666; }
.wide { overflow-x: auto; }
</style>
<h1>Quality</h1>
<p>Arms trained for {{ "%.0f"|format(result.seconds) }} processor seconds, scored on the {{ result.scoring.split }}
part. 95 % intervals under the values. {{ result.machine }}</p>
{% for (class_name, seed), rows in groups %}
<h2>{{ class_name }}, seed {{ seed }}</h2>
<div class="wide"><table><thead><tr><th>arm{% for title in columns %}<th>{{ title }}{% endfor %}</tr></thead><tbody>
{% for row in rows %}<tr><td>{{ row.arm }}{% for cell in cells(row) %}<td>{{ cell[0] }}
{% if cell[1] %}<br><small>{{ cell[1] }}</small>{% endif %}{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{% for row in rows if row.sheet %}<figure><img alt="photos above, generated below" src="{{ picture(row.sheet) }}">
<figcaption>{{ row.arm }}: photos above, generated below, at their true size</figcaption></figure>
{% endfor %}{% endfor %}
"""

Cell = tuple[str, str]


def write_page(folder: Path, result: Mapping[str, Any]) -> Path:
    """Writes the self-contained index.html."""
    networks = list(result["scoring"]["features"])

    def cells(row: Mapping[str, Any]) -> list[Cell]:
        found: list[Cell] = [(f"{row['processor_s']:.0f}", "")]
        for network in networks:
            images = row["images"].get(network, {})
            found += [_interval(images.get("kid"), 4), _interval(images.get("fid"), 4)]
            found += [_number(images.get(name)) for name in ("precision", "recall", "coverage", "nearest_photo")]
        points, overlap = row["shapes"].get("shape_points", {}), row["shapes"].get("shapes", {})
        found += [_number(points.get(name)) for name in ("nearest_neighbour_accuracy", "coverage")]
        pieces, nearest = overlap.get("largest_piece"), overlap.get("nearest_iou")
        found += [_number(statistics.median(each) if each else None) for each in (pieces, nearest)]
        views = row["consistency"] or {}
        return found + [_number(views.get(f"difference_{angle}")) for angle in (15, 30)]

    images = [
        f"{title} ({network})"
        for network in networks
        for title in ("KID ↓", "FD ↓", "precision ↑", "recall ↑", "coverage ↑", "nearest photo")
    ]
    shapes = ["1-NNA → 0.5", "COV ↑", "largest piece ↑", "nearest IoU"]
    groups = itertools.groupby(result["rows"], lambda row: (row["class"], row["seed"]))
    text = (
        Environment(autoescape=True)
        .from_string(PAGE)
        .render(
            result=result,
            groups=[(key, list(rows)) for key, rows in groups],
            columns=["processor s", *images, *shapes, "15° ↓", "30° ↓"],
            cells=cells,
            picture=lambda path: _picture(folder / path),
        )
    )
    page = folder / "index.html"
    page.write_text(text, "utf-8")
    return page


def _interval(score: Mapping[str, float] | None, digits: int) -> Cell:
    if score is None:
        return "", ""
    return f"{score['value']:.{digits}g}", f"{score['low']:.{digits}g} to {score['high']:.{digits}g}"


def _number(value: float | None) -> Cell:
    return ("" if value is None else f"{value:.3f}"), ""


def _picture(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
