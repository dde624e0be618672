"""Request handlers of the studio: access checks, scheduled computation, errors as JSON, and all routes."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar, get_args

import tornado.web
from tornado.http1connection import HTTP1Connection

from vondata.errors import VonError
from vondata.types import Rejected
from vonmodel.inference.session import ModelSession
from vonmodel.mesh import MeshFormat
from vonmodel.studio.pictures import (
    render_film,
    render_image,
    render_mesh_file,
    render_painted_surface,
    render_strip,
    render_surface,
)
from vonmodel.studio.scheduler import BackgroundTask, BusyError, RequestSequence
from vonmodel.studio.security import HEADERS, TOKEN_ARGUMENT
from vonmodel.studio.state import AppState, to_json
from vonmodel.studio.uploads import (
    MAX_PHOTO_BYTES,
    MAX_PHOTO_PIXELS,
    Upload,
    parse_box,
    pieces_picture,
    read_texture,
    reconstruct,
)
from vonmodel.studio.view_request import ViewRequest, ViewRequestError, parse_checkpoint, parse_view_request

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
    """Base handler: refuses requests that are not the page's own, and reports errors as JSON."""

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
        """Logs bugs; errors that users can act on are reported to the client only."""
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
        """Answers 404 to authorised clients."""
        super().prepare()
        if not self._finished:
            raise tornado.web.HTTPError(404)


class ComputeHandler(StudioHandler):
    """Base handler of requests computed by the scheduler."""

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
    """The HTTP status of an error that users can act on; None for any other."""
    return error.http_status if isinstance(error, VonError) else None


def message_of(error: BaseException | None) -> str:
    """The message of an error for the page."""
    if isinstance(error, Rejected):
        return f"this photo cannot be used: {error.detail}"
    return str(error) if status_of(error) is not None else MESSAGES[500]


MAX_READ_BYTES = 8 * MAX_PHOTO_BYTES
"""Largest upload that is read (and discarded beyond the limit), so that the client receives the refusal."""
MESH_TYPES: dict[MeshFormat, str] = {
    "glb": "model/gltf-binary",
    "obj": "model/obj",
    "ply": "application/octet-stream",
    "stl": "model/stl",
    "usdz": "model/vnd.usdz+zip",
}


class PageHandler(StudioHandler, tornado.web.StaticFileHandler):
    """The files of the page."""

    def initialize(self, state: AppState, path: str, default_filename: str | None = None) -> None:  # type: ignore[override]  # two parents
        """Takes the folder of the files."""
        StudioHandler.initialize(self, state)
        tornado.web.StaticFileHandler.initialize(self, path, default_filename)

    def prepare(self) -> None:
        """Moves the token of the printed link into a cookie, so that it leaves the address bar."""
        super().prepare()
        token = self.get_query_argument(TOKEN_ARGUMENT, None)
        if not self._finished and token is not None and self.state.policy.token is not None:
            self.set_cookie(COOKIE, token, httponly=True, samesite="Lax", path="/")
            self.redirect(self.request.path)

    def parse_url_path(self, url_path: str) -> str:
        """The file's path; 404 for an impossible one."""
        if "\0" in url_path:
            raise tornado.web.HTTPError(404)
        return super().parse_url_path(url_path)

    def set_extra_headers(self, path: str) -> None:
        """Lets the browser cache files and revalidate them."""
        self.set_header("Cache-Control", "no-cache")


class RunHandler(StudioHandler):
    """Description of the run."""

    def get(self) -> None:
        """The run, its checkpoints, and the limits of uploads."""
        limits = {"photo_bytes": MAX_PHOTO_BYTES, "photo_pixels": MAX_PHOTO_PIXELS}
        self.finish_json({**self.state.models.describe(), "limits": limits})


class ViewHandler(ComputeHandler):
    """A view as the page shows it."""

    async def get(self) -> None:
        """A PNG with image, silhouette and depth side by side."""
        strip = await self.render("view", render_strip)
        self.set_header("Content-Type", "image/png")
        self.finish(strip)


class ImageHandler(ComputeHandler):
    """The image of a view, as a download."""

    async def get(self) -> None:
        """A PNG file."""
        image = await self.render("image", render_image)
        self.set_header("Content-Type", "image/png")
        self.set_header("Content-Disposition", "attachment")
        self.finish(image)


class SurfaceHandler(ComputeHandler):
    """The surface of a shape."""

    async def get(self) -> None:
        """A GLB file; 204 for an empty shape."""
        self.finish_mesh(await self.render("surface", render_surface), "glb")

    def finish_mesh(self, content: bytes | None, format: MeshFormat) -> None:
        """Ends the response with a mesh file, or with 204."""
        if content is None:
            self.set_status(204)
            return
        self.set_header("Content-Type", MESH_TYPES[format])
        self.set_header("Content-Disposition", "attachment")
        self.finish(content)


class PaintedHandler(SurfaceHandler):
    """The surface of a shape in its texture."""

    async def get(self) -> None:
        """A GLB file with colours; 204 for an empty shape."""
        self.finish_mesh(await self.render("painted", render_painted_surface), "glb")


class MeshHandler(SurfaceHandler):
    """The surface of a shape as a download."""

    async def get(self, format: str) -> None:  # type: ignore[override]  # of a route with a format
        """A file of the format; 204 for an empty shape."""
        chosen = next((each for each in get_args(MeshFormat) if each == format), None)
        if chosen is None:
            raise tornado.web.HTTPError(404)
        self.finish_mesh(await self.render("mesh", partial(render_mesh_file, format=chosen)), chosen)


class FilmHandler(ComputeHandler):
    """A turntable of a view, as a download."""

    async def get(self) -> None:
        """An animated WebP file."""
        request, state = parse_view_request(self.view_arguments()), self.state

        def film() -> bytes:
            session = state.models.reconstructor(request.checkpoint).session
            return render_film(session, request, state.scheduler.yield_to_interactive)

        content = await self.compute(film, background=True)
        self.set_header("Content-Type", "image/webp")
        self.set_header("Content-Disposition", "attachment")
        self.finish(content)


class TrainingHandler(StudioHandler):
    """The training state."""

    def get(self) -> None:
        """All of it, or 304 if it has not changed."""
        snapshot = to_json(self.state.monitor.snapshot())
        self.set_header("Cache-Control", "no-cache")
        self.set_header("ETag", f'"{hashlib.blake2b(snapshot.encode(), digest_size=12).hexdigest()}"')
        if self.check_etag_header():
            self.set_status(304)
            self.finish()
            return
        self.set_header("Content-Type", "application/json")
        self.finish(snapshot)


class SampleSheetHandler(StudioHandler):
    """A sample sheet."""

    def get(self, name: str) -> None:
        """A PNG."""
        sheet = self.state.monitor.sheet(name)
        if sheet is None:
            raise tornado.web.HTTPError(404)
        self.set_header("Content-Type", "image/png")
        self.set_header("Cache-Control", "no-cache")
        self.finish(sheet)


@tornado.web.stream_request_body
class PhotoHandler(ComputeHandler):
    """Receives a photo."""

    def initialize(self, state: AppState) -> None:
        """Starts with an empty body."""
        super().initialize(state)
        self._content, self._bytes, self._counted = bytearray(), 0, False

    def prepare(self) -> None:
        """Counts the upload, and raises the body limit so that the client receives the refusal of a too large one."""
        super().prepare()
        if self._finished:
            return
        self.state.uploads.begin()
        self._counted = True
        if isinstance(self.request.connection, HTTP1Connection):
            self.request.connection.set_max_body_size(MAX_READ_BYTES)

    def data_received(self, chunk: bytes) -> None:
        """Receives a part; parts beyond the limit are dropped."""
        self._bytes += len(chunk)
        if self._bytes <= MAX_PHOTO_BYTES and not self._finished:
            self._content += chunk

    def on_connection_close(self) -> None:
        """Ends the upload."""
        super().on_connection_close()
        self.on_finish()

    def on_finish(self) -> None:
        """Ends the upload."""
        if self._counted:
            self._counted = False
            self.state.uploads.end()

    async def post(self) -> None:
        """The photo's segmented object at the model's image size, and its texture code.

        The last `mask_bytes` bytes of the body are a mask file; `box` is left,top,right,bottom in fractions.
        """
        if self._bytes > MAX_PHOTO_BYTES:
            self.set_status(413)
            self.finish_json({"error": f"a photo may have {MAX_PHOTO_BYTES // 2**20} MB; this one has more"})
            return
        upload, state = self._upload(), self.state
        checkpoint = parse_checkpoint(self.get_query_argument("checkpoint", "") or None)

        def read() -> dict[str, str]:
            session = state.models.reconstructor(checkpoint).session
            return dataclasses.asdict(read_texture(session, state.photos, upload))

        try:
            found = await self.compute(read, background=True)
        except Rejected as refused:
            pieces = None if refused.mask is None else pieces_picture(refused.mask)
            self.set_status(refused.http_status)
            said = {"error": message_of(refused), "kind": type(refused).__name__}
            self.finish_json(said if pieces is None else said | {"pieces": pieces})
            return
        self.finish_json(found)

    def _upload(self) -> Upload:
        content, size = bytes(self._content), self.get_query_argument("mask_bytes", "0")
        if not (size.isascii() and size.isdigit() and len(size) <= 9 and int(size) <= len(content)):
            raise ViewRequestError("mask_bytes must be the length of the mask file at the end of the request")
        photo_bytes = len(content) - int(size)
        mask = content[photo_bytes:] if int(size) else None
        return Upload(content[:photo_bytes], mask, parse_box(self.get_query_argument("box", "")))


class ReconstructionHandler(StudioHandler):
    """Starts the reconstruction of a photo."""

    def post(self) -> None:
        """Queues the job for an uploaded photo; answers with its task."""
        key = self.get_query_argument("photo")
        checkpoint = parse_checkpoint(self.get_query_argument("checkpoint", "") or None)
        state, task = self.state, self.state.tasks.add()

        def work() -> None:
            reconstructor = state.models.reconstructor(checkpoint)
            photo = state.photos.find(key, reconstructor.session.config.image_size)
            reconstruct(reconstructor, photo, task, state.scheduler.yield_to_interactive)

        state.scheduler.submit_background(work).add_done_callback(lambda future: _record_failure(task, future))
        self.set_status(202)
        self.finish_json(task.status())


class TaskHandler(StudioHandler):
    """Status of a background job."""

    def get(self, id: str) -> None:
        """The status."""
        self.finish_json(self.state.tasks.find(id).status())

    def delete(self, id: str) -> None:
        """Stops the job."""
        task = self.state.tasks.find(id)
        task.cancel()
        self.finish_json(task.status())


def _record_failure(task: BackgroundTask, future: Future[None]) -> None:
    """Records in the task why a job failed, if it did."""
    if future.cancelled():
        task.stopped()
        return
    error = future.exception()
    if error is None:
        return
    if status_of(error) is None:
        logger.error("a reconstruction failed", exc_info=error)
    task.fail(message_of(error))
