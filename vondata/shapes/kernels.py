"""How the numba kernels of this package are compiled: without the interpreter lock, and kept on disk between runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compiles a function at its first call; machine code is cached beside the source or in the user's cache folder.

    The cache notices changes only in the file that a function is in, so kernels call kernels of their own file only.
    An installation where neither can be written compiles anew in every process, rather than failing.
    """
    return _compiled(function, fastmath=False)


def contracted_kernel(function: Function) -> Function:
    """The same with products and sums in one step, a tenth faster: where rounding decides nothing."""
    return _compiled(function, fastmath={"contract"})


def _compiled(function: Function, *, fastmath: bool | set[str]) -> Function:
    options = {"nogil": True, "boundscheck": False, "error_model": "numpy", "fastmath": fastmath}
    try:
        return cast(Function, numba.njit(cache=True, **options)(function))
    except RuntimeError:  # numba found no folder to cache in
        return cast(Function, numba.njit(**options)(function))
