"""Benchmark of solids of broken meshes: real closed meshes, damaged on purpose, voxelised by VON and three libraries.

python -m benchmarks.damage                        every closed mesh, every damage, every library
python -m benchmarks.damage --only von --meshes 4  VON only, on four of them
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import trimesh

from benchmarks.measure import REALDATA, Table
from benchmarks.solids import Fill, by_mesh2sdf, by_open3d, by_trimesh, sky_seen, true_solid, von, von_solid
from vondata.frames import axes_to_object
from vondata.shapes.cleaning import Mesh, clean_mesh, find_parts, find_topology
from vondata.shapes.reading import read_triangles
from vondata.shapes.source_file import Limits, read_bytes
from vondata.shapes.voxelize import surface_voxels, to_voxels

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Random = np.random.Generator
Item = TypeVar("Item")
Damage = Callable[[Floats, Integers, Random], tuple[Floats, Integers]]

MIN_CLOSED_SHARE = 0.6  # of a mesh's faces; open parts are left out
MILLION = 1_000_000
SLIT_VOXELS = 2.5
SKY_DIRECTIONS = 48
SKY_OUTSIDE = 0.25  # a voxel with more unoccluded directions than this is outside
PEERS: dict[str, Fill] = {
    "von": von,
    "trimesh holes": by_trimesh("holes"),
    "trimesh orthographic": by_trimesh("orthographic"),
    "open3d": by_open3d,
    "mesh2sdf": by_mesh2sdf,
}


@dataclass(frozen=True, eq=False)
class Case:
    """The closed parts of a real mesh and their true solid, surface included; positions in voxels."""

    name: str
    vertices: Floats
    faces: Integers
    solid: Bools


def main() -> None:
    """Prints two tables: overlap with the undamaged solid, and falsely filled voxels of undamaged meshes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--realdata", type=Path, default=REALDATA, help="folder of the reference data")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--meshes", type=int, default=1000, help="largest number of meshes")
    parser.add_argument("--only", choices=PEERS, action="append", help="this library only; repeat for more")
    parser.add_argument("--damage", choices=DAMAGES, action="append", help="this damage only; repeat for more")
    parser.add_argument("--json", action="store_true", help="print the tables as JSON")
    parser.add_argument("--output", type=Path, help="JSON file for the first table")
    arguments = parser.parse_args()
    command = f"python -m benchmarks.damage {' '.join(sys.argv[1:])}".strip()
    files = sorted(arguments.realdata.glob("ShapeNetCore.v2/*/*/models/*.obj"))
    cases = _spread(list(_cases(files, arguments.resolution)), arguments.meshes)
    overlaps = Table(f"Overlap with the undamaged solid, {len(cases)} meshes", command, notes=[_LEGEND])
    for name in arguments.damage or DAMAGES:
        overlaps.add(damage=name, **_overlaps(name, cases, arguments.only or list(PEERS), arguments.resolution))
    streaks = Table("Filled though it sees the sky, meshes as they are", command, notes=[_SKY_LEGEND])
    streaks.add(**_streaks(_spread(files, arguments.meshes), arguments.resolution))
    if arguments.json:
        print(json.dumps({each.title: each.rows for each in (overlaps, streaks)}, indent=2, default=str))
    else:
        overlaps.finish(arguments.output)
        streaks.finish(None)


_LEGEND = (
    "IoU: mean, and the lowest in brackets. The surface voxels of the damaged mesh count as filled for all; "
    "`s` is processor time a mesh. The truth is the parity of each undamaged closed part."
)
_SKY_LEGEND = (
    f"Rays from the centre of every filled voxel that is not at the surface, in {SKY_DIRECTIONS} directions over the "
    f"upper half; a false voxel reaches the sky in more than {SKY_OUTSIDE:.0%} of them."
)


def _spread(items: list[Item], most: int) -> list[Item]:
    """At most `most` of the items, evenly spread."""
    return [items[at] for at in np.linspace(0, len(items) - 1, min(most, len(items))).astype(int)]


def _load(path: Path) -> Mesh:
    limits = Limits()
    return clean_mesh(read_triangles(read_bytes(path, limits), path, limits), axes_to_object("y", "-z"))


def _cases(files: list[Path], resolution: int) -> Iterator[Case]:
    for path in files:
        mesh = _load(path)
        topology = find_topology(mesh.faces)
        parts = find_parts(topology)
        odd = (topology.edge_faces % 2 == 1)[topology.edges].any(axis=1)
        closed = ~np.isin(parts, parts[odd])
        if np.mean(closed) >= MIN_CLOSED_SHARE:
            vertices, faces = to_voxels(mesh.vertices, resolution), mesh.faces[closed]
            inside, _ = true_solid(vertices, faces, parts[closed], resolution)
            yield Case(path.parts[-3], vertices, faces, inside | surface_voxels(vertices, faces, resolution))


def _overlaps(name: str, cases: list[Case], peers: list[str], resolution: int) -> dict[str, str]:
    cells: dict[str, str] = {}
    for peer in peers:
        scores, seconds = [], []
        for number, case in enumerate(cases):
            vertices, faces = DAMAGES[name](case.vertices, case.faces, np.random.default_rng(number))
            start = time.process_time()
            filled = PEERS[peer](vertices, faces, resolution)
            seconds.append(time.process_time() - start)
            if peer != "von":  # VON adds its own surface voxels, without fins
                filled = filled | surface_voxels(vertices, faces, resolution)
            scores.append(np.count_nonzero(filled & case.solid) / np.count_nonzero(filled | case.solid))
        cells[peer] = f"{np.mean(scores):.3f} ({np.min(scores):.2f})"
        cells[f"{peer} s"] = f"{np.median(seconds):.2f}"
        print(name, peer, cells[peer], [round(float(score), 3) for score in scores], file=sys.stderr)
    return cells


def _whole(vertices: Floats, faces: Integers, rng: Random) -> tuple[Floats, Integers]:
    return vertices, faces


def _dropped(share: float) -> Damage:
    def damage(vertices: Floats, faces: Integers, rng: Random) -> tuple[Floats, Integers]:
        return vertices, faces[rng.random(len(faces)) >= share]

    return damage


def _flipped(share: float) -> Damage:
    def damage(vertices: Floats, faces: Integers, rng: Random) -> tuple[Floats, Integers]:
        return vertices, np.where(rng.random((len(faces), 1)) < share, faces[:, ::-1], faces)

    return damage


def _duplicated(vertices: Floats, faces: Integers, rng: Random) -> tuple[Floats, Integers]:
    """Duplicates a fifth of the faces, half of them a hundredth of a voxel off, and adds fins to one face in fifty.

    Half of the fins are triangles, half are quads; they extend up to ten voxels outwards.
    """
    twice = faces[rng.random(len(faces)) < 0.2]
    twice = np.where(rng.random((len(twice), 1)) < 0.5, twice[:, ::-1], twice)
    moved = vertices + rng.normal(scale=0.01, size=vertices.shape)
    off = rng.random((len(twice), 1)) < 0.5
    base = faces[rng.random(len(faces)) < 0.02]
    a, b, c = vertices[base].transpose(1, 0, 2)
    normal = np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    length = np.linalg.norm(b - a, axis=1, keepdims=True)
    tips = b + normal * np.minimum(length, 10.0)
    more = a + normal * np.minimum(length, 10.0)
    count = len(vertices)
    tip = 2 * count + np.arange(len(base))
    fins = np.stack([base[:, 0], base[:, 1], tip], axis=1)
    seconds = np.stack([base[:, 0], tip, tip + len(base)], axis=1)[::2]
    positions = np.concatenate([vertices, moved, tips, more])
    return positions, np.concatenate([faces, twice + off * count, fins, seconds])


def _split(vertices: Floats, faces: Integers, rng: Random) -> tuple[Floats, Integers]:
    """Cuts the mesh along an upright plane near the middle, with a slit between the two halves."""
    middle = float(vertices[faces].mean()) + rng.uniform(-5, 5)
    halves = []
    for way in (-1.0, 1.0):
        origin = [middle + way * SLIT_VOXELS / 2, 0.0, 0.0]
        halves.append(trimesh.intersections.slice_faces_plane(vertices, faces, [way, 0, 0], origin))
    (positions, triangles, _), (others, other_triangles, _) = halves
    return np.concatenate([positions, others]), np.concatenate([triangles, other_triangles + len(positions)])


def _nested(vertices: Floats, faces: Integers, rng: Random) -> tuple[Floats, Integers]:
    """Adds to every convex part a half-sized copy inside it, and drops a fiftieth of all faces."""
    parts = find_parts(find_topology(faces))
    positions, triangles, count = [vertices], [faces], len(vertices)
    for part in np.unique(parts):
        own = faces[parts == part]
        middle = vertices[own].mean(axis=(0, 1))
        if trimesh.Trimesh(vertices, own, process=True).is_convex:
            positions.append((vertices - middle) / 2 + middle)
            triangles.append(own + count)
            count += len(vertices)
    return _dropped(0.02)(np.concatenate(positions), np.concatenate(triangles), rng)


def _million(vertices: Floats, faces: Integers, rng: Random) -> tuple[Floats, Integers]:
    """Subdivides faces until there are a million, then drops 2 % and flips 30 %."""
    while len(faces) < MILLION:
        vertices, faces = trimesh.remesh.subdivide(vertices, faces)
    vertices, faces = _dropped(0.02)(vertices, faces, rng)
    return _flipped(0.3)(vertices, faces, rng)


DAMAGES: dict[str, Damage] = {
    "none": _whole,
    "flipped 30 %": _flipped(0.3),
    "all inverted": _flipped(1.0),
    "dropped 2 %": _dropped(0.02),
    "dropped 10 %": _dropped(0.1),
    "duplicated, fins": _duplicated,
    "split": _split,
    "nested": _nested,
    "1 M faces": _million,
}


def _streaks(files: list[Path], resolution: int) -> dict[str, object]:
    false, filled, worst, worst_name = 0, 0, 0.0, ""
    for path in files:
        mesh = _load(path)
        vertices = to_voxels(mesh.vertices, resolution)
        solid, surface = von_solid(vertices, mesh.faces, resolution)
        inner = np.argwhere(solid.occupancy & ~surface)
        seen = int(np.count_nonzero(sky_seen(vertices, mesh.faces, inner, SKY_DIRECTIONS) > SKY_OUTSIDE))
        share = seen / np.count_nonzero(solid.occupancy)
        false, filled = false + seen, filled + int(np.count_nonzero(solid.occupancy))
        if share > worst:
            worst, worst_name = share, path.parts[-3]
        print(path.parts[-3], len(inner), solid.leaked_voxels, seen, file=sys.stderr)
    return {
        "meshes": len(files),
        "filled": filled,
        "false": false,
        "share": false / filled,
        "worst mesh": worst,
        "which": worst_name,
    }


if __name__ == "__main__":
    main()
