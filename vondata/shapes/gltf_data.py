"""The data of a glTF 2.0 asset: its JSON, buffers and accessors, compressed ones included.

Every kind of accessor of the core format is read: all component types, normalised or not, strided, sparse, and
without a buffer view. Draco and meshopt are decoded by the packages of the extra `meshes`. Sizes are checked against
the limits and the bytes present before memory is allocated.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
import numpy.typing as npt

from vondata.shapes.source_file import Limits, MeshFileError, check_no_lost_block
from vondata.shapes.text import plain_text
from vondata.types import Rejected

Json = dict[str, Any]
Values = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

DRACO = "KHR_draco_mesh_compression"
MESHOPT = ("EXT_meshopt_compression", "KHR_meshopt_compression")
_MAGIC, _JSON_CHUNK, _BINARY_CHUNK = b"glTF", 0x4E4F534A, 0x004E4942
_COMPONENTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_DTYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_MAX_JSON_PARTS = 4_000_000  # values of the JSON, each of which takes some hundred bytes of memory
_MAX_STRIDE = 256
_MAX_PLANNED_BYTES = 16 * 2**20  # of a JSON that is searched for external files; longer ones embed their data


class GltfData:
    """An asset's JSON, and typed access to what it refers to.

    Args:
        content: a GLB, or the JSON of a glTF.
        beside: returns the content of a file in the asset's folder, by relative URI.
        limits: of the file and the mesh.

    Raises:
        MeshFileError: not glTF 2.0, or an asset that contradicts itself.
        Rejected: too_large, or format_unknown if it needs a later version of glTF.
    """

    def __init__(self, content: bytes, beside: Callable[[str], bytes], limits: Limits) -> None:
        self._beside, self._limits = beside, limits
        text, self._binary, self._binary_offset = _split_container(content)
        self.tree = _parse_tree(text)
        version = str(self.tree["asset"]["version"])
        if not version.startswith("2."):
            raise MeshFileError(f"glTF version {version[:20]}; only version 2 is supported")
        if "minVersion" in self.tree["asset"] and (needed := str(self.tree["asset"]["minVersion"])) != "2.0":
            raise Rejected("format_unknown", f"the asset needs a reader of glTF {needed[:20]}; this one reads 2.0")
        self._entries: dict[str, list[Json]] = {}
        self._buffers: dict[int, bytes] = {}
        self._views: dict[int, memoryview] = {}
        self._bytes = len(content)
        for accessor in self.entries("accessors"):
            if _whole(accessor["count"]) > limits.vertices:
                limits.check_mesh(limits.vertices + 1, accessor["count"] // 3)

    def entries(self, kind: str) -> list[Json]:
        """All entries of one kind, such as nodes."""
        if kind not in self._entries:
            entries = self.tree.get(kind, [])
            if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
                raise MeshFileError(f"{kind} is not a list of objects")
            self._entries[kind] = entries
        return self._entries[kind]

    def entry(self, kind: str, index: object) -> Json:
        """One entry of a kind by its index."""
        entries, number = self.entries(kind), _whole(index)
        if number >= len(entries):
            raise MeshFileError(f"{kind} {number} of {len(entries)}")
        return entries[number]

    def count(self, accessor: object) -> int:
        """How many elements an accessor has."""
        return _whole(self.entry("accessors", accessor)["count"])

    def has_data(self, accessor: object) -> bool:
        """Whether an accessor has stored values; otherwise all its values are zero by definition."""
        entry = self.entry("accessors", accessor)
        return "bufferView" in entry or "sparse" in entry

    def floats(self, accessor: object, width: int) -> Floats:
        """(count, width) values as float64; normalised integers become [-1, 1] or [0, 1]."""
        return self.as_floats(accessor, self._values(accessor, width))

    def as_floats(self, accessor: object, values: Values) -> Floats:
        """Decoded values of an accessor as float64."""
        is_normalized = self.entry("accessors", accessor).get("normalized") is True
        if is_normalized and values.dtype.kind in "iu":
            return np.asarray(np.maximum(values / np.float64(np.iinfo(values.dtype).max), -1.0))
        return values.astype(np.float64)

    def check_stored(self, accessor: object) -> None:
        """Checks that no block of an accessor's bytes is lost, see `check_no_lost_block`.

        Raises:
            MeshFileError: one is.
        """
        entry = self.entry("accessors", accessor)
        view = self.entry("bufferViews", entry["bufferView"]) if "bufferView" in entry else {}
        if not view or "byteStride" in view or "extensions" in view:
            return
        number = _whole(view["buffer"])
        uri = self.entry("buffers", number).get("uri")
        if (uri or "").lower().startswith("data:"):
            return
        start = _whole(view.get("byteOffset", 0)) + _whole(entry.get("byteOffset", 0))
        width = np.dtype(_DTYPES[entry["componentType"]]).itemsize * _COMPONENTS[entry["type"]]
        offset = self._binary_offset if uri is None else 0
        check_no_lost_block(self._buffer(number), start, start + width * _whole(entry["count"]), offset)

    def integers(self, accessor: object, width: int = 1) -> Integers:
        """(count, width) integers; (count,) for a width of 1."""
        values = self._values(accessor, width)
        if values.dtype.kind == "f" and not np.all(values == np.floor(values)):
            raise MeshFileError(f"accessor {accessor} has values that are not integers")
        whole = values.astype(np.int64)
        return whole.reshape(-1) if width == 1 else whole

    def draco(self, extension: Json) -> tuple[Integers, dict[str, Values]]:
        """The (t, 3) faces of a Draco-compressed primitive, and its attributes (n, width) by name.

        Raises:
            Rejected: extension_unsupported (there is no decoder), too_large.
        """
        data = bytes(self._view(extension["bufferView"]))
        _check_draco(data, self._limits)
        try:
            import DracoPy
        except ImportError as error:
            raise _no_decoder(DRACO, "DracoPy") from error
        try:
            mesh = DracoPy.decode(data)
        except Exception as error:
            raise MeshFileError(f"{DRACO}: {error}") from error
        found = {each["unique_id"]: each["data"] for each in mesh.attributes}
        attributes = {name: np.asarray(found[id]) for name, id in extension["attributes"].items()}
        faces = np.asarray(getattr(mesh, "faces", np.empty((0, 3)))).astype(np.int64).reshape(-1, 3)
        return faces, attributes

    def _values(self, accessor: object, width: int) -> Values:
        entry = self.entry("accessors", accessor)
        if _COMPONENTS[entry["type"]] != width:
            raise MeshFileError(f"accessor {accessor} is a {entry['type']}, not of {width} components")
        dtype, count = np.dtype(_DTYPES[entry["componentType"]]), _whole(entry["count"])
        if "bufferView" in entry:
            place = entry["bufferView"], _whole(entry.get("byteOffset", 0))
            values = self._strided(place, dtype, (count, width))
        elif count <= self._bytes:  # a bound on the memory that an accessor without data can take
            values = np.zeros((count, width), dtype)
        else:
            raise MeshFileError(f"{count:,} elements without data in a file of {self._bytes:,} bytes")
        sparse = entry.get("sparse")
        return values if sparse is None else self._with_sparse(values, sparse)

    def _with_sparse(self, values: Values, sparse: Json) -> Values:
        count = _whole(sparse["count"])
        where, what = sparse["indices"], sparse["values"]
        place = where["bufferView"], _whole(where.get("byteOffset", 0))
        rows = self._strided(place, np.dtype(_DTYPES[where["componentType"]]), (count, 1)).reshape(-1)
        if count and not rows.max() < len(values):
            raise MeshFileError(f"a sparse accessor sets element {rows.max():,} of {len(values):,}")
        place = what["bufferView"], _whole(what.get("byteOffset", 0))
        values = values.copy()
        values[rows.astype(np.int64)] = self._strided(place, values.dtype, (count, values.shape[1]))
        return values

    def _strided(self, place: tuple[object, int], dtype: np.dtype[Any], shape: tuple[int, int]) -> Values:
        """A NumPy view of the rows of a buffer view, strided or tightly packed."""
        view, offset = place
        data, (count, width) = self._view(view), shape
        stride = _whole(self.entry("bufferViews", view).get("byteStride", 0)) or width * dtype.itemsize
        end = offset + stride * (count - 1) + width * dtype.itemsize
        if count and end > len(data):
            raise MeshFileError(f"{count:,} elements end at byte {end:,} of a view of {len(data):,}")
        return np.ndarray(shape, dtype, buffer=data, offset=offset if count else 0, strides=(stride, dtype.itemsize))

    def _view(self, index: object) -> memoryview:
        """The bytes of a buffer view, decompressed."""
        number = _whole(index)
        if number not in self._views:
            entry = self.entry("bufferViews", number)
            extensions = entry.get("extensions", {})
            packed = next((extensions[name] for name in MESHOPT if name in extensions), None)
            if packed is None:
                self._views[number] = self._range(entry)
            else:
                self._views[number] = memoryview(_decode_meshopt(bytes(self._range(packed)), packed, self._limits))
        return self._views[number]

    def _range(self, entry: Json) -> memoryview:
        buffer = self._buffer(_whole(entry["buffer"]))
        start, length = _whole(entry.get("byteOffset", 0)), _whole(entry["byteLength"])
        if start + length > len(buffer):
            raise MeshFileError(f"a view ends at byte {start + length:,} of a buffer of {len(buffer):,}")
        return memoryview(buffer)[start : start + length]

    def _buffer(self, number: int) -> bytes:
        if number not in self._buffers:
            entry = self.entry("buffers", number)
            content = self._content_of(entry, number)
            if len(content) < _whole(entry["byteLength"]):
                raise MeshFileError(f"{entry['byteLength']:,} bytes in a buffer announced, {len(content):,} there")
            self._bytes += len(content)
            if self._bytes > 2 * self._limits.file_mb * 2**20:
                raise Rejected("too_large", f"buffers of over {2 * self._limits.file_mb} MiB in all")
            self._buffers[number] = content
        return self._buffers[number]

    def _content_of(self, entry: Json, number: int) -> bytes:
        uri = entry.get("uri")
        if uri is None:
            if number == 0 and self._binary is not None:
                return self._binary
            raise MeshFileError(f"buffer {number} has no data")
        if not uri.lower().startswith("data:"):
            return self._beside(uri)
        head, comma, body = uri.partition(",")
        if not comma:
            raise MeshFileError(f"buffer {number} has a data URI without data")
        data = unquote_to_bytes(body)
        return base64.b64decode(data) if head.lower().endswith(";base64") else data


def linked_uris(path: Path, kind: str) -> list[str]:
    """The URIs of other files that a glTF or GLB names among its buffers or images; only its JSON is read.

    Raises:
        OSError, ValueError, LookupError, TypeError, AttributeError: it is no readable glTF.
        Rejected: too_large.
    """
    with open(path, "rb") as file:
        start = file.read(20)
        length = int.from_bytes(start[12:16], "little") if start.startswith(_MAGIC) else _MAX_PLANNED_BYTES
        text = (b"" if start.startswith(_MAGIC) else start) + file.read(min(length, _MAX_PLANNED_BYTES))
    if b'"uri"' not in text:
        return []
    entries = _parse_tree(text).get(kind, [])
    return [each["uri"] for each in entries if not each.get("uri", "data:").lower().startswith("data:")]


def _parse_tree(text: bytes) -> Json:
    """The JSON of an asset, whose number of values is checked before it is parsed."""
    if text.count(b",") + text.count(b"{") + text.count(b"[") > _MAX_JSON_PARTS:
        raise Rejected("too_large", f"over {_MAX_JSON_PARTS:,} values in the JSON, which is the limit")
    tree = json.loads(plain_text(text))
    if not isinstance(tree, dict):
        raise MeshFileError("the JSON is not an object")
    return tree


def _split_container(content: bytes) -> tuple[bytes, bytes | None, int]:
    """The JSON, the binary chunk if there is one, and where that begins."""
    if not content.startswith(_MAGIC):
        return content, None, 0
    version, announced = int.from_bytes(content[4:8], "little"), int.from_bytes(content[8:12], "little")
    if version != 2:
        raise MeshFileError(f"glTF version {version}; only version 2 is supported")
    if announced > len(content):
        raise MeshFileError(f"{announced:,} bytes announced, {len(content):,} there")
    chunks, starts, at = dict[int, bytes](), dict[int, int](), 12
    while at + 8 <= announced:
        length, kind = (
            int.from_bytes(content[at : at + 4], "little"),
            int.from_bytes(content[at + 4 : at + 8], "little"),
        )
        if at + 8 + length > announced:
            raise MeshFileError(f"a chunk of {length:,} bytes where {announced - at - 8:,} are left")
        chunks.setdefault(kind, content[at + 8 : at + 8 + length])
        starts.setdefault(kind, at + 8)
        at += 8 + length
    if _JSON_CHUNK not in chunks:
        raise MeshFileError("no JSON in the file")
    return chunks[_JSON_CHUNK], chunks.get(_BINARY_CHUNK), starts.get(_BINARY_CHUNK, 0)


def _whole(value: object) -> int:
    """Checks a count, index or offset: an integer of at least 0."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise MeshFileError(f"{str(value)[:40]!r} where a count or an index is expected")
    return value


def _no_decoder(extension: str, package: str) -> Rejected:
    return Rejected(
        "extension_unsupported", f"{extension}: the package {package}, which decodes it, is not installed"
    )


def _check_draco(data: bytes, limits: Limits) -> None:
    """Checks the counts in the header of a Draco mesh against the limits."""
    if data[:5] != b"DRACO" or len(data) < 12:
        raise MeshFileError(f"{DRACO}: {len(data)} bytes that do not begin like a mesh")
    version, kind, method = (data[5], data[6]), data[7], data[8]
    has_metadata = int.from_bytes(data[9:11], "little") & 0x8000
    if kind != 1 or has_metadata or version < (2, 2):
        return
    first, at = _varint(data, 12 if method == 1 else 11)
    second, _ = _varint(data, at)
    vertices, faces = (first, second) if method == 1 else (second, first)
    limits.check_mesh(vertices, faces)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        value |= (data[at] & 127) << shift
        if data[at] < 128:
            return value, at + 1
        at, shift = at + 1, shift + 7


def _decode_meshopt(data: bytes, entry: Json, limits: Limits) -> bytes:
    """Decodes a buffer view compressed by meshopt.

    Raises:
        Rejected: extension_unsupported, too_large.
    """
    count, stride, mode = _whole(entry["count"]), _whole(entry["byteStride"]), entry["mode"]
    if not 0 < stride <= _MAX_STRIDE:
        raise MeshFileError(f"elements of {stride} bytes under {MESHOPT[0]}")
    if count > limits.vertices or count * stride > 32 * limits.vertices:
        limits.check_mesh(limits.vertices + 1, 0)
    if mode not in ("ATTRIBUTES", "TRIANGLES"):
        raise Rejected("extension_unsupported", f"{MESHOPT[0]} in mode {str(mode)[:40]}, which is not decoded")
    library = _meshopt()
    try:
        if mode == "TRIANGLES":
            return bytes(library.decode_index_buffer(data, count).astype("<u2" if stride == 2 else "<u4").tobytes())
        decoded = bytes(library.decode_vertex_buffer(data, count, stride, np.uint8).tobytes())
    except RuntimeError as error:
        raise MeshFileError(f"{MESHOPT[0]}: {error}") from error
    return _without_filter(decoded, str(entry.get("filter", "NONE")), stride)


def _meshopt() -> Any:
    """The decoder module, which needs a processor with AVX2."""
    from llvmlite import binding

    try:
        import almeshopt
    except ImportError as error:
        raise _no_decoder(MESHOPT[0], "almeshopt") from error
    if not binding.get_host_cpu_features().get("avx2", False):
        raise Rejected("extension_unsupported", f"{MESHOPT[0]}: its decoder needs a processor with AVX2")
    return almeshopt


def _without_filter(data: bytes, name: str, stride: int) -> bytes:
    """Reverts the filters of positions and rotations; filtered normals are left as they are."""
    match name:
        case "NONE" | "OCTAHEDRAL":
            return data
        case "EXPONENTIAL":
            words = np.frombuffer(data, "<i4")
            return bytes(np.ldexp((words << 8 >> 8).astype(np.float64), words >> 24).astype("<f4").tobytes())
        case "QUATERNION" if stride == 8:
            return bytes(_unpack_quaternions(np.frombuffer(data, "<i2").reshape(-1, 4)).tobytes())
    raise Rejected("extension_unsupported", f"{MESHOPT[0]} with filter {name[:40]}, which is not decoded")


def _unpack_quaternions(packed: Values) -> Values:
    """(n, 4) normalised 16-bit x, y, z, w of rotations stored as three components and the index of the fourth."""
    scale = (packed[:, 3] | 3).astype(np.float64)
    three = packed[:, :3] / (scale * np.sqrt(2.0))[:, None]
    missing = np.sqrt(np.maximum(1.0 - (three**2).sum(axis=1), 0.0))
    result = np.empty((len(packed), 4))
    largest = packed[:, 3] & 3
    rows = np.arange(len(packed))
    for step in range(3):
        result[rows, (largest + 1 + step) & 3] = three[:, step]
    result[rows, largest] = missing
    return np.asarray(np.rint(result * 32767.0).astype("<i2"))
