"""Compilation of numba kernels: without the GIL, cached on disk with checksums.

numba's cache notices changes only in the file that a function is in, so kernels call only kernels of their own file.
It does not detect damaged cache files, which would end in a traceback or wrong machine code, and fails on a full
disk; `_KernelCache` compiles again in both cases.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

_DIGEST_BYTES = 32

logger = logging.getLogger(__name__)

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compiles a function at its first call, with IEEE arithmetic.

    Machine code is cached beside the source or in the user's cache folder. If neither is writable, every process
    compiles again.
    """
    return _compiled(function, fastmath=False)


def contracted_kernel(function: Function) -> Function:
    """Like `kernel`, with fused multiply-add: a tenth faster, for code that does not depend on exact rounding."""
    return _compiled(function, fastmath={"contract"})


def fast_kernel(function: Function) -> Function:
    """Like `kernel`, with fused multiply-add and without signed zeros, for sums over rays and samples.

    Sums are not reordered and NaN is respected, so results are the same on every thread.
    """
    return _compiled(function, fastmath={"contract", "nsz"})


def _compiled(function: Function, *, fastmath: bool | set[str]) -> Function:
    options = {"nogil": True, "boundscheck": False, "error_model": "numpy", "fastmath": fastmath}
    dispatcher = numba.njit(**options)(function)
    with contextlib.suppress(RuntimeError):  # no cache folder is writable
        dispatcher._cache = _KernelCache(function)
    return cast(Function, dispatcher)


class _KernelCache(FunctionCache):  # type: ignore[misc]  # numba has no types
    """numba's cache of one function, in files with a SHA-256 of their content."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        impl = self._impl
        self._cache_file = _CheckedFile(self.cache_path, f"{impl.filename_base}.v2", impl.locator.get_source_stamp())

    def save_overload(self, signature: Any, data: Any) -> None:
        """Saves compiled code; on a full or read-only disk it is compiled again in the next process."""
        try:
            super().save_overload(signature, data)
        except OSError as error:
            logger.info("compiled code is not kept in %s: %s", self.cache_path, error)


class _CheckedFile(IndexDataCacheFile):  # type: ignore[misc]  # numba has no types
    """Index and data files of a cache; a damaged one counts as missing."""

    def _load_index(self) -> dict[Any, str]:
        content = _read(Path(self._index_path))
        try:
            version, stamp, overloads = pickle.loads(content or b"")
        except (EOFError, AttributeError, ImportError, TypeError):
            return {}  # no file, or it refers to a type that no longer exists
        return overloads if (version, stamp) == (self._version, self._source_stamp) else {}

    def _save_index(self, overloads: dict[Any, str]) -> None:
        self._write(self._index_path, self._dump((self._version, self._source_stamp, overloads)))

    def _load_data(self, name: str) -> Any:
        content = _read(Path(self._data_path(name)))
        try:
            return pickle.loads(content or b"")
        except (EOFError, AttributeError, ImportError, TypeError) as error:
            # The caller treats it as a function that is not compiled yet.
            raise FileNotFoundError(name) from error

    def _save_data(self, name: str, data: Any) -> None:
        self._write(self._data_path(name), self._dump(data))

    def _write(self, path: str, content: bytes) -> None:
        with self._open_for_write(path) as file:
            file.write(hashlib.sha256(content).digest() + content)


def _read(path: Path) -> bytes | None:
    """The content of a cache file; None if it is missing, unreadable or damaged."""
    try:
        stored = path.read_bytes()
    except OSError:
        return None
    digest, content = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        logger.warning("%s is damaged; its function is compiled again", path)
        return None
    return content
