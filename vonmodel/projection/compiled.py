"""How the loops of the CPU projection are compiled: at their first call, and kept on disk between runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(function: Kernel) -> Kernel:
    """Compiles a function without the interpreter lock, so that threads run it side by side.

    Floating-point sums are not reordered and NaN is not assumed away: results are the same on every thread, and bad
    numbers come through. Where no folder to cache in can be written, every process compiles anew.
    """
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}
    try:
        return cast(Kernel, njit(cache=True, **options)(function))
    except RuntimeError:  # numba found no folder to cache in
        return cast(Kernel, njit(**options)(function))
