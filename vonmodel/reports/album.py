"""The folder, the page and the JSON file of a result: strips of pictures, with films and files to download."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Literal, TypeVar

from vondata.errors import VonError
from vondata.io.files import atomic_path
from vonmodel.inference.session import LoadedModel
from vonmodel.reports.gallery import FORMAT, PAGE, SIDECAR, versions
from vonmodel.reports.html import Origin, Page, linked_picture

Verb = Literal["generate", "edit", "interpolate", "transfer", "reconstruct", "export"]
RESULT = "result.json"
"""What every verb but generate says of its folder, beside the pictures."""


class OutputError(VonError):
    """A folder that a verb must not write to."""


@contextmanager
def replaced_folder(output: Path, verb: Verb = "generate") -> Iterator[Path]:
    """An empty folder to fill; when the block ends without error, it takes the place of `output`.

    Raises:
        OutputError: `output` holds something else than an older result of this verb.
    """
    _check_ours(output, verb)
    partial, old = (output.with_name(f".{output.name}.{kind}") for kind in ("partial", "old"))
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if output.exists():
        output.replace(old)
    partial.replace(output)
    shutil.rmtree(old, ignore_errors=True)


def _check_ours(output: Path, verb: Verb) -> None:
    if output.is_dir() and not any(output.iterdir()):
        return
    if output.exists() and not _is_result_of(output, verb):
        raise OutputError(f"{output} holds something else than an older result ({verb}); name another folder")


def _is_result_of(output: Path, verb: Verb) -> bool:
    try:
        said = json.loads((output / (SIDECAR if verb == "generate" else RESULT)).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(said, dict):
        return False
    return "texture_codes" in said if verb == "generate" else said.get("verb") == verb


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


Written = tuple[Mapping[str, Any], Plate]
"""What result.json and the page say of one object."""
Thing = TypeVar("Thing")


def write_each(
    things: Sequence[Thing],
    write_one: Callable[[Thing, str], Written],
    folder: Path,
    progress: Callable[[int, int], None] | None,
) -> list[Written]:
    """Has every object written into a folder of its own, object-01 and so on.

    Args:
        things: the objects.
        write_one: writes one into the folder of the name given, which is there.
        folder: of all of them.
        progress: told the objects done and their number after each.
    """
    written = []
    for index, thing in enumerate(things, start=1):
        name = f"object-{index:02d}"
        (folder / name).mkdir()
        written.append(write_one(thing, name))
        if progress is not None:
            progress(index, len(things))
    return written


def write_account(
    folder: Path,
    verb: Verb,
    source: LoadedModel,
    settings: Mapping[str, Any],
    words: tuple[str, str],
    written: list[Written],
) -> dict[str, Any]:
    """Writes result.json and the page of a verb; `words` are the page's title and lead.

    Returns:
        what result.json holds.
    """
    result = write_result(folder, verb, source, settings, [said for said, _ in written])
    write_album(folder, Album(*words, tuple(plate for _, plate in written)), source)
    return result


def write_result(
    folder: Path, verb: Verb, source: LoadedModel, settings: Mapping[str, Any], objects: Sequence[Mapping[str, Any]]
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
        "settings": {**settings, **dataclasses.asdict(source.sampling)},
        "objects": [dict(each) for each in objects],
        "versions": versions(),
    }
    text = json.dumps(result, indent=1, allow_nan=False)
    with atomic_path(folder / RESULT) as temporary:
        temporary.write_text(text + "\n", "utf-8")
    written: dict[str, Any] = json.loads(text)
    return written


def write_album(folder: Path, album: Album, source: LoadedModel) -> Path:
    """Writes the page, which loads nothing from anywhere else, and returns it."""
    return album_page(album, source).write(folder / PAGE)


def album_page(album: Album, source: LoadedModel) -> Page:
    """The page of an album."""
    plates = "\n".join(_plate(plate) for plate in album.plates)
    content = f'<main class="plates">\n{plates}\n</main>\n{_origin(source).render()}'
    return Page(album.title, album.lead, content, styles=("album.css",), enlarges=True)


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
        f"<figure>{linked_picture(picture.file, f'{title}, {strip.label}: {picture.caption}')}"
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
        for picture in strip.pictures
    )
    kind = "strip views framed" if strip.framed else "strip views"
    return (
        f'<section><h4>{escape(strip.label)}</h4><div class="{kind}" role="group" '
        f'aria-label="{escape(f"{title}, {strip.label}")}">{cells}</div></section>'
    )


def _origin(source: LoadedModel) -> Origin:
    config = source.config
    return Origin(
        run=str(source.run),
        checkpoint=dataclasses.asdict(source.checkpoint),
        seed=None,
        volumes=f"{config.resolution}³",
        image_size=config.image_size,
        versions=versions(),
        file=RESULT,
    )
