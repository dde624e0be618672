"""Base classes of all request handlers: access checks, computing in the scheduler, errors as sentences of JSON."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import tornado.web

from vondata.errors import VonError
from vondata.types import Rejected
from vonmodel.inference.session import ModelSession
from vonmodel.studio.scheduler import BusyError, RequestSequence
from vonmodel.studio.security import HEADERS, TOKEN_ARGUMENT
from vonmodel.studio.state import AppState, to_json
from vonmodel.studio.view_request import ViewRequest, ViewRequestError, parse_view_request

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

MESSAGES = {
    400: "the studio cannot read this request",
    404: "there is nothing under this address",
    405: "this address does not accept this method",
    500: "the studio failed on this, which is a bug; the terminal in which it runs shows more",
}
NO_TOKEN = "this studio needs its access token: open the address that it printed when it was started"
COOKIE = "von-studio"
SEQUENCE_ARGUMENTS = {"client", "turn"}


class StudioHandler(tornado.web.RequestHandler):
    """Refuses requests that are not the page's own, and answers errors with a sentence of JSON."""

    state: AppState

    def initialize(self, state: AppState) -> None:
        """Takes the application state."""
        self.state = state

    def set_default_headers(self) -> None:
        """Sets the headers that keep other sites out."""
        for name, value in HEADERS.items():
            self.set_header(name, value)
        self.set_header("Cache-Control", "no-store")

    def prepare(self) -> None:
        """Checks host, origin and token."""
        policy = self.state.policy
        refusal = policy.refusal(self.request.headers.get("Host"), self.request.headers)
        if refusal is not None:
            self.set_status(403)
            self.finish_json({"error": refusal})
        elif not policy.accepts(self._presented_token()):
            self.set_status(401)
            self.finish_json({"error": NO_TOKEN})

    def finish_json(self, value: Mapping[str, Any]) -> None:
        """Ends the response with JSON."""
        self.set_header("Content-Type", "application/json")
        self.finish(to_json(value))

    def write_error(self, status_code: int, **details: Any) -> None:
        """Writes the error as JSON."""
        error = details.get("exc_info", (None, None, None))[1]
        if status_code == 503:
            self.set_header("Retry-After", str(error.retry_after_s if isinstance(error, BusyError) else 1))
        known = status_of(error) is not None
        sentence = message_of(error) if known else MESSAGES.get(status_code, MESSAGES[400])
        self.finish_json({"error": sentence, "kind": type(error).__name__ if known else None})

    def send_error(self, status_code: int = 500, **details: Any) -> None:
        """Maps a VonError to its HTTP status."""
        status = status_of(details.get("exc_info", (None, None, None))[1]) or status_code
        super().send_error(status, **details)

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        """Logs bugs; errors that users can do something about are answered, not logged."""
        if status_of(value) is None and not isinstance(value, tornado.web.HTTPError):
            logger.error("%s %s failed", self.request.method, self.request.path, exc_info=value)

    def _presented_token(self) -> str | None:
        """The token of the request: `Authorization: Bearer`, the cookie, or the link that was printed."""
        scheme, _, bearer = self.request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return bearer.strip()
        return self.get_query_argument(TOKEN_ARGUMENT, None) or self.get_cookie(COOKIE)


class NotFoundHandler(StudioHandler):
    """The 404 handler."""

    def prepare(self) -> None:
        """Answers 404 to whoever is allowed to ask."""
        super().prepare()
        if not self._finished:
            raise tornado.web.HTTPError(404)


class ComputeHandler(StudioHandler):
    """Answers with what the scheduler computes."""

    _pending: asyncio.Future[Any] | None = None

    async def compute(
        self, work: Callable[[], Result], sequence: RequestSequence | None = None, *, background: bool = False
    ) -> Result:
        """Runs a job and returns its result; the job is dropped if the client disconnects before it starts."""
        scheduler = self.state.scheduler
        future = scheduler.submit_background(work) if background else scheduler.submit(work, sequence)
        self._pending = asyncio.wrap_future(future)
        try:
            result: Result = await self._pending
        except asyncio.CancelledError as error:
            raise tornado.web.Finish from error  # the client has gone
        return result

    async def render(self, kind: str, draw: Callable[[ModelSession, ViewRequest], Result]) -> Result:  # type: ignore[override]  # tornado's templates are not used
        """Renders the view request of the URL; of one client's queued requests of a kind only the newest runs."""
        request, models = parse_view_request(self.view_arguments()), self.state.models
        return await self.compute(lambda: draw(models.session(request.checkpoint), request), self._sequence(kind))

    def view_arguments(self) -> dict[str, str]:
        """The URL's arguments that name a view, the last of each name."""
        names = set(self.request.query_arguments) - SEQUENCE_ARGUMENTS - {TOKEN_ARGUMENT}
        return {name: self.get_query_arguments(name)[-1] for name in names}

    def on_connection_close(self) -> None:
        """Drops the job of a client that has gone."""
        if self._pending is not None:
            self._pending.cancel()

    def _sequence(self, kind: str) -> RequestSequence | None:
        client, number = self.get_query_argument("client", ""), self.get_query_argument("turn", "")
        if not client:
            return None
        if len(client) > 64 or not (number.isascii() and number.isdigit()) or len(number) > 15:
            raise ViewRequestError("client and turn must be a short name and a whole number")
        return RequestSequence((client, kind), int(number))


def status_of(error: BaseException | None) -> int | None:
    """The HTTP status of an error that a user can do something about; None for any other."""
    return error.http_status if isinstance(error, VonError) else None


def message_of(error: BaseException | None) -> str:
    """What the user is told of an error."""
    if isinstance(error, Rejected):
        return f"this photo is of no use: {error.detail}"
    return str(error) if status_of(error) is not None else MESSAGES[500]
