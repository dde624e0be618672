"""Leases: objects that say who is writing a part of a remote dataset, or a run on a network file system.

A lease is taken by creating it where there is none (a conditional write, where the store knows it) and renewed every
minute by a thread, so that a long item does not let it run out. One that has not been renewed for five minutes, or
whose process on this machine has ended, is taken over. It is advisory: two clients that take the same one over in the
same second both go on, until `check` tells the one that lost it.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from vondata.errors import VonError
from vondata.io.fs import DeliveryError, RemoteError, StoreError, file_system, remove, store_errors

RENEW_EVERY_S = 60.0
RUNS_OUT_S = 300.0

logger = logging.getLogger(__name__)


class DatasetBusyError(VonError, RuntimeError):
    """Another process prepares the same class and kind."""

    def __init__(self, place: Path | str, who: str = "") -> None:
        self.who = who
        known = f" ({who})" if who else ""
        super().__init__(f"another process is writing {place}{known}", hint="wait until it ends or stop it")


class Leases:
    """The leases that this process holds."""

    def __init__(self) -> None:
        self._token = uuid.uuid4().hex
        self._held: list[str] = []
        self._lost: dict[str, str] = {}  # who has it, by URL
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
            raise DatasetBusyError(url.removesuffix(".lease"), _words(held))
        self._write(url, mode="create" if held is None else "overwrite")
        self._held.append(url)
        self.check()
        if self._renewer is None:
            self._renewer = threading.Thread(target=self._renew, name="leases", daemon=True)
            self._renewer.start()

    def check(self) -> None:
        """To be called before anything is written that only one may write.

        Raises:
            DatasetBusyError: another process has taken one of the leases over.
        """
        for url in self._held:
            self._look(url)
        for url, who in self._lost.items():
            raise DatasetBusyError(url.removesuffix(".lease"), who)

    def release(self) -> None:
        """Gives all leases back that are still this process's."""
        self._ended.set()
        if self._renewer is not None:
            self._renewer.join()
        for url in self._held:
            if self._look(url):
                if _is_local(url):
                    Path(url).unlink(missing_ok=True)
                else:
                    remove(url)
        self._held = []

    def _look(self, url: str) -> bool:
        """Whether a lease is still this process's, as far as the store answers."""
        try:
            held = _read(url)
        except OSError as error:
            logger.warning("%s cannot be read: %s", url, error)
            return False
        if held is None:
            self._lost.setdefault(url, "a process that has ended since")
        elif held["token"] != self._token:
            self._lost[url] = _words(held)
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
            return  # somebody was faster; `check` says who
        except OSError as error:
            raise DeliveryError(error.errno, f"{url} takes no file: {error}") from error

    def _renew(self) -> None:
        """Runs in a thread."""
        while not self._ended.wait(RENEW_EVERY_S):
            for url in [each for each in self._held if each not in self._lost]:
                try:
                    if self._look(url):
                        self._write(url, mode="overwrite")
                except DeliveryError as error:
                    logger.warning("%s; trying again", error)


def _read(url: str) -> dict[str, Any] | None:
    """What a lease says; None where there is none.

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
        lease = json.loads(content)
        return {
            "token": str(lease["token"]),
            "host": str(lease["host"]),
            "process": int(lease["process"]),
            "renewed": float(lease["renewed"]),
            "since": float(lease.get("since", lease["renewed"])),
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # a damaged lease holds nobody up
        return {"token": "", "host": "", "process": 0, "renewed": 0.0, "since": 0.0}


def _is_local(url: str) -> bool:
    return "://" not in url


def _write_local(path: Path, content: bytes, *, exclusive: bool) -> None:
    """Writes a local file in one step; exclusive, only where there is none.

    A hard link is made or not made in one step on network file systems too.

    Raises:
        FileExistsError: exclusive, and there is one.
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


def _is_alive(held: dict[str, Any]) -> bool:
    if time.time() - held["renewed"] > RUNS_OUT_S:
        return False
    if held["host"] != socket.gethostname():
        return True
    try:
        os.kill(held["process"], 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _words(held: dict[str, Any]) -> str:
    age = max(0.0, time.time() - held["renewed"])
    since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(min(held["since"], time.time())))
    return (
        f"process {held['process']} on {held['host']} since {since}, last heard of {age:.0f} s ago; one silent for "
        f"{RUNS_OUT_S / 60:.0f} minutes is taken over"
    )
