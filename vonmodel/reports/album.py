"""Albums: output folder, HTML page and result.json of a result, with strips of pictures, films and downloads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from vondata.errors import VonError
from vondata.io.files import atomic_path, sync
from vonmodel.reports.gallery import FORMAT, PAGE, SIDECAR, origin_facts
from vonmodel.reports.html import Page
from vonmodel.reports.provenance import Provenance

Verb = Literal["generate", "edit", "interpolate", "transfer", "reconstruct", "invert", "export"]
RESULT = "result.json"
"""The record of an output folder, for every verb but generate."""
_FLUSHED_AT_ONCE = 16


class OutputError(VonError):
    """A folder that a verb must not write to."""


@contextmanager
def replaced_folder(output: Path, verb: Verb = "generate") -> Iterator[Path]:
    """An empty folder to fill; it replaces `output` when the block ends without error.

    If `output` is a link to a folder, that folder is replaced and the link kept.

    Raises:
        OutputError: `output` holds something other than an older result of this verb.
    """
    _check_ours(output, verb)
    output = output.resolve()
    partial, old = (output.with_name(f".{output.name}.{kind}") for kind in ("partial", "old"))
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    made = [each for each in partial.parents if not each.exists()]
    partial.mkdir(parents=True)
    try:
        yield partial
        # Flushed together, which a disk does much faster than one after the other.
        with ThreadPoolExecutor(_FLUSHED_AT_ONCE) as pool:
            list(pool.map(sync, [partial, *partial.rglob("*")]))
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        for parent in made:
            with suppress(OSError):  # another result may be in it by now
                parent.rmdir()
        raise
    if output.exists():
        output.replace(old)
    partial.replace(output)
    sync(output.parent)
    shutil.rmtree(old, ignore_errors=True)


def _check_ours(output: Path, verb: Verb) -> None:
    if output.is_dir() and not any(output.iterdir()):
        return
    if output.exists() and not _is_result_of(output, verb):
        raise OutputError(f"{output} holds something other than an older result ({verb})", hint="name another folder")


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
    """A row of pictures; `framed` frames the first, of which the others are variations."""

    label: str
    pictures: tuple[Picture, ...]
    framed: bool = False


@dataclass(frozen=True)
class Plate:
    """One object on the page.

    Attributes:
        title: its name.
        facts: its numbers, as text.
        strips: its rows of pictures.
        films: moving or composed pictures, shown large.
        downloads: files to download, as (label, file).
        mesh: its surface for the 3D view, see `viewer_mesh`; None without one.
    """

    title: str
    facts: str
    strips: tuple[Strip, ...]
    films: tuple[Picture, ...] = ()
    downloads: tuple[tuple[str, str], ...] = ()
    mesh: str | None = None


@dataclass(frozen=True)
class Album:
    """The content of the page.

    Attributes:
        title: its heading.
        lead: one sentence on what is shown.
        plates: the objects.
    """

    title: str
    lead: str
    plates: tuple[Plate, ...]


Written = tuple[Mapping[str, Any], Plate]
"""The entries of one object in result.json and on the page."""
Thing = TypeVar("Thing")


def write_each(
    things: Sequence[Thing],
    write_one: Callable[[Thing, str], Written],
    folder: Path,
    progress: Callable[[int, int], None] | None,
) -> list[Written]:
    """Writes every object into a folder of its own, object-01 and so on.

    Args:
        things: the objects.
        write_one: writes one into the folder of the given name, which exists.
        folder: of all of them.
        progress: called after each object with the number done and the total.
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
    provenance: Provenance,
    settings: Mapping[str, Any],
    words: tuple[str, str],
    written: list[Written],
) -> dict[str, Any]:
    """Writes result.json and the page of a verb; `words` are the page's title and lead.

    Returns:
        the content of result.json.
    """
    result = write_result(folder, verb, provenance, settings, [said for said, _ in written])
    write_album(folder, Album(*words, tuple(plate for _, plate in written)), provenance)
    return result


def write_result(
    folder: Path,
    verb: Verb,
    provenance: Provenance,
    settings: Mapping[str, Any],
    objects: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Writes result.json: settings and results, which together with the checkpoint are enough to reproduce them.

    Returns:
        the content of result.json.
    """
    result = {
        "format": FORMAT,
        "verb": verb,
        "class_name": provenance.class_name,
        "run": provenance.run,
        "checkpoint": dict(provenance.checkpoint),
        "settings": {**settings, **provenance.sampling},
        "objects": [dict(each) for each in objects],
        "versions": dict(provenance.versions),
    }
    text = json.dumps(result, indent=1, allow_nan=False)
    with atomic_path(folder / RESULT) as temporary:
        temporary.write_text(text + "\n", "utf-8")
    written: dict[str, Any] = json.loads(text)
    return written


def write_album(folder: Path, album: Album, provenance: Provenance) -> Path:
    """Writes the self-contained page and returns its path."""
    return album_page(album, provenance).write(folder / PAGE)


def album_page(album: Album, provenance: Provenance) -> Page:
    """The page of an album."""
    context = {"title": album.title, "lead": album.lead, "plates": album.plates, "file": RESULT}
    return Page("album.html", context | {"origin": origin_facts(provenance)})
