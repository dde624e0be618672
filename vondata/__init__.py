"""Data preparation: raw meshes and photos to a dataset with a manifest per class; NumPy only, no PyTorch.

The Python API is `prepare_shapes` and `prepare_images` (of `vondata.api`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vondata.version import __version__

if TYPE_CHECKING:
    from vondata.api import prepare_images, prepare_shapes

__all__ = ["__version__", "prepare_images", "prepare_shapes"]


def __getattr__(name: str) -> Any:
    """Imports the API at its first use: every module of the package imports this one, and few need the API."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vondata import api

    return {"prepare_images": api.prepare_images, "prepare_shapes": api.prepare_shapes}[name]
