"""The table of all fault tests, printed at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.scene import Driver, Forks, Tally, Verb, outcome, write_collections

TALLY = Tally()


@pytest.fixture(scope="session")
def tally() -> Tally:
    return TALLY


@pytest.fixture(scope="session")
def tries() -> int:
    """Faults of each kind and verb."""
    return int(os.environ.get("VON_FAULT_TRIES", "10"))


@pytest.fixture(scope="session")
def verbs(tmp_path_factory: pytest.TempPathFactory) -> list[Verb]:
    return write_collections(tmp_path_factory.mktemp("collections"))


@pytest.fixture(scope="session")
def expected(
    verbs: list[Verb], forks: Forks, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[dict[str, str], Path]]:
    """By verb, what an undisturbed run gives, and its data folder."""
    found = {}
    for verb in verbs:
        data = tmp_path_factory.mktemp("undisturbed") / "data"
        code, said = forks.run(verb.command(data))
        assert code == 0, said
        found[verb.name] = (outcome(data), data)
    return found


@pytest.fixture(scope="session")
def driver() -> Iterator[Driver]:
    driver = Driver()
    yield driver
    driver.close()


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    forks = Forks()
    yield forks
    forks.close()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if TALLY.counts:
        terminalreporter.section("faults")
        terminalreporter.write_line(TALLY.table())
