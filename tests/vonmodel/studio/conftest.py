"""A studio of a tiny model, served in this process."""

import asyncio
import http.client
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from tests.harness import TIMEOUT_S
from vonmodel.studio.server import StudioSettings, serve


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


@dataclass(frozen=True)
class Studio:
    """A running studio."""

    address: str

    @property
    def netloc(self):
        return urlsplit(self.address).netloc

    def ask(self, path, *, method="GET", body=None, headers=None):
        connection = http.client.HTTPConnection(self.netloc, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()


@contextmanager
def running(settings):
    """Serves in a thread until the block ends."""
    address, loop_of, ready, failed = [], [], threading.Event(), []
    stop = asyncio.Event()

    async def main():
        loop_of.append(asyncio.get_running_loop())
        await serve(settings, lambda said: (address.append(said), ready.set()), stop)

    def run():
        try:
            asyncio.run(main())
        except OSError as error:
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(TIMEOUT_S)
    try:
        if failed:
            raise failed[0]
        yield Studio(address[0])
    finally:
        if not failed:
            loop_of[0].call_soon_threadsafe(stop.set)
        thread.join(TIMEOUT_S)
        assert not thread.is_alive()


@pytest.fixture
def studio(tiny_run, tiny_data):
    with running(StudioSettings(run=tiny_run, data=tiny_data, port=0)) as studio:
        yield studio


@pytest.fixture
def open_studio():
    """Serves other settings: `with open_studio(settings) as studio`."""
    return running
