"""Colours of a file brought to sRGB: by an ICC profile (LittleCMS), or by PNG's gamma and primaries."""

from __future__ import annotations

import io
import threading
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from vondata.images.photo_files import ColourSpace

Bytes = npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.float64]
ProfileUse = Literal["converted", "ignored"]

SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # ICC's name of a colour space, Pillow's mode
SAME = 1  # of 255: a profile that moves no colour further is sRGB
SRGB_GAMMA = (0.44, 0.47)  # PNG's gamma within these is sRGB's
SRGB_PRIMARIES = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)  # x and y of white, red, green and blue
LINEAR_TO_SRGB_STEPS = 4096
BLOCK_ROWS = 64

_lcms = threading.Lock()


def colours_to_srgb(image: Image.Image, space: ColourSpace) -> tuple[Image.Image, ProfileUse | None]:
    """An image in sRGB.

    Args:
        image: of any 8-bit mode without alpha.
        space: what its file says of its colours.

    Returns:
        The image in RGB where it was converted, else as it was; and whether what the file says was followed, or
        ignored because it is damaged or of another kind of colours; None where nothing had to be done.
    """
    if image.mode == "LAB":
        return _of_lab(image), "converted"
    if space.profile:
        return _by_profile(image, space.profile)
    if space.gamma or space.primaries:
        return _by_gamma(image, space)
    return image, None


def _by_profile(image: Image.Image, profile: bytes) -> tuple[Image.Image, ProfileUse | None]:
    try:
        mode = _mode_of(profile)
        if mode == "RGB" and image.mode not in ("RGB", "CMYK"):
            image = image.convert("RGB")
        elif mode == "L" and image.mode == "1":
            image = image.convert("L")
        if mode != image.mode:
            return image, "ignored"
        with _lcms:
            transform = _transform(profile, mode)
            if transform is None:
                return image, None
            converted = ImageCms.applyTransform(image, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image, "ignored"
    return (converted, "converted") if converted is not None else (image, "ignored")


def _of_lab(image: Image.Image) -> Image.Image:
    with _lcms:
        source, target = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.applyTransform(image, ImageCms.buildTransform(source, target, "LAB", "RGB"))
    assert converted is not None  # not in place
    return converted


def _mode_of(profile: bytes) -> str:
    """Pillow's mode for the colours of a profile, "" for other kinds.

    Raises:
        PyCMSError, OSError: it is damaged.
    """
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile
    return SPACES.get(opened.xcolor_space, "") if opened.device_class not in ("link", "abst", "nmcl") else ""


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The way to sRGB, None where there is none to go: the profile is sRGB's.

    Raises:
        PyCMSError: the profile is damaged.
    """
    source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(source, target, mode, "RGB", ImageCms.Intent.PERCEPTUAL)
    if mode in ("RGB", "L"):
        probe = Image.fromarray(_probe(mode))
        answer = ImageCms.applyTransform(probe, transform)
        if answer is None:
            raise ImageCms.PyCMSError("the profile converts nothing")
        moved = np.asarray(answer).astype(int) - np.asarray(probe.convert("RGB"))
        if np.abs(moved).max() <= SAME:
            return None
    return transform


def _probe(mode: str) -> Bytes:
    """Colours that tell one profile from another: every tenth of each channel's range, or every grey."""
    if mode == "L":
        return np.arange(256, dtype=np.uint8)[None]
    levels = np.linspace(0, 255, 11).astype(np.uint8)
    return np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(11, -1, 3)


def _by_gamma(image: Image.Image, space: ColourSpace) -> tuple[Image.Image, ProfileUse | None]:
    """PNG's gAMA and cHRM: v^(1 / gamma) is linear light of these primaries."""
    gamma = space.gamma or 1 / 2.2
    primaries = space.primaries or SRGB_PRIMARIES
    same_primaries = np.allclose(primaries, SRGB_PRIMARIES, atol=0.002)
    if SRGB_GAMMA[0] <= gamma <= SRGB_GAMMA[1] and same_primaries:
        return image, None
    if not 0.1 <= gamma <= 4.0:
        return image, "ignored"
    to_srgb = np.eye(3)
    if not same_primaries:
        try:
            white = _to_xyz(primaries).sum(axis=1)
            adapted = _to_xyz(SRGB_PRIMARIES).sum(axis=1) / white
            to_srgb = np.linalg.solve(_to_xyz(SRGB_PRIMARIES), adapted[:, None] * _to_xyz(primaries))
        except np.linalg.LinAlgError:
            return image, "ignored"
    if not np.isfinite(to_srgb).all() or np.abs(to_srgb).max() > 20:
        return image, "ignored"
    linear = (np.arange(256) / 255.0) ** (1.0 / gamma)
    encode = _srgb_table()
    pixels = np.asarray(image.convert("RGB"))
    result = np.empty_like(pixels)
    for row in range(0, len(pixels), BLOCK_ROWS):  # floating-point copies are eight times as large
        light = linear[pixels[row : row + BLOCK_ROWS]] @ to_srgb.T
        steps = np.clip(light * LINEAR_TO_SRGB_STEPS + 0.5, 0, LINEAR_TO_SRGB_STEPS)
        result[row : row + BLOCK_ROWS] = encode[steps.astype(np.int64)]
    return Image.fromarray(result), "converted"


def _srgb_table() -> Bytes:
    """(LINEAR_TO_SRGB_STEPS + 1,) sRGB's 8-bit code of linear light from 0 to 1."""
    light = np.linspace(0.0, 1.0, LINEAR_TO_SRGB_STEPS + 1)
    code = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(255.0 * code + 0.5, dtype=np.uint8)


def _to_xyz(primaries: tuple[float, ...]) -> Doubles:
    """(3, 3) from linear RGB to XYZ, for x and y of white, red, green and blue.

    Raises:
        LinAlgError: the primaries span no colours.
    """
    points = np.array(primaries).reshape(4, 2)
    if (points[:, 1] <= 0).any():
        raise np.linalg.LinAlgError("a primary without brightness")
    xyz = np.stack([points[:, 0] / points[:, 1], np.ones(4), (1 - points.sum(axis=1)) / points[:, 1]])
    white, colours = xyz[:, 0], xyz[:, 1:]
    return np.asarray(colours * np.linalg.solve(colours, white))
