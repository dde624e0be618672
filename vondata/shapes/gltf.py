"""glTF 2.0 and GLB parser: all visible triangles of the default scene, in scene coordinates and the default pose.

Strips, fans, instances, skins and morph targets with their default weights are applied; points and lines are ignored.
An asset with an unsupported extension that changes geometry is rejected with the extension's name, so that no part of
a model is dropped silently.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vondata.shapes.gltf_data import DRACO, MESHOPT, GltfData, Json
from vondata.shapes.polygons import TriangleSoup
from vondata.shapes.source_file import Limits, MeshFileError
from vondata.types import Rejected

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

INSTANCING, VISIBILITY = "EXT_mesh_gpu_instancing", "KHR_node_visibility"
READ_EXTENSIONS = (DRACO, *MESHOPT, INSTANCING, VISIBILITY, "KHR_mesh_quantization")
# Extensions of appearance, animation and metadata, which do not change the geometry.
HARMLESS_EXTENSIONS = (
    "KHR_materials_",
    "KHR_texture_",
    "KHR_lights_",
    "KHR_xmp",
    "KHR_animation_",
    "KHR_technique",
    "KHR_physics",
    "KHR_audio",
    "KHR_interactivity",
    "EXT_lights_",
    "EXT_materials_",
    "EXT_texture_",
    "EXT_structural_metadata",
    "EXT_mesh_features",
    "EXT_instance_features",
    "EXT_mesh_manifold",
    "ADOBE_materials_",
    "FB_ngon_encoding",
    "MSFT_lod",
    "OMI_",
    "VRM",
    "CESIUM_primitive_outline",
    "CESIUM_RTC",
    "MSFT_packing_",
    "MSFT_texture_",
)
_TRIANGLES, _STRIP, _FAN = 4, 5, 6
_POINTS_AND_LINES = (0, 1, 2, 3)
_CHUNK = 1 << 14  # vertices skinned at a time


@dataclass(frozen=True)
class _Part:
    """A primitive and its transforms in the scene.

    Attributes:
        primitive: its JSON.
        weights: of its morph targets.
        skin: the index of its skin, or None.
        places: (n, 4, 4) from its own coordinates to the scene's, one per instance.
    """

    primitive: Json
    weights: tuple[float, ...]
    skin: object
    places: Floats


def read_gltf(content: bytes, beside: Callable[[str], bytes], limits: Limits) -> TriangleSoup:
    """Reads a GLB, or a glTF with its external files.

    Memory: the files, and some 200 bytes for each triangle that the limits allow.

    Args:
        content: the bytes of the file.
        beside: returns the content of a file in the same folder, by relative URI.
        limits: of the file and the mesh.

    Raises:
        MeshFileError, LookupError, TypeError: the asset contradicts the format or itself.
        Rejected: extension_unsupported, too_large, and what `beside` raises.
    """
    data = GltfData(content, beside, limits)
    _check_extensions(data)
    worlds = _world_matrices(data)
    parts = [part for node in _shown_nodes(data) for part in _parts_of(data, node, worlds[node])]
    if not parts and data.entries("meshes"):
        raise Rejected("empty_mesh", "the scene shows no triangles of the file's meshes")
    triangles = sum(len(part.places) * _triangle_count(data, part.primitive) for part in parts)
    corners = sum(len(part.places) * data.count(part.primitive["attributes"]["POSITION"]) for part in parts)
    limits.check_mesh(corners, triangles)
    vertices, faces, offset, broken = [np.empty((0, 3))], [np.empty((0, 3), dtype=np.int64)], 0, 0
    for part in parts:
        positions, own, cut = _read_primitive(data, part, worlds)
        broken += cut * len(part.places)
        for place in part.places:
            vertices.append(positions @ place[:3, :3].T + place[:3, 3])
            faces.append(own + offset)
            offset += len(positions)
        limits.check_mesh(offset, sum(len(each) for each in faces))
    return TriangleSoup(np.concatenate(vertices), np.concatenate(faces), broken)


def _check_extensions(data: GltfData) -> None:
    """Raises Rejected (extension_unsupported) if the asset requires an unknown extension."""
    required = data.tree.get("extensionsRequired", [])
    unknown = [_short(name) for name in required if not _is_known(name)]
    if unknown:
        raise Rejected("extension_unsupported", f"the asset requires {', '.join(sorted(unknown))}")


def _world_matrices(data: GltfData) -> list[Floats]:
    """(4, 4) matrices from each node's coordinates to the scene's."""
    nodes = data.entries("nodes")
    parents: list[int | None] = [None] * len(nodes)
    for number, node in enumerate(nodes):
        for child in node.get("children", []):
            data.entry("nodes", child)
            if parents[int(child)] is not None:
                raise MeshFileError(f"node {child} has two parents")
            parents[int(child)] = number
    worlds: list[Floats | None] = [None] * len(nodes)
    for number in range(len(nodes)):
        path, at = list[int](), int(number)
        while worlds[at] is None:
            path.append(at)
            if len(path) > len(nodes):
                raise MeshFileError(f"node {number} is a descendant of itself")
            parent = parents[at]
            if parent is None:
                break
            at = parent
        for each in reversed(path):
            parent = parents[each]
            own = _local_matrix(nodes[each])
            above = None if parent is None else worlds[parent]
            worlds[each] = own if above is None else above @ own
    return [world for world in worlds if world is not None]


def _local_matrix(node: Json) -> Floats:
    if "matrix" in node:
        matrix: Floats = np.array(node["matrix"], dtype=np.float64).reshape(4, 4).T
        return matrix
    own = _compose(
        np.array(node.get("translation", (0, 0, 0)), dtype=np.float64).reshape(1, 3),
        np.array(node.get("rotation", (0, 0, 0, 1)), dtype=np.float64).reshape(1, 4),
        np.array(node.get("scale", (1, 1, 1)), dtype=np.float64).reshape(1, 3),
    )
    return own.reshape(4, 4)


def _compose(translation: Floats, rotation: Floats, scale: Floats) -> Floats:
    """(n, 4, 4) matrices that scale, rotate by unit quaternions x, y, z, w, and translate."""
    length = np.linalg.norm(rotation, axis=1, keepdims=True)
    x, y, z, w = np.where(length > 0, rotation / np.where(length > 0, length, 1.0), (0.0, 0.0, 0.0, 1.0)).T
    matrices = np.zeros((len(translation), 4, 4))
    matrices[:, 0, :3] = np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], axis=1)
    matrices[:, 1, :3] = np.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], axis=1)
    matrices[:, 2, :3] = np.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], axis=1)
    matrices[:, :3, :3] *= scale[:, None, :]
    matrices[:, :3, 3] = translation
    matrices[:, 3, 3] = 1.0
    return matrices


def _shown_nodes(data: GltfData) -> Iterator[int]:
    """The visible nodes of the default scene, else of the first scene, else all visible nodes."""
    nodes = data.entries("nodes")
    if data.entries("scenes"):
        waiting = deque[Any](data.entry("scenes", data.tree.get("scene", 0)).get("nodes", []))
    else:
        children = {child for node in nodes for child in node.get("children", [])}
        waiting = deque(number for number in range(len(nodes)) if number not in children)
    seen = set[int]()
    while waiting:
        number = waiting.popleft()
        node = data.entry("nodes", number)
        if number in seen or _extension(node, VISIBILITY).get("visible", True) is False:
            continue
        seen.add(number)
        yield int(number)
        waiting += node.get("children", [])


def _parts_of(data: GltfData, number: int, world: Floats) -> Iterator[_Part]:
    node = data.entry("nodes", number)
    if "mesh" not in node:
        return
    mesh = data.entry("meshes", node["mesh"])
    places = world[None]
    if INSTANCING in node.get("extensions", {}):
        places = world @ _instances(data, _extension(node, INSTANCING))
    skin = node.get("skin")
    if skin is not None:  # only the joints place a skinned mesh
        places = np.eye(4)[None]
    weights = tuple(float(each) for each in node.get("weights") or mesh.get("weights") or ())
    for primitive in mesh["primitives"]:
        mode = primitive.get("mode", _TRIANGLES)
        if mode in _POINTS_AND_LINES:
            continue
        if mode not in (_TRIANGLES, _STRIP, _FAN):
            raise MeshFileError(f"a primitive of mode {str(mode)[:20]}")
        if "POSITION" not in primitive["attributes"]:
            raise MeshFileError("a primitive without positions")
        _check_data(data, primitive)
        yield _Part(primitive, weights, skin, places)


def _check_data(data: GltfData, primitive: Json) -> None:
    """Raises Rejected (extension_unsupported) if only an unknown extension holds the primitive's positions."""
    unknown = [name for name in primitive.get("extensions", {}) if not _is_known(name)]
    if unknown and not data.has_data(primitive["attributes"]["POSITION"]):
        raise Rejected("extension_unsupported", f"a part of the model is in {', '.join(map(_short, unknown))}")


def _is_known(name: object) -> bool:
    return name in READ_EXTENSIONS or str(name).startswith(HARMLESS_EXTENSIONS)


def _short(name: object) -> str:
    return str(name)[:60]


def _extension(entry: Json, name: str) -> Json:
    found = entry.get("extensions", {}).get(name, {})
    if not isinstance(found, dict):
        raise MeshFileError(f"{name} is not an object")
    return found


def _instances(data: GltfData, extension: Json) -> Floats:
    """(n, 4, 4) matrices from a node's instances to the node."""
    attributes: dict[str, Any] = extension["attributes"]
    columns = {"TRANSLATION": (3, [0, 0, 0]), "ROTATION": (4, [0, 0, 0, 1]), "SCALE": (3, [1, 1, 1])}
    counts = {data.count(attributes[name]) for name in columns if name in attributes}
    if len(counts) > 1:
        raise MeshFileError(f"{INSTANCING} with attributes of {sorted(counts)} elements")
    count = counts.pop() if counts else 1
    values = [
        data.floats(attributes[name], width)
        if name in attributes
        else np.tile(np.array(default, dtype=np.float64), (count, 1))
        for name, (width, default) in columns.items()
    ]
    return _compose(*values)


def _triangle_count(data: GltfData, primitive: Json) -> int:
    """An upper bound of the number of triangles, before anything is read."""
    corners = data.count(primitive.get("indices", primitive["attributes"]["POSITION"]))
    return corners // 3 if primitive.get("mode", _TRIANGLES) == _TRIANGLES else max(corners - 2, 0)


def _read_primitive(data: GltfData, part: _Part, worlds: list[Floats]) -> tuple[Floats, Integers, int]:
    """Positions (n, 3) and faces (t, 3) of a primitive, morphed and skinned, and how many faces are incomplete."""
    primitive, attributes = part.primitive, part.primitive["attributes"]
    packed = primitive.get("extensions", {}).get(DRACO)
    decoded: dict[str, npt.NDArray[Any]] = {}
    if packed is not None and not data.has_data(attributes["POSITION"]):
        faces, decoded = data.draco(packed)
        broken = 0
    else:
        faces, broken = _faces(data, primitive)

    def floats(name: str, width: int) -> Floats:
        if name in decoded:
            return data.as_floats(attributes[name], decoded[name].reshape(-1, width))
        return data.floats(attributes[name], width)

    positions = floats("POSITION", 3)
    for accessor in (attributes["POSITION"], primitive.get("indices", attributes["POSITION"])):
        data.check_stored(accessor)
    if faces.size and not 0 <= faces.min() <= faces.max() < len(positions):
        raise MeshFileError(f"a face names vertex {faces.max():,}, and there are {len(positions):,}")
    for weight, target in zip(part.weights, primitive.get("targets", []), strict=False):
        if weight and "POSITION" in target:
            positions = positions + weight * _same_length(data.floats(target["POSITION"], 3), positions)
    if part.skin is None:
        return positions, faces, broken
    joints, weights = list[Integers](), list[Floats]()
    while f"JOINTS_{len(joints)}" in attributes:
        name = f"JOINTS_{len(joints)}"
        joints.append(decoded[name].astype(np.int64) if name in decoded else data.integers(attributes[name], 4))
        weights.append(floats(f"WEIGHTS_{len(weights)}", 4))
    if not joints:
        raise MeshFileError("a skinned primitive without joints")
    matrices = _joint_matrices(data, data.entry("skins", part.skin), worlds)
    return _skin(positions, np.concatenate(joints, axis=1), np.concatenate(weights, axis=1), matrices), faces, broken


def _same_length(values: Floats, positions: Floats) -> Floats:
    if len(values) != len(positions):
        raise MeshFileError(f"a morph target of {len(values):,} for {len(positions):,} vertices")
    return values


def _faces(data: GltfData, primitive: Json) -> tuple[Integers, int]:
    if "indices" in primitive:
        corners = data.integers(primitive["indices"])
    else:
        corners = np.arange(data.count(primitive["attributes"]["POSITION"]), dtype=np.int64)
    mode = primitive.get("mode", _TRIANGLES)
    if mode == _TRIANGLES:
        if len(corners) % 3:
            raise MeshFileError(f"{len(corners):,} corners, which is not a multiple of three")
        return corners.reshape(-1, 3), 0
    if len(corners) < 3:
        return np.empty((0, 3), dtype=np.int64), int(len(corners) > 0)
    first = corners[:-2] if mode == _STRIP else np.full(len(corners) - 2, corners[0])
    return np.stack([first, corners[1:-1], corners[2:]], axis=1), 0


def _joint_matrices(data: GltfData, skin: Json, worlds: list[Floats]) -> Floats:
    """(joints, 4, 4) matrices from the coordinates of a skinned mesh to the scene's."""
    joints = skin["joints"]
    for joint in joints:
        data.entry("nodes", joint)
    matrices = np.array([worlds[joint] for joint in joints]).reshape(-1, 4, 4)
    if "inverseBindMatrices" not in skin:
        return matrices
    inverse = data.floats(skin["inverseBindMatrices"], 16).reshape(-1, 4, 4).transpose(0, 2, 1)
    if len(inverse) < len(matrices):
        raise MeshFileError(f"{len(inverse)} bind matrices for {len(matrices)} joints")
    return np.asarray(matrices @ inverse[: len(matrices)])


def _skin(positions: Floats, joints: Integers, weights: Floats, matrices: Floats) -> Floats:
    """Linear blend skinning; weights (n, k) are normalised to sum to one, all zeros mean the first joint."""
    if not len(positions) == len(joints) == len(weights):
        raise MeshFileError("joints or weights for another number of vertices")
    if joints.size and not 0 <= joints.min() <= joints.max() < len(matrices):
        raise MeshFileError(f"a vertex names joint {joints.max()} of {len(matrices)}")
    total = weights.sum(axis=1, keepdims=True)
    first = np.zeros(weights.shape[1])
    first[0] = 1.0
    weights = np.where(total > 0, weights / np.where(total > 0, total, 1.0), first)
    moved = np.empty_like(positions)
    for start in range(0, len(positions), _CHUNK):
        rows = slice(start, start + _CHUNK)
        blended = np.einsum("nk,nkij->nij", weights[rows], matrices[joints[rows], :3])
        moved[rows] = np.einsum("nij,nj->ni", blended[:, :, :3], positions[rows]) + blended[:, :, 3]
    return moved
