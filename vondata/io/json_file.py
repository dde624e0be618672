"""Strict JSON reading: bounded size and depth, no NaN, infinity or duplicate keys, and type checks."""

from __future__ import annotations

import json
import logging
import math
import os
import types
import typing
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

from vondata.errors import VonError
from vondata.io.files import require_regular

MAX_JSON_BYTES = 64 << 20
MAX_LINE_BYTES = 1 << 20
MAX_DEPTH = 64

Value = TypeVar("Value")

logger = logging.getLogger(__name__)


class JsonFileError(VonError, ValueError):
    """A file that is not the expected JSON; the message says where and why.

    Attributes:
        place: the file and line.
        what: what is wrong.
    """

    def __init__(self, place: object, what: str) -> None:
        super().__init__(f"{place} is damaged ({what})")
        self.place, self.what = place, what


def read_json(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """The JSON document of a file.

    Numbers are finite, keys of an object are unique, and arrays and objects are nested at most 64 deep.

    Raises:
        FileNotFoundError: there is no file.
        OSError: it cannot be read, or is not a regular file.
        JsonFileError: it is larger than `max_bytes`, which is checked before reading, or not such a document.
    """
    require_regular(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > max_bytes else file.read(max_bytes + 1)
    if max(size, len(content)) > max_bytes:
        raise JsonFileError(path, f"it has {max(size, len(content)):,} bytes; at most {max_bytes:,} are read")
    return parse_json(content, path)


def parse_json(content: bytes | str, place: object) -> Any:
    """Parses a JSON document like `read_json`.

    Args:
        content: UTF-8.
        place: named in the error.

    Raises:
        JsonFileError: it is not such a document.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        document = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_without_duplicates
        )
    except RecursionError as error:
        raise JsonFileError(place, "it is nested too deeply") from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are among them
        raise JsonFileError(place, str(error)) from error
    if _is_deeper(document, MAX_DEPTH):
        raise JsonFileError(place, "it is nested too deeply")
    return document


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file's lines, one at a time; damaged lines are skipped and named in the log.

    Another process may append to the file, so an unfinished last line is skipped silently.

    Raises:
        FileNotFoundError: there is no file.
        OSError: it cannot be read, or is not a regular file.
    """
    require_regular(path)
    with open(path, "rb") as file:
        number, in_long_line = 0, False
        while line := file.readline(MAX_LINE_BYTES):
            ends = line.endswith(b"\n")
            if in_long_line or (not ends and len(line) == MAX_LINE_BYTES):
                if not in_long_line:
                    logger.warning("%s line %d has over %d bytes; it is skipped", path, number + 1, MAX_LINE_BYTES)
                in_long_line = not ends
                number += ends
                continue
            number += 1
            try:
                document = parse_json(line, f"{path} line {number}")
                if not isinstance(document, dict):
                    raise JsonFileError(f"{path} line {number}", f"{_name(document)}, not an object")
            except JsonFileError as error:
                if ends:
                    logger.warning("%s; it is skipped", error)
                continue
            yield document


def typed(kind: type[Value], value: Any, place: object, name: str = "") -> Value:
    """Converts a JSON value to a type, with recursive checks.

    Args:
        kind: bool, int, float, str, None, Any, Literal, a union of these, list[...], tuple[..., ...], dict[str, ...]
            or a dataclass of such fields. An integer is accepted as float.
        value: parsed JSON.
        place: the file, named in the error.
        name: of the value within the document.

    Raises:
        JsonFileError: the value, or one in it, has another type, or a field is missing or unknown.
    """
    return cast(Value, _typed(kind, value, place, name))


def _typed(kind: Any, value: Any, place: object, name: str) -> Any:
    if kind is Any:
        return value
    if get_origin(kind) in (Union, types.UnionType):
        for each in get_args(kind):
            try:
                return _typed(each, value, place, name)
            except JsonFileError:
                continue
        raise _mismatch(kind, value, place, name)
    if get_origin(kind) is not None:
        return _typed_generic(kind, value, place, name)
    if is_dataclass(kind) and isinstance(value, dict):
        return _typed_fields(cast(type[Any], kind), value, place, name)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is (type(None) if kind is None else kind):
        return value
    raise _mismatch(kind, value, place, name)


def _typed_generic(kind: Any, value: Any, place: object, name: str) -> Any:
    """A Literal, list, tuple or dict."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal and any(type(value) is type(each) and value == each for each in arguments):
        return value
    if origin in (list, tuple) and isinstance(value, list):
        items = [_typed(arguments[0], each, place, f"{name}[{index}]") for index, each in enumerate(value)]
        return items if origin is list else tuple(items)
    if origin is dict and isinstance(value, dict):
        keys = [_typed(arguments[0], key, place, f"a key of {name}") for key in value]
        values = [_typed(arguments[1], each, place, _joined(name, key)) for key, each in value.items()]
        return dict(zip(keys, values, strict=True))
    raise _mismatch(kind, value, place, name)


def _mismatch(kind: Any, value: Any, place: object, name: str) -> JsonFileError:
    shown = kind.__name__ if isinstance(kind, type) and get_origin(kind) is None else str(kind)
    return JsonFileError(place, f"{name or 'it'} is {_name(value)}, not {shown}")


def _typed_fields(kind: type[Any], value: dict[str, Any], place: object, name: str) -> Any:
    hints = typing.get_type_hints(kind)
    known = {each.name: each for each in fields(kind)}
    if unknown := value.keys() - known.keys():
        raise JsonFileError(place, f"unknown field {_joined(name, min(unknown))}")
    for each in known.values():
        if each.name not in value and each.default is MISSING and each.default_factory is MISSING:
            raise JsonFileError(place, f"field {_joined(name, each.name)} is missing")
    return kind(**{key: _typed(hints[key], each, place, _joined(name, key)) for key, each in value.items()})


def _joined(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _name(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large")
    return number


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {repeated[:80]!r} occurs twice")
    return document


def _is_deeper(document: Any, most: int) -> bool:
    """Whether arrays and objects are nested deeper than `most`, without recursion."""
    level = [document]
    for _ in range(most):
        level = [
            each
            for parent in level
            if isinstance(parent, dict | list)
            for each in (parent.values() if isinstance(parent, dict) else parent)
        ]
        if not level:
            return False
    return True
