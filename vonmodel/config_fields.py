"""Configuration dataclasses as trees of typed fields with ranges: walk, check and change them."""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_origin

from vondata.errors import VonError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")


class ConfigError(VonError, ValueError):
    """A configuration that names an unknown field or holds a value that its field cannot take."""


@dataclass(frozen=True)
class Range:
    """The values a number may have: from `least` up to `most`, or under it where `below`."""

    least: float
    most: float = math.inf
    below: bool = False

    def __contains__(self, value: float) -> bool:
        return self.least <= value < self.most if self.below else self.least <= value <= self.most < math.inf

    def __str__(self) -> str:
        if math.isinf(self.most):
            return f"at least {self.least:g}"
        return f"at least {self.least:g} and {'under' if self.below else 'at most'} {self.most:g}"


Count = Annotated[int, Range(1, math.inf, below=True)]
Natural = Annotated[int, Range(0, math.inf, below=True)]
Amount = Annotated[float, Range(0, math.inf, below=True)]
Length = Annotated[float, Range(1e-4, 1)]
Share = Annotated[float, Range(0, 1)]
Distance = Annotated[float, Range(1.5, 100)]
Decay = Annotated[float, Range(0, 1, below=True)]


def walk(config: DataclassInstance, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of all fields that are no configurations themselves."""
    for each in dataclasses.fields(config):
        value = getattr(config, each.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from walk(value, f"{prefix}{each.name}.")
        else:
            yield prefix + each.name, value


def check_ranges(config: DataclassInstance, prefix: str = "") -> None:
    """Checks every number against the range in its field's annotation.

    Raises:
        ConfigError: a number lies outside; the message gives its dotted name.
    """
    for name, hint in typing.get_type_hints(type(config), include_extras=True).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            check_ranges(value, f"{prefix}{name}.")
        for allowed in getattr(hint, "__metadata__", ()):
            if value not in allowed:
                raise ConfigError(f"{prefix}{name} is {value}: it must be {allowed}")


def update(config: Config, values: Any, place: str) -> Config:
    """The configuration with some fields replaced by (nested) JSON values.

    Args:
        config: a configuration dataclass.
        values: what to replace; nested mappings for nested configurations.
        place: what to call the source of the values in an error.

    Raises:
        ConfigError: an unknown field, or a value of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{place}: expected a table of fields, not {values!r}")
    types = typing.get_type_hints(type(config))
    changes = {}
    for name, value in values.items():
        _check_known(name, list(types), place)
        current = getattr(config, name)
        if dataclasses.is_dataclass(current) and not isinstance(current, type):
            changes[name] = update(current, value, f"{place}: {name}")
        else:
            changes[name] = _typed(value, types[name], f"{place}: {name}")
    return dataclasses.replace(config, **changes)


def _check_known(name: str, known: list[str], place: str) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known fields: {', '.join(known)}"
        raise ConfigError(f"{place}: unknown field {name!r}; {hint}")


def _typed(value: Any, wanted: Any, place: str) -> Any:
    if get_origin(wanted) is Literal:
        if value not in get_args(wanted):
            raise ConfigError(f"{place}: {value!r} is not one of {', '.join(get_args(wanted))}")
        return value
    if get_origin(wanted) is tuple:
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
            raise ConfigError(f"{place}: {value!r} is not a list of names")
        return tuple(value)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not wanted:
        raise ConfigError(f"{place}: {value!r} is not of type {wanted.__name__}")
    return value
