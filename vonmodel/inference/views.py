"""Views: a shape, a viewpoint and a texture each; ways to change one of the three, turntable films, painted meshes.

Colours come from the images that the texture network paints from around a mesh, brought back to the vertices. Each
view is painted by itself, so views differ a little where they overlap: a vertex takes the mean of those that see it,
the ones that look straight at it before others. What nobody sees takes the colour of its neighbours.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from scipy import sparse
from scipy.ndimage import map_coordinates
from torch import Tensor

from vonmodel.geometry import Camera, viewpoint_rotation
from vonmodel.inference.rendering import rays_across, render_volume
from vonmodel.inference.sampling import Rendering, Seed, Viewpoints
from vonmodel.inference.session import ModelSession, Shape
from vonmodel.mesh import SurfaceMesh, to_pixels, write_image
from vonmodel.projection import frame_positions
from vonmodel.reports.album import Picture
from vonmodel.reports.html import decimated, viewer_mesh
from vonmodel.reports.provenance import code_text
from vonmodel.reports.video import FilmSettings, film_frames, write_film

Floats = npt.NDArray[np.float64]

AZIMUTHS = 8
ELEVATIONS_DEG = (0.0, 30.0, 60.0)
TOLERANCE_VOXELS = 2.5
"""How far behind the depth that is seen a vertex still counts as seen."""
STRAIGHT = 3
"""Power of the cosine between normal and view that weighs a view."""
GREY = 186


def painted_mesh(session: ModelSession, shape: Shape, texture: Float[Tensor, " k"], mesh: SurfaceMesh) -> SurfaceMesh:
    """The mesh of a shape with the colours of a texture at its vertices.

    Args:
        session: the model.
        shape: what the mesh is the surface of.
        texture: the texture code.
        mesh: as `session.mesh` makes it, at any level.
    """
    if not len(mesh.faces):
        return mesh
    colours, weights = np.zeros((len(mesh.vertices), 3)), np.zeros(len(mesh.vertices))
    normals = mesh.normals()
    views = np.array(
        list(itertools.product(np.arange(AZIMUTHS) * 2.0 * np.pi / AZIMUTHS, np.radians(ELEVATIONS_DEG)))
    )
    for view in np.split(views, len(views)):
        seen, weight = _look(session, shape, texture, view, mesh.vertices, normals)
        colours += weight[:, None] * seen
        weights += weight
    known = weights > 1e-6
    colours[known] /= weights[known, None]
    filled = spread(colours, known, mesh.faces)
    return dataclasses.replace(mesh, colours=to_pixels(torch.from_numpy(filled)))


def _look(
    session: ModelSession, shape: Shape, texture: Tensor, viewpoint: Viewpoints, vertices: Floats, normals: Floats
) -> tuple[Floats, Floats]:
    """The colours (v, 3) in [-1, 1] that one view gives to the vertices, and how much each is to be trusted (v,)."""
    model, config, camera = session.source.model, session.config, session.source.model.camera
    angles = torch.from_numpy(viewpoint).to(session.device, torch.float32)
    rays = rays_across(config, shape.volume.shape[-1])
    with torch.no_grad():
        seen = render_volume(model, shape.volume[None], angles, image_size=rays)
        rotations = viewpoint_rotation(angles[:, 0], angles[:, 1])
        framed = model.frame(seen, rotations, camera=camera, depth_range="item")
        # Not composed on white: at the silhouette's edge that would whiten the object.
        image = model.colours(framed, texture[None].to(session.device))
        rows, columns = (
            each[0].cpu().double().numpy() for each in frame_positions(seen.silhouette, exact=config.exact_framing)
        )
    rotation = rotations[0].cpu().double().numpy()
    places, depth = camera_places(vertices, rotation, camera, rays)
    places = np.stack(
        [
            # The middle of a pixel of the image lies between those of the rays that it is the mean of.
            ((places[axis] - ends[0]) / max(ends[-1] - ends[0], 1e-9) * (rays - 1) + 0.5) * config.image_size / rays
            - 0.5
            for axis, ends in enumerate((rows, columns))
        ]
    )
    silhouette, nearest = (
        map_coordinates(part[0, 0].cpu().double().numpy(), places, order=1, mode="constant", cval=beyond)
        for part, beyond in (
            (framed.silhouette, 0.0),
            (framed.depth + camera.distance - Camera().distance, camera.far),
        )
    )
    colours = np.stack(
        [map_coordinates(channel, places, order=1, mode="nearest") for channel in image[0].cpu().double().numpy()],
        axis=-1,
    )
    towards = rotation @ np.array([-camera.distance, 0.0, 0.0]) - vertices
    cosine = (normals * towards).sum(-1) / np.linalg.norm(towards, axis=-1)
    visible = depth <= nearest + TOLERANCE_VOXELS * 2.0 / (config.resolution - 1)
    return colours, np.where(visible, np.clip(cosine, 0.0, 1.0) ** STRAIGHT * silhouette**2, 0.0)


def camera_places(
    points: Floats, rotation: Floats, camera: Camera, image_size: int
) -> tuple[npt.NDArray[np.float64], Floats]:
    """Where points (v, 3) of the object frame appear: (2, v) row and column in pixels, and their depth (v,)."""
    turned = points @ rotation  # p_camera = rotation^T p_object
    depth = turned[:, 0] + camera.distance
    per_unit = (image_size - 1) / (2.0 * camera.half_width)
    row = (camera.half_width - turned[:, 2] / depth) * per_unit
    column = (camera.half_width - turned[:, 1] / depth) * per_unit
    return np.stack([row, column]), depth


def spread(values: Floats, known: npt.NDArray[np.bool_], faces: npt.NDArray[np.int64]) -> Floats:
    """Fills values (v, 3) of unknown vertices from their neighbours, ring by ring; grey where no piece is known."""
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    count = len(values)
    ones = np.ones(len(pairs))
    neighbours = sparse.csr_matrix((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    neighbours = neighbours.maximum(neighbours.T)
    result, reached = np.where(known[:, None], values, 0.0), known.copy()
    while True:
        around = neighbours @ reached.astype(np.float64)
        ring = ~reached & (around > 0)
        if not ring.any():
            break
        result[ring] = (neighbours @ (result * reached[:, None]))[ring] / around[ring, None]
        reached |= ring
    result[~reached] = GREY / 127.5 - 1.0
    return result


MAX_ELEVATION_DEG = 60.0


@dataclass(frozen=True, eq=False)
class View:
    """One picture to draw.

    Attributes:
        name: of its file.
        caption: what there is to see in it.
        shape: the shape.
        viewpoint: azimuth and elevation in radians.
        texture: (k,) the texture code.
    """

    name: str
    caption: str
    shape: Shape
    viewpoint: tuple[float, float]
    texture: Float[Tensor, " k"]


def base_viewpoint(
    session: ModelSession, shape: Shape, azimuth_deg: float | None, elevation_deg: float | None
) -> tuple[float, float]:
    """The viewpoint asked for, in radians; an angle that is not given is drawn as the class is seen."""
    azimuth, elevation = session.viewpoints(1, 0 if shape.seed is None else shape.seed.seed)[0]
    return (
        float(azimuth if azimuth_deg is None else np.radians(azimuth_deg)),
        float(elevation if elevation_deg is None else np.radians(elevation_deg)),
    )


def render_views(session: ModelSession, views: Sequence[View]) -> Float[Tensor, "n 3 R R"]:
    """The images of views, in [-1, 1]."""
    return _render(session, views).images


def _render(session: ModelSession, views: Sequence[View]) -> Rendering:
    textures = torch.stack([view.texture for view in views])
    viewpoints = np.array([view.viewpoint for view in views], dtype=np.float64)
    return session.render([view.shape for view in views], viewpoints, textures)


def origin_of(view: View) -> dict[str, Any]:
    """What a view shows, for its provenance: the shape's name, both codes, the angles in degrees."""
    azimuth, elevation = (round(float(each), 4) for each in np.degrees(view.viewpoint))
    return {
        "shape": view.shape.name,
        "shape_code": None if view.shape.code is None else code_text(view.shape.code.tolist()),
        "texture_code": code_text(view.texture.tolist()),
        "azimuth_deg": azimuth,
        "elevation_deg": elevation,
    }


def png_origin(session: ModelSession, view: View) -> dict[str, str]:
    """The text chunks of a picture of a view."""
    return session.source.provenance.png_text(**origin_of(view))


def turnable(session: ModelSession, shape: Shape, texture: Float[Tensor, " k"]) -> str | None:
    """The painted surface of a shape for a page's 3D view; None where it is empty."""
    return viewer_mesh(painted_mesh(session, shape, texture, decimated(session.mesh(shape))))


def draw_views(session: ModelSession, views: Sequence[View], folder: Path, name: str) -> tuple[Picture, ...]:
    """Writes the images of views as `folder/name/<view>.png` and returns them with their captions."""
    rendering = _render(session, views)
    for view, image, silhouette in zip(views, rendering.images, rendering.sketch.silhouette, strict=True):
        write_image(folder / name / f"{view.name}.png", image, png_origin(session, view), silhouette)
    return tuple(Picture(f"{name}/{view.name}.png", view.caption) for view in views)


def turntable(base: View, frames: int) -> list[View]:
    """Views once around, at the elevation of the base and beginning with it."""
    azimuth, elevation = base.viewpoint
    return [
        dataclasses.replace(base, viewpoint=(azimuth + 2.0 * np.pi * frame / frames, elevation))
        for frame in range(frames)
    ]


def other_shapes(session: ModelSession, base: View, count: int) -> list[View]:
    """The base, then the shapes of the seeds after its own (from 0 where it has none)."""
    first = Seed(0) if base.shape.seed is None else base.shape.seed.after(1)
    shapes = session.shapes([first.after(step) for step in range(count)])
    return [
        dataclasses.replace(base, caption=base.shape.name),
        *(
            dataclasses.replace(base, name=f"shape-{index + 1}", caption=shape.name, shape=shape)
            for index, shape in enumerate(shapes)
        ),
    ]


def other_azimuths(base: View, count: int) -> list[View]:
    """The base, then from further around."""
    around = turntable(base, count + 1)
    names = [base.name, *(f"azimuth-{index + 1}" for index in range(count))]
    return [
        dataclasses.replace(view, name=name, caption=degrees_text(view.viewpoint[0]))
        for name, view in zip(names, around, strict=True)
    ]


def other_elevations(base: View, count: int) -> list[View]:
    """The base, then from level up to 60 degrees above."""
    azimuth, elevation = base.viewpoint
    angles = np.radians(np.linspace(0.0, MAX_ELEVATION_DEG, count)).tolist()
    return [
        dataclasses.replace(base, caption=degrees_text(elevation)),
        *(
            dataclasses.replace(
                base, name=f"elevation-{index + 1}", caption=degrees_text(angle), viewpoint=(azimuth, angle)
            )
            for index, angle in enumerate(angles)
        ),
    ]


def other_textures(session: ModelSession, base: View, first: Seed, count: int, caption: str) -> list[View]:
    """The base with its caption, then the textures of this seed and those after it."""
    seeds = [first.after(step) for step in range(count)]
    return [
        dataclasses.replace(base, caption=caption),
        *(
            dataclasses.replace(
                base, name=f"texture-{index + 1}", caption=f"seed {seed}", texture=session.texture(seed)
            )
            for index, seed in enumerate(seeds)
        ),
    ]


def degrees_text(angle: float) -> str:
    """An angle in radians for people: from -180° to 180°."""
    return f"{round(float(np.degrees(np.angle(np.exp(1j * angle)))))}°"


def write_turntable(
    session: ModelSession, base: View, film: FilmSettings, folder: Path, name: str, stem: str = "turntable"
) -> tuple[Picture, ...]:
    """Writes the film as `folder/name/<stem>.<format>`; nothing where no film is wanted."""
    if film.format is None:
        return ()
    file = f"{name}/{stem}.{film.format}"
    write_film(folder / file, film_frames(render_views(session, turntable(base, film.frames)), film.size_px))
    return (Picture(file, "turntable"),)
