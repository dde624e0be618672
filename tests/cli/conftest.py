"""A fixture that runs commands as a user does."""

import pytest

from tests import harness
from vonmodel import builtin


@pytest.fixture
def von(tiny_run, tiny_data, tmp_path, monkeypatch):
    """Runs a command in a folder with the tiny run and the tiny dataset, and no built-in models."""
    (tmp_path / "package").mkdir()
    monkeypatch.setattr(builtin, "models_folder", lambda: tmp_path / "package")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VON_DATA", str(tiny_data))
    return harness.von
