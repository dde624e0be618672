"""The studio's server: which address answers what, and where it listens."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import tornado.web
from tornado.httpserver import HTTPServer

from vondata.errors import VonError
from vonmodel.inference.sampling import SamplingOptions
from vonmodel.studio.handler import NothingHandler
from vonmodel.studio.pictures import draw_strip
from vonmodel.studio.routes import (
    ImageHandler,
    PageHandler,
    PaintedHandler,
    PhotoHandler,
    ReconstructionHandler,
    RunHandler,
    SheetHandler,
    SurfaceHandler,
    TaskHandler,
    TrainingHandler,
    ViewHandler,
)
from vonmodel.studio.run_monitor import Chronicle
from vonmodel.studio.security import guard_for
from vonmodel.studio.state import ModelShelf, Workshop
from vonmodel.studio.view_request import parse_question

logger = logging.getLogger(__name__)
MOST_BODY_BYTES = 64 * 2**10
MOST_HEADER_BYTES = 64 * 2**10
IDLE_S = 120.0
"""A connection on which nothing happens for so long is closed."""


class ListenError(VonError, OSError):
    """The address or port cannot be listened on."""


@dataclass(frozen=True)
class StudioSettings:
    """What is served, and where.

    Attributes:
        run: the run folder.
        data: the prepared dataset; it may be missing.
        device: where models compute.
        host: the address to listen on.
        port: the port; 0 takes a free one.
        allowed_hosts: names besides this machine's own under which browsers may call it.
        sampling: how codes are drawn and what of generated shapes is kept.
    """

    run: Path
    data: Path
    device: str = "cpu"
    host: str = "127.0.0.1"
    port: int = 8765
    allowed_hosts: tuple[str, ...] = ()
    sampling: SamplingOptions = SamplingOptions()  # noqa: RUF009  # frozen


def application(workshop: Workshop) -> tornado.web.Application:
    """Which address answers what."""
    shared = {"workshop": workshop}
    with as_file(files(__package__) / "page") as page, as_file(files("vonmodel.reports")) as house:
        return tornado.web.Application(
            [
                (r"/api/run", RunHandler, shared),
                (r"/api/view", ViewHandler, shared),
                (r"/api/image", ImageHandler, shared),
                (r"/api/surface", SurfaceHandler, shared),
                (r"/api/painted", PaintedHandler, shared),
                (r"/api/photos", PhotoHandler, shared),
                (r"/api/reconstructions", ReconstructionHandler, shared),
                (r"/api/tasks/([\w-]{1,40})", TaskHandler, shared),
                (r"/api/training", TrainingHandler, shared),
                (r"/api/sheets/([a-z0-9.-]+)", SheetHandler, shared),
                (r"/(house\.css)", PageHandler, {**shared, "path": str(house)}),
                (r"/(.*)", PageHandler, {**shared, "path": str(page), "default_filename": "index.html"}),
            ],
            default_handler_class=NothingHandler,
            default_handler_args=shared,
            log_function=_log_nothing,
        )


async def serve(settings: StudioSettings, on_ready: Callable[[str], None], stop: asyncio.Event | None = None) -> None:
    """Serves until it is stopped.

    Args:
        settings: what and where.
        on_ready: told the page's address once it answers.
        stop: ends serving when it is set.

    Raises:
        RemoteHostError: other machines could reach it, and no host is allowed.
        ListenError: the address or port cannot be had.
    """
    guard_for(settings.host, settings.port, settings.allowed_hosts)
    listening = _listen(settings.host.strip("[]"), settings.port)
    port = listening.getsockname()[1]
    workshop = Workshop(
        guard=guard_for(settings.host, port, settings.allowed_hosts),
        shelf=ModelShelf(settings.run, settings.data, settings.device, settings.sampling),
        chronicle=Chronicle(settings.run),
    )
    server = HTTPServer(
        application(workshop),
        max_body_size=MOST_BODY_BYTES,
        max_header_size=MOST_HEADER_BYTES,
        idle_connection_timeout=IDLE_S,
        body_timeout=IDLE_S,
    )
    server.add_socket(listening)
    try:
        asyncio.get_running_loop().run_in_executor(None, _import_mesh_libraries)
        workshop.desk.ask(lambda: _warm_up(workshop.shelf))
        name = f"[{settings.host}]" if ":" in settings.host.strip("[]") else settings.host
        on_ready(f"http://{name}:{port}/")
        await (stop or asyncio.Event()).wait()
    finally:
        server.stop()
        await server.close_all_connections()
        workshop.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=512)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ListenError(f"cannot listen on {host} port {port}: {reason}; choose another port") from error
    listening.setblocking(False)
    return listening


def _warm_up(shelf: ModelShelf) -> None:
    """Loads the newest model and compiles what draws it, so that the first question need not."""
    with suppress(VonError):
        draw_strip(shelf.session(None), parse_question({}))


def _import_mesh_libraries() -> None:
    """Imports what takes seconds and only surfaces need, while the first views are drawn already."""
    import open3d  # noqa: F401
    import trimesh  # noqa: F401


def _log_nothing(_: tornado.web.RequestHandler) -> None:
    """Every slider's every move is a request."""
