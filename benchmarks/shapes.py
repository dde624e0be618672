"""Benchmark of shape preparation: time of each step, distance fields against two libraries, memory, file size.

python -m benchmarks.shapes            all tables
python -m benchmarks.shapes --no-peers without the libraries, which take most of the time
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.measure import REALDATA, Table, peak_memory_mb
from vondata.dataset.shape_file import load_distance, load_shape
from vondata.frames import axes_to_object
from vondata.shapes.cleaning import Mesh, clean_mesh, find_topology
from vondata.shapes.distance import BAND_VOXELS, distance_field
from vondata.shapes.prepare import ShapeSettings, prepare_shape, warm_up
from vondata.shapes.reading import read_triangles
from vondata.shapes.solid import fill_solid
from vondata.shapes.source_file import Limits, read_bytes
from vondata.shapes.voxelize import surface_voxels, to_voxels
from vondata.types import Item

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Work = Callable[[], object]

PHASES = ("load_s", "voxelize_s", "distance_s", "save_s")
LARGE_FACES = 1_300_000
NEAR_VOXELS = 6.0
COPY_ARRAYS = 3  # surface, solid and distance, each written once: a lower bound for any method


def main() -> None:
    """Prints one table per question."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--realdata", type=Path, default=REALDATA, help="folder of the reference data")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--meshes", type=int, default=1000, help="largest number of meshes, evenly spread by size")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds, of which the fastest counts")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print the tables as JSON")
    parser.add_argument("--output", type=Path, help="JSON file for the first table")
    arguments = parser.parse_args()
    settings = ShapeSettings(resolution=arguments.resolution)
    warm_up()
    if arguments.memory_of is not None:
        with TemporaryDirectory() as folder:
            prepare_shape(_item(arguments.memory_of), settings, Path(folder, "shape.npz"))
        return
    files = _files(arguments.realdata, arguments.meshes)
    command = f"python -m benchmarks.shapes {' '.join(sys.argv[1:])}".strip()
    with TemporaryDirectory() as folder:
        scratch = Path(folder)
        tables = [
            _file_to_file(files, settings, scratch, arguments.rounds),
            _distances(files, settings.resolution, arguments.peers),
            _storage(files, settings, scratch, arguments.rounds),
            _memory(files, settings.resolution, scratch),
        ]
    for table in tables:
        table.command = command
    if arguments.json:
        print(json.dumps({each.title: each.rows for each in tables}, indent=2, default=str))
    else:
        for number, table in enumerate(tables):
            table.finish(arguments.output if number == 0 else None)


def _files(realdata: Path, most: int) -> list[Path]:
    files = sorted(realdata.glob("ShapeNetCore.v2/*/*/models/*.obj"), key=lambda path: path.stat().st_size)
    return [files[at] for at in np.linspace(0, len(files) - 1, min(most, len(files))).astype(int)]


def _item(path: Path) -> Item:
    return Item(
        id=path.parts[-3],
        class_name="chair",
        source=str(path),
        inputs=(str(path),),
        fields={"up": "y", "front": "-z"},
    )


def _mesh(path: Path) -> Mesh:
    limits = Limits()
    return clean_mesh(read_triangles(read_bytes(path, limits), path, limits), axes_to_object("y", "-z"))


def _fastest(work: Work, rounds: int) -> float:
    """Processor time in milliseconds: on a shared machine the fastest round is the one least disturbed."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def _file_to_file(files: list[Path], settings: ShapeSettings, scratch: Path, rounds: int) -> Table:
    """The median and the slowest mesh, by phase, and the cost of merely writing the results once."""
    table = Table(f"From file to file at {settings.resolution}^3, ms a mesh on one core, {len(files)} meshes", "")
    rows: list[dict[str, float]] = []
    for path in files:
        best: dict[str, float] = {"total": np.inf}
        for _ in range(rounds):
            start = time.process_time()
            row = prepare_shape(_item(path), settings, scratch / "shape.npz")
            total = 1000 * (time.process_time() - start)
            if total < best["total"]:
                best = {"total": total, "faces": row["faces"]} | {name: 1000 * row[name] for name in PHASES}
        rows.append(best)
    totals = np.array([row["total"] for row in rows])
    for name, at in (("median", int(np.argsort(totals)[len(totals) // 2])), ("slowest", int(np.argmax(totals)))):
        table.add(mesh=name, **rows[at])
    table.add(mesh="mean of all", **{name: float(np.mean([row[name] for row in rows])) for name in rows[0]})
    field = np.random.default_rng(0).random((settings.resolution,) * 3, dtype=np.float32)
    floor = _fastest(lambda: [field.copy() for _ in range(COPY_ARRAYS)], 5)
    table.notes.append(
        "Total is processor time; the phases are wall time of the same round. The floor: copying "
        f"{COPY_ARRAYS} fields of this size takes {floor:.1f} ms."
    )
    return table


def _distances(files: list[Path], resolution: int, peers: bool) -> Table:
    """Surface, solid and distance together against other libraries' distance only; errors to the exact distance."""
    table = Table(f"Surface, solid and distance against exact distance alone, {resolution}^3, median mesh", "")
    path = files[len(files) // 2]
    mesh = _mesh(path)
    vertices, topology = to_voxels(mesh.vertices, resolution), find_topology(mesh.faces)

    def whole() -> None:
        surface = surface_voxels(vertices, mesh.faces, resolution)
        fill_solid(vertices, mesh.faces, topology, surface)
        distance_field(vertices, mesh.faces, resolution)

    own = _fastest(whole, 3)
    steps: dict[str, Work] = {
        "surface": partial(surface_voxels, vertices, mesh.faces, resolution),
        "distance": partial(distance_field, vertices, mesh.faces, resolution),
        "distance, exact": partial(distance_field, vertices, mesh.faces, resolution, "exact"),
    }
    if peers:
        steps["open3d distance"] = partial(_by_open3d, vertices, mesh.faces, resolution)
        steps["mesh2sdf distance"] = partial(_by_mesh2sdf, vertices, mesh.faces, resolution)
    fast = distance_field(vertices, mesh.faces, resolution) * (resolution - 1)
    exact = distance_field(vertices, mesh.faces, resolution, "exact") * (resolution - 1)
    table.add(what="surface + solid + distance", ms=own, times=1.0, **_errors(fast, exact))
    for name, work in steps.items():
        taken = _fastest(work, 1)
        table.add(what=name, ms=taken, times=taken / own)
    table.notes.append(f"{path.parts[-3]}, {len(mesh.faces):,} faces; errors in voxels against the exact distance.")
    return table


def _errors(found: npt.NDArray[Any], exact: npt.NDArray[Any]) -> dict[str, float]:
    error = np.abs(found - exact)
    return {
        f"largest error to {BAND_VOXELS:.0f} voxels": float(error[exact <= BAND_VOXELS].max()),
        "mean error": float(error.mean()),
        "largest error": float(error.max()),
    }


def _by_open3d(vertices: Floats, faces: Integers, resolution: int) -> None:
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene(nthreads=1)
    scene.add_triangles(
        o3d.core.Tensor.from_numpy(vertices.astype(np.float32)), o3d.core.Tensor.from_numpy(faces.astype(np.uint32))
    )
    ticks = np.arange(resolution, dtype=np.float32)
    points = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1)
    scene.compute_distance(o3d.core.Tensor.from_numpy(points), nthreads=1)


def _by_mesh2sdf(vertices: Floats, faces: Integers, resolution: int) -> None:
    from benchmarks.solids import quiet_mesh2sdf

    quiet_mesh2sdf(vertices * (2.0 / resolution) - 1.0, faces, resolution)


def _storage(files: list[Path], settings: ShapeSettings, scratch: Path, rounds: int) -> Table:
    """Size, loading time and error of the saved files, over all meshes."""
    table = Table(f"Storage at {settings.resolution}^3, {len(files)} meshes", "")
    sizes, loads, distances, errors = [], [], [], []
    target = scratch / "shape.npz"
    for path in files:
        prepare_shape(_item(path), settings, target)
        sizes.append(target.stat().st_size / 1000)
        loads.append(_fastest(partial(load_shape, target), rounds))
        distances.append(_fastest(partial(load_distance, target), rounds))
        mesh = _mesh(path)
        vertices = to_voxels(mesh.vertices, settings.resolution)
        distance = distance_field(vertices, mesh.faces, settings.resolution)
        near = distance * (settings.resolution - 1) <= NEAR_VOXELS
        errors.append(float(np.abs(load_distance(target) - distance)[near].max()) * (settings.resolution - 1))
    for name, values in (
        ("kB", sizes),
        ("ms to load all", loads),
        ("ms to load the distance", distances),
        (f"error to {NEAR_VOXELS:.0f} voxels", errors),
    ):
        table.add(what=name, median=float(np.median(values)), mean=float(np.mean(values)), largest=max(values))
    return table


def _memory(files: list[Path], resolution: int, scratch: Path) -> Table:
    """Peak resident memory of a fresh process that prepares one mesh."""
    table = Table(f"Peak memory of a process that prepares one mesh at {resolution}^3", "")
    for name, path in (("median mesh", files[len(files) // 2]), ("largest real mesh", files[-1])):
        table.add(mesh=name, faces=len(_mesh(path).faces), MB=_peak(path, resolution))
    large = scratch / "large.obj"
    faces = _write_large(_mesh(files[-1]), large)
    table.add(mesh="the same, cut finer", faces=faces, MB=_peak(large, resolution))
    return table


def _peak(path: Path, resolution: int) -> float:
    return peak_memory_mb(["-m", "benchmarks.shapes", "--memory-of", str(path), "--resolution", str(resolution)])


def _write_large(mesh: Mesh, path: Path) -> int:
    """Writes a mesh subdivided to LARGE_FACES triangles or more as OBJ: all faces, then as many as are needed."""
    import trimesh

    vertices, faces = mesh.vertices, mesh.faces
    while 4 * len(faces) <= LARGE_FACES:
        vertices, faces = trimesh.remesh.subdivide(vertices, faces)
    missing = max(LARGE_FACES - len(faces), 0)
    vertices, faces = trimesh.remesh.subdivide(vertices, faces, face_index=np.arange(missing // 3 + 1))
    with path.open("w", encoding="ascii") as file:
        np.savetxt(file, vertices, fmt="v %.7f %.7f %.7f")
        np.savetxt(file, faces + 1, fmt="f %d %d %d")
    return len(faces)


if __name__ == "__main__":
    main()
