"""The film of an object that turns once around."""

from __future__ import annotations

from pathlib import Path

from .album import Picture
from .films import FilmSettings, film_frames, write_film
from .session import ModelSession
from .views import View, render_views, turntable


def write_turntable(
    session: ModelSession, base: View, film: FilmSettings, folder: Path, name: str, stem: str = "turntable"
) -> tuple[Picture, ...]:
    """Writes the film as `folder/name/<stem>.<format>`; nothing where no film is wanted."""
    if film.format is None:
        return ()
    file = f"{name}/{stem}.{film.format}"
    write_film(folder / file, film_frames(render_views(session, turntable(base, film.frames)), film.size_px))
    return (Picture(file, "turntable"),)
