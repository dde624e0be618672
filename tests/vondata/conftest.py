from collections.abc import Callable

import numpy as np
import pytest

from vondata.demo.collection import DemoObject, normalized
from vondata.demo.write import DemoSettings, write_demo
from vondata.render.mesh import Material, PartMesh, concatenated, corner_normals


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """A small demo folder, as `von demo` writes it."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    write_demo(folder, DemoSettings(chairs=4, cars=3, photos_per_object=4, seed=5))
    return folder


@pytest.fixture
def make_scene() -> Callable[..., DemoObject]:
    """Makes an object of given parts and materials; normalised unless asked otherwise."""

    def make(*parts: PartMesh, normalise: bool = True, **materials: Material) -> DemoObject:
        placed = tuple(normalized(parts)) if normalise else parts
        known = {part.material: Material((0.5, 0.5, 0.5), gloss=0.0) for part in parts} | materials
        return DemoObject("chair", "0" * 32, "scene", "none", placed, known, corner_normals(concatenated(placed)))

    return make


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
