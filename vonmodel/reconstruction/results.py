"""Results of a reconstruction: new views, other textures, a coloured mesh, a page, result.json; reading them back."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vondata.errors import VonError
from vondata.io.files import atomic_path
from vonmodel.inference.export import ExportSettings, NoSurfaceError, write_shape_files
from vonmodel.inference.photo import CutPhoto
from vonmodel.inference.sampling import Seed
from vonmodel.inference.session import ModelSession, Shape
from vonmodel.inference.views import View, draw_views, other_azimuths, other_textures, png_origin, write_turntable
from vonmodel.mesh import write_grey, write_image, write_png
from vonmodel.reconstruction.reconstruct import Alternative, Phase, Reconstruction, Reconstructor
from vonmodel.reports.album import RESULT, Album, Picture, Plate, Strip, replaced_folder, write_album, write_result
from vonmodel.reports.html import viewer_mesh
from vonmodel.reports.video import FilmSettings

VOLUME = "volume.safetensors"


class ReconstructionMissingError(VonError):
    """A folder without a reconstruction by this model."""


def read_reconstructed_shapes(session: ModelSession, folder: Path) -> list[Shape]:
    """The shapes of a reconstruction.

    Args:
        session: the model it was made with.
        folder: the output of `reconstruct_photos`, or its result.json.

    Raises:
        ReconstructionMissingError: there is no reconstruction, it is damaged, or another checkpoint made it.
        CodeError: its codes are of another model.
    """
    home = folder.parent if folder.name == RESULT else folder
    shapes = []
    for each in read_reconstruction(session, folder):
        file = home / str(each["volume"])
        try:
            packed = load_file(file)["volume"].float()
        except (OSError, SafetensorError, KeyError) as error:
            raise ReconstructionMissingError(f"{file} is missing or damaged; reconstruct the photo again") from error
        if packed.shape != (1, *[packed.shape[-1]] * 3) or packed.shape[-1] < session.config.resolution:
            raise ReconstructionMissingError(f"{file} is {tuple(packed.shape)}, of a model of another resolution")
        shape = session.shape_of_volume(str(each["name"]), packed)
        shapes.append(replace(shape, code=session.code(each["shape_code"], "shape")))
    return shapes


def save_volume(file: Path, shape: Shape) -> None:
    """Writes the volume of a shape, which after carving cannot be generated from its code."""
    with atomic_path(file) as temporary:
        save_file({"volume": shape.volume.half().cpu().contiguous()}, temporary)


def read_reconstruction(session: ModelSession, folder: Path) -> list[Mapping[str, Any]]:
    """The objects of a reconstruction's result.json; errors as `read_reconstructed_shapes`."""
    file = folder if folder.name == RESULT else folder / RESULT
    try:
        said = json.loads(file.read_text("utf-8"))
        verb, checkpoint, objects = said["verb"], said["checkpoint"], said["objects"]
        complete = all(
            each["volume"] and each["shape_code"] and each["texture_code"] and each["name"] for each in objects
        )
        same = checkpoint["sha256"] == session.source.checkpoint.sha256
    except OSError as error:
        raise ReconstructionMissingError(f"{folder} holds no reconstruction; reconstruct a photo first") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ReconstructionMissingError(f"{file} is damaged; reconstruct the photo again") from error
    if verb != "reconstruct" or not complete:
        raise ReconstructionMissingError(f"{file} is not the result of a reconstruction")
    if not same:
        raise ReconstructionMissingError(
            f"{file} was made with checkpoint {checkpoint.get('name')}, not with {session.source.checkpoint.name}; "
            "use that one, or reconstruct the photo again"
        )
    return list(objects)


Progress = Callable[[Phase, int, int], None]


@dataclass(frozen=True)
class ReportSettings:
    """Views, textures and files written for each photo.

    Attributes:
        views: new azimuths.
        textures: other textures.
        film: the turntable.
        export: the files of its shape.
    """

    views: int = 5
    textures: int = 6
    film: FilmSettings = field(default_factory=FilmSettings)
    export: ExportSettings = field(default_factory=ExportSettings)


def reconstruct_photos(
    reconstructor: Reconstructor,
    photos: Sequence[CutPhoto],
    settings: ReportSettings,
    output: Path,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Reconstructs photos and writes pictures and meshes, with result.json and a page.

    Args:
        reconstructor: the model and its settings.
        photos: the photos (see `read_photo`).
        settings: what to show.
        output: the folder; an older reconstruction in it is replaced.
        progress: called after every step on a photo.

    Returns:
        the content of result.json.

    Raises:
        OutputError: the folder holds something other than an older reconstruction.
        FilmError: the turntable's format cannot be written here.
    """
    session = reconstructor.session
    with replaced_folder(output, "reconstruct") as folder:
        objects, plates = [], []
        for index, photo in enumerate(photos):
            start = time.perf_counter()
            found = reconstructor.reconstruct(photo, progress)
            seconds = time.perf_counter() - start
            said, plate = _write_one(session, found, settings, folder, f"object-{index + 1:02d}")
            objects.append(said | {"seconds": round(seconds, 2)})
            plates.append(plate)
        asked = dataclasses.asdict(reconstructor.settings)
        result = write_result(folder, "reconstruct", session.source.provenance, asked, objects)
        title = f"Reconstructed {session.source.class_name}s"
        lead = "From one photo to shape, viewpoint and texture; then seen anew, painted anew and as a mesh."
        write_album(folder, Album(title, lead, tuple(plates)), session.source.provenance)
    return result


def outlines(mask: npt.NDArray[np.floating], silhouette: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Mask and silhouette (h, w) as a picture (h, w, 3): grey where both are 1, red mask only, blue shape only."""
    red, blue, grey = np.array([214, 69, 40]), np.array([42, 110, 200]), np.array([120, 120, 120])
    both = np.minimum(mask, silhouette)[..., None]
    alone, beyond = mask[..., None] - both, silhouette[..., None] - both
    white = 1.0 - both - alone - beyond
    return np.asarray((255 * white + grey * both + red * alone + blue * beyond).round(), dtype=np.uint8)


def _write_one(
    session: ModelSession, found: Reconstruction, settings: ReportSettings, folder: Path, name: str
) -> tuple[dict[str, Any], Plate]:
    (folder / name).mkdir()
    viewpoint = (found.azimuth, found.elevation)
    base = View("image", "as found", found.shape, viewpoint, found.texture)
    compared = _write_comparison(session, found, folder, name)
    fresh = other_azimuths(base, settings.views)
    textured = other_textures(session, base, Seed(0), settings.textures, "the photo's")
    second = _write_second(session, found, folder, name)
    strips = (
        Strip("photo and reconstruction", (*compared, *second), framed=True),
        Strip("new views", draw_views(session, fresh, folder, name), framed=True),
        Strip("other textures", draw_views(session, textured, folder, name), framed=True),
    )
    films = write_turntable(session, base, settings.film, folder, name)
    save_volume(folder / name / VOLUME, found.shape)
    try:
        mesh, files = write_shape_files(session, found.shape, settings.export, found.texture, folder / name)
        shown = viewer_mesh(mesh)
    except NoSurfaceError:
        files, shown = {}, None
    said = {
        "name": found.photo.name,
        "mask_origin": found.photo.origin,
        "azimuth_deg": float(np.degrees(found.azimuth)),
        "elevation_deg": float(np.degrees(found.elevation)),
        "overlap": found.overlap,
        "code_overlap": found.code_overlap,
        "thin_parts": found.thin_parts,
        "depth_error": found.depth_error,
        "voxels": found.shape.volume.shape[-1],
        "volume": f"{name}/{VOLUME}",
        "shape_code": [] if found.shape.code is None else found.shape.code.tolist(),
        "texture_code": found.texture.tolist(),
        "confidence": found.confidence,
        "alternatives": [_alternative(each) for each in found.alternatives],
        "pictures": {strip.label: [each.file for each in strip.pictures] for strip in strips},
        "films": [each.file for each in films],
        "files": {format: f"{name}/{path.name}" for format, path in files.items()},
    }
    facts = (
        f"azimuth {said['azimuth_deg']:.0f}° ({found.confidence:.0%} sure), elevation {said['elevation_deg']:.0f}°, "
        f"silhouettes overlap {found.overlap:.0%}, mask from {found.photo.origin}"
    )
    downloads = tuple((format.upper(), f"{name}/{path.name}") for format, path in files.items())
    return said, Plate(found.photo.name, facts, strips, films, downloads, shown)


def _write_comparison(session: ModelSession, found: Reconstruction, folder: Path, name: str) -> tuple[Picture, ...]:
    """The photo, the reconstruction, and the maps they are compared by."""
    image = session.paint(found.sketch, found.texture[None])[0]
    read = torch.where(found.photo.mask > 0.5, found.depth, -1.0)
    base = View("image", "", found.shape, (found.azimuth, found.elevation), found.texture)
    write_image(folder / name / "photo.png", found.photo.image, silhouette=found.photo.mask)
    origin = png_origin(session, base)
    write_image(folder / name / "image.png", image, origin, found.sketch.silhouette[0])
    overlap = outlines(found.photo.outline[0].numpy(), found.silhouette[0].numpy())
    write_png(folder / name / "overlap.png", overlap, origin)
    of_photo = session.source.provenance.png_text(photo=found.photo.name)
    write_grey(folder / name / "depth-of-photo.png", (read[0] + 1.0) / 2.0, of_photo)
    write_grey(folder / name / "depth.png", (found.sketch.normalized_depth[0, 0] + 1.0) / 2.0, origin)
    shown = {
        "photo.png": "photo",
        "image.png": "reconstruction",
        "overlap.png": "red: photo alone",
        "depth-of-photo.png": "depth read",
        "depth.png": "depth found",
    }
    return tuple(Picture(f"{name}/{file}", caption) for file, caption in shown.items())


def _write_second(session: ModelSession, found: Reconstruction, folder: Path, name: str) -> tuple[Picture, ...]:
    """The second-best viewpoint, with the shape that was fitted for it; nothing if there is none."""
    if not found.alternatives:
        return ()
    second = found.alternatives[0]
    shape = session.shape_of_code(second.code, found.photo.name)
    view = View(
        "second",
        f"second-best viewpoint: {np.degrees(second.azimuth):.0f}° ({second.confidence:.0%})",
        shape,
        (second.azimuth, second.elevation),
        found.texture,
    )
    return draw_views(session, [view], folder, name)


def _alternative(each: Alternative) -> dict[str, Any]:
    return {
        "azimuth_deg": float(np.degrees(each.azimuth)),
        "elevation_deg": float(np.degrees(each.elevation)),
        "overlap": each.overlap,
        "score": each.score,
        "confidence": each.confidence,
        "shape_code": each.code.tolist(),
    }
