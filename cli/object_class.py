"""`von class`: lists, shows and checks object classes, and makes new ones measured on a dataset."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from voncli.command import Group, option
from voncli.options import json_option
from voncli.output import note, print_json, progress_bar, user_errors
from voncli.settings import LOCAL_PATH, check_folder, folder_option

if TYPE_CHECKING:
    from vondata.classes import ObjectClass, ViewpointBand

# Measure at most this many shapes, evenly spread over the manifest.
MEASURED_SHAPES = 200
# A class counts as symmetric if the median of its shapes' mirrored shares reaches this.
SYMMETRIC_FROM = 0.9


@click.group("class", cls=Group)
def object_class() -> None:
    """Lists, checks and makes object classes: name, ShapeNet folder, viewpoints of photos, mirror symmetry.

    A class is a TOML file. Your own are read from the subfolder classes of the current folder, or from the folder
    VON_CLASSES; a file there replaces the class of that name.
    """


@object_class.command("list", short_help="List all classes.")
@json_option
def list_classes(as_json: bool) -> None:
    """Lists all known classes."""
    from vondata.classes import known_classes, package_classes

    with user_errors():
        known, packaged = known_classes(), package_classes()
    rows = [_described(each, own=each not in packaged) for each in known]
    if as_json:
        print_json(rows)
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        symmetric = "symmetric" if row["mirror_symmetry"] else "-"
        also = f"  also {', '.join(row['aliases'])}" if row["aliases"] else ""
        own = "  own" if row["own"] else ""
        click.echo(f"{row['name']:{width}}  {row['synset'] or '-':8}  {symmetric:9}{own}{also}")


@object_class.command(short_help="Show a class.")
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Shows the class NAME: its file, as `von class check` reads it."""
    from vondata.classes import class_text, load_class, package_classes

    with user_errors():
        found = load_class(name)
    if as_json:
        print_json(_described(found, own=found not in package_classes()))
    else:
        click.echo(class_text(found), nl=False)


@object_class.command(short_help="Check a class file.")
@click.argument("file", type=LOCAL_PATH)
@json_option
def check(file: Path, as_json: bool) -> None:
    """Checks the class FILE: every field, and that it shares no synset, category or name with another class.

    Prints every problem; the exit code is 1 if there is one.
    """
    from vondata.classes import ClassFileError, clashes, read_class

    try:
        found = read_class(file)
        problems: list[str] = clashes(found)
        if file.stem != found.name:
            problems.append(f"the file is called {file.name}; the class is still found as {found.name}")
    except ClassFileError as error:
        problems = list(error.problems)
    if as_json:
        print_json({"file": str(file), "problems": problems})
    else:
        for problem in problems:
            click.echo(f"{file}: {problem}", err=True)
        if not problems:
            click.echo(f"{file}: class {found.name}, no problems")
    if problems:
        raise SystemExit(1)


@object_class.command(short_help="Make a class file, from a dataset where there is one.")
@click.argument("name")
@option("--synset", metavar="DIGITS", help="Read its models from this folder of ShapeNetCore.")
@option("--category", metavar="NAME", help="Read its photos from this category of pix3d.json. [default: its name]")
@option(
    "--alias", "aliases", multiple=True, metavar="NAME", help="Accept this name for the class too; repeat for more."
)
@option(
    "--like", metavar="CLASS", help="Start from this class's values. [default: the class of this NAME, else table]"
)
@folder_option("data", help="Measure viewpoints and symmetry on the photos and shapes of this prepared dataset.")
@option("-o", "--output", type=LOCAL_PATH, heading="Output", help="Write this file. [default: classes/NAME.toml]")
@option("--overwrite", is_flag=True, heading="Output", help="Replace an existing file.")
@json_option
def new(
    name: str,
    synset: str | None,
    category: str | None,
    aliases: tuple[str, ...],
    like: str | None,
    data: Path,
    output: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Makes a file for the class NAME.

    Viewpoint bands are fitted to the dataset's photos of NAME whose viewpoint is annotated or matched, and mirror
    symmetry is measured on its shapes of NAME; what cannot be measured is copied from another class. Preparing a
    dataset of NAME needs the class: make it first, and again with --overwrite once there is data.
    """
    from vondata.classes import (
        NAME_RULE,
        ObjectClass,
        clashes,
        class_text,
        known_classes,
        load_class,
        own_class_folder,
        parse_class,
        suggested_name,
    )
    from vondata.io.files import atomic_path

    if name != (allowed := suggested_name(name)):
        raise click.UsageError(f"NAME: {name!r} is not allowed; use {NAME_RULE}, such as {allowed}")
    if click.get_current_context().get_parameter_source("data") is ParameterSource.COMMANDLINE:
        check_folder(data, "--data")
    place = output or (own_class_folder() or Path("classes")) / f"{name}.toml"
    if place.exists() and not overwrite:
        raise click.UsageError(f"{place} is there already; --overwrite replaces it")
    with user_errors(), progress_bar(as_json) as progress:
        there = next((each for each in known_classes() if each.name == name), None)
        pattern = there if like is None and there is not None else load_class(like or "table")
        found = _measured(data, name, lambda done, total: progress("shapes", done, total))
        made = ObjectClass(
            name=name,
            synset=(there.synset if there is not None else "") if synset is None else synset,
            pix3d_category=category or (there.pix3d_category if there is not None else name),
            mirror_symmetry=pattern.mirror_symmetry if found.symmetric is None else found.symmetric,
            viewpoints=found.bands or pattern.viewpoints,
            aliases=aliases or (there.aliases if there is not None else ()),
        )
        from_photos = [f"{found.photos} photos of {data}"] if found.bands else []
        text = class_text(made, from_photos or [f"as class {pattern.name}: no photo with a viewpoint was there"])
        parse_class(text, str(place))  # an invalid synset is reported before anything is written
        problems = clashes(made)
        if problems:
            raise click.UsageError("; ".join(problems))
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(place) as temporary:
            temporary.write_text(text, "utf-8")
    if as_json:
        print_json({"file": str(place), **_described(made, own=True), "measured": asdict(found)})
        return
    note(f"{found.sentence(pattern.name)} Written to", err=False)
    click.echo(str(place))


@dataclass(frozen=True)
class _Measured:
    """Measurements of a class on a dataset.

    Attributes:
        photos: number of photos with a known viewpoint.
        bands: fitted to their viewpoints; empty if there are none.
        shapes: number of shapes measured.
        mirrored_share: median share of a shape that its mirror image covers; None without shapes.
    """

    photos: int = 0
    bands: Any = field(default=())
    shapes: int = 0
    mirrored_share: float | None = None

    @property
    def symmetric(self) -> bool | None:
        """Whether the class counts as symmetric; None without shapes."""
        return None if self.mirrored_share is None else self.mirrored_share >= SYMMETRIC_FROM

    def sentence(self, other: str) -> str:
        """One sentence on what was measured and what was copied from class `other`."""
        views = (
            f"{len(self.bands)} viewpoint band{'s' if len(self.bands) > 1 else ''} from {self.photos} photos"
            if self.bands
            else f"viewpoints as those of {other}"
        )
        if self.mirrored_share is None:
            return f"{views}, mirror symmetry as that of {other}."
        verdict = "symmetric" if self.symmetric else "not symmetric"
        return f"{views}, {verdict} by {self.shapes} shapes ({100 * self.mirrored_share:.0f} % mirror overlap)."


def _measured(data: Path, name: str, on_progress: Any) -> _Measured:
    """Measures viewpoints and symmetry of a class on a dataset, as far as it has photos and shapes of it.

    Raises:
        ManifestDamagedError, ShapeFileError: the dataset is damaged.
    """
    import numpy as np

    from vondata.classes import fit_bands, mirrored_share
    from vondata.dataset.manifest import ManifestMissingError, known_viewpoints, prepared, read_manifest
    from vondata.dataset.shape_file import load_occupancy
    from vondata.dataset.shards import OutputFiles

    photos = 0
    bands: tuple[ViewpointBand, ...] = ()
    try:
        viewpoints = known_viewpoints(prepared(read_manifest(data, name, "images")))
        photos = int(np.isfinite(viewpoints).all(axis=1).sum())
        bands = fit_bands(viewpoints) if photos else ()
    except ManifestMissingError:
        pass
    try:
        ids = sorted(prepared(read_manifest(data, name, "shapes"))["id"])
    except ManifestMissingError:
        ids = []
    if not ids:
        return _Measured(photos, bands)
    chosen = [ids[place] for place in np.unique(np.linspace(0, len(ids) - 1, MEASURED_SHAPES).round().astype(int))]
    outputs, shares = OutputFiles(data, name, "shapes"), []
    for number, id in enumerate(chosen, start=1):
        shares.append(mirrored_share(load_occupancy(outputs[id])))
        on_progress(number, len(chosen))
    return _Measured(photos, bands, len(chosen), float(np.nanmedian(shares)))


def _described(each: ObjectClass, *, own: bool) -> dict[str, Any]:
    return {**asdict(each), "own": own}
