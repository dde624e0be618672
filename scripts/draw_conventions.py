"""Draws docs/conventions.svg: object frame, viewpoint, camera frame, image and voxels, by the package's own geometry.

.venv/bin/python scripts/draw_conventions.py
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vonmodel.geometry import Camera, viewpoint_rotation

OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "conventions.svg"
SCALE, ORIGIN = 105.0, (315.0, 270.0)
INK, PALE, RED, GREEN, BLUE, ORANGE = "#333", "#bbb", "#c62828", "#2e7d32", "#1565c0", "#e65100"
# Viewpoint of the drawing, and the viewpoint that it explains, in degrees.
DRAWN_FROM, EXPLAINED = (22.0, 24.0), (-62.0, 28.0)


def rotation(azimuth_deg: float, elevation_deg: float) -> Tensor:
    """Camera frame to object frame."""
    return viewpoint_rotation(*torch.deg2rad(torch.tensor([[azimuth_deg], [elevation_deg]], dtype=torch.float64)))[0]


PAPER = rotation(*DRAWN_FROM)


def flat(point: Sequence[float] | Tensor) -> tuple[float, float]:
    """Projects a point of the object frame onto the drawing (orthographic)."""
    _, left, up = (torch.as_tensor(point, dtype=torch.float64) @ PAPER).tolist()
    return ORIGIN[0] - SCALE * left, ORIGIN[1] - SCALE * up


def path(points: Sequence[Sequence[float] | Tensor], stroke: str, width: float = 1.5, extra: str = "") -> str:
    """A polyline through points of the object frame."""
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(flat, points))
    return f'<polyline points="{joined}" fill="none" stroke="{stroke}" stroke-width="{width}" {extra}/>'


def text(x: float, y: float, words: str, colour: str = INK, extra: str = "") -> str:
    """A label; `extra` may hold further attributes."""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" {extra}>{words}</text>'


def arrow(x0: float, y0: float, x1: float, y1: float, colour: str) -> str:
    """A straight arrow on paper."""
    return (
        f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="{colour}" stroke-width="2"'
        f' marker-end="url(#{colour[1:]})"/>'
    )


def cube() -> list[str]:
    """The twelve edges of the grid's cube."""
    corners = [[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)]
    edges = [
        (a, b) for a in corners for b in corners if a < b and sum(p != q for p, q in zip(a, b, strict=True)) == 1
    ]
    return [path(edge, PALE, 1.0) for edge in edges]


def chair() -> list[str]:
    """A chair of boxes that faces +y, its faces drawn from back to front."""
    boxes = [((-0.45, 0.45), (-0.45, 0.45), (-0.08, 0.0)), ((-0.45, 0.45), (-0.45, -0.37), (0.0, 0.75))]
    boxes += [((x, x + 0.09), (y, y + 0.09), (-0.7, -0.08)) for x in (-0.45, 0.36) for y in (-0.45, 0.36)]
    shaded = []
    for box in boxes:
        for axis in range(3):
            u, v = ((axis + 1) % 3, (axis + 2) % 3)
            for side in range(2):
                normal = torch.zeros(3, dtype=torch.float64)
                normal[axis] = 2.0 * side - 1.0
                if normal @ PAPER[:, 0] >= 0:
                    continue
                corners = torch.zeros(4, 3, dtype=torch.float64)
                corners[:, axis] = box[axis][side]
                corners[:, u] = torch.tensor([box[u][0], box[u][1], box[u][1], box[u][0]])
                corners[:, v] = torch.tensor([box[v][0], box[v][0], box[v][1], box[v][1]])
                grey = int(200 + 40 * normal[2] - 20 * abs(normal[0]))
                points = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(flat, corners))
                polygon = f'<polygon points="{points}" fill="rgb({grey},{grey - 12},{grey - 30})" stroke="#8d8067"/>'
                shaded.append(((corners.mean(0) @ PAPER[:, 0]).item(), polygon))
    return [polygon for _, polygon in sorted(shaded, reverse=True)]


def axes() -> list[str]:
    """The object frame."""
    parts = []
    ends = (([1.45, 0, 0], RED, "x", -6), ([0, 1.6, 0], GREEN, "y, the front", 20), ([0, 0, 1.35], BLUE, "z, up", -6))
    for end, colour, name, below in ends:
        parts.append(arrow(*flat([0, 0, 0]), *flat(end), colour))
        x, y = flat(end)
        parts.append(text(x + 6, y + below, name, colour, 'font-weight="bold"'))
    return parts


def viewpoint() -> list[str]:
    """The camera of the explained viewpoint with both its angles."""
    azimuth, elevation = (math.radians(angle) for angle in EXPLAINED)
    turn = rotation(*EXPLAINED)
    eye = turn @ torch.tensor([-2.0, 0.0, 0.0], dtype=torch.float64)

    def on_sphere(a: float, e: float, radius: float) -> list[float]:
        return [-radius * math.sin(a) * math.cos(e), radius * math.cos(a) * math.cos(e), radius * math.sin(e)]

    steps = [i / 24 for i in range(25)]
    parts = [
        path([[0, 0, 0], eye], ORANGE, 1.2, 'stroke-dasharray="5 4"'),
        path([[0, 0, 0], on_sphere(azimuth, 0.0, 2.0)], ORANGE, 1.0, 'stroke-dasharray="2 3"'),
        path([on_sphere(azimuth * s, 0.0, 1.2) for s in steps], ORANGE, 2.0),
        path([on_sphere(azimuth, elevation * s, 1.6) for s in steps], ORANGE, 2.0),
    ]
    edge = Camera().half_width
    frame = [[0.35, edge * 0.35 * u, edge * 0.35 * v] for u, v in ((1, 1), (-1, 1), (-1, -1), (1, -1), (1, 1))]
    corners = [eye + turn @ torch.tensor(corner, dtype=torch.float64) for corner in frame]
    parts.append(path(corners, INK))
    parts += [path([eye, corner], INK) for corner in corners[:4]]
    x, y = flat(on_sphere(azimuth * 0.55, 0.0, 1.2))
    parts.append(text(x - 4, y + 20, f"azimuth {EXPLAINED[0]:.0f}°", ORANGE, 'text-anchor="middle"'))
    x, y = flat(on_sphere(azimuth, elevation * 0.5, 1.6))
    parts.append(text(x - 8, y + 4, f"elevation {EXPLAINED[1]:.0f}°", ORANGE, 'text-anchor="end"'))
    x, y = flat(eye)
    parts.append(text(x, y - 32, "camera, at distance 2", INK, 'text-anchor="middle"'))
    return parts


def image() -> list[str]:
    """The image with rows, columns and the camera's axes."""
    x0, y0, side, count = 640.0, 70.0, 176.0, 8
    step = side / count
    parts = [text(x0, y0 - 34, "image", INK, 'font-weight="bold"')]
    for i in range(count + 1):
        for line in ((x0 + i * step, y0, x0 + i * step, y0 + side), (x0, y0 + i * step, x0 + side, y0 + i * step)):
            parts.append('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="#bbb"/>'.format(*line))
    parts += [arrow(x0, y0 - 8, x0 + 70, y0 - 8, INK), text(x0 + 78, y0 - 4, "column 0 .. R - 1")]
    parts += [arrow(x0 - 8, y0, x0 - 8, y0 + 70, INK), text(x0 - 14, y0 + 88, "row", INK, 'text-anchor="end"')]
    cx, cy = x0 + side / 2, y0 + side / 2
    parts += [arrow(cx, cy, cx - 66, cy, GREEN), text(cx - 62, cy - 8, "y", GREEN, 'font-weight="bold"')]
    parts += [arrow(cx, cy, cx, cy - 66, BLUE), text(cx + 8, cy - 54, "z", BLUE, 'font-weight="bold"')]
    parts.append(f'<circle cx="{cx}" cy="{cy}" r="8" fill="white" stroke="{RED}" stroke-width="2"/>')
    for slope in (-1, 1):
        parts.append(
            f'<line x1="{cx - 5.6}" y1="{cy - 5.6 * slope}" x2="{cx + 5.6}" y2="{cy + 5.6 * slope}" stroke="{RED}"/>'
        )
    parts.append(text(cx + 14, cy + 18, "x, depth (into the image)", RED))
    parts.append(text(x0, y0 + side + 20, "the camera's frame: it sits at (-2, 0, 0)"))
    return parts


def voxels() -> list[str]:
    """Positions of voxels on an axis, for N = 5."""
    x0, y0, length, count = 640.0, 400.0, 240.0, 5
    parts = [text(x0, y0 - 46, "an axis of the volume, N = 5", INK, 'font-weight="bold"')]
    parts.append(f'<line x1="{x0 - 18}" y1="{y0}" x2="{x0 + length + 18}" y2="{y0}" stroke="{INK}"/>')
    for i in range(count):
        x = x0 + length * i / (count - 1)
        parts.append(f'<circle cx="{x}" cy="{y0}" r="4.5" fill="{BLUE}"/>')
        parts.append(text(x, y0 - 14, f"{i}", BLUE, 'text-anchor="middle"'))
        parts.append(text(x, y0 + 24, f"{2 * i / (count - 1) - 1:+.1f}", INK, 'text-anchor="middle"'))
    parts.append(text(x0 + length + 26, y0 - 14, "index i", BLUE))
    parts.append(text(x0 + length + 26, y0 + 24, "-1 + 2 i / (N - 1)"))
    parts.append(text(x0, y0 + 50, "between voxels: trilinear; beyond the first and the last: falls to 0"))
    return parts


def main() -> None:
    """Writes the file."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    markers = "".join(
        f'<marker id="{colour[1:]}" viewBox="0 0 10 10" refX="8" refY="5" markerWidth="7" markerHeight="7"'
        f' orient="auto"><path d="M0 0 L10 5 L0 10 z" fill="{colour}"/></marker>'
        for colour in (INK, RED, GREEN, BLUE)
    )
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1040 520" font-family="sans-serif" font-size="14">'
        f'<defs>{markers}</defs><rect width="1040" height="520" fill="white"/>'
    )
    title = text(30, 36, "object frame and viewpoint", INK, 'font-weight="bold"')
    parts = [head, title, *cube(), *chair(), *axes(), *viewpoint(), *image(), *voxels(), "</svg>"]
    OUTPUT.write_text("\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
