"""Readers on their seeds, on what fuzzing found, and on a few mutations; `make fuzz` goes on for longer."""

import random

import pytest

from tests.fuzz.__main__ import mutated
from tests.fuzz.readers import READERS, REGRESSIONS

FOUND = sorted(path for path in REGRESSIONS.glob("*/*"))


@pytest.mark.parametrize("name", READERS)
def test_seeds_and_their_mutations_are_read_or_refused(name):
    reader, rng = READERS[name], random.Random(name)
    seeds = list(reader.seeds())
    for seed in seeds:
        reader(seed)
    for _ in range(100):
        reader(mutated(rng, seeds, reader.words))


@pytest.mark.parametrize("path", FOUND, ids=[f"{path.parent.name}-{path.name}" for path in FOUND])
def test_what_fuzzing_found_is_read_or_refused(path):
    READERS[path.parent.name](path.read_bytes())


def test_every_finding_belongs_to_a_reader():
    assert {path.parent.name for path in FOUND} <= READERS.keys()
