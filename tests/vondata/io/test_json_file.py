"""JSON from disk: its values or an error message, never a traceback, an abort or a wrong value."""

import contextlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vondata.io.files import NotRegularFileError
from vondata.io.json_file import JsonFileError, parse_json, read_json, read_json_lines, typed

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda each: st.lists(each) | st.dictionaries(st.text(), each),
    max_leaves=20,
)


@given(documents)
def test_documents_come_back(document: Any) -> None:
    assert parse_json(json.dumps(document), "it") == document


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:0123456789.eE+-ntfalsru\\ ', max_size=60).map(str.encode))
def test_any_bytes_are_a_document_or_named(content: bytes) -> None:
    with contextlib.suppress(JsonFileError):
        document = parse_json(content, "metrics.jsonl line 3")
        assert json.loads(json.dumps(document, allow_nan=False)) == document


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * 65 + b"]" * 65, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"1e999", "1e999 is too large"),
        (b"-1e999", "1e999 is too large"),
        (b"NaN", "NaN is not a JSON number"),
        (b"[Infinity]", "Infinity is not a JSON number"),
        (b"9" * 10_000, "Exceeds the limit"),
        (b'{"a":1,"b":2,"a":3}', "'a' occurs twice"),
        (b'"\xff"', "utf-8"),
        (b"", "Expecting value"),
        (b"{} {}", "Extra data"),
    ],
)
def test_what_is_no_document_is_named(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(JsonFileError, match=what):
        read_json(path)


def test_nesting_of_64_is_read() -> None:
    assert parse_json(b"[" * 64 + b"]" * 64, "it")


def test_size_is_looked_at_before_reading(tmp_path: Path) -> None:
    path = tmp_path / "stats.jsonl"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(JsonFileError, match=r"has 1,099,511,627,776 bytes; at most 67,108,864 are read"):
        read_json(path)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    for name in ("pipe", "loop", "nowhere", "."):
        with pytest.raises((NotRegularFileError, OSError)):
            read_json(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "missing")


def test_lines_are_read_past_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "metrics.jsonl"
    good = [{"step": number} for number in range(4)]
    bad = [b"null", b"[1]", b"[" * 100_000, b'{"a":1e999}', b"\xff", b'"' + b"x" * (3 << 20) + b'"', b'{"step":']
    lines = [json.dumps(good[0]).encode(), *bad[:3], json.dumps(good[1]).encode(), *bad[3:]]
    path.write_bytes(b"\n".join([*lines, json.dumps(good[2]).encode(), b'{"step": 3']))
    assert list(read_json_lines(path)) == good[:3]
    named = [record.getMessage() for record in caplog.records]
    assert len(named) == len(bad)
    assert "metrics.jsonl line 2 is damaged (null, not an object); it is skipped" in named[0]
    assert "line 8 has over" in named[5]


@dataclass(frozen=True)
class Inner:
    size: int
    weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class Outer:
    name: str
    kind: Literal["shape", "image"]
    inner: Inner
    rate: float | None = None
    table: dict[str, list[Inner]] = field(default_factory=dict)


def test_types_are_checked_throughout() -> None:
    document = {
        "name": "a",
        "kind": "shape",
        "inner": {"size": 3, "weights": [1, 2.5]},
        "table": {"x": [{"size": 1}]},
    }
    assert typed(Outer, document, "it") == Outer("a", "shape", Inner(3, (1.0, 2.5)), None, {"x": [Inner(1)]})


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"name": 3}, "name is a number, not str"),
        ({"name": None}, "name is null, not str"),
        ({"kind": "mesh"}, "kind is a string, not "),
        ({"inner": {"size": True}}, "inner.size is a boolean, not int"),
        ({"inner": {"size": 1.5}}, "inner.size is a number, not int"),
        ({"inner": {"size": 1, "weights": [1, "2"]}}, r"inner.weights\[1\] is a string, not float"),
        ({"inner": {}}, "field inner.size is missing"),
        ({"inner": [], "rate": 1}, "inner is an array, not Inner"),
        ({"rate": "fast"}, "rate is a string, not "),
        ({"table": {"x": [{}]}}, r"field table.x\[0\].size is missing"),
        ({"colour": 1}, "unknown field colour"),
    ],
)
def test_wrong_types_are_named(change: dict[str, Any], what: str) -> None:
    document = {"name": "a", "kind": "shape", "inner": {"size": 3}} | change
    with pytest.raises(JsonFileError, match=f"^config.json is damaged \\({what}"):
        typed(Outer, document, "config.json")
