"""Photo files built byte by byte, and what is decoded from them."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vondata.images.decoding import decode_photo
from vondata.types import Rejected

LIMIT = 10_000_000
HEIGHT, WIDTH = 48, 64


def picture():
    """Smooth colours in 0..255 whose corners all differ."""
    y, x = np.meshgrid(np.linspace(0, 1, HEIGHT), np.linspace(0, 1, WIDTH), indexing="ij")
    return np.stack([220 * x, 200 * y, 230 - 180 * x * y], axis=-1).round().astype(np.uint8)


def decoded(path, **options):
    return decode_photo(path, max_pixels=LIMIT, **options)


def written(path, content):
    path.write_bytes(content)
    return path


def reason_of(path, **options):
    with pytest.raises(Rejected) as caught:
        decoded(path, **options)
    return caught.value.reason, caught.value.detail


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_with(rgb, *chunks):
    """A PNG with chunks between header and pixels."""
    memory = io.BytesIO()
    Image.fromarray(rgb).save(memory, "PNG")
    content = memory.getvalue()
    return content[:33] + b"".join(chunks) + content[33:]


def packed(values, bits):
    """Whole numbers in so many bits each."""
    return np.packbits((values.reshape(-1, 1) >> np.arange(bits)[::-1]) & 1).tobytes()


def with_exif(kind, block, values=None):
    memory = io.BytesIO()
    image = Image.fromarray(picture() if values is None else values)
    image.save(memory, kind, **({"quality": 98} if kind == "JPEG" else {}))
    content = memory.getvalue()
    if kind == "PNG":
        return content[:33] + chunk(b"eXIf", block) + content[33:]
    body = b"Exif\0\0" + block
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + content[2:]
