"""The frame of a page: one HTML file that loads nothing from elsewhere, in the look of the house, light and dark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path

from vondata.io.files import atomic_path

HOUSE = "house.css"
_PICTURES = """<dialog aria-label="Picture">
<img src="data:," alt=""><p><span class="caption"></span><span>←&ensp;→&ensp;Esc</span></p>
</dialog>
<script>
{script}</script>
"""


@dataclass(frozen=True)
class Page:
    """What stands in the frame.

    Attributes:
        title: its heading, as plain text.
        lead: one sentence below it, as plain text.
        content: the rest, as HTML.
        styles: style sheets of this package besides the house's.
        variables: custom properties of the body, which style sheets use, without the leading hyphens.
        enlarges: its linked pictures (see `linked_picture`) open large, one after the other.
    """

    title: str
    lead: str
    content: str
    styles: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    enlarges: bool = False

    def render(self) -> str:
        """The page as HTML."""
        styles = "".join(_asset(name) for name in (HOUSE, *self.styles))
        variables = "; ".join(f"--{name}: {value}" for name, value in self.variables.items())
        body = f'<body style="{escape(variables)}">' if variables else "<body>"
        end = _PICTURES.format(script=_asset("pictures.js")) if self.enlarges else ""
        return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(self.title)}</title>
<link rel="icon" href="data:,">
<style>
{styles}</style>
</head>
{body}
<h1>{escape(self.title)}</h1>
<p class="lead">{escape(self.lead)}</p>
{self.content}
{end}</body>
</html>
"""

    def write(self, path: Path) -> Path:
        """Writes the page whole, or not at all, and returns its path."""
        with atomic_path(path) as temporary:
            temporary.write_text(self.render(), "utf-8")
        return path


@dataclass(frozen=True)
class Origin:
    """Where what a page shows comes from.

    Attributes:
        run: the run folder.
        checkpoint: name, stage, step and sha256 of the networks.
        seed: what codes and viewpoints were drawn with; None where each object has its own.
        volumes: in words.
        image_size: pixels along an edge.
        versions: by the name of the package.
        file: the JSON file beside the page that holds all codes.
    """

    run: str
    checkpoint: Mapping[str, object]
    seed: int | None
    volumes: str
    image_size: int
    versions: Mapping[str, str]
    file: str

    def render(self) -> str:
        """The section that ends a page."""
        checkpoint = self.checkpoint
        entries = {
            "Run": self.run,
            "Checkpoint": f"{checkpoint['name']} (stage {checkpoint['stage']}, step {checkpoint['step']})",
            "SHA-256": str(checkpoint["sha256"]),
            "Seed": None if self.seed is None else str(self.seed),
            "Volumes": self.volumes,
            "Images": f"{self.image_size} × {self.image_size} pixels",
            "Versions": ", ".join(f"{name} {version}" for name, version in self.versions.items()),
        }
        rows = "".join(
            f"<dt>{name}</dt><dd><code>{escape(value)}</code></dd>" for name, value in entries.items() if value
        )
        file = escape(self.file)
        hint = f'Codes, viewpoints and files: <a href="{file}">{file}</a>'
        return f'<h2>Origin</h2>\n<dl class="facts">{rows}</dl>\n<p class="hint">{hint}</p>'


def linked_picture(file: str, alternative: str, size: int | None = None) -> str:
    """A picture that opens large where the page enlarges; `size` is its width and height in pixels, where known."""
    sides = "" if size is None else f'width="{size}" height="{size}" '
    return (
        f'<a href="{escape(file)}"><img src="{escape(file)}" {sides}decoding="async" alt="{escape(alternative)}"></a>'
    )


def _asset(name: str) -> str:
    return (files(__package__) / name).read_text("utf-8")
