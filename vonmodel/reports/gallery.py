"""The page of a generation: shapes, viewpoints and textures, in one HTML file that loads nothing from elsewhere."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vondata import __version__
from vondata.io.files import atomic_path
from vonmodel.reports.html import Origin, Page, linked_picture
from vonmodel.reports.metrics_log import Figure, Metric, figures_of, newest

FORMAT = 1
SIDECAR = "generated.json"
PAGE = "index.html"


def versions() -> dict[str, str]:
    """Of what decides the content of a result."""
    return {"von": __version__, "torch": version("torch")}


@dataclass(frozen=True)
class ViewFiles:
    """The pictures of one shape from one viewpoint, as paths relative to the gallery's folder.

    Attributes:
        silhouette: grey, white where the object is.
        depth: grey, nearest white, background black.
        images: one for every texture.
    """

    silhouette: str
    depth: str
    images: tuple[str, ...]


@dataclass(frozen=True)
class GeneratedShape:
    """One shape and its files.

    Attributes:
        name: its folder inside the gallery's.
        code: its shape code.
        mesh: its surface as GLB; None where the volume has no surface at the level.
        faces: triangles of the surface.
        views: its pictures, one entry for every viewpoint.
    """

    name: str
    code: tuple[float, ...]
    mesh: str | None
    faces: int
    views: tuple[ViewFiles, ...]


@dataclass(frozen=True)
class Gallery:
    """Everything a generation wrote; with the checkpoint it is enough to draw each picture again.

    Attributes:
        class_name: the object class.
        run: the run folder as given.
        checkpoint: name, stage, step and sha256 of the networks.
        seed: what the codes and viewpoints were drawn with.
        image_size: pixels along an edge of every picture.
        resolution: voxels along an edge of the volumes.
        level: value of the volumes on the surface of the meshes.
        sampling: truncation of the codes, and whether loose pieces of the shapes are left.
        viewpoints_deg: azimuth and elevation of every viewpoint.
        texture_codes: the textures, shared by all shapes.
        shapes: the shapes.
        versions: of VON and torch.
    """

    class_name: str
    run: str
    checkpoint: dict[str, Any]
    seed: int
    image_size: int
    resolution: int
    level: float
    sampling: dict[str, Any]
    viewpoints_deg: tuple[tuple[float, float], ...]
    texture_codes: tuple[tuple[float, ...], ...]
    shapes: tuple[GeneratedShape, ...]
    versions: dict[str, str]

    def save(self, folder: Path) -> None:
        """Writes the JSON file beside the pictures."""
        with atomic_path(folder / SIDECAR) as temporary:
            content = {"format": FORMAT, **dataclasses.asdict(self)}
            temporary.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def write_page(folder: Path, gallery: Gallery, metrics: Sequence[Metric]) -> Path:
    """Writes the page of a gallery.

    Args:
        folder: where the gallery's files are.
        gallery: what to show.
        metrics: what has been measured on the gallery's checkpoint.

    Returns:
        The page to open.
    """
    return gallery_page(gallery, metrics).write(folder / PAGE)


def gallery_page(gallery: Gallery, metrics: Sequence[Metric]) -> Page:
    """The page of a gallery; arguments as `write_page`."""
    nearest = _nearest_of(gallery, metrics)
    shapes = "\n".join(_shape(gallery, shape, near) for shape, near in zip(gallery.shapes, nearest, strict=True))
    content = f"""<h2>Figures</h2>
{_figures(gallery, figures_of(metrics))}
<h2>Shapes</h2>
<main class="shapes">
{shapes}
</main>
{_origin(gallery).render()}"""
    width = 6 + 6.5 * len(gallery.viewpoints_deg)
    return Page(
        f"Generated {gallery.class_name}s",
        _summary(gallery),
        content,
        variables={"card-width": f"{min(width + 3, 44):g}rem", "table-width": f"{width * 0.7:g}rem"},
        enlarges=True,
    )


def _summary(gallery: Gallery) -> str:
    counts = (
        (len(gallery.shapes), "shape"),
        (len(gallery.viewpoints_deg), "viewpoint"),
        (len(gallery.texture_codes), "texture"),
    )
    summary = " × ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts)
    if gallery.checkpoint["stage"] == "shape":
        summary += ". The textures are those of untrained networks: this checkpoint is of the shape stage."
    return summary


def _figures(gallery: Gallery, figures: Sequence[Figure]) -> str:
    if not figures:
        return '<p class="hint">Nothing has been measured on this checkpoint yet; evaluate it and generate again.</p>'
    return f'<section class="figures">{"".join(_figure(each) for each in figures)}</section>'


def _figure(figure: Figure) -> str:
    bar = "" if figure.share is None else f'<div class="bar"><i style="width: {figure.share:.1%}"></i></div>'
    return (
        f'<div class="figure"><div class="value">{escape(figure.value)} <small>{escape(figure.unit)}</small></div>'
        f'{bar}<p>{escape(figure.label)}</p><p class="note">{escape(figure.note)}</p></div>'
    )


def _shape(gallery: Gallery, shape: GeneratedShape, nearest: str) -> str:
    mesh = (
        f'<a class="download" href="{escape(shape.mesh)}" download="{escape(shape.name)}.glb">GLB</a>'
        if shape.mesh
        else '<span class="download fact">no surface</span>'
    )
    facts = [f"{shape.faces:,} faces".replace(",", "\u202f")] if shape.mesh else []
    facts += [nearest] if nearest else []
    heads = "".join(f'<th scope="col">{_viewpoint(*each)}</th>' for each in gallery.viewpoints_deg)
    rows = [
        _row("silhouette", shape, gallery, [view.silhouette for view in shape.views]),
        _row("depth", shape, gallery, [view.depth for view in shape.views]),
    ]
    rows += [
        _row(f"texture {index + 1}", shape, gallery, [view.images[index] for view in shape.views])
        for index in range(len(gallery.texture_codes))
    ]
    return f"""<article class="shape" id="{escape(shape.name)}">
<header><h3>{escape(_title(shape))}</h3><span class="fact">{escape(" · ".join(facts))}</span>{mesh}</header>
<div class="scroller" tabindex="0" role="region" aria-label="{escape(_title(shape))}"><table class="views">
<thead><tr><th></th>{heads}</tr></thead>
<tbody>
{"".join(rows)}</tbody>
</table></div>
</article>"""


def _row(label: str, shape: GeneratedShape, gallery: Gallery, pictures: Iterable[str]) -> str:
    cells = "".join(
        f"<td>{linked_picture(file, f'{_title(shape)}, {label}, {_viewpoint(*viewpoint)}', gallery.image_size)}</td>"
        for file, viewpoint in zip(pictures, gallery.viewpoints_deg, strict=True)
    )
    return f'<tr><th scope="row">{escape(label)}</th>{cells}</tr>\n'


def _origin(gallery: Gallery) -> Origin:
    return Origin(
        run=gallery.run,
        checkpoint=gallery.checkpoint,
        seed=gallery.seed,
        volumes=f"{gallery.resolution}³, surface at {gallery.level:.4g}",
        image_size=gallery.image_size,
        versions=gallery.versions,
        file=SIDECAR,
    )


def _nearest_of(gallery: Gallery, metrics: Sequence[Metric]) -> list[str]:
    """For each shape how much it overlaps its nearest training shape, where that was measured with the same seed."""
    measured = newest([line for line in metrics if line.get("seed") == gallery.seed], "shapes")
    overlaps = measured["nearest_iou"] if measured else []
    known = [f"IoU {overlap:.2f} with its nearest training shape" for overlap in overlaps[: len(gallery.shapes)]]
    return known + [""] * (len(gallery.shapes) - len(known))


def _title(shape: GeneratedShape) -> str:
    return shape.name.replace("-", " ").capitalize()


def _viewpoint(azimuth_deg: float, elevation_deg: float) -> str:
    return (
        f"{azimuth_deg:.0f}°, {elevation_deg:.0f}° up"
        if elevation_deg >= 0
        else f"{azimuth_deg:.0f}°, {elevation_deg:.0f}°"
    )
