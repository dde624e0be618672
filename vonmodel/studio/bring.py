"""Requests that bring something: photos, and what is to be done with them."""

from __future__ import annotations

import dataclasses
import logging
from concurrent.futures import Future

import tornado.web
from tornado.http1connection import HTTP1Connection

from vonmodel.studio.handler import Asking, Guarded, sentence_of, status_of
from vonmodel.studio.photos import MOST_PHOTO_BYTES, read_texture
from vonmodel.studio.rebuild import reconstruct
from vonmodel.studio.tasks import Task
from vonmodel.studio.view_request import read_checkpoint
from vonmodel.studio.workshop import Workshop

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
