"""Wavefront OBJ: positions and polygons straight from the bytes, and nothing else of what such a file may name.

Materials, textures, normals and groups are skipped unread, so a file cannot point the reader anywhere. Lines may end
in one or two characters, go on after a backslash, and faces may count vertices backwards, as the format allows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vondata.errors import VonError
from vondata.kernels import kernel

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_ERRORS = {1: "a vertex without three numbers", 2: "a face with something that is no vertex number"}
_NEWLINE, _RETURN, _SPACE, _TAB, _BACKSLASH, _HASH = 10, 13, 32, 9, 92, 35
_DIGIT_0, _DOT, _MINUS, _PLUS, _SLASH = 48, 46, 45, 43, 47
_LETTER_E, _LETTER_F, _LETTER_I, _LETTER_N, _LETTER_V = 101, 102, 105, 110, 118
_LOWER = 32  # the bit that makes a letter a small one
_POWERS_OF_TEN = 10.0 ** np.arange(23)  # these are exact


class ObjError(VonError, ValueError):
    """The bytes contradict the format; says in which line."""


@dataclass(frozen=True)
class Polygons:
    """A mesh of polygons as it stands in a file.

    Attributes:
        vertices: (v, 3) positions.
        corners: (c,) vertex numbers of all polygons, one after the other.
        starts: (p + 1,) where each polygon starts in `corners`, and their end.
    """

    vertices: Floats
    corners: Integers
    starts: Integers


def parse_obj(content: bytes) -> Polygons:
    """Reads the positions and faces of an OBJ file.

    Raises:
        ObjError: a line that cannot be understood, or a face with a vertex that does not exist.
    """
    text = np.frombuffer(content + b"\n", dtype=np.uint8)
    # More than a file of this size can hold; pages that are never written cost nothing.
    vertices = np.empty((text.size // 7 + 1, 3))
    corners = np.empty(text.size // 2 + 1, dtype=np.int64)
    starts = np.zeros(text.size // 2 + 2, dtype=np.int64)
    error, line, vertex_count, face_count = _parse(text, vertices, corners, starts)
    if error:
        raise ObjError(f"line {line}: {_ERRORS[error]}")
    starts = starts[: face_count + 1].copy()
    corners = corners[: starts[-1]].copy()
    if corners.size and not 0 <= corners.min() <= corners.max() < vertex_count:
        wrong = corners[(corners < 0) | (corners >= vertex_count)][0]
        raise ObjError(f"a face names vertex {wrong + 1}, and there are {vertex_count}")
    return Polygons(vertices[:vertex_count].copy(), corners, starts)


@kernel
def _is_blank(byte: int) -> bool:
    return byte in (_SPACE, _TAB, _RETURN)


@kernel
def _ends_word(byte: int) -> bool:
    return _is_blank(byte) or byte in (_NEWLINE, _BACKSLASH)


@kernel
def _skip_blanks(text: Bytes, at: int) -> int:
    """The next byte that is no blank; a backslash at a line's end is a blank, too."""
    while True:
        if _is_blank(text[at]):
            at += 1
        elif text[at] != _BACKSLASH:
            return at
        elif text[at + 1] == _NEWLINE and at + 2 < text.size:
            at += 2
        elif text[at + 1] == _RETURN and text[at + 2] == _NEWLINE and at + 3 < text.size:
            at += 3
        else:
            return at


@kernel
def _skip_word(text: Bytes, at: int) -> int:
    while not _ends_word(text[at]):
        at += 1
    return at


@kernel
def _parse(text: Bytes, vertices: Floats, corners: Integers, starts: Integers) -> tuple[int, int, int, int]:
    """Fills the arrays from a text that ends in a newline; returns an error and its line, vertices and faces."""
    at, line, vertex, face, corner = 0, 0, 0, 0, 0
    while at < text.size:
        line += 1
        at = _skip_blanks(text, at)
        if text[at] == _LETTER_V and _is_blank(text[at + 1]):
            at += 1
            for axis in range(3):
                at = _skip_blanks(text, at)
                value, end = _parse_number(text, at)
                if end == at:
                    return 1, line, vertex, face
                vertices[vertex, axis] = value
                at = end
            vertex += 1
        elif text[at] == _LETTER_F and _is_blank(text[at + 1]):
            at = _skip_blanks(text, at + 1)
            while text[at] not in (_NEWLINE, _HASH):
                number, end = _parse_integer(text, at)
                if number == 0 or not (_ends_word(text[end]) or text[end] == _SLASH):
                    return 2, line, vertex, face
                corners[corner] = number - 1 if number > 0 else vertex + number
                corner += 1
                end = _skip_word(text, end)
                at = _skip_blanks(text, end)
                if at == end and text[at] == _BACKSLASH:
                    return 2, line, vertex, face
            face += 1
            starts[face] = corner
        while text[at] != _NEWLINE:
            at += 1
        at += 1
    return 0, line, vertex, face


@kernel
def _parse_integer(text: Bytes, at: int) -> tuple[int, int]:
    """A whole number, and where it ends; 0 and the start itself where there is none."""
    start, negative = at, text[at] == _MINUS
    if negative or text[at] == _PLUS:
        at += 1
    first, value = at, np.int64(0)
    while True:
        digit = np.int64(text[at]) - _DIGIT_0
        if digit < 0 or digit > 9:
            break
        value = min(value * 10 + digit, np.int64(1 << 40))
        at += 1
    if at == first:
        return 0, start
    return int(-value if negative else value), at


@kernel
def _parse_number(text: Bytes, at: int) -> tuple[float, int]:
    """A decimal number, right within a few units in the last place, and where it ends; the start if there is none.

    Words that begin with n or i, and 1.#QNAN and the like, are what programs write for numbers that are none: NaN.
    """
    start, negative = at, text[at] == _MINUS
    if negative or text[at] == _PLUS:
        at += 1
    if (text[at] | _LOWER) in (_LETTER_N, _LETTER_I):
        return np.nan, _skip_word(text, at)
    whole, mantissa, dropped = _digits(text, at, 0)
    exponent, count, at = dropped, whole - at, whole
    if text[at] == _DOT:
        end, mantissa, dropped = _digits(text, at + 1, mantissa)
        exponent -= end - (at + 1) - dropped
        count, at = count + end - (at + 1), end
        if text[at] == _HASH:
            return np.nan, _skip_word(text, at)
    if count == 0:
        return 0.0, start
    if (text[at] | _LOWER) == _LETTER_E:
        power, end = _parse_integer(text, at + 1)
        if end == at + 1:
            return 0.0, start
        exponent, at = exponent + min(max(power, -1000), 1000), end
    if not _ends_word(text[at]):
        return 0.0, start
    value = _scaled(float(mantissa), exponent)
    return -value if negative else value, at


@kernel
def _digits(text: Bytes, at: int, mantissa: int) -> tuple[int, int, int]:
    """Appends digits to a mantissa: where they end, the mantissa, and how many were too many for it."""
    dropped = 0
    while True:
        digit = np.int64(text[at]) - _DIGIT_0
        if digit < 0 or digit > 9:
            return at, mantissa, dropped
        if mantissa < 100_000_000_000_000_000:
            mantissa = mantissa * 10 + int(digit)
        else:
            dropped += 1
        at += 1


@kernel
def _scaled(mantissa: float, exponent: int) -> float:
    """The mantissa times 10^exponent, without overflow on the way."""
    if exponent == 0 or mantissa == 0.0:
        return mantissa
    while exponent > 22:
        mantissa, exponent = mantissa * 1e22, exponent - 22
    while exponent < -22:
        mantissa, exponent = mantissa / 1e22, exponent + 22
    power = float(_POWERS_OF_TEN[abs(exponent)])
    return mantissa * power if exponent > 0 else mantissa / power
