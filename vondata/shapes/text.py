"""Text mesh formats: decoding of common encodings, and the kernels that parse OBJ, OFF, PLY and STL text.

All kernels are in one file because numba's cache notices changes only in the file a function is in. They take text as
bytes that end in a newline, and stop at limits that the caller sets, so that memory depends on the limits of a mesh
and not on what a file claims.
"""

from __future__ import annotations

import codecs

import numpy as np
import numpy.typing as npt

from vondata.kernels import kernel

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# Errors of the kernels.
NO_ERROR, BAD_NUMBER, BAD_CORNER, TOO_MANY, ENDS_EARLY, BAD_WORD, BAD_COUNT, FREE_FORM, OTHER_FILE = range(9)
FOREIGN = 9  # a line that is not of the format
# Roles of a PLY property; 0, 1, 2 are the axes of a position.
SCALAR, CORNERS, LIST = 3, 4, 5

_MARKS = (
    (codecs.BOM_UTF8, ""),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NEWLINE, _RETURN, _SPACE, _TAB, _VERTICAL_TAB, _FORM_FEED, _BACKSLASH, _HASH = 10, 13, 32, 9, 11, 12, 92, 35
_DIGIT_0, _DOT, _MINUS, _PLUS, _SLASH = 48, 46, 45, 43, 47
_LETTER_E, _LETTER_F, _LETTER_I, _LETTER_N = 101, 102, 105, 110
_LETTER_O, _LETTER_Q, _LETTER_S, _LETTER_V = 111, 113, 115, 118
_LOWER = 32  # the bit that makes a letter lower case
_POWERS_OF_TEN = 10.0 ** np.arange(23)  # these are exact
_MAX_INTEGER = 1 << 40
_FACET, _NORMAL, _OUTER, _LOOP, _VERTEX, _SOLID, _END = (
    np.frombuffer(word, dtype=np.uint8)
    for word in (b"facet", b"normal", b"outer", b"loop", b"vertex", b"solid", b"end")
)
# What web pages, marks of a merge, JSON and binary data begin with, and no statement of an OBJ.
_FOREIGN_BYTES = np.frombuffer(bytes(range(9)) + bytes(range(14, 32)) + b"<>={[", dtype=np.uint8)
_SURFACE, _BEZIER_PATCH, _SPLINE_PATCH, _CALL = (
    np.frombuffer(word, dtype=np.uint8) for word in (b"surf", b"bzp", b"bsp", b"call")
)


def plain_text(content: bytes) -> bytes:
    """Text in an ASCII-compatible encoding, without byte order marks, with newlines as the only line ends.

    UTF-16 and UTF-32 are recognised by their marks, UTF-16 without one by the zeros between ASCII characters.
    Trailing zeros and end-of-file marks (0x1A) are dropped.
    """
    encoding = text_encoding(content)
    if encoding:
        content = content.decode(encoding, "replace").encode("utf-8")
    if codecs.BOM_UTF8 in content:  # also inside, in concatenated files
        content = content.replace(codecs.BOM_UTF8, b"")
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return content.rstrip(b"\0\x1a")


def text_encoding(content: bytes) -> str:
    """The UTF-16 or UTF-32 encoding of the content; empty for an ASCII-compatible one."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return encoding
    start = content[:64]
    if len(start) >= 16 and len(start) % 2 == 0:
        if not any(start[1::2]) and all(start[::2]):
            return "utf-16-le"
        if not any(start[::2]) and all(start[1::2]):
            return "utf-16-be"
    return ""


def as_lines(text: bytes) -> Bytes:
    """Plain text for the kernels, ended by a newline."""
    return np.frombuffer(text if text.endswith(b"\n") else text + b"\n", dtype=np.uint8)


@kernel
def _is_blank(byte: int) -> bool:
    return byte in (_SPACE, _TAB, _RETURN, _VERTICAL_TAB, _FORM_FEED)


@kernel
def _ends_word(byte: int) -> bool:
    return _is_blank(byte) or byte in (_NEWLINE, _BACKSLASH, _HASH)


@kernel
def _skip_blanks(text: Bytes, at: int) -> int:
    """The next byte that is not blank; a backslash that continues a line, with or without blanks after it, is."""
    while True:
        if _is_blank(text[at]):
            at += 1
        elif text[at] != _BACKSLASH:
            return at
        else:
            end = at + 1
            while end < text.size and _is_blank(text[end]):
                end += 1
            if end + 1 >= text.size or text[end] != _NEWLINE:
                return at
            at = end + 1


@kernel
def _skip_space(text: Bytes, at: int) -> int:
    """The next byte that is not blank, newline or comment; the text's size if there is none."""
    while at < text.size:
        if text[at] == _HASH:
            while text[at] != _NEWLINE:
                at += 1
        elif not (_is_blank(text[at]) or text[at] == _NEWLINE):
            return at
        at += 1
    return at


@kernel
def _skip_word(text: Bytes, at: int) -> int:
    while not _ends_word(text[at]):
        at += 1
    return at


@kernel
def _skip_line(text: Bytes, at: int) -> int:
    """The newline at the end of a line."""
    while at < text.size and text[at] != _NEWLINE:
        at += 1
    return at


@kernel
def read_obj(
    text: Bytes, vertices: Floats, corners: Integers, starts: Integers, max_triangles: int
) -> tuple[int, int, int, int]:
    """Fills the arrays from the `v` and `f` lines of an OBJ; returns an error and its line, vertices and faces."""
    at, line, vertex, face, corner, triangles = 0, 0, 0, 0, 0, 0
    is_data = False  # whether the last statement is a vertex or a face
    while at < text.size:
        line += 1
        at = _skip_blanks(text, at)
        letter = text[at] | _LOWER
        if letter == _LETTER_V and _is_blank(text[at + 1]):
            if vertex == vertices.shape[0]:
                return TOO_MANY, line, vertex, face
            at += 1
            for axis in range(3):
                at = _skip_blanks(text, at)
                value, end = _parse_number(text, at)
                if end == at:
                    return BAD_NUMBER, line, vertex, face
                vertices[vertex, axis] = value
                at = end
            vertex, is_data = vertex + 1, True
            more = _skip_blanks(text, at)  # a colour, which a backslash may continue in the next line
            while _begins_number(text, more):
                at = _skip_word(text, more)
                more = _skip_blanks(text, at)
        elif letter == _LETTER_F and (
            _is_blank(text[at + 1]) or ((text[at + 1] | _LOWER) == _LETTER_O and _is_blank(text[at + 2]))
        ):
            first = corner
            at = _skip_blanks(text, _skip_word(text, at))
            while text[at] not in (_NEWLINE, _HASH):
                number, end = _parse_integer(text, at)
                if number == 0 or not (_ends_word(text[end]) or text[end] == _SLASH):
                    return BAD_CORNER, line, vertex, face
                if corner == corners.size:
                    return TOO_MANY, line, vertex, face
                corners[corner] = number - 1 if number > 0 else vertex + number
                corner += 1
                end = _skip_word(text, end)
                at = _skip_blanks(text, end)
                if at == end and text[at] == _BACKSLASH:
                    return BAD_CORNER, line, vertex, face
            face += 1
            triangles += max(corner - first - 2, 0)
            if triangles > max_triangles or face + 1 == starts.size:
                return TOO_MANY, line, vertex, face
            starts[face], is_data = corner, True
        elif is_data and _begins_number(text, at):  # the rest of a line that is broken without a backslash
            return BAD_WORD, line, vertex, face
        elif text[at] not in (_NEWLINE, _HASH):
            is_data = False
            for byte in _FOREIGN_BYTES:
                if text[at] == byte:
                    return FOREIGN, line, vertex, face
            end = _skip_word(text, at)
            if _is_word(text, at, end, _CALL):
                return OTHER_FILE, line, vertex, face
            for word in (_SURFACE, _BEZIER_PATCH, _SPLINE_PATCH):
                if _is_word(text, at, end, word):
                    return FREE_FORM, line, vertex, face
        at = _skip_line(text, at) + 1
    return NO_ERROR, line, vertex, face


@kernel
def _begins_number(text: Bytes, at: int) -> bool:
    if text[at] in (_MINUS, _PLUS):
        at += 1
    if text[at] == _DOT:
        at += 1
    return bool(_DIGIT_0 <= text[at] <= _DIGIT_0 + 9)


@kernel
def read_off(
    text: Bytes, at: int, is_by_line: bool, vertices: Floats, corners: Integers, starts: Integers, max_triangles: int
) -> tuple[int, int, int, int, int]:
    """Fills the arrays from the vertices and faces of an OFF.

    Args:
        text: the file.
        at: offset of the first vertex.
        is_by_line: whether each row is one line, which may have more values, such as a colour; else line breaks may
            be anywhere.
        vertices: (rows, 3), filled.
        corners: filled with the corners of all faces.
        starts: (faces + 1,) filled with the start of each face's corners.
        max_triangles: the limit.

    Returns:
        an error code, its row (faces are counted after the vertices), how many corners a face announces and has, and
        the offset at which the faces end.
    """
    further = 0  # values in the line of a vertex after its position
    for vertex in range(vertices.shape[0]):
        at = _skip_space(text, at)
        if at >= text.size:
            return ENDS_EARLY, vertex, 0, 0, at
        for axis in range(3):
            at = _skip_to_value(text, at, is_by_line)
            if at >= text.size:
                return ENDS_EARLY, vertex, 0, 0, at
            value, end = _parse_number(text, at)
            if end == at:
                return BAD_NUMBER, vertex, 0, 0, at
            vertices[vertex, axis] = value
            at = end
        if is_by_line:
            at, more = _count_values(text, at)
            further = more if vertex == 0 else further
            if more != further:
                return BAD_COUNT, vertex, 0, 0, at
    corner, triangles = 0, 0
    for face in range(starts.size - 1):
        row = vertices.shape[0] + face
        at = _skip_space(text, at)
        if at >= text.size:
            return ENDS_EARLY, row, 0, 0, at
        count, end = _parse_integer(text, at)
        if end == at or count < 0 or not _ends_word(text[end]):
            return BAD_COUNT, row, count, 0, at
        at = end
        for number in range(count):
            at = _skip_to_value(text, at, is_by_line)
            if at >= text.size or text[at] in (_NEWLINE, _HASH):
                return BAD_CORNER, row, count, number, at
            value, end = _parse_integer(text, at)
            if end == at or not _ends_word(text[end]):
                return BAD_WORD, row, count, number, at
            if corner == corners.size:
                return TOO_MANY, row, count, 0, at
            corners[corner] = value
            corner += 1
            at = end
        triangles += max(count - 2, 0)
        if triangles > max_triangles:
            return TOO_MANY, row, count, 0, at
        starts[face + 1] = corner
        at = _skip_line(text, at) if is_by_line else at
    return NO_ERROR, 0, 0, 0, at


@kernel
def _count_values(text: Bytes, at: int) -> tuple[int, int]:
    """The newline at the end of a line, and how many values come before it or a comment."""
    count = 0
    while True:
        at = _skip_blanks(text, at)
        if at >= text.size or text[at] in (_NEWLINE, _HASH):
            return _skip_line(text, at), count
        end = _skip_word(text, at)
        at, count = end if end > at else at + 1, count + 1


@kernel
def read_ply_text(
    text: Bytes,
    at: int,
    is_by_line: bool,
    kinds: Integers,
    count: int,
    vertices: Floats,
    corners: Integers,
    starts: Integers,
) -> tuple[int, int, int]:
    """Reads the rows of one element of an ASCII PLY.

    Args:
        text: the body of the file.
        at: where the element begins.
        is_by_line: whether each row is one line, which may have more values; else line breaks may be anywhere.
        kinds: roles of its properties: an axis, SCALAR, CORNERS or LIST.
        count: number of rows.
        vertices: (rows, 3), filled if the element has axes.
        corners: filled if the element has a vertex list.
        starts: (rows + 1,) filled with the start of each row's corners.

    Returns:
        an error code, its row, and the offset at which the element ends.
    """
    corner = 0
    for row in range(count):
        at = _skip_blanks_and_newlines(text, at)
        for kind in kinds:
            at = _skip_to_value(text, at, is_by_line)
            if at >= text.size:
                return ENDS_EARLY, row, at
            value, end = _parse_number(text, at)
            if end == at:
                return BAD_NUMBER, row, at
            at = end
            if kind < SCALAR:
                vertices[row, kind] = value
            if kind <= SCALAR:
                continue
            if not 0 <= value <= text.size:
                return BAD_COUNT, row, at
            for _ in range(int(value)):
                at = _skip_to_value(text, at, is_by_line)
                if at >= text.size:
                    return ENDS_EARLY, row, at
                number, end = _parse_number(text, at)
                if end == at:
                    return BAD_NUMBER, row, at
                at = end
                if kind == CORNERS:
                    if corner == corners.size:
                        return TOO_MANY, row, at
                    corners[corner] = _whole(number)
                    corner += 1
        if is_by_line:
            at = _skip_line(text, at)
        if starts.size > 1:
            starts[row + 1] = corner
    return NO_ERROR, 0, at


@kernel
def _skip_to_value(text: Bytes, at: int, is_by_line: bool) -> int:
    """The next value of a row; by lines, the newline if the row has no more."""
    return _skip_blanks(text, at) if is_by_line else _skip_blanks_and_newlines(text, at)


@kernel
def _skip_blanks_and_newlines(text: Bytes, at: int) -> int:
    while at < text.size and (_is_blank(text[at]) or text[at] == _NEWLINE):
        at += 1
    return at


@kernel
def _whole(number: float) -> int:
    """A vertex number; -2, which is never valid, for a value that is not an integer."""
    if not abs(number) < _MAX_INTEGER or number != np.floor(number):
        return -2
    return int(number)


@kernel
def read_stl_text(text: Bytes, vertices: Floats, starts: Integers) -> tuple[int, int, int]:
    """Reads the facets of all solids of an ASCII STL.

    A line that begins with `solid` or `endsolid` gives a name of any words. Elsewhere line breaks may be anywhere.

    Returns:
        an error code, its line, and the number of facets.
    """
    at, line, vertex, facet = 0, 1, 0, 0
    is_open, starts_line = False, True  # in a facet; at the first word of a line
    while True:
        while at < text.size and (_is_blank(text[at]) or text[at] == _NEWLINE):
            if text[at] == _NEWLINE:
                line, starts_line = line + 1, True
            at += 1
        if at >= text.size:
            return (ENDS_EARLY if is_open else NO_ERROR), line, facet
        if text[at] == _HASH:
            at = _skip_line(text, at)
            continue
        start, end = at, _skip_word(text, at)
        at = end if end > start else end + 1
        ends = _is_word(text, start, start + 3, _END)
        if ends and end == start + 3:  # `end facet` for `endfacet`
            start = _skip_blanks(text, end)
            end = _skip_word(text, start)
            at = end
        elif ends:
            start += 3
        if _is_word(text, start, end, _SOLID) and (starts_line or ends):
            if is_open:
                return ENDS_EARLY, line, facet
            at = _skip_line(text, at)
        elif _is_word(text, start, end, _FACET):
            if is_open != ends:
                return ENDS_EARLY, line, facet
            is_open = not ends
            if ends:
                facet += 1
                starts[facet] = vertex
            elif facet + 1 == starts.size:
                return TOO_MANY, line, facet
        elif _is_word(text, start, end, _VERTEX) and is_open and not ends:
            if vertex == vertices.shape[0]:
                return TOO_MANY, line, facet
            for axis in range(3):
                at = _skip_blanks_and_newlines(text, at)
                if at >= text.size:
                    return ENDS_EARLY, line, facet
                value, end = _parse_number(text, at)
                if end == at:
                    return BAD_NUMBER, line, facet
                vertices[vertex, axis] = value
                at = end
            vertex += 1
        elif _is_word(text, start, end, _NORMAL) and is_open:
            at = _skip_numbers(text, at)
        elif not (is_open and (_is_word(text, start, end, _OUTER) or _is_word(text, start, end, _LOOP))):
            return BAD_WORD, line, facet
        starts_line = False


@kernel
def _is_word(text: Bytes, start: int, end: int, word: Bytes) -> bool:
    """Whether the bytes are a lower-case word, ignoring case."""
    if end - start != word.size or end > text.size:
        return False
    same = 0
    while same < word.size and (text[start + same] | _LOWER) == word[same]:
        same += 1
    return bool(same == word.size)


@kernel
def _skip_numbers(text: Bytes, at: int) -> int:
    """Skips up to three numbers of a normal, which may be missing."""
    for _ in range(3):
        start = _skip_blanks_and_newlines(text, at)
        if start >= text.size or _parse_number(text, start)[1] == start:
            return at
        at = _skip_word(text, start)
    return at


@kernel
def _parse_integer(text: Bytes, at: int) -> tuple[int, int]:
    """An integer and the offset of its end; 0 and the start if there is none."""
    start, negative = at, text[at] == _MINUS
    if negative or text[at] == _PLUS:
        at += 1
    first, value = at, np.int64(0)
    while True:
        digit = np.int64(text[at]) - _DIGIT_0
        if digit < 0 or digit > 9:
            break
        value = min(value * 10 + digit, np.int64(_MAX_INTEGER))
        at += 1
    if at == first:
        return 0, start
    return int(-value if negative else value), at


@kernel
def _parse_number(text: Bytes, at: int) -> tuple[float, int]:
    """A decimal number, to a few units in the last place, and the offset of its end; the start if there is none.

    Words that begin with n or i, and 1.#QNAN and the like, are read as NaN.
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
        if (
            text[at] == _HASH
            and text[at - 1] == _DOT
            and (text[at + 1] | _LOWER) in (_LETTER_I, _LETTER_Q, _LETTER_S)
        ):
            return np.nan, _skip_word(text, at + 1)
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
    """Appends digits to a mantissa; returns where they end, the mantissa, and the number of digits it cannot hold."""
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
    """The mantissa times 10^exponent, without intermediate overflow."""
    if exponent == 0 or mantissa == 0.0:
        return mantissa
    while exponent > 22:
        mantissa, exponent = mantissa * 1e22, exponent - 22
    while exponent < -22:
        mantissa, exponent = mantissa / 1e22, exponent + 22
    power = float(_POWERS_OF_TEN[abs(exponent)])
    return mantissa * power if exponent > 0 else mantissa / power
