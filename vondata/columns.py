"""What the columns of a manifest mean and the closed list of reasons, read from `manifests/`."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

from vondata.item import Kind

if TYPE_CHECKING:
    import pyarrow as pa

DType = Literal["string", "int", "float", "bool"]


@dataclass(frozen=True)
class Column:
    """A column of the shape or image manifests.

    Attributes:
        name: as in the table; a unit stands in its suffix (`_deg`, `_px`).
        kinds: the manifests that have it.
        dtype: type of its values; every column may hold nulls.
        unit: unit of its values, "" without one.
        meaning: one sentence.
    """

    name: str
    kinds: tuple[Kind, ...]
    dtype: DType
    unit: str
    meaning: str


@dataclass(frozen=True)
class Reason:
    """Why an item was rejected.

    Attributes:
        name: as in the manifest.
        kinds: the manifests in which it occurs.
        explain: what it means and what to do.
    """

    name: str
    kinds: tuple[Kind, ...]
    explain: str


class UnknownColumnError(ValueError):
    """A work function returned a column that `manifests/columns.toml` does not describe."""

    def __init__(self, kind: Kind, names: Iterable[str]) -> None:
        super().__init__(f"manifests/columns.toml describes no column {', '.join(sorted(names))} of {kind}")


class UnknownReasonError(ValueError):
    """A reason that `manifests/reasons.toml` does not list."""

    def __init__(self, name: str) -> None:
        known = [each.name for each in known_reasons()]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known reasons: {', '.join(known)}"
        super().__init__(f"unknown reason {name!r}; {hint}")


@cache
def known_columns(kind: Kind) -> tuple[Column, ...]:
    """The columns of a kind's manifests, in their order."""
    columns = (
        Column(name, tuple(each["kinds"]), each["dtype"], each.get("unit", ""), each["meaning"])
        for name, each in _read("columns.toml").items()
    )
    return tuple(column for column in columns if kind in column.kinds)


@cache
def known_reasons() -> tuple[Reason, ...]:
    """All reasons of rejection, in their order."""
    return tuple(Reason(name, tuple(each["kinds"]), each["explain"]) for name, each in _read("reasons.toml").items())


def load_reason(name: str) -> Reason:
    """The reason of this name.

    Raises:
        UnknownReasonError: no reason has this name; the message gives the nearest one.
    """
    for each in known_reasons():
        if each.name == name:
            return each
    raise UnknownReasonError(name)


@cache
def manifest_schema(kind: Kind) -> pa.Schema:
    """The Arrow schema of a kind's manifests, the same for every class whatever its values are."""
    import pyarrow as pa

    types = {"string": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
    return pa.schema([(column.name, types[column.dtype]) for column in known_columns(kind)])


def check_columns(kind: Kind, names: Iterable[str]) -> None:
    """Sees that every name is a column of this kind.

    Raises:
        UnknownColumnError: one is not.
    """
    unknown = set(names) - {column.name for column in known_columns(kind)}
    if unknown:
        raise UnknownColumnError(kind, unknown)


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((files("vonmanifests") / name).read_text("utf-8"))
