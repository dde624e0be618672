"""The schema of manifests: columns and the closed list of rejection reasons, read from `manifests/`."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vondata.errors import VonError
from vondata.types import Kind, printable

if TYPE_CHECKING:
    import pyarrow as pa

CLOCK_DIGITS = 6  # decimal places of seconds, the resolution of clocks

DType = Literal["string", "int", "float", "bool"]


@dataclass(frozen=True)
class Column:
    """A column of the shape or image manifests.

    Attributes:
        name: as in the table; the suffix gives the unit (`_deg`, `_px`).
        kinds: the manifests that have it.
        dtype: type of its values; every column may have nulls.
        unit: unit of its values, "" without one.
        meaning: one sentence.
        formerly: its name in datasets of older versions, "" if it is the same.
    """

    name: str
    kinds: tuple[Kind, ...]
    dtype: DType
    unit: str
    meaning: str
    formerly: str = ""


@dataclass(frozen=True)
class Reason:
    """A reason of rejection.

    Attributes:
        name: as in the manifest.
        kinds: the manifests in which it occurs.
        explain: what it means.
        remedy: what to do about it.
    """

    name: str
    kinds: tuple[Kind, ...]
    explain: str
    remedy: str

    @property
    def advice(self) -> str:
        """The remedy as the end of another sentence."""
        return self.remedy[0].lower() + self.remedy[1:].rstrip(".")


class UnknownColumnError(VonError, ValueError):
    """A work function returned a column that `manifests/columns.toml` does not describe."""

    def __init__(self, kind: Kind, names: Iterable[str]) -> None:
        super().__init__(f"manifests/columns.toml describes no column {', '.join(sorted(names))} of {kind}")


class ColumnTypeError(VonError, TypeError):
    """A work function returned a value of another type than its column's."""

    def __init__(self, column: Column, value: object) -> None:
        super().__init__(f"column {column.name} holds {column.dtype}, not {type(value).__name__}: {value!r}")


class UnknownReasonError(VonError, ValueError):
    """A reason that `manifests/reasons.toml` does not list."""

    def __init__(self, name: str) -> None:
        known = [each.name for each in known_reasons()]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {len(known)}, such as {', '.join(known[:4])}"
        super().__init__(f"unknown reason {name!r}", hint=hint)


@cache
def known_columns(kind: Kind) -> tuple[Column, ...]:
    """The columns of a kind's manifests, in their order."""
    columns = (
        Column(
            name, tuple(each["kinds"]), each["dtype"], each.get("unit", ""), each["meaning"], each.get("formerly", "")
        )
        for name, each in _read("columns.toml").items()
    )
    return tuple(column for column in columns if kind in column.kinds)


@cache
def renamed_columns(kind: Kind) -> Mapping[str, str]:
    """The current names of the columns that older versions wrote under other names."""
    return {column.formerly: column.name for column in known_columns(kind) if column.formerly}


@cache
def known_reasons() -> tuple[Reason, ...]:
    """All reasons of rejection, in their order."""
    return tuple(
        Reason(name, tuple(each["kinds"]), each["explain"], each["remedy"])
        for name, each in _read("reasons.toml").items()
    )


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
    """The Arrow schema of a kind's manifests, the same for every class and independent of the values."""
    import pyarrow as pa

    types = {"string": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
    return pa.schema([(column.name, types[column.dtype]) for column in known_columns(kind)])


def plain_row(kind: Kind, values: Mapping[str, Any]) -> dict[str, Any]:
    """A full row of plain Python values: every column of the kind, None for missing values, NaN and infinity.

    Raises:
        UnknownColumnError: a value has no column.
        ColumnTypeError: a value is not of its column's type.
    """
    columns = known_columns(kind)
    unknown = values.keys() - {column.name for column in columns}
    if unknown:
        raise UnknownColumnError(kind, unknown)
    return {column.name: _plain_value(column, values.get(column.name)) for column in columns}


def _plain_value(column: Column, value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    match column.dtype, value:
        case _, None:
            return None
        case "string", str():
            return printable(value)
        case "bool", bool():
            return value
        case "int", int() if not isinstance(value, bool):
            return value
        case "float", int() | float() if not isinstance(value, bool):
            if not math.isfinite(value):
                return None
            return round(float(value), CLOCK_DIGITS) if column.unit == "s" else float(value)
    raise ColumnTypeError(column, value)


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((files("vonmanifests") / name).read_text("utf-8"))
