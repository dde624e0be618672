"""What the studio's addresses answer: GET requests that look, POST requests that bring photos or start work."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from concurrent.futures import Future

import tornado.web
from tornado.http1connection import HTTP1Connection

from vonmodel.studio.handler import Asking, Guarded, sentence_of, status_of
from vonmodel.studio.pictures import draw_image, draw_painted_surface, draw_strip, draw_surface
from vonmodel.studio.scheduler import Task
from vonmodel.studio.state import Workshop, to_json
from vonmodel.studio.uploads import MOST_PHOTO_BYTES, MOST_PHOTO_PIXELS, read_texture, reconstruct
from vonmodel.studio.view_request import read_checkpoint


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


logger = logging.getLogger(__name__)

MOST_BYTES_HEARD = 8 * MOST_PHOTO_BYTES


@tornado.web.stream_request_body
class PhotoHandler(Asking):
    """Takes in a photo."""

    def initialize(self, workshop: Workshop) -> None:
        """Begins with nothing."""
        super().initialize(workshop)
        self._content, self._bytes, self._coming = bytearray(), 0, False

    def prepare(self) -> None:
        """Lets a photo in, and enough of one that is too large for its sender to hear why it is refused."""
        super().prepare()
        if self._finished:
            return
        self.workshop.uploads.begin()
        self._coming = True
        if isinstance(self.request.connection, HTTP1Connection):
            self.request.connection.set_max_body_size(MOST_BYTES_HEARD)

    def data_received(self, chunk: bytes) -> None:
        """Takes in a part of it."""
        self._bytes += len(chunk)
        if self._bytes <= MOST_PHOTO_BYTES and not self._finished:
            self._content += chunk

    def on_connection_close(self) -> None:
        """Counts it as gone."""
        super().on_connection_close()
        self.on_finish()

    def on_finish(self) -> None:
        """Counts it as come."""
        if self._coming:
            self._coming = False
            self.workshop.uploads.end()

    async def post(self) -> None:
        """The photo's object as the model sees it, and its texture's code."""
        if self._bytes > MOST_PHOTO_BYTES:
            self.set_status(413)
            self.finish_json({"error": f"a photo may have {MOST_PHOTO_BYTES // 2**20} MB; this one has more"})
            return
        content, shelf, tray = bytes(self._content), self.workshop.shelf, self.workshop.tray
        checkpoint = read_checkpoint(self.get_query_argument("checkpoint", "") or None)
        found = await self.computed(lambda: read_texture(shelf.session(checkpoint), tray, content), long=True)
        self.finish_json(dataclasses.asdict(found))


class ReconstructionHandler(Guarded):
    """Begins to reconstruct a photo."""

    def post(self) -> None:
        """Queues it for a photo that was brought before; answers with the task to watch."""
        key = self.get_query_argument("photo")
        checkpoint = read_checkpoint(self.get_query_argument("checkpoint", "") or None)
        workshop, task = self.workshop, self.workshop.tasks.add()

        def work() -> None:
            reconstructor = workshop.shelf.reconstructor(checkpoint)
            photo = workshop.tray.find(key, reconstructor.session.config.image_size)
            reconstruct(reconstructor, photo, task, workshop.desk.let_pass)

        workshop.desk.ask_long(work).add_done_callback(lambda future: _tell_failure(task, future))
        self.set_status(202)
        self.finish_json(task.look())


class TaskHandler(Guarded):
    """Tells how a task stands, or stops it."""

    def get(self, id: str) -> None:
        """How it stands."""
        self.finish_json(self.workshop.tasks.find(id).look())

    def delete(self, id: str) -> None:
        """Stops it."""
        task = self.workshop.tasks.find(id)
        task.cancel()
        self.finish_json(task.look())


def _tell_failure(task: Task, future: Future[None]) -> None:
    """Tells a task of what went wrong, where something did."""
    if future.cancelled():
        task.stopped()
        return
    error = future.exception()
    if error is None:
        return
    if status_of(error) is None:
        logger.error("a reconstruction failed", exc_info=error)
    task.fail(sentence_of(error))
