"""Binary glTF: one triangle mesh with normals and, where there are any, colours of its vertices."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

_MAGIC, _VERSION, _JSON, _BINARY = 0x46546C67, 2, 0x4E4F534A, 0x004E4942
_FLOAT, _UNSIGNED_INT = 5126, 5125
_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963
_CLAY = (0.73, 0.72, 0.70, 1.0)


def encode_glb(
    vertices: npt.NDArray[np.floating],
    faces: npt.NDArray[np.integer],
    normals: npt.NDArray[np.floating],
    colours: npt.NDArray[np.uint8] | None = None,
) -> bytes:
    """A mesh as the content of a .glb file.

    Args:
        vertices: (v, 3) in glTF's frame, y up and the front towards +z.
        faces: (f, 3) vertex indices, counterclockwise seen from outside.
        normals: (v, 3) unit vectors.
        colours: (v, 3) sRGB; glTF wants them linear, and gets them so.
    """
    arrays: dict[str, npt.NDArray[Any]] = {
        "POSITION": np.ascontiguousarray(vertices, dtype="<f4"),
        "NORMAL": np.ascontiguousarray(normals, dtype="<f4"),
    }
    if colours is not None:
        arrays["COLOR_0"] = np.ascontiguousarray(linear_of_srgb(colours), dtype="<f4")
    arrays["indices"] = np.ascontiguousarray(faces, dtype="<u4").reshape(-1)
    views: list[dict[str, int]] = []
    accessors: list[dict[str, Any]] = []
    at = 0
    for name, array in arrays.items():
        target = _ELEMENT_ARRAY_BUFFER if name == "indices" else _ARRAY_BUFFER
        views.append({"buffer": 0, "byteOffset": at, "byteLength": array.nbytes, "target": target})
        accessors.append(_accessor(len(accessors), name, array))
        at += array.nbytes
    names = list(arrays)
    attributes = {name: index for index, name in enumerate(names) if name != "indices"}
    white = (1.0, 1.0, 1.0, 1.0)
    material = {
        "name": "clay" if colours is None else "painted",
        "pbrMetallicRoughness": {
            "baseColorFactor": _CLAY if colours is None else white,
            "metallicFactor": 0.0,
            "roughnessFactor": 0.9,
        },
    }
    document = {
        "asset": {"version": "2.0", "generator": "VON"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": names.index("indices"), "material": 0}]}],
        "materials": [material],
        "buffers": [{"byteLength": at}],
        "bufferViews": views,
        "accessors": accessors,
    }
    return _container(json.dumps(document).encode(), b"".join(array.tobytes() for array in arrays.values()))


def linear_of_srgb(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Linear intensities in [0, 1] of 8-bit sRGB values."""
    value = colours / 255.0
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _accessor(view: int, name: str, array: npt.NDArray[Any]) -> dict[str, Any]:
    if name == "indices":
        return {"bufferView": view, "componentType": _UNSIGNED_INT, "count": len(array), "type": "SCALAR"}
    accessor = {"bufferView": view, "componentType": _FLOAT, "count": len(array), "type": "VEC3"}
    if name == "POSITION":  # which must say its bounds
        accessor |= {"min": array.min(axis=0).tolist(), "max": array.max(axis=0).tolist()}
    return accessor


def _container(document: bytes, binary: bytes) -> bytes:
    document += b" " * (-len(document) % 4)
    binary += b"\0" * (-len(binary) % 4)
    size = 12 + 8 + len(document) + 8 + len(binary)
    return b"".join(
        [
            struct.pack("<III", _MAGIC, _VERSION, size),
            struct.pack("<II", len(document), _JSON),
            document,
            struct.pack("<II", len(binary), _BINARY),
            binary,
        ]
    )
