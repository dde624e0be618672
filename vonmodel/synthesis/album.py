"""The page and the JSON file of a verb: what was made, in strips of pictures, with films and files to download."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from vondata.storage import atomic_path

from .gallery import FORMAT, PAGE
from .output import RESULT, Verb
from .source import Source


@dataclass(frozen=True)
class Picture:
    """One picture: its file, relative to the folder, and what it shows."""

    file: str
    caption: str


@dataclass(frozen=True)
class Strip:
    """Pictures side by side; the first is framed where the others depart from it."""

    label: str
    pictures: tuple[Picture, ...]
    framed: bool = False


@dataclass(frozen=True)
class Plate:
    """One object on the page.

    Attributes:
        title: its name.
        facts: numbers to read beside it.
        strips: its rows of pictures.
        films: moving or composed pictures, shown large.
        downloads: files to keep, as (label, file).
    """

    title: str
    facts: str
    strips: tuple[Strip, ...]
    films: tuple[Picture, ...] = ()
    downloads: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Album:
    """Everything on the page.

    Attributes:
        title: its heading.
        lead: one sentence on what is shown.
        plates: the objects.
    """

    title: str
    lead: str
    plates: tuple[Plate, ...]


def write_result(
    folder: Path, verb: Verb, source: Source, settings: Mapping[str, Any], objects: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Writes result.json: what was asked and what was made; with the checkpoint it is enough to make it again.

    Returns:
        what was written.
    """
    result = {
        "format": FORMAT,
        "verb": verb,
        "class_name": source.class_name,
        "run": str(source.run),
        "checkpoint": dataclasses.asdict(source.checkpoint),
        "settings": dict(settings),
        "objects": [dict(each) for each in objects],
        "versions": {"von": version("von"), "torch": torch.__version__},
    }
    text = json.dumps(result, indent=1, allow_nan=False)
    with atomic_path(folder / RESULT) as temporary:
        temporary.write_text(text + "\n", "utf-8")
    written: dict[str, Any] = json.loads(text)
    return written


def write_album(folder: Path, album: Album, source: Source) -> Path:
    """Writes the page, which loads nothing from anywhere else, and returns it."""
    page = folder / PAGE
    with atomic_path(page) as temporary:
        temporary.write_text(render_album(album, source), "utf-8")
    return page


def render_album(album: Album, source: Source) -> str:
    """The page as HTML."""
    plates = "\n".join(_plate(plate) for plate in album.plates)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(album.title)}</title>
<link rel="icon" href="data:,">
<style>
{_asset("page.css")}{_asset("album.css")}</style>
</head>
<body>
<h1>{escape(album.title)}</h1>
<p class="lead">{escape(album.lead)}</p>
<main class="plates">
{plates}
</main>
<h2>Origin</h2>
{_origin(source)}
<dialog aria-label="Picture">
<img src="data:," alt=""><p><span class="caption"></span><span>←&ensp;→&ensp;Esc</span></p>
</dialog>
<script>
{_asset("page.js")}</script>
</body>
</html>
"""


def _plate(plate: Plate) -> str:
    downloads = "".join(
        f'<a class="download" href="{escape(file)}" download>{escape(label)}</a>' for label, file in plate.downloads
    )
    films = "".join(_film(plate.title, film) for film in plate.films)
    films = f'<div class="films">{films}</div>' if films else ""
    strips = "".join(_strip(plate.title, strip) for strip in plate.strips)
    return f"""<article class="shape">
<header><h3>{escape(plate.title)}</h3><span class="fact">{escape(plate.facts)}</span>
<span class="downloads">{downloads}</span></header>
<div class="plate">{films}<div class="strips">{strips}</div></div>
</article>"""


def _film(title: str, film: Picture) -> str:
    alternative = escape(f"{title}, {film.caption}")
    if film.file.endswith(".mp4"):
        plays = "autoplay loop muted playsinline controls"
        shown = f'<video src="{escape(film.file)}" {plays} aria-label="{alternative}"></video>'
    else:
        shown = f'<img src="{escape(film.file)}" alt="{alternative}">'
    return f"<figure>{shown}<figcaption>{escape(film.caption)}</figcaption></figure>"


def _strip(title: str, strip: Strip) -> str:
    cells = "".join(
        f'<figure><a href="{escape(picture.file)}"><img src="{escape(picture.file)}" decoding="async" '
        f'alt="{escape(f"{title}, {strip.label}: {picture.caption}")}"></a>'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
        for picture in strip.pictures
    )
    kind = "strip views framed" if strip.framed else "strip views"
    return (
        f'<section><h4>{escape(strip.label)}</h4><div class="{kind}" tabindex="0" role="region" '
        f'aria-label="{escape(f"{title}, {strip.label}")}">{cells}</div></section>'
    )


def _origin(source: Source) -> str:
    checkpoint, config = source.checkpoint, source.config
    entries = {
        "Run": str(source.run),
        "Checkpoint": f"{checkpoint.name} (stage {checkpoint.stage}, step {checkpoint.step})",
        "SHA-256": checkpoint.sha256,
        "Volumes": f"{config.resolution}³",
        "Images": f"{config.image_size} × {config.image_size} pixels",
        "Versions": f"von {version('von')}, torch {torch.__version__}",
    }
    rows = "".join(f"<dt>{name}</dt><dd><code>{escape(value)}</code></dd>" for name, value in entries.items())
    hint = f'Codes, viewpoints and files: <a href="{RESULT}">{RESULT}</a>'
    return f'<dl class="facts">{rows}</dl>\n<p class="hint">{hint}</p>'


def _asset(name: str) -> str:
    return (files(__package__) / name).read_text("utf-8")
