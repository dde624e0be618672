"""Every reader of files and links from outside as a function of bytes, with inputs to start from.

A reader may refuse its input with one of its errors; any other exception, or a hang, is a finding. Accepted results
are checked where a line of code suffices.
"""

from __future__ import annotations

import io
import json
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import click
import numpy as np
import trimesh
from PIL import Image

from vondata.errors import VonError
from vondata.types import Rejected

REGRESSIONS = Path(__file__).parent / "regressions"
MAX_PIXELS = 200_000


@dataclass(frozen=True)
class Reader:
    """A reader under test.

    Attributes:
        read: takes the bytes.
        seeds: makes inputs that it accepts.
        words: tokens of its inputs, for a fuzzer to insert.
        refusals: exceptions it may raise.
    """

    read: Callable[[bytes], object]
    seeds: Callable[[], Iterable[bytes]]
    words: tuple[bytes, ...] = ()
    refusals: tuple[type[Exception], ...] = (Rejected, VonError)

    def __call__(self, content: bytes) -> None:
        with suppress(*self.refusals):
            self.read(content)


@cache
def scratch() -> Path:
    """A folder of this process, in memory where there is such a place."""
    shared = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="von-fuzz-", dir=shared if shared.is_dir() else None))


def written(name: str, content: bytes) -> Path:
    path = scratch() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def mesh_reader(suffix: str) -> Callable[[bytes], object]:
    def read(content: bytes) -> object:
        from vondata.shapes.reading import read_triangles
        from vondata.shapes.source_file import Limits

        soup = read_triangles(content, scratch() / f"mesh{suffix}", Limits(file_mb=4, faces=20_000))
        assert len(soup.faces) <= 20_000
        assert soup.faces.size == 0 or 0 <= soup.faces.min() <= soup.faces.max() < len(soup.vertices)
        return soup

    return read


def mesh_seeds(form: str) -> Callable[[], Iterable[bytes]]:
    def seeds() -> Iterable[bytes]:
        box = trimesh.creation.box((1, 2, 3))
        scene = trimesh.Scene([box])
        made: dict[str, list[Any]] = {
            "obj": [
                box.export(file_type="obj"),
                "v 0 0 0\nv 1 0 0\nv 1 1 \\\n0\nv 0 1 0\nf 1/1/1 2//2 3 -1 # face\n",
            ],
            "off": [box.export(file_type="off"), "COFF 3 1 0\n0 0 0 1 1 1\n1 0 0\n# x\n0 1 0\n3 0 1 2 255 0 0\n"],
            "ply": [box.export(file_type="ply"), box.export(file_type="ply", encoding="ascii"), STRIPS],
            "stl": [box.export(file_type="stl"), box.export(file_type="stl_ascii"), "solid a\nend solid\nsolid b\n"],
            "gltf": [scene.export(file_type="glb"), GLTF],
        }
        return [each.encode() if isinstance(each, str) else bytes(each) for each in made[form]]

    return seeds


STRIPS = (
    "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
    "element tristrips 1\nproperty list int int vertex_indices\nend_header\n"
    "0 0 0\n1 0 0\n0 1 0\n1 1 0\n5 0 1 2 -1 3\n"
)
GLTF = json.dumps(
    {
        "asset": {"version": "2.0"},
        "buffers": [{"byteLength": 44, "uri": "data:;base64," + "AAAAAAAAAAAAAAAA" + "AACAPwAAAAAAAAAA" * 3}],
        "bufferViews": [{"buffer": 0, "byteLength": 36}, {"buffer": 0, "byteOffset": 36, "byteLength": 6}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3", "normalized": True},
            {"bufferView": 1, "componentType": 5121, "count": 3, "type": "SCALAR"},
            {"componentType": 5126, "count": 3, "type": "VEC3", "sparse": {"count": 1,
             "indices": {"bufferView": 1, "componentType": 5121}, "values": {"bufferView": 0}}},
        ],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "JOINTS_0": 1, "WEIGHTS_0": 0}, "indices": 1,
                    "mode": 5, "targets": [{"POSITION": 2}]}], "weights": [0.5]}],
        "skins": [{"joints": [1], "inverseBindMatrices": 0}],
        "nodes": [{"mesh": 0, "children": [1], "rotation": [0, 0, 0, 1]}, {"matrix": [1] * 16, "mesh": 0,
                  "extensions": {"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": 0, "SCALE": 2}}}}],
        "scenes": [{"nodes": [0]}],
    }
)  # fmt: skip


def read_binvox(content: bytes) -> object:
    from vondata.shapes.binvox import read_binvox as read
    from vondata.shapes.source_file import Limits

    if b"dim" in content[:200] and b"512" in content[:200]:  # valid, with 134 million voxels
        return None
    grid = read(written("grid.binvox", content), Limits(file_mb=4))
    assert grid.occupancy.dtype == np.bool_
    return grid


def binvox_seeds() -> list[bytes]:
    head = b"#binvox 1\n# a comment\ndim 4 4 4\ntranslate 0 0.5 -1\nscale 2\ndata\n"
    return [head + b"\x00\x20\x01\x20", b"#binvox 1\ndim 1 1 1\ndata\n\x01\x01"]


def read_photo(content: bytes) -> object:
    from vondata.images.decoding import decode_photo

    photo = decode_photo(written("photo", content), max_pixels=MAX_PIXELS, keep_incomplete=bool(len(content) % 2))
    assert photo.rgb.ndim == 3
    assert photo.alpha is None or photo.alpha.shape == photo.rgb.shape[:2]
    return photo


def read_mask(content: bytes) -> object:
    from vondata.images.decoding import decode_mask

    return decode_mask(written("mask", content), max_pixels=MAX_PIXELS)


def picture_seeds() -> list[bytes]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (12, 9, 4), dtype=np.uint8)
    colour = Image.fromarray(pixels[..., :3])
    exif = Image.Exif()
    exif[0x0112] = 6
    made = []
    for image, form, options in (
        (colour, "JPEG", {"quality": 80, "exif": exif, "icc_profile": b"profile" * 9}),
        (colour, "JPEG", {"quality": 80, "progressive": True}),
        (colour.convert("CMYK"), "JPEG", {"quality": 80}),
        (Image.fromarray(pixels), "PNG", {"exif": exif, "icc_profile": b"profile" * 9}),
        (colour.quantize(5), "PNG", {"transparency": 1}),
        (Image.fromarray(rng.integers(0, 65535, (12, 9), dtype=np.uint16)), "PNG", {}),
        (colour.quantize(5), "GIF", {}),
        (Image.fromarray(pixels), "WEBP", {"exif": exif}),
        (colour, "BMP", {}),
        (colour, "PPM", {}),
        (colour, "TIFF", {"compression": "tiff_lzw"}),
        (Image.fromarray(pixels), "TIFF", {"compression": "tiff_adobe_deflate"}),
        (Image.fromarray(rng.random((12, 9), dtype=np.float32)), "TIFF", {}),
        (Image.fromarray(rng.integers(0, 65535, (12, 9), dtype=np.uint16)), "TIFF", {}),
        (colour, "JPEG2000", {}),
    ):
        buffer = io.BytesIO()
        image.save(buffer, form, **options)
        made.append(buffer.getvalue())
    return made


def read_metadata(content: bytes) -> object:
    from vondata.images import photo_files

    assert 0 <= photo_files.exif_orientation(content) <= 8
    assert photo_files.exif_colours(content) in (photo_files.SRGB, photo_files.ADOBE_RGB)
    for parse in (photo_files.jpeg_pixels, photo_files.png_pixels):
        assert 1 <= parse(content).orientation <= 8
    photo_files.photo_format(content[:32])
    return photo_files.describe_bytes(content[:32]), photo_files.jxl_header(content)


def exif_seeds() -> list[bytes]:
    block = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    text = b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 26\n" + block.hex().encode())
    chunk = struct.pack(">I4s", len(text), b"zTXt") + text + bytes(4)
    jxl = b"\xff\x0a" + bytes(16)
    return [block, *picture_seeds()[:4], b"\x89PNG\r\n\x1a\n" + chunk, jxl]


def read_pix3d(content: bytes) -> object:
    from vondata.classes import known_classes
    from vondata.images.settings import ImageSettings
    from vondata.images.sources import pix3d_items
    from vondata.io.listing import open_tree

    root = written("pix3d/pix3d.json", content).parent
    return [item.id for item in pix3d_items(open_tree(root), known_classes(), ImageSettings())]


def pix3d_seeds() -> list[bytes]:
    entry = {
        "img": "img/chair/0001.png", "mask": "mask/chair/0001.png", "category": "chair", "img_size": [100, 80],
        "bbox": [10, 10, 50, 60], "truncated": False, "occluded": "false", "slightly_occluded": False,
        "rot_mat": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "trans_mat": [0, 0, 2.5], "cam_position": [0, 0, -2.5],
        "focal_length": 35.0, "inplane_rotation": 0.01, "model": "model/chair/a/model.obj", "voxel": "a.mat",
    }  # fmt: skip
    return [
        json.dumps([entry]).encode(),
        json.dumps([entry, {**entry, "truncated": "true", "category": "car"}]).encode(),
    ]


def read_journal(content: bytes) -> object:
    from vondata.pipeline.journal import Journal, damaged_lines, journal_path

    data = scratch() / "journal-data"
    path = journal_path(data, "chair", "shapes")
    written(str(path.relative_to(scratch())), content)
    damaged_lines(path)
    with Journal(data, "chair", "shapes") as journal:
        return list(journal.rows())


@cache
def dataset() -> Path:
    """A small prepared dataset."""
    from tests.faults.scene import write_collections
    from vondata.api import prepare_shapes
    from vondata.shapes.prepare import ShapeSettings

    root = Path(tempfile.mkdtemp(prefix="von-fuzz-data-"))
    write_collections(root)
    for path in sorted((root / "meshes").iterdir())[3:]:
        path.unlink()
    settings = ShapeSettings(resolution=32)
    prepare_shapes(root / "meshes", root / "data", layout="meshes", class_names=["chair"], settings=settings)
    return root / "data"


def dataset_seeds(pattern: str) -> Callable[[], list[bytes]]:
    return lambda: [path.read_bytes() for path in sorted(dataset().glob(pattern))[:2]]


def read_table(content: bytes) -> object:
    from vondata.dataset.manifest import manifest_path, read_manifest

    data = scratch() / "table-data"
    written(str(manifest_path(data, "chair", "shapes").relative_to(scratch())), content)
    return read_manifest(data, "chair", "shapes")


def read_shape(content: bytes) -> object:
    from vondata.dataset.shape_file import load_shape

    return load_shape(written("shape.npz", content))


def read_record(content: bytes) -> object:
    from vondata.dataset.metadata import read_dataset

    return read_dataset(written("record/von-dataset.json", content).parent)


def read_settings(content: bytes) -> object:
    from voncli.main import main
    from voncli.settings import load_settings

    return load_settings(main, written("von.toml", content))


def toml_seeds() -> list[bytes]:
    text = (
        '[paths]\ndata = "data"\n[prepare.images]\nsize = 256\nmatch_viewpoints = false\n[train]\nclass = "chair"\n'
    )
    return [text.encode(), ("\ufeff" + text).encode()]


def read_json_file(content: bytes) -> object:
    from vondata.io.json_file import parse_json, read_json_lines

    list(read_json_lines(written("lines.jsonl", content)))
    return parse_json(content, "input")


def read_run(content: bytes) -> object:
    """A run's configuration, statistics and scores."""
    from vonmodel.config import load_config
    from vonmodel.reports.metrics_log import METRICS, describe, figures_of, read_lines, table_values
    from vonmodel.studio.state import RunMonitor

    path = written("run/config.json", content)
    for name in ("stats.jsonl", "metrics.jsonl"):
        written(f"run/{name}", content)
    RunMonitor(path.parent).snapshot()
    lines = read_lines(path.parent)
    figures_of(lines)
    table_values(lines)
    for line in lines:
        describe(line)
        for metric in METRICS:
            [quantity.read(line) for quantity in metric.quantities]
    return load_config(path)


def run_seeds() -> list[bytes]:
    import dataclasses

    from vonmodel.config import TrainConfig

    config = json.dumps(dataclasses.asdict(TrainConfig()))
    stats = {"stage": "shape", "step": 10, "images_seen": 80, "time": "2026-01-01T00:00:00+00:00", "critic": 0.5}
    checkpoint = {"name": "joint-00000010", "sha256": "0" * 64, "stage": "joint", "step": 10}
    score = {"metric": "fid", "checkpoint": checkpoint, "value": 12.5, "generated": 100, "real": 100}
    return [config.encode(), json.dumps(stats).encode() + b"\n", json.dumps(score).encode() + b"\n"]


NAME = "joint-00000100"


def read_checkpoint(content: bytes) -> object:
    from vonmodel.checkpoint import list_checkpoints, newest_whole, read_info

    run = scratch() / "checkpoint-run"
    written(f"checkpoint-run/checkpoints/{NAME}/checkpoint.json", content)
    list_checkpoints(run)
    newest_whole(run)
    return read_info(run, NAME)


def checkpoint_seeds() -> list[bytes]:
    hashes = {f"{part}.safetensors": "0" * 64 for part in ("networks", "average", "training")}
    values = {"format": 1, "name": NAME, "stage": "joint", "step": 100, "steps": 200, "images_seen": 800,
              "sha256": "0" * 64, "dataset": "", "files": hashes, "saved": "", "schedule": "1+1 epochs"}  # fmt: skip
    return [json.dumps(values).encode()]


def read_weights(content: bytes) -> object:
    """Weights with a wrong hash are refused earlier; here their bytes are read."""
    from vonmodel import checkpoint

    return checkpoint.read_weights(written("weights.safetensors", content))


def weight_seeds() -> list[bytes]:
    import torch
    from safetensors.torch import save

    return [save({"a.weight": torch.ones(2, 3), "b": torch.zeros(4, dtype=torch.int64)}, {"made": "here"})]


def read_link(content: bytes) -> object:
    from vonmodel.studio.view_request import parse_view_request

    return parse_view_request(dict(parse_qsl(content.decode("latin-1"), max_num_fields=100)))


def link_seeds() -> list[bytes]:
    code = "~" + "AACAPwAAgD8"
    links = [
        {"shape": "3", "texture": code, "azimuth": "-30.5", "elevation": "12"},
        {"shape": "1", "shape-to": "2", "shape-mix": "0.5", "truncation": "0.7", "checkpoint": NAME},
        {"shape": "run.0123456789abcdef", "texture": "0", "texture-to": code, "texture-mix": "1e-3"},
    ]
    return [urlencode(each).encode() for each in links]


def read_upload(content: bytes) -> object:
    """A photo, half of the bytes, with a mask and a box."""
    from vonmodel.studio.uploads import PhotoCache, Upload, parse_box

    box = parse_box(content[:40].decode("latin-1"))
    middle = len(content) // 2
    mask = content[middle:] if len(content) % 3 == 0 else None
    photo = content[:middle] if mask else content
    return PhotoCache().take(Upload(photo, mask, box if mask is None else None), 32)


def upload_seeds() -> list[bytes]:
    pixels = np.full((40, 40, 3), 255, dtype=np.uint8)
    pixels[8:34, 10:30] = 40
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return [buffer.getvalue(), 2 * buffer.getvalue(), b"0.1,0.2,0.8,0.9"]


JSON_WORDS = (
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"null",
    b"true",
    b"1e999",
    b"-0.0",
    b"NaN",
    b"\\u0000",
    b'""',
)
READERS: dict[str, Reader] = {
    "obj": Reader(
        mesh_reader(".obj"), mesh_seeds("obj"), (b"v ", b"f ", b"\\\n", b"/", b"-1", b"nan", b"1e400", b"#")
    ),
    "off": Reader(mesh_reader(".off"), mesh_seeds("off"), (b"OFF", b"BINARY", b"-1", b"#", b"4OFF", b"nOFF")),
    "ply": Reader(
        mesh_reader(".ply"),
        mesh_seeds("ply"),
        (
            b"element face 2\n",
            b"property list uchar int vertex_indices\n",
            b"end_header\n",
            b"uint64",
            b"-1",
            b"tristrips",
        ),
    ),
    "stl": Reader(mesh_reader(".stl"), mesh_seeds("stl"), (b"solid ", b"endsolid\n", b"facet normal ", b"vertex ")),
    "gltf": Reader(mesh_reader(".glb"), mesh_seeds("gltf"), (*JSON_WORDS, b'"sparse":', b'"mode":6', b"5121", b"-1")),
    "binvox": Reader(read_binvox, binvox_seeds, (b"dim ", b"data\n", b"scale ", b"#", b"\x01\xff")),
    "photo": Reader(read_photo, picture_seeds, (b"\xff\xd8\xff", b"\xff\xd9", b"IDAT", b"acTL", b"ftyp", b"II*\0")),
    "mask": Reader(read_mask, picture_seeds, (b"tRNS", b"PLTE")),
    "metadata": Reader(read_metadata, exif_seeds, (b"Exif\0\0", b"eXIf", b"iCCP", b"jxlc"), (ValueError,)),
    "pix3d": Reader(read_pix3d, pix3d_seeds, JSON_WORDS),
    "journal": Reader(read_journal, dataset_seeds("journal/*.jsonl"), (*JSON_WORDS, b'"vanished"', b',"crc":"')),
    "manifest": Reader(read_table, dataset_seeds("chair/shapes.parquet"), (b"PAR1",)),
    "shape": Reader(read_shape, dataset_seeds("chair/shapes/*.npz"), (b"PK\x01\x02", b"\x93NUMPY", b"<f8", b"|u1")),
    "record": Reader(read_record, dataset_seeds("von-dataset.json"), JSON_WORDS),
    "settings": Reader(read_settings, toml_seeds, (b"[", b"]", b'"""', b"\\", b"=", b"1e999"), (click.UsageError,)),
    "json": Reader(read_json_file, run_seeds, JSON_WORDS),
    "run": Reader(read_run, run_seeds, JSON_WORDS),
    "checkpoint": Reader(read_checkpoint, checkpoint_seeds, JSON_WORDS),
    "weights": Reader(read_weights, weight_seeds, (*JSON_WORDS, b'"F32"', b"data_offsets", b"__metadata__")),
    "link": Reader(
        read_link, link_seeds, (b"shape=", b"-to=", b"-mix=", b"~", b"&", b"%00", b"run.", b"checkpoint=")
    ),
    "upload": Reader(read_upload, upload_seeds, (b",", b"1e-9", b"nan")),
}
