"""The model: networks, projection, training, use and scores of Visual Object Networks.

`load_run` (of `vonmodel.api`) is the way in from Python: a trained model by its run folder, URL or class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vondata.version import __version__

if TYPE_CHECKING:
    from vonmodel.api import load_run

__all__ = ["__version__", "load_run"]


def __getattr__(name: str) -> Any:
    """Imports the API, and with it torch, at its first use."""
    if name != "load_run":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vonmodel.api import load_run

    return load_run
