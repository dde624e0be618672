"""Reconstruction against the truth: on images that the model generated itself, and on photos of known viewpoint.

    python -m benchmarks.reconstruction --run demo/runs/chair --data demo/data

Generated images bring their silhouette, annotated photos their mask; in catalogue photos the object is found. Shapes
are compared in three dimensions as well, to see that carving a shape to its silhouette does not spoil what the photo
does not show.

    python -m benchmarks.reconstruction --run builtin:chair --data data --catalogue ../shared/realdata --photos 10
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image

from benchmarks.measure import Table
from vondata.classes import load_class
from vondata.dataset.manifest import prepared, read_manifest
from vondata.dataset.shape_file import load_occupancy
from vondata.dataset.shards import OutputFiles
from vondata.io.listing import open_tree
from vondata.shapes.binvox import VoxelGrid, filled
from vondata.shapes.prepare import ShapeSettings, prepare_shape, shapenet_items
from vonmodel.builtin import builtin_name, unpack_builtin
from vonmodel.inference.photo import CutPhoto, photo_of_pixels, read_photo
from vonmodel.inference.rendering import resample_volume
from vonmodel.inference.session import LoadedModel, ModelSession, open_model
from vonmodel.mesh import to_pixels
from vonmodel.reconstruction.reconstruct import Reconstructor, ReconstructSettings, Start
from vonmodel.representation import is_shell

Bools = npt.NDArray[np.bool_]
RIGHT_DEG = 15.0
TRUTH_VOXELS = 256
FIRST_SEED = 1000
"""Shapes are drawn with seeds from here on, far from the one that the search begins with."""


@dataclass(frozen=True)
class Truth:
    """A photo, where it was taken from, and the solid (N, N, N) that it shows, None where nobody knows."""

    photo: CutPhoto
    azimuth_deg: float
    elevation_deg: float
    solid: Bools | None


def main() -> None:
    """Prints one row for every photo and one that sums up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="the run folder, or builtin:NAME")
    parser.add_argument("--data", type=Path, required=True, help="the prepared dataset of its class")
    parser.add_argument("--generated", type=int, default=10, help="images of the model's own")
    parser.add_argument(
        "--photos", type=int, default=10, help="annotated photos, of the test and validation parts first"
    )
    parser.add_argument(
        "--catalogue", type=Path, help="folder with photo_truth/viewpoints_CLASS.json: photos of these, not of --data"
    )
    parser.add_argument("--every", type=int, default=1, help="take every so many of the catalogue's photos")
    parser.add_argument("--start", choices=get_args(Start), default=ReconstructSettings().start)
    parser.add_argument("--first", type=int, default=0, help="begin with this one of each")
    parser.add_argument("--camera-distance", type=float, default=ReconstructSettings().camera_distance)
    parser.add_argument("--output", type=Path, help="JSON file for the table")
    arguments = parser.parse_args()
    builtin = builtin_name(arguments.run)
    run = Path(arguments.run) if builtin is None else unpack_builtin(builtin).path
    session = ModelSession(open_model(run, data=arguments.data))
    settings = ReconstructSettings(start=arguments.start, camera_distance=arguments.camera_distance)
    reconstructor = Reconstructor(session, settings)
    command = f"python -m benchmarks.reconstruction {' '.join(sys.argv[1:])}"
    table = Table("Reconstruction from one image", command, notes=[_LEGEND])
    photos = _annotated
    if arguments.catalogue:
        photos = partial(_catalogue, folder=arguments.catalogue, every=arguments.every)
    kinds = (("generated", _generated, arguments.generated), ("photos", photos, arguments.photos))
    for kind, draw, count in kinds:
        if count:
            truths = list(draw(session, arguments.first + count))[arguments.first :]
            _measure(table, kind, truths, reconstructor)
    table.finish(arguments.output)


_LEGEND = (
    f"`right`: azimuths within {RIGHT_DEG:.0f} degrees, in brackets modulo the mirror symmetry of the class. "
    "Overlap: intersection over union of the photo's outline and the silhouette at the found viewpoint, of the shape "
    "that the code makes and of the carved one. Thin parts: share of the outline's that the silhouette covers. "
    "Volume: intersection over union of the solids in three dimensions, as they stand, against the shape "
    "photographed. Seconds are of one processor; after the first they leave out what is read, trained or drawn once."
)


def _measure(table: Table, kind: str, truths: list[Truth], reconstructor: Reconstructor) -> None:
    """Reconstructs every photo; adds its row, and one of medians."""
    session = reconstructor.session
    strict, modulo, tilts, overlaps, codes, seconds, volumes, thin, second = [], [], [], [], [], [], [], [], []
    symmetric = load_class(session.source.class_name).mirror_symmetry
    for truth in truths:
        start = time.process_time()
        found = reconstructor.reconstruct(truth.photo)
        seconds.append(time.process_time() - start)
        azimuth = math.degrees(found.azimuth)
        strict.append(_offset_deg(azimuth, truth.azimuth_deg))
        modulo.append(min(strict[-1], _offset_deg(-azimuth, truth.azimuth_deg)) if symmetric else strict[-1])
        tilts.append(abs(math.degrees(found.elevation) - truth.elevation_deg))
        overlaps.append(found.overlap)
        codes.append(found.code_overlap)
        thin.append(found.thin_parts)
        offered = [found.azimuth, *(each.azimuth for each in found.alternatives[:1])]
        second.append(min(_offset_deg(math.degrees(each), truth.azimuth_deg) for each in offered))
        made = session.shape(found.shape.code if found.shape.code is not None else 0)
        volumes.append(tuple(_agreement(session, shape.volume, truth.solid) for shape in (made, found.shape)))
        table.add(
            **{"of": f"{kind} {truth.photo.name}", "true azimuth": truth.azimuth_deg, "found azimuth": azimuth},
            **{"true elevation": truth.elevation_deg, "found elevation": math.degrees(found.elevation)},
            **{"overlap of code": codes[-1], "overlap": overlaps[-1], "thin parts": thin[-1]},
            confidence=found.confidence,
            **{"volume of code": volumes[-1][0], "volume": volumes[-1][1], "seconds": seconds[-1]},
        )
    right, mirrored, either = (sum(error <= RIGHT_DEG for error in errors) for errors in (strict, modulo, second))
    table.add(
        **{"of": f"**{kind}, median**", "overlap of code": statistics.median(codes)},
        **{"overlap": statistics.median(overlaps), "elevation error": statistics.median(tilts)},
        **dict(zip(("volume of code", "volume"), np.nanmedian(volumes, axis=0).tolist(), strict=True)),
        seconds=statistics.median(seconds),
        **{"thin parts": statistics.median(thin)},
        right=f"{right} ({mirrored}) of {len(truths)}",
        **{"right, or the second-best": f"{either} of {len(truths)}"},
    )


def _generated(session: ModelSession, count: int) -> Iterator[Truth]:
    """Images of shapes, viewpoints and textures drawn as the class is seen, with their silhouettes as masks."""
    viewpoints = session.viewpoints(count, FIRST_SEED)
    for index, (azimuth, elevation) in enumerate(viewpoints.tolist()):
        shape, texture = session.shape(FIRST_SEED + index), session.texture(FIRST_SEED + index)
        image = to_pixels(session.image(shape, azimuth, elevation, texture)).transpose(1, 2, 0)
        alpha = to_pixels(2.0 * session.sketch(shape, azimuth, elevation).silhouette[0, 0] - 1.0)
        photo = photo_of_pixels(f"seed {FIRST_SEED + index}", np.dstack([image, alpha]))
        solid = _solid(session, shape.volume, session.config.resolution)
        yield Truth(photo, math.degrees(azimuth), math.degrees(elevation), solid)


def _annotated(session: ModelSession, count: int) -> Iterator[Truth]:
    """Annotated photos of the dataset, those that training did not see first."""
    source, size = session.source, session.config.image_size
    rows = prepared(read_manifest(source.data, source.class_name, "images"))
    rows = rows[rows["viewpoint_origin"] == "annotated"]
    rows = rows.sort_values("split", key=lambda split: split == "train", kind="stable").head(count)
    files = OutputFiles(source.data, source.class_name, "images")
    viewpoints = np.asarray(rows[["azimuth_deg", "elevation_deg"]], dtype=np.float64)
    for id, photo, (azimuth_deg, elevation_deg) in zip(rows["id"], rows["source"], viewpoints.tolist(), strict=True):
        with files[str(id)].open("rb") as file, Image.open(file) as picture:
            pixels = np.asarray(picture.convert("RGBA"))
        solid = _photographed(source, Path(str(photo)))
        yield Truth(photo_of_pixels(str(id), pixels, size), azimuth_deg, elevation_deg, solid)


def _catalogue(session: ModelSession, count: int, *, folder: Path, every: int) -> Iterator[Truth]:
    """Photos as they are crawled, in which the object is found, with what is known of them alone."""
    name, size = session.source.class_name, session.config.image_size
    truths = json.loads((folder / "photo_truth" / f"viewpoints_{name}.json").read_text("utf-8"))
    shapes: pd.DataFrame = prepared(read_manifest(session.source.data, name, "shapes")).set_index("id")
    for each in truths[::every][:count]:
        id = Path(each["model"]).parents[1].name
        solid = _prepared_finely(session.source, Path(str(shapes["source"][id]))) if id in shapes.index else None
        yield Truth(read_photo(folder / each["file"], size), each["azimuth_deg"], each["elevation_deg"], solid)


def _photographed(source: LoadedModel, photo: Path) -> Bools | None:
    """The shape that an annotated photo shows, which its annotations name."""
    home = next((folder for folder in photo.parents if (folder / "pix3d.json").is_file()), None)
    if home is None:
        return None
    image = photo.relative_to(home).as_posix()
    models = [each["model"] for each in json.loads((home / "pix3d.json").read_text("utf-8")) if each["img"] == image]
    wanted = {(home / model).resolve() for model in models}
    shapes: pd.DataFrame = prepared(read_manifest(source.data, source.class_name, "shapes"))
    found = (Path(str(file)) for file in shapes["source"] if Path(str(file)).resolve() in wanted)
    return next((_prepared_finely(source, file) for file in found), None)


def _prepared_finely(source: LoadedModel, mesh: Path) -> Bools:
    """The solid of a mesh of a ShapeNetCore tree.

    As finely as is possible, because a voxel is solid wherever the surface touches it, which makes thin legs thick.
    """
    items = shapenet_items(open_tree(mesh.resolve().parents[3]), [load_class(source.class_name)])
    item = next(item for item in items if Path(item.source).resolve() == mesh.resolve())
    with tempfile.TemporaryDirectory() as folder:
        prepare_shape(item, ShapeSettings(resolution=TRUTH_VOXELS), Path(folder) / "shape.npz")
        return load_occupancy(Path(folder) / "shape.npz")


def _solid(session: ModelSession, volume: torch.Tensor, resolution: int) -> Bools:
    """What of a volume is solid, on a grid of another resolution over the same cube."""
    solid = resample_volume(volume, resolution)[0].cpu().numpy() > session.level
    if is_shell(session.config.representation):
        solid = filled(VoxelGrid(solid, (0.0, 0.0, 0.0), 1.0)).occupancy
    return np.asarray(solid)


def _agreement(session: ModelSession, volume: torch.Tensor, truth: Bools | None) -> float:
    """Intersection over union of a volume's solid and the true one; NaN where that is not known."""
    if truth is None:
        return math.nan
    solid = _solid(session, volume, len(truth))
    return float((solid & truth).sum() / max(1, (solid | truth).sum()))


def _offset_deg(first: float, second: float) -> float:
    return abs((first - second + 180.0) % 360.0 - 180.0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
