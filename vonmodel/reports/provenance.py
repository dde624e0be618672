"""Provenance: run, checkpoint, codes and viewpoint that made a result, kept in pages, pictures, films and GLBs."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from vondata.version import __version__
from vonmodel.reports.mp4_comment import is_mp4, read_comment

PNG_KEY = "von"
"""Keyword of the PNG text chunk that holds the provenance as JSON."""
MAX_TEXT_BYTES = 2**20


def versions() -> dict[str, str]:
    """The versions of the packages that determine a result."""
    return {"von": __version__, "torch": version("torch")}


@dataclass(frozen=True)
class Provenance:
    """The model that made a result.

    Attributes:
        class_name: the object class.
        run: the run folder, as it was given, or `builtin:` and the name of a model of the package.
        checkpoint: name, stage, step and sha256 of the networks.
        resolution: voxels along an edge of the volumes.
        image_size: pixels along an edge of the images.
        versions: by the name of the package.
        sampling: how codes were sampled, and which pieces of the shapes were kept.
    """

    class_name: str
    run: str
    checkpoint: Mapping[str, Any]
    resolution: int
    image_size: int
    versions: Mapping[str, str] = field(default_factory=versions)
    sampling: Mapping[str, Any] = field(default_factory=dict)

    def record(self, **content: Any) -> dict[str, Any]:
        """The provenance as JSON values.

        Args:
            content: shape, texture, azimuth_deg, elevation_deg and the like; None is left out.
        """
        names = ("name", "stage", "step", "sha256")
        return {
            "class": self.class_name,
            "run": self.run,
            "checkpoint": {name: self.checkpoint[name] for name in names if name in self.checkpoint},
            "versions": dict(self.versions),
            **({"sampling": dict(self.sampling)} if self.sampling else {}),
            **{name: value for name, value in content.items() if value is not None},
        }

    def png_text(self, **content: Any) -> dict[str, str]:
        """The text chunks of a PNG file, by keyword; arguments as `record`."""
        return png_text(self.record(**content))


def code_text(code: Iterable[float]) -> str:
    """A code as text, exactly: a tilde, then base64 of its float32 values; links of the studio read it."""
    numbers = np.fromiter(code, dtype="<f4").tobytes()
    return "~" + base64.urlsafe_b64encode(numbers).decode("ascii").rstrip("=")


def png_text(record: Mapping[str, Any]) -> dict[str, str]:
    """A record as text chunks of a PNG file, by keyword."""
    words = [
        f"{name.removesuffix('_deg')} {value}" for name, value in record.items() if isinstance(value, int | float)
    ]
    words = [
        record.get("class", "object"),
        *(f"{n} {record[n]}" for n in ("shape", "texture") if n in record),
        *words,
    ]
    return {
        "Software": f"VON {record.get('versions', {}).get('von', '')}".strip(),
        "Description": ", ".join(words)[:1000],
        PNG_KEY: json.dumps(record, separators=(",", ":"), allow_nan=False),
    }


def read_provenance(path: Path) -> dict[str, Any] | None:
    """The record of a PNG, WebP, GIF or MP4 file that VON wrote; None if it holds none."""
    text = _text_of(path)
    if text is None or len(text) > MAX_TEXT_BYTES:
        return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _text_of(path: Path) -> str | bytes | None:
    with path.open("rb") as file:
        if is_mp4(file.read(8)):
            return read_comment(path)
    with Image.open(path) as image:
        image.load()
        if image.format == "WEBP":
            description: str | None = image.getexif().get(ExifTags.Base.ImageDescription)
            return description
        if image.format == "GIF":
            comment: str | bytes | None = image.info.get("comment")
            return comment
        text: str | None = getattr(image, "text", {}).get(PNG_KEY)
        return text
