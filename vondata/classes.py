"""Object classes, read from the TOML files of `manifests/classes`."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from vondata.errors import VonError


@dataclass(frozen=True)
class ViewpointBand:
    """A rectangle of viewpoints, drawn with probability proportional to `weight`, uniform inside."""

    weight: float
    azimuth_deg: tuple[float, float]
    elevation_deg: tuple[float, float]


@dataclass(frozen=True)
class ObjectClass:
    """What VON knows of a class before it sees data.

    Attributes:
        name: the name used on the command line and as folder name.
        synset: ShapeNetCore's folder, eight digits.
        pix3d_category: the category in `pix3d.json`.
        mirror_symmetry: whether left and right look alike, so that mirroring a photo negates its azimuth.
        viewpoints: prior of viewpoints for photos without annotation.
    """

    name: str
    synset: str
    pix3d_category: str
    mirror_symmetry: bool
    viewpoints: tuple[ViewpointBand, ...]

    def sample_viewpoints(self, count: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        """Draws viewpoints from the prior.

        Returns:
            (count, 2) azimuth and elevation in degrees.
        """
        weights = np.array([band.weight for band in self.viewpoints])
        chosen = rng.choice(len(weights), size=count, p=weights / weights.sum())
        corners = np.array([[band.azimuth_deg, band.elevation_deg] for band in self.viewpoints])[chosen]
        return rng.uniform(corners[..., 0], corners[..., 1])


class UnknownClassError(VonError, ValueError):
    """A class name for which `manifests/classes` has no file."""

    exit_code = 2

    def __init__(self, name: str) -> None:
        known = [known.name for known in known_classes()]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known classes: {', '.join(known)}"
        super().__init__(f"unknown class {name!r}; {hint}")


@cache
def known_classes() -> tuple[ObjectClass, ...]:
    """All classes, by name."""
    folder = files("vonmanifests") / "classes"
    found = [_parse(entry.read_text("utf-8")) for entry in folder.iterdir() if entry.name.endswith(".toml")]
    return tuple(sorted(found, key=lambda each: each.name))


def load_class(name: str) -> ObjectClass:
    """The class of this name.

    Raises:
        UnknownClassError: no class file has this name; the message gives the nearest one.
    """
    for each in known_classes():
        if each.name == name:
            return each
    raise UnknownClassError(name)


def _parse(text: str) -> ObjectClass:
    fields = tomllib.loads(text)
    bands = tuple(
        ViewpointBand(
            weight=float(band["weight"]),
            azimuth_deg=(float(band["azimuth_deg"][0]), float(band["azimuth_deg"][1])),
            elevation_deg=(float(band["elevation_deg"][0]), float(band["elevation_deg"][1])),
        )
        for band in fields["viewpoints"]
    )
    return ObjectClass(
        name=fields["name"],
        synset=fields["synset"],
        pix3d_category=fields["pix3d_category"],
        mirror_symmetry=fields["mirror_symmetry"],
        viewpoints=bands,
    )
