"""How numba kernels are compiled: without the interpreter lock, cached on disk between runs.

numba's cache notices changes only in the file that a function is in, so kernels call kernels of their own file only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compiles a function at its first call, with IEEE arithmetic.

    Machine code is cached beside the source or in the user's cache folder. An installation where neither can be
    written compiles anew in every process.
    """
    return _compiled(function, fastmath=False)


def contracted_kernel(function: Function) -> Function:
    """The same with fused multiply-add: a tenth faster, where rounding decides nothing."""
    return _compiled(function, fastmath={"contract"})


def fast_kernel(function: Function) -> Function:
    """The same with fused multiply-add and zeros without sign, for sums over rays and samples.

    Sums are not reordered and NaN is not assumed away, so results are the same on every thread.
    """
    return _compiled(function, fastmath={"contract", "nsz"})


def _compiled(function: Function, *, fastmath: bool | set[str]) -> Function:
    options = {"nogil": True, "boundscheck": False, "error_model": "numpy", "fastmath": fastmath}
    try:
        return cast(Function, numba.njit(cache=True, **options)(function))
    except RuntimeError:  # numba found no folder to cache in
        return cast(Function, numba.njit(**options)(function))
