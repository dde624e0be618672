"""Broken photos: truncated, bits flipped, false sizes, other files, wrong places."""

import io
import json
import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

OK = ""
MASKS = {"mask_empty", "mask_too_small", "mask_touches_border", "mask_in_pieces", "mask_uncertain"}
DAMAGED = {OK, "file_corrupt", "format_unknown", "too_large"} | MASKS
FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "tif": "TIFF", "gif": "GIF", "bmp": "BMP", "ppm": "PPM"}

Expected = dict[str, set[str]]  # file name or image path -> reasons that are right; "" for a prepared photo


def good_photo(suffix: str, photo: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, FORMATS[suffix])
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def cut_short(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 3, 10, 50])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def shuffled(content: bytes, rng: random.Random) -> bytes:
    """Two stretches change places, as after a broken download."""
    first, second, third = sorted(rng.sample(range(len(content)), 3))
    return content[:first] + content[second:third] + content[first:second] + content[third:]


def overwritten(content: bytes, rng: random.Random) -> bytes:
    start, length = rng.randrange(len(content)), rng.randrange(1, 400)
    return content[:start] + rng.choice([b"\0", b"\xff"]) * length + content[start + length :]


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (cut_short, flipped, shuffled, overwritten)


def write_mutated(folder: Path, photo: np.ndarray, count: int, seed: int) -> Expected:
    """Mutates good photos of every format at random."""
    rng = random.Random(seed)
    goods = {suffix: good_photo(suffix, photo) for suffix in FORMATS}
    expected: Expected = {}
    for index in range(count):
        suffix, mutate = rng.choice(list(FORMATS)), MUTATIONS[index % len(MUTATIONS)]
        name = f"{mutate.__name__}-{index:03}.{suffix}"
        (folder / name).write_bytes(mutate(goods[suffix], rng))
        expected[name] = DAMAGED
    return expected


def write_liars(folder: Path) -> Expected:
    """Files that declare more than they hold, or hold more than they declare."""
    bomb = zlib.compress(bytes((20_000 // 8 + 1) * 20_000), 9)  # 400 megapixels in 50 KB
    text_bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(70 << 20), 9))
    bmp = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 70, 0, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0)
    tiff_entries = [(256, 4, 1, 400_000), (257, 4, 1, 400_000), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tiff_entries))
    tiff += b"".join(struct.pack("<HHII", *entry) for entry in tiff_entries) + bytes(4)
    endless = b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 256, 4, 1, 9, 8)  # its next directory is itself
    jpeg = bytearray(good_photo("jpg", np.full((16, 16, 3), 90, np.uint8)))
    frame = jpeg.index(b"\xff\xc0") + 5
    jpeg[frame : frame + 4] = b"\xff\xff\xff\xff"
    huge = {"too_large", "file_corrupt"}
    files = {
        "bomb.png": (png(20_000, 20_000, 1, 0, bomb), {"too_large"}),
        "header.png": (png(2**31 - 1, 2**31 - 1, 8, 2, b""), huge),
        "text-bomb.png": (png(8, 8, 8, 2, zlib.compress(bytes(25 * 8)), text_bomb), huge | MASKS),
        "header.bmp": (bmp, huge | {"format_unknown"}),
        "header.tif": (tiff, huge),
        "endless.tif": (endless, huge | {"format_unknown"}),
        "header.jpg": (bytes(jpeg), huge),
        "header.gif": (b"GIF89a" + b"\xff\xff\xff\xff" + bytes(3), huge),
        "header.ppm": (b"P6\n99999999 99999999\n255\n", huge),
        "nothing-there.png": (png(0, 0, 8, 2, b""), huge | {"format_unknown"}),
        "short.png": (png(64, 64, 8, 2, zlib.compress(b"\0" * 100)), {"file_corrupt", "mask_empty"}),
    }
    return _write(folder, files)


def write_strangers(folder: Path) -> Expected:
    """Files of other kinds under a photo's name."""
    files = {
        "empty.jpg": (b"", {"file_corrupt"}),
        "page.png": (b"<!DOCTYPE html><html><body>404 not found</body></html>", {"format_unknown"}),
        "drawing.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n", {"format_unknown"}),
        "paper.png": (b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", {"format_unknown"}),
        "archive.png": (b"PK\x03\x04" + bytes(60), {"format_unknown"}),
        "vector.svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', {"format_unknown"}),
        "program.gif": (b"\x7fELF" + bytes(200), {"format_unknown"}),
        "pickle.bmp": (b"\x80\x04\x95" + bytes(40), {"format_unknown"}),
        "zeros.jpg": (bytes(5000), {"format_unknown"}),
    }
    return _write(folder, files)


def write_places(folder: Path, photo: np.ndarray, outside: Path) -> Expected:
    """Good photos in odd places, and names that lead elsewhere; `outside` is a photo beyond the folder."""
    good = good_photo("png", photo)
    expected: Expected = {}
    (folder / "png-inside.jpg").write_bytes(good)
    odd = os.fsdecode(b"caf\xe9 \xff.png")
    (folder / odd).write_bytes(good)
    deep = folder.joinpath(*["deeper"] * 60)
    deep.mkdir(parents=True)
    (deep / "deep.png").write_bytes(good)
    (folder / f"{'long' * 60}.png").write_bytes(good)
    expected |= {name: {OK} for name in ("png-inside.jpg", odd, "deep.png", f"{'long' * 60}.png")}
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "leads-out.png").symlink_to(outside)
    (folder / "leads-up.png").symlink_to(os.path.relpath(outside, folder))
    (folder / "device.png").symlink_to("/dev/zero")
    (folder / "broken.png").symlink_to("gone.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "round").symlink_to(folder, target_is_directory=True)
    (folder / "away").symlink_to(outside.parent, target_is_directory=True)
    return expected | {
        "folder.png": {"source_unreadable"},
        "pipe.png": {"source_unreadable"},
        "leads-out.png": {"outside_root"},
        "leads-up.png": {"outside_root"},
        "device.png": {"outside_root"},
        "broken.png": {"source_missing", "source_unreadable"},
        "loop.png": {"source_unreadable", "source_missing"},
        "round": {"linked_folder"},
        "away": {"outside_root"},
    }


def write_annotation(root: Path, photo: np.ndarray, mask: np.ndarray, outside: Path) -> Expected:
    """A folder in Pix3D's layout with a false annotation: paths that lead out, invalid numbers."""
    for folder in ("img/chair", "mask/chair"):
        (root / folder).mkdir(parents=True)
    (root / "img/chair/link.png").symlink_to(outside)
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    good = {
        "category": "chair",
        "img_size": [width, height],
        "bbox": [int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])],
        "rot_mat": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        "trans_mat": [0, 0, 2],
        "cam_position": [0, 0, -2],
        "truncated": False,
        "occluded": "false",
        "slightly_occluded": False,
    }
    up = os.path.relpath(outside, root)
    out, bad, gone = {"outside_root"}, {"annotation_invalid"}, {"source_missing", "source_unreadable"}
    lies = [
        ({"img": up}, out),
        ({"img": str(outside)}, out),
        ({"img": f"img/chair/../../{up}"}, out),
        ({"img": "img/chair/link.png"}, out),
        ({"mask": up}, out),
        ({"mask": "/etc/passwd"}, out),
        ({"mask": "img/chair/link.png"}, out),
        ({"img": "img/chair/\0.png"}, gone | bad),
        ({"img": "img/" + "x" * 5000}, gone),
        ({"img": "img/\ud800.png"}, gone | bad),
        ({"img": "file:///etc/passwd"}, gone),
        ({"img": "~/photo.png"}, gone),
        ({"img": "img/chair"}, gone),
        ({"img": ""}, bad),
        ({"img": 7}, bad),
        ({"img": ["img/chair/link.png"]}, bad),
        ({"mask": None}, bad),
        ({"mask": "mask/chair/gone.png"}, {"mask_missing"}),
        ({"rot_mat": [[1e400, 0, 0], [0, 1, 0], [0, 0, 1]]}, bad),
        ({"rot_mat": [[1, 0, 0]] * 3}, bad),
        ({"rot_mat": [[[]]]}, bad),
        ({"bbox": [5, 5, -5, float("nan")]}, bad),
        ({"bbox": [0, 0, 3, 3]}, bad),
        ({"img_size": [10**9, 10**9]}, bad),
        ({"img_size": [1, 1]}, bad),
        ({"truncated": "maybe"}, bad),
        ({"trans_mat": [0, 0, 0]}, bad),
        ({"cam_position": {"x": 1}}, bad),
    ]
    entries, expected = [], Expected()
    for index, (lie, reasons) in enumerate([*lies, ({}, {OK})]):
        paths = {"img": f"img/chair/{index}.png", "mask": f"mask/chair/{index}.png"}
        (root / paths["img"]).write_bytes(good_photo("png", photo))
        Image.fromarray(mask).save(root / paths["mask"])
        entries.append({**good, **paths, **lie})
        expected[f"{index}"] = reasons
    (root / "pix3d.json").write_text(json.dumps(entries), "utf-8")
    return expected


def _write(folder: Path, files: dict[str, tuple[bytes, set[str]]]) -> Expected:
    for name, (content, _) in files.items():
        (folder / name).write_bytes(content)
    return {name: reasons for name, (_, reasons) in files.items()}
