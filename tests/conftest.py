"""Where the tests find what lies beside the repository; what is absent skips with a reason."""

from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

# Shapes in annotations are checked at every call of these modules, which must not be imported before.
install_import_hook(
    ["vonmodel.interpolation", "vonmodel.losses", "vonmodel.networks", "vonmodel.precision"], "beartype.beartype"
)

# Machines differ and are shared: how long one example takes says nothing about its being right.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _folder(path: Path) -> Path:
    if not path.is_dir():
        pytest.skip(f"{path.name} is not there: this check needs the reference data beside the repository")
    return path


@pytest.fixture(scope="session")
def shared() -> Path:
    return _folder(SHARED)


@pytest.fixture(scope="session")
def golden() -> Path:
    return _folder(SHARED / "golden")


@pytest.fixture(scope="session")
def realdata() -> Path:
    return _folder(SHARED / "realdata")
