"""Benchmark of mesh readers on files of other projects, VON and trimesh: `python -m benchmarks.mesh_files FOLDER`.

The test models of assimp and trimesh and Khronos' samples are files of real programs. Two readers agree on a file if
number and area of the triangles and the bounding box are the same. `--models` lists what VON reads of a folder with
one folder per model, as of Khronos' samples, and by how much the files of a model differ.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.measure import Table
from vondata.shapes.reading import read_triangles
from vondata.shapes.source_file import Limits, read_bytes
from vondata.shapes.sources import MESH_SUFFIXES
from vondata.types import Rejected

Floats = npt.NDArray[np.float64]
Found = tuple[int, float, Floats] | str  # triangles, area and bounds; or what is wrong

SAME, BETTER, WORSE, REJECTED, DIFFERENT = (
    "same",
    "read by VON alone",
    "read by trimesh alone",
    "by neither",
    "differently",
)
TOLERANCE = 1e-3


def main() -> None:
    """Prints a table by format, and every file on which the two readers differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the files")
    parser.add_argument("--max-mb", type=int, default=20, help="larger files are left out")
    parser.add_argument("--models", action="store_true", help="a row for each folder in FOLDER, read by VON alone")
    arguments = parser.parse_args()
    if arguments.models:
        list_models(arguments.folder, f"python -m benchmarks.mesh_files {' '.join(sys.argv[1:])}").finish(None)
        return
    warnings.simplefilter("ignore")
    logging.getLogger("trimesh").setLevel(logging.CRITICAL)  # its warnings on every odd file would bury the table
    counts: dict[str, Counter[str]] = {}
    for path in sorted(arguments.folder.rglob("*")):
        form = path.suffix.lower()
        if form in MESH_SUFFIXES and path.is_file() and path.stat().st_size <= arguments.max_mb * 2**20:
            ours, theirs = by_von(path), by_trimesh(path)
            verdict = compare(ours, theirs)
            counts.setdefault(form, Counter())[verdict] += 1
            if verdict != SAME:
                print(f"{verdict}: {path.relative_to(arguments.folder)}: {_short(ours)} | {_short(theirs)}")
    table = Table("Files read by VON and by trimesh", f"python -m benchmarks.mesh_files {' '.join(sys.argv[1:])}")
    for form, count in sorted(counts.items()):
        table.add(format=form, files=count.total(), **{name: count[name] for name in (SAME, BETTER, WORSE, REJECTED)})
        table.rows[-1][DIFFERENT] = count[DIFFERENT]
    table.finish(None)


def list_models(folder: Path, command: str) -> Table:
    """The files of each folder in `folder`: how many are read, why not, and how their triangles and areas differ."""
    table = Table("Models read by VON", command)
    for model in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = [path for path in sorted(model.rglob("*")) if path.suffix.lower() in MESH_SUFFIXES]
        found = [by_von(path) for path in files]
        read = [each for each in found if not isinstance(each, str)]
        areas, counts = [each[1] for each in read], sorted({each[0] for each in read})
        table.add(
            model=model.name,
            files=len(files),
            read=len(read),
            triangles=" to ".join(f"{count:,}" for count in counts[:: max(1, len(counts) - 1)]),
            difference=f"{max(areas) / max(min(areas), 1e-30) - 1:.1e}" if len(areas) > 1 else "",
            rejected="; ".join(sorted({each for each in found if isinstance(each, str)})),
        )
    return table


def by_von(path: Path) -> Found:
    """The result of VON's readers."""
    limits = Limits()
    try:
        soup = read_triangles(read_bytes(path, limits), path, limits)
    except Rejected as rejected:
        return f"{rejected.reason}: {rejected.detail[:100]}"
    return _measured(soup.vertices, soup.faces)


def by_trimesh(path: Path) -> Found:
    """The result of trimesh."""
    import trimesh

    try:
        mesh = trimesh.load_scene(str(path), process=False, skip_materials=True).to_geometry()
        if not isinstance(mesh, trimesh.Trimesh):
            return "no triangles"
        return _measured(np.asarray(mesh.vertices, dtype=np.float64), np.asarray(mesh.faces))
    except Exception as error:  # noqa: BLE001 - any error on odd files
        return f"{type(error).__name__}: {str(error)[:60]}"


def compare(ours: Found, theirs: Found) -> str:
    """Compares the results of the two readers on one file."""
    if isinstance(ours, str) or isinstance(theirs, str):
        if isinstance(ours, str) and isinstance(theirs, str):
            return REJECTED
        return WORSE if isinstance(ours, str) else BETTER
    (count, area, bounds), (other_count, other_area, other_bounds) = ours, theirs
    is_near = abs(area - other_area) <= TOLERANCE * area
    is_near &= np.allclose(bounds, other_bounds, atol=TOLERANCE * float(np.ptp(bounds)))
    return SAME if count == other_count and is_near else DIFFERENT


def _measured(vertices: Floats, faces: npt.NDArray[np.integer]) -> Found:
    if not len(faces):
        return "no triangles"
    corners = vertices[faces]
    doubled = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    return len(faces), float(doubled.sum() / 2), np.stack([corners.min(axis=(0, 1)), corners.max(axis=(0, 1))])


def _short(found: Found) -> str:
    return found if isinstance(found, str) else f"{found[0]:,} triangles, area {found[1]:.4g}"


if __name__ == "__main__":
    main()
