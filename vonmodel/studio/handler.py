"""What every answer of the studio has in common: who gets one, and how it says what went wrong."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import tornado.web

from vondata.errors import VonError
from vondata.types import Rejected
from vonmodel.inference.session import ModelSession
from vonmodel.studio.scheduler import Turn
from vonmodel.studio.security import HEADERS
from vonmodel.studio.state import Workshop, to_json
from vonmodel.studio.view_request import Question, QuestionError, parse_question

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")

SENTENCES = {
    400: "the studio cannot read this request",
    404: "there is nothing under this address",
    405: "this address does not answer to this method",
    500: "the studio failed on this, which is a bug; what was printed where the studio runs says more",
}


class Guarded(tornado.web.RequestHandler):
    """Refuses requests that are not the page's own, and says everything that goes wrong in a sentence of JSON."""

    workshop: Workshop

    def initialize(self, workshop: Workshop) -> None:
        """Takes what all handlers share."""
        self.workshop = workshop

    def set_default_headers(self) -> None:
        """Adds what keeps other sites out."""
        for name, value in HEADERS.items():
            self.set_header(name, value)
        self.set_header("Cache-Control", "no-store")

    def prepare(self) -> None:
        """Refuses what comes from elsewhere."""
        complaint = self.workshop.guard.complaint(self.request.headers.get("Host"), self.request.headers)
        if complaint is not None:
            self.set_status(403)
            self.finish_json({"error": complaint})

    def finish_json(self, value: Mapping[str, Any]) -> None:
        """Ends the answer with JSON."""
        self.set_header("Content-Type", "application/json")
        self.finish(to_json(value))

    def write_error(self, status_code: int, **details: Any) -> None:
        """Says what is wrong in a sentence."""
        error = details.get("exc_info", (None, None, None))[1]
        if status_code == 503:
            self.set_header("Retry-After", "1")
        known = status_of(error) is not None
        sentence = sentence_of(error) if known else SENTENCES.get(status_code, SENTENCES[400])
        self.finish_json({"error": sentence, "kind": type(error).__name__ if known else None})

    def send_error(self, status_code: int = 500, **details: Any) -> None:
        """Gives the errors of users their own status."""
        status = status_of(details.get("exc_info", (None, None, None))[1]) or status_code
        super().send_error(status, **details)

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        """Logs what is a bug; what users can do something about, they are told."""
        if status_of(value) is None and not isinstance(value, tornado.web.HTTPError):
            logger.error("%s %s failed", self.request.method, self.request.path, exc_info=value)


class NothingHandler(Guarded):
    """Answers for addresses that there are not."""

    def prepare(self) -> None:
        """Says so."""
        super().prepare()
        if not self._finished:
            raise tornado.web.HTTPError(404)


class Asking(Guarded):
    """Answers by what the desk computes."""

    _pending: asyncio.Future[Any] | None = None

    async def computed(self, work: Callable[[], Answer], turn: Turn | None = None, *, long: bool = False) -> Answer:
        """What the work returns; it is not done when the asker is gone before its turn."""
        desk = self.workshop.desk
        self._pending = asyncio.wrap_future(desk.ask_long(work) if long else desk.ask(work, turn))
        try:
            answer: Answer = await self._pending
        except asyncio.CancelledError as error:
            raise tornado.web.Finish from error  # nobody listens any more
        return answer

    async def shown(self, kind: str, draw: Callable[[ModelSession, Question], Answer]) -> Answer:
        """What there is to see for the question in the link; of one page's questions of a kind the newest counts."""
        question, shelf = parse_question(self.link_arguments()), self.workshop.shelf
        return await self.computed(lambda: draw(shelf.session(question.checkpoint), question), self._turn(kind))

    def link_arguments(self) -> dict[str, str]:
        """The link's arguments, the last of each name, without whose turn it is."""
        names = set(self.request.query_arguments) - {"client", "turn"}
        return {name: self.get_query_arguments(name)[-1] for name in names}

    def on_connection_close(self) -> None:
        """Drops the question of who has gone."""
        if self._pending is not None:
            self._pending.cancel()

    def _turn(self, kind: str) -> Turn | None:
        client, number = self.get_query_argument("client", ""), self.get_query_argument("turn", "")
        if not client:
            return None
        if len(client) > 64 or not (number.isascii() and number.isdigit()) or len(number) > 15:
            raise QuestionError("client and turn must be a short name and a whole number")
        return Turn((client, kind), int(number))


def status_of(error: BaseException | None) -> int | None:
    """The status of an error that a user can do something about; None for any other."""
    return error.http_status if isinstance(error, VonError) else None


def sentence_of(error: BaseException | None) -> str:
    """What a user is told of an error."""
    if isinstance(error, Rejected):
        return f"this photo is of no use: {error.detail}"
    return str(error) if status_of(error) is not None else SENTENCES[500]
