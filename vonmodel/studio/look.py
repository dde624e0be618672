"""Requests that only look: the page itself, the run, views, surfaces, and the story of the training."""

from __future__ import annotations

import hashlib

import tornado.web

from vonmodel.studio.handler import Asking, Guarded
from vonmodel.studio.photos import MOST_PHOTO_BYTES, MOST_PHOTO_PIXELS
from vonmodel.studio.pictures import draw_image, draw_painted_surface, draw_strip, draw_surface
from vonmodel.studio.shelf import to_json
from vonmodel.studio.workshop import Workshop


class PageHandler(Guarded, tornado.web.StaticFileHandler):
    """The files of the page."""

    def initialize(self, workshop: Workshop, path: str, default_filename: str | None = None) -> None:  # type: ignore[override]  # two parents
        """Takes the folder of the files."""
        Guarded.initialize(self, workshop)
        tornado.web.StaticFileHandler.initialize(self, path, default_filename)

    def set_extra_headers(self, path: str) -> None:
        """Lets the browser keep files as long as they have not changed."""
        self.set_header("Cache-Control", "no-cache")


class RunHandler(Guarded):
    """What there is to look at."""

    def get(self) -> None:
        """The run, its checkpoints, and the limits of what may be asked."""
        limits = {"photo_bytes": MOST_PHOTO_BYTES, "photo_pixels": MOST_PHOTO_PIXELS}
        self.finish_json({**self.workshop.shelf.describe(), "limits": limits})


class ViewHandler(Asking):
    """A view as the page shows it."""

    async def get(self) -> None:
        """A PNG with image, silhouette and depth side by side."""
        strip = await self.shown("view", draw_strip)
        self.set_header("Content-Type", "image/png")
        self.finish(strip)


class ImageHandler(Asking):
    """The image of a view, to keep."""

    async def get(self) -> None:
        """A PNG file."""
        image = await self.shown("image", draw_image)
        self.set_header("Content-Type", "image/png")
        self.set_header("Content-Disposition", "attachment")
        self.finish(image)


class SurfaceHandler(Asking):
    """The surface of a shape, to turn."""

    async def get(self) -> None:
        """A GLB file; nothing where the shape is empty."""
        self.finish_surface(await self.shown("surface", draw_surface))

    def finish_surface(self, surface: bytes | None) -> None:
        """Ends the answer with a surface, or without one."""
        if surface is None:
            self.set_status(204)
            return
        self.set_header("Content-Type", "model/gltf-binary")
        self.set_header("Content-Disposition", "attachment")
        self.finish(surface)


class PaintedHandler(SurfaceHandler):
    """The surface of a shape in its texture."""

    async def get(self) -> None:
        """A GLB file with colours; nothing where the shape is empty."""
        self.finish_surface(await self.shown("painted", draw_painted_surface))


class TrainingHandler(Guarded):
    """The story of the training."""

    def get(self) -> None:
        """All of it, or nothing (304) for who knows it already."""
        told = to_json(self.workshop.chronicle.tell())
        self.set_header("Cache-Control", "no-cache")
        self.set_header("ETag", f'"{hashlib.blake2b(told.encode(), digest_size=12).hexdigest()}"')
        if self.check_etag_header():
            self.set_status(304)
            self.finish()
            return
        self.set_header("Content-Type", "application/json")
        self.finish(told)


class SheetHandler(Guarded):
    """A sample sheet."""

    def get(self, name: str) -> None:
        """A PNG."""
        sheet = self.workshop.chronicle.sheet(name)
        if sheet is None:
            raise tornado.web.HTTPError(404)
        self.set_header("Content-Type", "image/png")
        self.set_header("Cache-Control", "no-cache")
        self.finish(sheet)
