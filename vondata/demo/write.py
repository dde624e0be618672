"""Writes the demo atomically: meshes in ShapeNetCore's layout, photos and a von.toml."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vondata.classes import load_class
from vondata.demo.collection import DemoClass, DemoObject, make_object, render_mesh
from vondata.demo.photos import annotation, take_room_photo, take_white_photo, write_room_photo, write_white_photo
from vondata.errors import VonError
from vondata.frames import object_to_shapenet
from vondata.render.caster import Caster
from vondata.render.mesh import Material, distinct_rows

MODEL_NAME = "model_normalized"
JPEG_QUALITY = 92


def write_model(item: DemoObject, synset_folder: Path) -> Path:
    """Writes a model's mesh, materials and textures.

    Args:
        item: the object.
        synset_folder: the class's folder.

    Returns:
        The path of the OBJ file.
    """
    models = synset_folder / item.id / "models"
    models.mkdir(parents=True)
    textures = _write_textures(item, models.parent / "images")
    (models / f"{MODEL_NAME}.mtl").write_text(
        "".join(_mtl_entry(name, each, textures.get(name)) for name, each in item.materials.items()), "utf-8"
    )
    path = models / f"{MODEL_NAME}.obj"
    path.write_text(_obj_text(item), "utf-8")
    return path


def _write_textures(item: DemoObject, images: Path) -> dict[str, str]:
    names: dict[str, str] = {}
    for name, material in item.materials.items():
        if material.texture is None:
            continue
        images.mkdir(exist_ok=True)
        names[name] = f"texture{len(names)}.jpg"
        done, data = cv2.imencode(".jpg", material.texture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        assert done
        (images / names[name]).write_bytes(data.tobytes())
    return names


def _mtl_entry(name: str, material: Material, texture: str | None) -> str:
    red, green, blue = (1.0, 1.0, 1.0) if texture else material.colour
    lines = [
        f"newmtl {name}",
        f"Ns {10 + 190 * material.gloss:.1f}",
        "Ka 0.0 0.0 0.0",
        f"Kd {red:.4f} {green:.4f} {blue:.4f}",
        f"Ks {material.gloss:.4f} {material.gloss:.4f} {material.gloss:.4f}",
        "d 1.0",
        "illum 2",
    ]
    if texture:
        lines.append(f"map_Kd ../images/{texture}")
    return "\n".join(lines) + "\n\n"


def _obj_text(item: DemoObject) -> str:
    parts = item.parts
    corners = [object_to_shapenet(part.vertices[part.faces]).reshape(-1, 3) for part in parts]
    uvs = [(part.uvs / item.materials[part.material].tile_m).reshape(-1, 2) for part in parts]
    vertices, vertex = distinct_rows(np.concatenate(corners))
    coordinates, coordinate = distinct_rows(np.concatenate(uvs), decimals=4)
    normals, normal = distinct_rows(object_to_shapenet(item.normals).reshape(-1, 3), decimals=3)
    index = np.stack([vertex, coordinate, normal], axis=1).reshape(-1, 9) + 1
    blocks = [
        f"# {item.class_name}, {item.family}: a procedural object of the VON demo\nmtllib {MODEL_NAME}.mtl\n",
        _lines("v %.6f %.6f %.6f\n", vertices),
        _lines("vt %.4f %.4f\n", coordinates),
        _lines("vn %.3f %.3f %.3f\n", normals),
    ]
    start = 0
    for number, part in enumerate(parts):
        stop = start + len(part.faces)
        blocks.append(f"g part{number}\nusemtl {part.material}\n")
        blocks.append(_lines("f %d/%d/%d %d/%d/%d %d/%d/%d\n", index[start:stop]))
        start = stop
    return "".join(blocks)


def _lines(pattern: str, rows: npt.NDArray[np.generic]) -> str:
    return (pattern * len(rows)) % tuple(rows.reshape(-1).tolist())


# Random streams of the photos of a class, beside the seed; `make_object` uses 0 to 3 for the objects.
PHOTO_STREAMS: dict[DemoClass, int] = {"chair": 2, "car": 3, "table": 4, "lamp": 5}
MARKER = "von-demo.json"
FORMAT = 1
SHAPENET, PIX3D, PHOTOS = "ShapeNetCore.v2", "pix3d", "photos"
TOML = f"""\
# Read by every von command started in this folder; options and VON_* variables come first.
[paths]
shapenet = "{SHAPENET}"
pix3d = "{PIX3D}"
photos = "{PHOTOS}"
data = "data"
runs = "runs"

[prepare.shapenet]
resolution = 64         # twice what the demo trains on; 128 for the presets of the paper

[train]
preset = "demo"         # small networks, minutes on two processor cores

[evaluate]
features = "random"     # scores without downloaded Inception weights; comparable only with each other
shapes = true           # besides the images: how much the generated shapes are like the training shapes
"""


class DemoFolderError(VonError, ValueError):
    """The demo cannot be written into this folder."""


class OtherDemoError(DemoFolderError):
    """The folder holds a demo with other settings.

    Attributes:
        settings: of the demo that is there.
    """

    def __init__(self, folder: Path, settings: DemoSettings) -> None:
        super().__init__(f"{folder} holds a demo with other contents", hint="name another folder, or remove it")
        self.settings = settings


@dataclass(frozen=True)
class DemoSettings:
    """Contents of a demo.

    Attributes:
        chairs: number of chairs.
        cars: number of cars.
        tables: number of tables.
        lamps: number of lamps.
        photos_per_object: half of them in Pix3D's layout, half on white.
        seed: of every random choice.
    """

    chairs: int = 80
    cars: int = 40
    tables: int = 0
    lamps: int = 0
    photos_per_object: int = 4
    seed: int = 0

    @property
    def counts(self) -> dict[DemoClass, int]:
        """Number of objects of each class: chairs and cars always, the others if not 0."""
        counts: dict[DemoClass, int] = {"chair": self.chairs, "car": self.cars}
        more: dict[DemoClass, int] = {"table": self.tables, "lamp": self.lamps}
        return counts | {name: count for name, count in more.items() if count}


@dataclass(frozen=True)
class DemoSummary:
    """Counts of a demo folder."""

    folder: Path
    settings: DemoSettings
    models: dict[str, int]
    room_photos: dict[str, int]
    white_photos: dict[str, int]
    written: bool


def write_demo(
    folder: Path, settings: DemoSettings | None = None, on_object: Callable[[], None] | None = None
) -> DemoSummary:
    """Writes the demo into a new or empty folder; a folder that holds the same demo is unchanged.

    Args:
        folder: the target.
        settings: contents of the demo.
        on_object: called after every object.

    Raises:
        OtherDemoError: the folder holds a demo with other settings.
        DemoFolderError: it holds something else, or a damaged demo.
    """
    settings = settings or DemoSettings()
    there = _already_there(folder, settings)
    if there is not None:
        return there
    with _new_folder(folder) as work:
        summary = _write_all(work, folder, settings, on_object)
        (work / "von.toml").write_text(TOML, "utf-8")
        marker = {"format": FORMAT, "settings": asdict(settings)} | _counts(summary)
        (work / MARKER).write_text(json.dumps(marker, indent=2) + "\n", "utf-8")
    return summary


def _already_there(folder: Path, settings: DemoSettings) -> DemoSummary | None:
    if not folder.exists() and not folder.is_symlink():
        return None
    if not folder.is_dir():
        raise DemoFolderError(f"{folder} is not a folder; name a new or an empty one")
    marker = folder / MARKER
    if not marker.is_file():
        if any(folder.iterdir()):
            raise DemoFolderError(f"{folder} is not empty and holds no demo; name a new or an empty folder")
        return None
    try:
        found = json.loads(marker.read_text("utf-8"))
        if found["format"] != FORMAT:
            raise ValueError
        summary = DemoSummary(
            folder,
            DemoSettings(**found["settings"]),
            found["models"],
            found["room_photos"],
            found["white_photos"],
            written=False,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DemoFolderError(f"{marker} is damaged, or of another version; name a new or an empty folder") from error
    if summary.settings != settings:
        raise OtherDemoError(folder, summary.settings)
    return summary


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside the target, renamed to it at the end, removed on failure."""
    target = folder.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        work.chmod(0o755)
        yield work
        _move(work, target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _move(work: Path, target: Path) -> None:
    """Renames the folder; an empty target, which may be a current folder, is filled entry by entry, marker last."""
    if not target.exists():
        os.rename(work, target)
        return
    for entry in sorted(work.iterdir(), key=lambda each: each.name == MARKER):
        os.rename(entry, target / entry.name)
    work.rmdir()


def _write_all(work: Path, folder: Path, settings: DemoSettings, on_object: Callable[[], None] | None) -> DemoSummary:
    wanted = settings.counts
    entries: list[Any] = []
    white: dict[str, int] = {}
    for name, count in wanted.items():
        for folder_name in (f"{PIX3D}/img/{name}", f"{PIX3D}/mask/{name}", f"{PHOTOS}/{name}"):
            (work / folder_name).mkdir(parents=True)
        white[name] = 0
        for index in range(count):
            made, on_white = _write_object(work, name, index, settings)
            entries += made
            white[name] += on_white
            if on_object is not None:
                on_object()
    (work / PIX3D / "pix3d.json").write_text(json.dumps(entries, indent=1) + "\n", "utf-8")
    rooms = {str(name): sum(entry["category"] == name for entry in entries) for name in wanted}
    models = {str(name): count for name, count in wanted.items()}
    return DemoSummary(folder, settings, models, rooms, white, written=True)


def _write_object(work: Path, name: DemoClass, index: int, settings: DemoSettings) -> tuple[list[Any], int]:
    """Writes an object and its photos; returns the annotations and the number of photos on white."""
    about = load_class(name)
    item = make_object(name, index, settings.seed)
    model = write_model(item, work / SHAPENET / about.synset)
    caster = Caster(render_mesh(item))
    entries = []
    on_white = 0
    for number in range(settings.photos_per_object):
        rng = np.random.default_rng([settings.seed, PHOTO_STREAMS[name], index, number])
        stem = f"{item.id[:8]}_{number:02d}"
        # Alternates between objects, so that odd numbers of photos are split evenly, too.
        if (number + index) % 2 == 0:
            photo = take_room_photo(item, caster, about, rng)
            entry = annotation(photo, stem, about.pix3d_category, f"../{model.relative_to(work).as_posix()}")
            write_room_photo(photo, entry, work / PIX3D, rng)
            entries.append(entry)
        else:
            write_white_photo(take_white_photo(caster, about, rng), work / PHOTOS / name / stem, rng)
            on_white += 1
    return entries, on_white


def _counts(summary: DemoSummary) -> dict[str, Any]:
    return {
        "models": summary.models,
        "room_photos": summary.room_photos,
        "white_photos": summary.white_photos,
    }
