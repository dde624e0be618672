"""Benchmark of asset export: processor time of each step, file size, and PSNR of the baked texture.

`python -m benchmarks.assets [--run builtin:chair] [--shapes N] [--texture-size N ...] [--output results.json]`. The
painted views are rendered again from the same cameras, unlit, with vertex colours and with the texture (after JPEG);
PSNR over all pixels fully covered by the object. `--threads` sets the number of threads.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy.ndimage import map_coordinates

from benchmarks.measure import Table
from vonmodel.builtin import builtin_name, unpack_builtin
from vonmodel.inference.session import ModelSession, open_model
from vonmodel.inference.texture_baking import PaintedViews, bake, paint_views, unwrap
from vonmodel.mesh import SurfaceMesh, glb_bytes, jpeg_bytes
from vonmodel.reports.html import MAX_VERTICES, decimated

Floats = npt.NDArray[np.float64]
Result = TypeVar("Result")
INNER = 0.99
"""Smallest silhouette of a pixel that counts as fully covered by the object."""


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="builtin:chair", help="a trained run, or builtin:NAME  [builtin:chair]")
    parser.add_argument("--shapes", type=int, default=4, help="seeds 0 to N - 1  [4]")
    parser.add_argument("--faces", type=int, help="decimate the meshes to this many faces  [all]")
    parser.add_argument("--texture-size", type=int, nargs="*", default=[512, 1024, 2048])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    name = builtin_name(arguments.run)
    run = Path(arguments.run) if name is None else unpack_builtin(name).path
    session = ModelSession(open_model(run, data=Path("data")))
    table = Table("Assets", " ".join(["python -m benchmarks.assets", *sys.argv[1:]]))
    _measure(session, 0, arguments, Table("warm", ""))  # compiles
    for seed in range(arguments.shapes):
        _measure(session, seed, arguments, table)
    table.notes.append("Seconds of processor time, all threads together; PSNR in dB against the painted views.")
    table.finish(arguments.output)


def _measure(session: ModelSession, seed: int, arguments: argparse.Namespace, table: Table) -> None:
    shape, texture = session.shape(seed), session.texture(seed)
    mesh, mesh_s = _timed(lambda: decimated(session.mesh(shape), arguments.faces or MAX_VERTICES))
    views, paint_s = _timed(lambda: paint_views(session, shape, texture, mesh))
    _, unwrap_s = _timed(lambda: unwrap(mesh))
    for size in arguments.texture_size:
        made, bake_s = _timed(lambda size=size: bake(mesh, views, size))  # type: ignore[misc]
        content, write_s = _timed(lambda made=made: glb_bytes(made))  # type: ignore[misc]
        vertices, baked = psnr(made, views)
        table.add(
            seed=seed,
            faces=len(mesh.faces),
            texture=size,
            mesh_s=mesh_s,
            paint_s=paint_s,
            unwrap_s=unwrap_s,
            bake_s=bake_s - unwrap_s,
            write_s=write_s,
            total_s=mesh_s + paint_s + bake_s + write_s,
            kB=len(content) / 1000,
            psnr_vertices=vertices,
            psnr_texture=baked,
        )


def psnr(mesh: SurfaceMesh, views: PaintedViews) -> tuple[float, float]:
    """PSNR in dB of vertex colours and of the texture against the painted views."""
    import open3d as o3d

    assert mesh.atlas is not None
    assert mesh.colours is not None
    scene = o3d.t.geometry.RaycastingScene()
    corners, triangles = mesh.vertices.astype(np.float32), mesh.faces.astype(np.uint32)
    scene.add_triangles(o3d.core.Tensor.from_numpy(corners), o3d.core.Tensor.from_numpy(triangles))
    texture = np.asarray(Image.open(io.BytesIO(jpeg_bytes(mesh.atlas.image)))).astype(np.float64)
    channels = np.moveaxis(texture, -1, 0)
    errors: tuple[list[Floats], list[Floats]] = ([], [])
    for view in range(len(views.images)):
        start, directions = views.rays(view)
        rays = np.concatenate([np.broadcast_to(start, directions.shape), directions], axis=-1)
        hits = scene.cast_rays(o3d.core.Tensor.from_numpy(rays.astype(np.float32)))
        shown = np.isfinite(hits["t_hit"].numpy()) & (views.silhouettes[view] >= INNER)
        faces = hits["primitive_ids"].numpy()[shown].astype(np.int64)
        second, third = hits["primitive_uvs"].numpy()[shown].astype(np.float64).T
        shares = np.stack([1.0 - second - third, second, third], axis=1)[:, :, None]
        painted = (views.images[view][shown].astype(np.float64) + 1.0) * 127.5
        places = (mesh.atlas.uvs[mesh.atlas.faces[faces]] * shares).sum(1) * len(texture) - 0.5
        drawn = (
            (mesh.colours[mesh.faces[faces]] * shares).sum(1),
            np.stack([map_coordinates(each, places.T[::-1], order=1, mode="nearest") for each in channels], axis=1),
        )
        for found, colours in zip(errors, drawn, strict=True):
            found.append(np.square(colours - np.clip(painted, 0.0, 255.0)).reshape(-1))
    vertices, baked = (float(10.0 * np.log10(255.0**2 / np.concatenate(each).mean())) for each in errors)
    return vertices, baked


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    started = time.process_time()
    result = work()
    return result, time.process_time() - started


if __name__ == "__main__":
    main()
