"""HTTP server of the studio: routes, limits, and the address it listens on."""

from __future__ import annotations

import asyncio
import logging
import secrets
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
from vonmodel.studio.pictures import render_strip
from vonmodel.studio.routes import (
    FilmHandler,
    ImageHandler,
    MeshHandler,
    NotFoundHandler,
    PageHandler,
    PaintedHandler,
    PhotoHandler,
    ReconstructionHandler,
    RunHandler,
    SampleSheetHandler,
    SurfaceHandler,
    TaskHandler,
    TrainingHandler,
    ViewHandler,
)
from vonmodel.studio.security import TOKEN_ARGUMENT, is_loopback, origin_policy
from vonmodel.studio.state import AppState, ModelCache, RunMonitor
from vonmodel.studio.view_request import parse_view_request

logger = logging.getLogger(__name__)
MAX_BODY_BYTES = 64 * 2**10
MAX_HEADER_BYTES = 64 * 2**10
IDLE_TIMEOUT_S = 120.0
"""A connection without traffic for this long is closed."""
BACKLOG = 512


class ListenError(VonError, OSError):
    """The address or port cannot be listened on."""

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class StudioSettings:
    """The run to serve, and the address.

    Attributes:
        run: the run folder.
        data: the prepared dataset; it may be missing.
        device: where models compute.
        host: the address to listen on.
        port: the port; 0 takes a free one.
        allowed_hosts: host names besides this machine's own under which browsers may call it.
        sampling: how codes are sampled and which pieces of generated shapes are kept.
        class_name: the class to show of a model of several classes; the first if None.
        token: require an access token also on a loopback address; on other addresses one is always required.
    """

    run: Path
    data: Path
    device: str = "cpu"
    host: str = "127.0.0.1"
    port: int = 8765
    allowed_hosts: tuple[str, ...] = ()
    sampling: SamplingOptions = SamplingOptions()  # noqa: RUF009  # frozen
    class_name: str | None = None
    token: bool = False


def application(state: AppState) -> tornado.web.Application:
    """The routes."""
    shared = {"state": state}
    with as_file(files(__package__) / "page") as page, as_file(files("vonmodel.reports") / "templates") as reports:
        return tornado.web.Application(
            [
                (r"/api/run", RunHandler, shared),
                (r"/api/view", ViewHandler, shared),
                (r"/api/image", ImageHandler, shared),
                (r"/api/surface", SurfaceHandler, shared),
                (r"/api/painted", PaintedHandler, shared),
                (r"/api/mesh\.([a-z]{3,4})", MeshHandler, shared),
                (r"/api/film", FilmHandler, shared),
                (r"/api/photos", PhotoHandler, shared),
                (r"/api/reconstructions", ReconstructionHandler, shared),
                (r"/api/tasks/([\w-]{1,40})", TaskHandler, shared),
                (r"/api/training", TrainingHandler, shared),
                (r"/api/sheets/([a-z0-9.-]+)", SampleSheetHandler, shared),
                (r"/(common\.css|viewer\.js)", PageHandler, {**shared, "path": str(reports)}),
                (r"/(.*)", PageHandler, {**shared, "path": str(page), "default_filename": "index.html"}),
            ],
            default_handler_class=NotFoundHandler,
            default_handler_args=shared,
            log_function=_log_nothing,
        )


async def serve(settings: StudioSettings, on_ready: Callable[[str], None], stop: asyncio.Event | None = None) -> None:
    """Serves until it is stopped.

    Args:
        settings: what and where.
        on_ready: receives the page's address once the server answers.
        stop: ends serving when it is set.

    Raises:
        RemoteHostError: other machines could reach the address, and no host is allowed.
        ListenError: the address or port cannot be listened on.
    """
    origin_policy(settings.host, settings.port, settings.allowed_hosts)
    listening = _listen(settings.host.strip("[]"), settings.port)
    port = listening.getsockname()[1]
    token = secrets.token_urlsafe(24) if settings.token or not is_loopback(settings.host) else None
    state = AppState(
        policy=origin_policy(settings.host, port, settings.allowed_hosts, token),
        models=ModelCache(settings.run, settings.data, settings.device, settings.sampling, settings.class_name),
        monitor=RunMonitor(settings.run),
    )
    server = HTTPServer(
        application(state),
        max_body_size=MAX_BODY_BYTES,
        max_header_size=MAX_HEADER_BYTES,
        idle_connection_timeout=IDLE_TIMEOUT_S,
        body_timeout=IDLE_TIMEOUT_S,
    )
    server.add_socket(listening)
    try:
        asyncio.get_running_loop().run_in_executor(None, _import_mesh_libraries)
        state.scheduler.submit(lambda: _warm_up(state.models))
        on_ready(_address(settings, port, token))
        await (stop or asyncio.Event()).wait()
    finally:
        server.stop()
        await server.close_all_connections()
        state.close()


def _address(settings: StudioSettings, port: int, token: str | None) -> str:
    """The page's address, under the first allowed name if the server listens on all interfaces."""
    everywhere = settings.host.strip("[]") in {"0.0.0.0", "::"} and settings.allowed_hosts
    host = settings.allowed_hosts[0].partition(":")[0] if everywhere else settings.host
    name = f"[{host}]" if ":" in host.strip("[]") and not host.startswith("[") else host
    return f"http://{name}:{port}/" + (f"?{TOKEN_ARGUMENT}={token}" if token else "")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ListenError(f"cannot listen on {host} port {port}: {reason}; choose another port") from error
    listening.setblocking(False)
    return listening


def _warm_up(models: ModelCache) -> None:
    """Loads the newest model and compiles its kernels before the first request."""
    with suppress(VonError):
        render_strip(models.session(None), parse_view_request({}))


def _import_mesh_libraries() -> None:
    """Imports the slow libraries that only surfaces need, while the first views are rendered."""
    import open3d  # noqa: F401
    import trimesh  # noqa: F401


def _log_nothing(_: tornado.web.RequestHandler) -> None:
    """Does not log requests: every move of a slider is one."""
