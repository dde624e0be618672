"""Films as WebP, GIF or MP4, and grids of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from PIL import ExifTags, Image
from torch import Tensor

from vondata.errors import VonError
from vondata.io.files import atomic_path
from vonmodel.mesh import to_pixels
from vonmodel.reports.mp4_comment import write_comment
from vonmodel.reports.provenance import PNG_KEY

FilmFormat = Literal["webp", "gif", "mp4"]
Pixels = npt.NDArray[np.uint8]

FRAMES_A_SECOND = 15
# VP9 plays in every browser; every build of OpenCV can write MPEG-4.
CODECS = ("vp09", "mp4v")
GAP_PX = 4
ALMOST_WHITE = 245


@dataclass(frozen=True)
class FilmSettings:
    """Format, length and size of a film.

    Attributes:
        format: of the file; None for no film.
        frames: pictures in it.
        size_px: width and height.
    """

    format: FilmFormat | None = "webp"
    frames: int = 36
    size_px: int = 256


class FilmError(VonError, RuntimeError):
    """A film that could not be written."""


def film_frames(images: Float[Tensor, "n 3 h w"], size_px: int) -> Pixels:
    """Images in [-1, 1] as 8-bit frames (n, size, size, 3), resized bicubically if needed."""
    pixels = to_pixels(images).transpose(0, 2, 3, 1)
    if pixels.shape[1] == size_px:
        return pixels
    resized = [Image.fromarray(frame).resize((size_px, size_px), Image.Resampling.BICUBIC) for frame in pixels]
    return np.stack([np.asarray(frame) for frame in resized])


def write_film(path: Path, frames: Pixels, text: Mapping[str, str] | None = None) -> None:
    """Writes frames (n, h, w, 3) as a looping film in the format of the path's suffix.

    Args:
        path: of the file.
        frames: of 8 bits.
        text: see `provenance.png_text`. The record becomes the EXIF description of a WebP file and the comment of a
            GIF or MP4 file.

    Raises:
        FilmError: this machine cannot write MP4.
    """
    with atomic_path(path) as temporary:
        if path.suffix == ".mp4":
            _write_mp4(temporary, frames)
            if text is not None:
                write_comment(temporary, text[PNG_KEY], text["Software"])
        else:
            first, *rest = (Image.fromarray(frame) for frame in frames)
            duration = round(1000 / FRAMES_A_SECOND)
            if path.suffix == ".gif":
                _write_gif(temporary, [first, *rest], duration, "" if text is None else text[PNG_KEY])
            else:
                first.save(
                    temporary,
                    "WEBP",
                    exif=b"" if text is None else _exif(text),
                    save_all=True,
                    append_images=rest,
                    duration=duration,
                    loop=0,
                    quality=85,
                    method=4,
                )


def _exif(text: Mapping[str, str]) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = text["Software"]
    exif[ExifTags.Base.ImageDescription] = text[PNG_KEY]
    return exif.tobytes()


def grid_of(images: Sequence[Float[Tensor, "c 3 h w"]], tile_px: int) -> Pixels:
    """Rows of images in [-1, 1] as one picture, white between them.

    Args:
        images: the rows, of equally many images each.
        tile_px: the size of each.

    Returns:
        (height, width, 3).
    """
    rows = [film_frames(row, tile_px) for row in images]
    step = tile_px + GAP_PX
    canvas = np.full((len(rows) * step - GAP_PX, len(rows[0]) * step - GAP_PX, 3), 255, dtype=np.uint8)
    for top, row in enumerate(rows):
        for left, tile in enumerate(row):
            canvas[top * step : top * step + tile_px, left * step : left * step + tile_px] = tile
    return canvas


def _write_gif(path: Path, frames: list[Image.Image], duration_ms: int, comment: str) -> None:
    # One palette for all frames, as colours would flicker otherwise.
    width, height = frames[0].size
    shown = frames[:: max(1, len(frames) // 8)]
    together = Image.new("RGB", (width * len(shown), height))
    for index, frame in enumerate(shown):
        together.paste(frame, (index * width, 0))
    palette = together.quantize(256, method=Image.Quantize.MEDIANCUT)
    colours = np.array(palette.getpalette(), dtype=np.uint8).reshape(-1, 3)
    lightest = int(colours.min(axis=1).argmax())
    if colours[lightest].min() >= ALMOST_WHITE:  # otherwise the background would show as a box on white pages
        colours[lightest] = 255
        palette.putpalette(colours.tobytes())
    first, *rest = (_in_palette(frame, palette, lightest) for frame in frames)
    first.save(path, "GIF", save_all=True, append_images=rest, duration=duration_ms, loop=0, comment=comment)


def _in_palette(frame: Image.Image, palette: Image.Image, lightest: int) -> Image.Image:
    """The frame in the colours of the palette, its white in the lightest one."""
    found = frame.quantize(palette=palette, dither=Image.Dither.NONE)
    index = np.array(found)
    index[(np.asarray(frame) == 255).all(axis=2)] = lightest
    found.putdata(index.ravel())
    return found


def _write_mp4(path: Path, frames: Pixels) -> None:
    height, width = (edge - edge % 2 for edge in frames.shape[1:3])  # codecs store colour at half size
    for codec in CODECS:
        film = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), FRAMES_A_SECOND, (width, height))
        try:
            if not film.isOpened():
                continue
            for frame in frames:
                film.write(np.ascontiguousarray(frame[:height, :width, ::-1]))
            return
        finally:
            film.release()
    raise FilmError(f"OpenCV on this machine writes no MP4 ({' or '.join(CODECS)}); choose webp or gif")
