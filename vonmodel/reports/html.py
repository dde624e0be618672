"""Pages from jinja2 templates: one HTML file that loads nothing from elsewhere, in light and dark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vondata.io.files import atomic_path

TEMPLATES = "templates"


@dataclass(frozen=True)
class Page:
    """A template and what it shows.

    Attributes:
        template: its file's name.
        context: the template's variables. Text is escaped; HTML must be `Markup`.
    """

    template: str
    context: Mapping[str, Any] = field(default_factory=dict)

    def render(self) -> str:
        """The page as HTML."""
        return _environment().get_template(self.template).render(self.context)

    def write(self, path: Path) -> Path:
        """Writes the page whole, or not at all, and returns its path."""
        with atomic_path(path) as temporary:
            temporary.write_text(self.render(), "utf-8")
        return path


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("vonmodel.reports", TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["asset"] = _asset
    environment.filters["thousands"] = lambda number: f"{number:,}".replace(",", "\u202f")
    environment.filters["lines"] = lambda text: Markup("<br>").join(str(text).split("\n"))
    return environment


def _asset(name: str) -> Markup:
    """A style sheet or script of the templates' folder, for inclusion in the page."""
    return Markup((files(__package__) / TEMPLATES / name).read_text("utf-8"))  # a file of this package
