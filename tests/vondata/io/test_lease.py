"""Two clients on one class of a store: the second is refused by name; one that lost its lease stops writing."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness import wait_until
from vondata.io import lease
from vondata.io.fs import DataFolder, exists, file_system
from vondata.io.lease import DatasetBusyError, Leases
from vondata.pipeline.store import RemoteStore

URL = "memory://leases/journal/chair-shapes.lease"


@pytest.fixture(autouse=True)
def _empty_memory() -> Iterator[None]:
    system, _ = file_system(URL)
    system.store.clear()
    yield
    system.store.clear()


def write(**changed: Any) -> None:
    """A lease of another process."""
    system, path = file_system(URL)
    held = {"token": "other", "host": "elsewhere", "process": 7, "renewed": time.time()} | changed
    system.pipe_file(path, json.dumps(held).encode())


def test_the_second_one_is_refused_naming_the_first() -> None:
    first, second = Leases(), Leases()
    first.take(URL)
    with pytest.raises(DatasetBusyError, match=r"writing memory://leases/journal/chair-shapes \(process \d+ on "):
        second.take(URL)
    first.check()
    first.release()
    assert not exists(URL)
    second.take(URL)
    second.release()


def test_what_is_silent_is_taken_over_and_learns_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(lease.time, "time", lambda: now)
    first, second = Leases(), Leases()
    write(renewed=now - lease.EXPIRY_S - 1)
    first.take(URL)
    write()  # as a machine does that had lost its network
    with pytest.raises(DatasetBusyError, match=r"process 7 on elsewhere since .* UTC, last heard of 0 s ago"):
        first.check()
    first.release()
    assert exists(URL)  # it is not the first one's any more
    with pytest.raises(DatasetBusyError):
        second.take(URL)


def test_a_lease_that_was_taken_over_and_given_back_is_lost() -> None:
    held = Leases()
    held.take(URL)
    system, path = file_system(URL)
    system.rm_file(path)
    with pytest.raises(DatasetBusyError, match="a process that has ended since"):
        held.check()
    held.release()


def test_the_lease_of_a_dead_local_process_is_taken_over() -> None:
    import socket

    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    write(host=socket.gethostname(), process=done.pid)
    held = Leases()
    held.take(URL)
    held.release()


@pytest.mark.parametrize(
    "content", [b"", b"no JSON", b"[]", b'{"token": 1}', b'{"token":"a","host":"b","process":[]}']
)
def test_an_invalid_lease_is_taken_over(content: bytes) -> None:
    system, path = file_system(URL)
    system.pipe_file(path, content)
    held = Leases()
    held.take(URL)
    held.check()
    held.release()


def test_it_is_renewed_while_an_item_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_EVERY_S", 0.02)
    system, path = file_system(URL)
    held = Leases()
    held.take(URL)
    first = system.cat_file(path)
    wait_until(lambda: system.cat_file(path) != first)
    held.check()
    held.release()


def test_a_store_without_its_lease_sends_no_journal() -> None:
    with pytest.raises(DatasetBusyError, match="process 7 on elsewhere"):
        _write_after_losing_the_lease(DataFolder.at("memory://leases"))
    system, _ = file_system(URL)
    assert system.find("/leases/journal") == ["/leases/journal/chair-shapes.lease"]


def _write_after_losing_the_lease(data: DataFolder) -> None:
    with RemoteStore(data) as store:
        store.open_part("chair", "shapes")
        journal = store.folder / "journal" / "chair-shapes.jsonl"
        journal.parent.mkdir(exist_ok=True)
        journal.write_text("{}\n", "utf-8")
        write()


def test_a_lease_on_a_local_path_is_taken_by_only_one(tmp_path) -> None:
    path = str(tmp_path / "run" / "training.lease")
    first, second = Leases(), Leases()
    first.take(path)
    with pytest.raises(DatasetBusyError, match=rf"process {os.getpid()} on {socket.gethostname()} since 20"):
        second.take(path)
    first.release()
    assert list((tmp_path / "run").iterdir()) == []
    second.take(path)
    second.release()


@pytest.mark.parametrize("content", [b"", b"null", b"[" * 100_000, b"\xff", b'{"token": 1}'])
def test_a_damaged_lease_is_taken_over(tmp_path, content: bytes) -> None:
    (tmp_path / "training.lease").write_bytes(content)
    leases = Leases()
    leases.take(str(tmp_path / "training.lease"))
    leases.release()
    assert not (tmp_path / "training.lease").exists()


def test_of_many_that_take_a_local_lease_at_once_one_gets_it(tmp_path) -> None:
    path, ready, got = str(tmp_path / "training.lease"), threading.Barrier(8), []

    def race() -> None:
        leases = Leases()
        ready.wait()
        try:
            leases.take(path)
        except DatasetBusyError:
            return
        got.append(leases)

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    got[0].release()
