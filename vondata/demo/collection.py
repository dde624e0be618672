"""The demo's objects: parameters, materials, mesh flaws and normalised parts of the n-th object of a class."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, assert_never, get_args

import numpy as np

from vondata.demo.car_design import draw_car
from vondata.demo.cars import build_car, car_materials
from vondata.demo.chair_design import draw_chair
from vondata.demo.chairs import build_chair, chair_materials
from vondata.demo.furniture import build_lamp, build_table, draw_lamp, draw_table, lamp_materials, table_materials
from vondata.frames import object_to_shapenet
from vondata.render.mesh import (
    Floats,
    Material,
    PartMesh,
    RenderMesh,
    concatenated,
    corner_normals,
    face_normals,
    quantile_choice,
)

Flaw = Literal["none", "bottomless", "single_sided", "holes", "double_sided", "inside_out"]

# In the order of quantiles; half of the objects have no flaw except overlapping parts.
SHARES: dict[Flaw, float] = {
    "none": 0.56,
    "bottomless": 0.10,
    "single_sided": 0.08,
    "holes": 0.08,
    "double_sided": 0.10,
    "inside_out": 0.08,
}


def flaw_of(quantile: float) -> Flaw:
    """The flaw for a quantile in [0, 1)."""
    return quantile_choice(SHARES, quantile)


def with_flaw(parts: Sequence[PartMesh], flaw: Flaw, rng: np.random.Generator) -> list[PartMesh]:
    """Applies a flaw to the parts of an object (object frame).

    Args:
        parts: closed parts.
        flaw: `bottomless` drops faces that point down, as many modellers do; `single_sided` keeps only the front of
            thin upright boards; `holes` drops one face in eighty; `double_sided` adds a reversed copy of every face;
            `inside_out` reverses a third of the parts.
        rng: selects faces and parts.
    """
    match flaw:
        case "none":
            return list(parts)
        case "bottomless":
            return [part.keeping(face_normals(part)[:, 2] > -0.9) for part in parts]
        case "single_sided":
            return [_front_only(part) if _is_board(part) else part for part in parts]
        case "holes":
            return [part.keeping(rng.random(len(part.faces)) > 1 / 80) for part in parts]
        case "double_sided":
            return [concatenated([part, part.flipped()], part.material) for part in parts]
        case "inside_out":
            return [part.flipped() if rng.random() < 1 / 3 else part for part in parts]
        case _:
            assert_never(flaw)


def _is_board(part: PartMesh) -> bool:
    width, depth, height = np.ptp(part.vertices, axis=0)
    return bool(depth < 0.3 * min(width, height) or (depth < 0.09 and width > 0.3))


def _front_only(part: PartMesh) -> PartMesh:
    return part.keeping(face_normals(part)[:, 1] > 0.3)


DemoClass = Literal["chair", "car", "table", "lamp"]
DEMO_CLASSES: tuple[DemoClass, ...] = get_args(DemoClass)
# Multiples of these irrational numbers, modulo 1, are evenly distributed for any number of objects.
FAMILY_STEP = 0.6180339887498949
FLAW_STEP = 0.7548776662466927


@dataclass(frozen=True, eq=False)
class DemoObject:
    """A textured object in the object frame, with its bounding box centred and of diagonal 1.

    Attributes:
        class_name: the object class.
        id: 32 hexadecimal digits, like ShapeNet's.
        family: the kind of chair, car, table or lamp.
        flaw: the flaw of its mesh.
        parts: meshes, with texture coordinates in metres.
        materials: the parts' materials by name.
        normals: (f, 3, 3) shading normals of the corners of all parts' faces, in the order of the parts.
    """

    class_name: DemoClass
    id: str
    family: str
    flaw: Flaw
    parts: tuple[PartMesh, ...]
    materials: Mapping[str, Material]
    normals: Floats

    def with_part(self, part: PartMesh, material: Material) -> DemoObject:
        """The object with one more part and its material."""
        return replace(
            self,
            parts=(*self.parts, part),
            materials={**self.materials, part.material: material},
            normals=np.concatenate([self.normals, corner_normals(part)]),
        )


def make_object(class_name: DemoClass, index: int, seed: int) -> DemoObject:
    """Generates the index-th object of a class; it depends only on these three arguments."""
    rng = np.random.default_rng([seed, DEMO_CLASSES.index(class_name), index])
    start = np.random.default_rng(seed).random(2)
    quantile = (start[0] + index * FAMILY_STEP) % 1.0
    flaw = flaw_of((start[1] + index * FLAW_STEP) % 1.0)
    family: str
    match class_name:
        case "chair":
            chair = draw_chair(rng, quantile)
            family, parts, materials = chair.family, build_chair(chair), chair_materials(chair, rng)
        case "car":
            car = draw_car(rng, quantile)
            family, parts, materials = car.body, build_car(car), car_materials(car)
        case "table":
            table = draw_table(rng, quantile)
            family, parts, materials = table.family, build_table(table), table_materials(table, rng)
        case "lamp":
            lamp = draw_lamp(rng, quantile)
            family, parts, materials = lamp.family, build_lamp(lamp), lamp_materials(lamp, rng)
        case _:
            assert_never(class_name)
    made = tuple(normalized(with_flaw(parts, flaw, rng)))
    used = {part.material for part in made}
    return DemoObject(
        class_name,
        hashlib.md5(
            " ".join(("von", "demo", class_name, str(seed), str(index))).encode(), usedforsecurity=False
        ).hexdigest(),
        family,
        flaw,
        made,
        {name: material for name, material in materials.items() if name in used},
        corner_normals(concatenated(made)),
    )


def normalized(parts: Sequence[PartMesh]) -> list[PartMesh]:
    """Translates and scales parts together so that the bounding box of their faces is centred with diagonal 1."""
    used = np.concatenate([part.vertices[part.faces.reshape(-1)] for part in parts])
    low, high = used.min(axis=0), used.max(axis=0)
    scale = 1.0 / np.linalg.norm(high - low)
    return [replace(part, vertices=(part.vertices - (low + high) / 2) * scale) for part in parts]


OCCLUDER = "occluder"
"""The material of parts that are an occluder in front of the object."""


def render_mesh(item: DemoObject) -> RenderMesh:
    """Converts an object to a mesh for the renderer."""
    names = list(item.materials)
    in_front = [np.full(len(part.faces), part.material == OCCLUDER) for part in item.parts]
    return RenderMesh(
        corners=np.concatenate([object_to_shapenet(part.vertices)[part.faces] for part in item.parts]),
        normals=np.asarray(object_to_shapenet(item.normals), dtype=np.float64),
        uvs=np.concatenate([part.uvs / item.materials[part.material].tile_m for part in item.parts]),
        material=np.concatenate([np.full(len(part.faces), names.index(part.material)) for part in item.parts]),
        materials=tuple(item.materials[name] for name in names),
        in_front=np.concatenate(in_front),
    )
