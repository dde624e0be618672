"""Requests that bring something: photos."""

from __future__ import annotations

import dataclasses

import tornado.web
from tornado.http1connection import HTTP1Connection

from .handlers import Asking
from .photos import MOST_PHOTO_BYTES, read_texture
from .question import read_checkpoint

MOST_BYTES_HEARD = 8 * MOST_PHOTO_BYTES


@tornado.web.stream_request_body
class PhotoHandler(Asking):
    """Takes in a photo."""

    def prepare(self) -> None:
        """Lets a photo in, and enough of one that is too large for its sender to hear why it is refused."""
        super().prepare()
        self._content, self._bytes = bytearray(), 0
        if isinstance(self.request.connection, HTTP1Connection):
            self.request.connection.set_max_body_size(MOST_BYTES_HEARD)

    def data_received(self, chunk: bytes) -> None:
        """Takes in a part of it."""
        self._bytes += len(chunk)
        if self._bytes <= MOST_PHOTO_BYTES and not self._finished:
            self._content += chunk

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
