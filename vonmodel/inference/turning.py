"""The film of an object that turns once around."""

from __future__ import annotations

from pathlib import Path

from vonmodel.inference.session_part import ModelSession
from vonmodel.inference.views_part import View, render_views, turntable
from vonmodel.reports.album_part import Picture
from vonmodel.reports.video import FilmSettings, film_frames, write_film


def write_turntable(
    session: ModelSession, base: View, film: FilmSettings, folder: Path, name: str, stem: str = "turntable"
) -> tuple[Picture, ...]:
    """Writes the film as `folder/name/<stem>.<format>`; nothing where no film is wanted."""
    if film.format is None:
        return ()
    file = f"{name}/{stem}.{film.format}"
    write_film(folder / file, film_frames(render_views(session, turntable(base, film.frames)), film.size_px))
    return (Picture(file, "turntable"),)
