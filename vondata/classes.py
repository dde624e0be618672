"""Object classes: TOML files with names, synsets and viewpoint priors; priors and symmetry measured for new ones."""

from __future__ import annotations

import difflib
import math
import os
import re
import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vondata.errors import VonError

OWN_CLASSES = "VON_CLASSES"
"""The environment variable for the folder of user-defined class files; the default is `classes` below the current."""
MAX_BANDS = 4
MIN_BAND_SHARE = 0.05  # minimum share of the viewpoints in a band
MIN_BAND_VIEWPOINTS = 10  # minimum number in a band: a rectangle around fewer is much smaller than their distribution
MIN_EXTENT_DEG = 1.0  # of a band: annotations are seldom finer
CUTS = 64  # positions tried along an axis
MAX_LISTED = 8  # classes that a message lists
MAX_NAME = 40
_NAME = re.compile(rf"[a-z][a-z0-9_-]{{0,{MAX_NAME - 1}}}")
_SYNSET = re.compile(r"\d{8}")
_BAND_FIELDS = {"weight": "a number", "azimuth_deg": "two numbers", "elevation_deg": "two numbers"}


@dataclass(frozen=True)
class ViewpointBand:
    """A rectangle of viewpoints, drawn with probability proportional to `weight`, uniform inside."""

    weight: float
    azimuth_deg: tuple[float, float]
    elevation_deg: tuple[float, float]


@dataclass(frozen=True)
class ObjectClass:
    """Names, symmetry and viewpoint prior of a class.

    Attributes:
        name: the name used on the command line and as folder name.
        synset: ShapeNetCore's folder, eight digits; "" for a class that is not in it.
        pix3d_category: the category in `pix3d.json`.
        mirror_symmetry: whether left and right look alike, so that mirroring a photo negates its azimuth.
        viewpoints: prior of viewpoints for photos without annotation.
        aliases: other names of this class, such as those of ShapeNet's taxonomy.
    """

    name: str
    synset: str
    pix3d_category: str
    mirror_symmetry: bool
    viewpoints: tuple[ViewpointBand, ...]
    aliases: tuple[str, ...] = ()

    def sample_viewpoints(self, count: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        """Samples viewpoints from the prior.

        Returns:
            (count, 2) azimuth and elevation in degrees.
        """
        weights = np.array([band.weight for band in self.viewpoints])
        chosen = rng.choice(len(weights), size=count, p=weights / weights.sum())
        corners = np.array([[band.azimuth_deg, band.elevation_deg] for band in self.viewpoints])[chosen]
        return rng.uniform(corners[..., 0], corners[..., 1])


class UnknownClassError(VonError, ValueError):
    """A class name for which there is no class file."""

    exit_code = 2

    def __init__(self, name: str) -> None:
        known = known_classes()
        spelt = {each: known_class.name for known_class in known for each in (known_class.name, *known_class.aliases)}
        near = difflib.get_close_matches(name, spelt, n=1, cutoff=0.65)
        if near:
            hint = f"did you mean {spelt[near[0]]!r}?"
        else:
            hint = f"known classes: {', '.join(each.name for each in known)}"
        super().__init__(f"unknown class {name!r}; {hint}")


class ClassFileError(VonError, ValueError):
    """A class file that cannot be used.

    Attributes:
        problems: everything that is wrong with it.
    """

    def __init__(self, place: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(f"{place} is not a class file: {'; '.join(problems)}")


def known_classes() -> tuple[ObjectClass, ...]:
    """All classes, sorted by name: those of the package, and user-defined ones, which replace classes of their name.

    Raises:
        ClassFileError: a user-defined class file cannot be used.
    """
    folder = own_class_folder()
    own = () if folder is None else _own_classes(tuple((path, path.stat().st_mtime_ns) for path in _listed(folder)))
    own_names = {each.name for each in own}
    both = [*own, *(each for each in package_classes() if each.name not in own_names)]
    return tuple(sorted(both, key=lambda each: each.name))


@cache
def package_classes() -> tuple[ObjectClass, ...]:
    """The classes of `manifests/classes`, by name."""
    folder = files("vonmanifests") / "classes"
    found = [
        parse_class(entry.read_text("utf-8"), entry.name)
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    ]
    return tuple(sorted(found, key=lambda each: each.name))


def own_class_folder() -> Path | None:
    """The folder of user-defined class files; None if it does not exist."""
    folder = Path(os.environ.get(OWN_CLASSES) or "classes")
    return folder if folder.is_dir() else None


def load_class(name: str) -> ObjectClass:
    """The class of this name or alias.

    Raises:
        UnknownClassError: no class file has this name; the message gives the nearest one.
        ClassFileError: a user-defined class file cannot be used.
    """
    known = known_classes()
    for each in known:
        if each.name == name:
            return each
    for each in known:
        if name in each.aliases:
            return each
    raise UnknownClassError(name)


def read_class(path: Path) -> ObjectClass:
    """The class of a file.

    Raises:
        ClassFileError: it cannot be read or used; all problems are named.
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise ClassFileError(str(path), [error.strerror or str(error)]) from error
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is {error.object[error.start]:#04x}, which is not UTF-8: save it as UTF-8"
        raise ClassFileError(str(path), [problem]) from error
    return parse_class(text, str(path))


def parse_class(text: str, place: str) -> ObjectClass:
    """Parses and validates the text of a class file.

    Args:
        text: TOML, see docs/classes.md.
        place: name of the file in errors.

    Raises:
        ClassFileError: it is not TOML, or fields are missing, unknown or invalid; all of them are named.
    """
    try:
        fields = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ClassFileError(place, [f"it is not TOML: {error}"]) from error
    problems = [*_field_problems(fields), *_band_problems(fields.get("viewpoints"))]
    if problems:
        raise ClassFileError(place, problems)
    bands = (
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
        viewpoints=tuple(bands),
        aliases=tuple(fields.get("aliases", ())),
    )


def clashes(candidate: ObjectClass) -> list[str]:
    """Conflicts of a class with other known ones: the same synset, category or aliases."""
    found = []
    for each in known_classes():
        if each.name == candidate.name:
            continue
        if candidate.synset and candidate.synset == each.synset:
            found.append(f"synset {each.synset} is that of class {each.name}")
        if candidate.pix3d_category == each.pix3d_category:
            found.append(f"pix3d_category {each.pix3d_category!r} is that of class {each.name}")
        names = {each.name, *each.aliases} & {candidate.name, *candidate.aliases}
        found += [f"{name!r} means class {each.name}" for name in sorted(names)]
    return found


NAME_RULE = f"up to {MAX_NAME} lower-case letters a-z, digits, - and _, beginning with a letter"
"""Names of classes, which are also names of folders."""


def suggested_name(name: str) -> str:
    """An allowed name of a class, as near to this one as possible: itself if it is allowed."""
    if _NAME.fullmatch(name):
        return name
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_]+", "-", plain).lstrip("-_0123456789")[:MAX_NAME].rstrip("-") or "my-class"


def listed(names: Sequence[str]) -> str:
    """Names for a message: all of them, or the first eight and the number of other classes."""
    more = len(names) - MAX_LISTED
    return ", ".join(names[:MAX_LISTED]) + (f" or of {more} other classes" if more > 0 else "")


def class_text(each: ObjectClass, notes: Sequence[str] = ()) -> str:
    """The text of a class file; `parse_class` reads the same class from it.

    Args:
        each: the class.
        notes: comments for the viewpoint bands, in order; there may be fewer than bands.
    """
    aliases = f"aliases = [{', '.join(map(_quoted, each.aliases))}]\n" if each.aliases else ""
    symmetric = str(each.mirror_symmetry).lower()
    head = f"""\
name = {_quoted(each.name)}
{aliases}synset = {_quoted(each.synset)}            # ShapeNetCore folder{"" if each.synset else ": it has none"}
pix3d_category = {_quoted(each.pix3d_category)}
mirror_symmetry = {symmetric:<5}         # whether left and right look alike: a mirrored photo has the negated azimuth

# Viewpoints of photos where no annotation says better. A viewpoint falls into a band in proportion to its
# weight and is uniform inside it. Azimuth 0 looks at the front, elevation is positive from above.
"""
    bands = []
    for number, band in enumerate(each.viewpoints):
        note = f"             # {notes[number]}" if number < len(notes) else ""
        bands.append(
            f"[[viewpoints]]{note}\nweight = {band.weight}\nazimuth_deg = {list(band.azimuth_deg)}\n"
            f"elevation_deg = {list(band.elevation_deg)}\n"
        )
    return head + "\n".join(bands)


def _listed(folder: Path) -> list[Path]:
    return sorted(each for each in folder.glob("*.toml") if each.is_file() and not each.name.startswith("."))


@cache
def _own_classes(stamped: tuple[tuple[Path, int], ...]) -> tuple[ObjectClass, ...]:
    """The classes of files; their times are part of the cache key, so that a changed file is read again."""
    found = dict[str, tuple[Path, ObjectClass]]()
    for path, _ in stamped:
        own = read_class(path)
        if own.name in found:
            problem = f"class {own.name} is also that of {found[own.name][0]}: remove one, or give it another name"
            raise ClassFileError(str(path), [problem])
        found[own.name] = path, own
    return tuple(own for _, own in found.values())


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _field_problems(fields: Mapping[str, Any]) -> list[str]:
    kinds = {"name": str, "synset": str, "pix3d_category": str, "mirror_symmetry": bool, "viewpoints": list}
    problems = [f"{name} is missing" for name in kinds if name not in fields]
    for name, value in fields.items():
        if name not in (*kinds, "aliases"):
            near = difflib.get_close_matches(name, [*kinds, "aliases"], n=1)
            problems.append(f"unknown field {name!r}" + (f", did you mean {near[0]!r}?" if near else ""))
        elif name in kinds and type(value) is not kinds[name]:
            problems.append(f"{name} is {value!r}, not of type {kinds[name].__name__}")
    own, synset, aliases = fields.get("name"), fields.get("synset"), fields.get("aliases", [])
    if isinstance(own, str) and not _NAME.fullmatch(own):
        problems.append(f"name {own!r} is not allowed; use {NAME_RULE}, such as {suggested_name(own)}")
    if isinstance(synset, str) and synset and not _SYNSET.fullmatch(synset):
        problems.append(f"synset {synset!r} is not eight digits")
    if fields.get("pix3d_category") == "":
        problems.append("pix3d_category is empty")
    if not isinstance(aliases, list) or not all(isinstance(each, str) and each for each in aliases):
        problems.append(f"aliases is {aliases!r}, not a list of names")
    return problems


def _band_problems(bands: Any) -> list[str]:
    if not isinstance(bands, list):
        return []
    if not bands:
        return ["viewpoints has no band"]
    problems = []
    for number, band in enumerate(bands, start=1):
        place = f"viewpoints band {number}"
        if not isinstance(band, dict) or band.keys() != _BAND_FIELDS.keys():
            problems.append(f"{place} must have {', '.join(_BAND_FIELDS)} and nothing else")
            continue
        if not _is_number(band["weight"]) or band["weight"] <= 0:
            problems.append(f"{place}: weight must be a number above 0")
        for name, limit in (("azimuth_deg", 180), ("elevation_deg", 90)):
            ends = band[name]
            if not isinstance(ends, list) or len(ends) != 2 or not all(map(_is_number, ends)):
                problems.append(f"{place}: {name} must be two numbers")
            elif not -limit <= ends[0] <= ends[1] <= limit:
                problems.append(f"{place}: {name} must rise, within -{limit} and {limit}")
    return problems


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def fit_bands(viewpoints_deg: npt.NDArray[np.float64], max_bands: int = MAX_BANDS) -> tuple[ViewpointBand, ...]:
    """Fits viewpoint bands for a class file: a density that is constant on a few rectangles.

    The bounding rectangle of all viewpoints is split recursively where this increases the likelihood most, and each
    part shrinks to its bounding rectangle: a density estimation tree. By the Bayesian information criterion a split
    must gain 5/2 log n for the five parameters of a band, so that uniform viewpoints stay one band.

    Args:
        viewpoints_deg: (n, 2) azimuth and elevation, at least one row; rows with NaN are ignored.
        max_bands: maximum number of bands.

    Returns:
        The bands in order of decreasing weight; weights are shares of the viewpoints and sum to about 1.

    Raises:
        ValueError: no viewpoint is known.
    """
    known = viewpoints_deg[np.isfinite(viewpoints_deg).all(axis=1)]
    if len(known) == 0:
        raise ValueError("no viewpoint is known")
    known = np.stack([(known[:, 0] + 180.0) % 360.0 - 180.0, known[:, 1]], axis=1)
    pieces = [known]
    cost = 2.5 * np.log(len(known))
    while len(pieces) < max_bands:
        gains = [_best_cut(piece, len(known)) for piece in pieces]
        best = max(range(len(pieces)), key=lambda index: gains[index][0])
        gain, axis, place = gains[best]
        if gain <= cost:
            break
        piece = pieces.pop(best)
        pieces += [piece[piece[:, axis] < place], piece[piece[:, axis] >= place]]
    return tuple(_band(piece, len(known)) for piece in sorted(pieces, key=len, reverse=True))


def _best_cut(piece: npt.NDArray[np.float64], count: int) -> tuple[float, int, float]:
    """The gain in log likelihood of the best split of a part, its axis and its position."""
    best = (0.0, 0, 0.0)
    fewest = max(MIN_BAND_VIEWPOINTS, MIN_BAND_SHARE * count)
    for axis in (0, 1):
        for place in _places(np.unique(piece[:, axis])):
            below, above = piece[piece[:, axis] < place], piece[piece[:, axis] >= place]
            if min(len(below), len(above)) >= fewest:
                gain = _log_likelihood(below) + _log_likelihood(above) - _log_likelihood(piece)
                best = max(best, (gain, axis, float(place)))
    return best


def _places(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Candidate splits between sorted values: between any two of few values, else at quantiles and wide gaps."""
    middles = (values[1:] + values[:-1]) / 2
    if len(middles) <= CUTS:
        return middles
    spread = np.linspace(0, len(middles) - 1, CUTS).round().astype(int)
    wide = np.argsort(np.diff(values))[-CUTS // 8 :]
    return np.asarray(middles[np.union1d(spread, wide)])


def _log_likelihood(piece: npt.NDArray[np.float64]) -> float:
    """Log likelihood n log(n / area) of a part's points under its constant density, up to a common constant."""
    area = np.maximum(np.ptp(piece, axis=0), MIN_EXTENT_DEG).prod()
    return float(len(piece) * np.log(len(piece) / area))


def _band(piece: npt.NDArray[np.float64], count: int) -> ViewpointBand:
    low, high = piece.min(axis=0), piece.max(axis=0)
    spare = np.maximum(0.0, MIN_EXTENT_DEG - (high - low)) / 2
    low, high = np.floor(10 * (low - spare)) / 10, np.ceil(10 * (high + spare)) / 10
    azimuth, elevation = np.clip([low, high], [-180.0, -90.0], [180.0, 90.0]).T.tolist()
    return ViewpointBand(round(len(piece) / count, 3), tuple(azimuth), tuple(elevation))


def mirrored_share(occupancy: npt.NDArray[np.bool_]) -> float:
    """The share of a shape (N, N, N) covered by its mirror image at x = 0, with a tolerance of one voxel.

    The object frame's mirror plane is the middle of the grid. Thin parts are one voxel thick, so that without the
    tolerance chairs with thin legs would not be symmetric.
    """
    from scipy.ndimage import binary_dilation

    count = int(occupancy.sum())
    if count == 0:
        return float("nan")
    mirrored = binary_dilation(occupancy[::-1], structure=np.ones((3, 3, 3), dtype=bool))
    return float((occupancy & mirrored).sum() / count)
