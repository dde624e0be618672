"""Visual Object Networks: networks, projection, training, inference, reconstruction and evaluation.

`load_run` (of `vonmodel.api`) opens a trained model by its run folder, URL or class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vondata.version import __version__

if TYPE_CHECKING:
    from vonmodel.api import load_run

__all__ = ["__version__", "load_run"]


def __getattr__(name: str) -> Any:
    """Imports the API, and with it torch, on first use."""
    if name != "load_run":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vonmodel.api import load_run

    return load_run
