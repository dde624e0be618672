"""Leases: lock files naming the process that writes a part of a remote dataset, or a run on a network file system.

A lease is created with a conditional write, if the store supports it, and renewed every minute by a thread, so that
it does not expire during a long item. A lease that has not been renewed for five minutes, or whose process on this
machine has ended, is taken over. Leases are advisory: if two clients take over the same one in the same second, both
continue until `check` raises an error in the one that lost it.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from vondata.errors import VonError
from vondata.io.fs import DeliveryError, RemoteError, StoreError, file_system, remove, store_errors
from vondata.io.json_file import JsonFileError, parse_json, typed

RENEW_EVERY_S = 60.0
EXPIRY_S = 300.0

logger = logging.getLogger(__name__)


class DatasetBusyError(VonError, RuntimeError):
    """Another process is writing the same class and kind."""

    def __init__(self, place: Path | str, who: str = "") -> None:
        self.who = who
        known = f" ({who})" if who else ""
        super().__init__(f"another process is writing {place}{known}", hint="wait until it ends or stop it")


class Leases:
    """The leases that this process holds."""

    def __init__(self) -> None:
        self._token = uuid.uuid4().hex
        self._held: list[str] = []
        self._lost: dict[str, str] = {}  # the new holder by URL
        self._since: dict[str, float] = {}
        self._ended = threading.Event()
        self._renewer: threading.Thread | None = None

    def take(self, url: str) -> None:
        """Takes the lease at a URL or a local path.

        Raises:
            DatasetBusyError: another process holds it.
            DeliveryError, RemoteError: nothing can be written or read there.
        """
        try:
            held = _read(url)
        except StoreError:
            raise
        except OSError as error:
            raise RemoteError(f"{url} cannot be read: {error}") from error
        if held is not None and _is_alive(held):
            raise DatasetBusyError(url.removesuffix(".lease"), _describe(held))
        self._write(url, mode="create" if held is None else "overwrite")
        self._held.append(url)
        self.check()
        if self._renewer is None:
            self._renewer = threading.Thread(target=self._renew, name="leases", daemon=True)
            self._renewer.start()

    def check(self) -> None:
        """Checks that the leases are still held; called before every write that needs exclusive access.

        Raises:
            DatasetBusyError: another process has taken over one of the leases.
        """
        for url in self._held:
            self._is_held(url)
        for url, who in self._lost.items():
            raise DatasetBusyError(url.removesuffix(".lease"), who)

    def release(self) -> None:
        """Releases all leases that are still held by this process."""
        self._ended.set()
        if self._renewer is not None:
            self._renewer.join()
        for url in self._held:
            if self._is_held(url):
                if _is_local(url):
                    Path(url).unlink(missing_ok=True)
                else:
                    remove(url)
        self._held = []

    def _is_held(self, url: str) -> bool:
        """Whether a lease is still held by this process; False if the store does not answer."""
        try:
            held = _read(url)
        except OSError as error:
            logger.warning("%s cannot be read: %s", url, error)
            return False
        if held is None:
            self._lost.setdefault(url, "a process that has ended since")
        elif held.token != self._token:
            self._lost[url] = _describe(held)
        return url not in self._lost

    def _write(self, url: str, mode: str) -> None:
        now = time.time()
        since = self._since.setdefault(url, now)
        lease = {"token": self._token, "host": socket.gethostname(), "process": os.getpid(), "renewed": now}
        content = json.dumps({**lease, "since": since}).encode("utf-8")
        try:
            with store_errors(url):
                if _is_local(url):
                    _write_local(Path(url), content, exclusive=mode == "create")
                else:
                    system, path = file_system(url)
                    system.pipe_file(path, content, mode=mode)
        except FileExistsError:
            return  # another process was faster; `check` names it
        except OSError as error:
            raise DeliveryError(error.errno, f"{url} cannot be written: {error}") from error

    def _renew(self) -> None:
        """Renews the held leases; runs in a thread."""
        while not self._ended.wait(RENEW_EVERY_S):
            for url in [each for each in self._held if each not in self._lost]:
                try:
                    if self._is_held(url):
                        self._write(url, mode="overwrite")
                except DeliveryError as error:
                    logger.warning("%s; trying again", error)


@dataclass(frozen=True)
class _Lease:
    """The content of a lease; times are in seconds since 1970."""

    token: str
    host: str
    process: int
    renewed: float
    since: float | None = None


def _read(url: str) -> _Lease | None:
    """The lease at a URL or path; None if there is none. A malformed one counts as expired.

    Raises:
        OSError: the store does not answer.
    """
    try:
        if _is_local(url):
            content = Path(url).read_bytes()
        else:
            system, path = file_system(url)
            with store_errors(url):
                content = system.cat_file(path)
    except FileNotFoundError:
        return None
    try:
        return typed(_Lease, parse_json(content, url), url)
    except JsonFileError:
        return _Lease("", "", 0, 0.0)


def _is_local(url: str) -> bool:
    return "://" not in url


def _write_local(path: Path, content: bytes, *, exclusive: bool) -> None:
    """Writes a local file atomically; if exclusive, only if there is none.

    Creating a hard link is atomic on network file systems, too.

    Raises:
        FileExistsError: exclusive, and the file exists.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        temporary.write_bytes(content)
        if not exclusive:
            temporary.replace(path)
            return
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            with path.open("xb") as file:
                file.write(content)
    finally:
        temporary.unlink(missing_ok=True)


def _is_alive(held: _Lease) -> bool:
    if time.time() - held.renewed > EXPIRY_S:
        return False
    if held.host != socket.gethostname():
        return True
    try:
        os.kill(held.process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _describe(held: _Lease) -> str:
    now = time.time()
    age_s = max(0.0, now - held.renewed)
    since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(min(held.since or held.renewed, now)))
    return (
        f"process {held.process} on {held.host} since {since}, last heard of {age_s:.0f} s ago; one silent for "
        f"{EXPIRY_S / 60:.0f} minutes is taken over"
    )
