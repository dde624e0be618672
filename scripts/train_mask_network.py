"""Trains the network of vondata.images.mask_refinement, which tells objects from shadows, reflections and clutter.

python scripts/train_mask_network.py layers FOLDER --objects 900     renders layers of procedural objects
python scripts/train_mask_network.py train FOLDER --minutes 40       composes photos from them and trains

Objects are the demo's chairs and cars and random furniture; no other data is needed. A layer holds a cut-out object,
its hard and its soft shadow on the floor, and its reflection in the floor. Photos are composed from layers during
training: paler and brighter objects, plain backgrounds, shadows, reflections, swatches, text, dimension lines and
frames.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn

from vondata.classes import load_class
from vondata.demo.collection import DemoObject, make_object, normalized, render_mesh
from vondata.demo.primitives import box, cushion, lathe, tube
from vondata.images.mask_refinement import FILE, LAYERS, network_input, placed
from vondata.images.pix3d_camera import CameraPose, camera_of
from vondata.render.caster import Caster
from vondata.render.mesh import (
    DYES,
    LACQUERS,
    WOODS,
    Finish,
    Material,
    concatenated,
    corner_normals,
    make_material,
    pick,
)
from vondata.render.shading import Light, render

Bytes = npt.NDArray[np.uint8]
Singles = npt.NDArray[np.float32]
Generator = np.random.Generator

LAYER_PX = 144
VIEWS = 3
SEED = 4711


def main() -> None:
    """Renders layers or trains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("layers", "train"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--objects", type=int, default=900)
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=FILE, help="where the weights go; %(default)s by default")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(arguments.threads)
    if arguments.step == "layers":
        write_layers(arguments.folder, arguments.objects)
    else:
        train(arguments.folder, arguments.minutes, arguments.output)


# --- layers


def write_layers(folder: Path, objects: int) -> None:
    """Writes one file per object, with its layers from a few viewpoints; existing files are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(objects):
        path = folder / f"{index:05}.npz"
        if path.exists():
            continue
        rng = np.random.default_rng([SEED, index])
        item = _object(index, rng)
        layers = [_layer(item if view == 0 else _painted(item, rng), rng) for view in range(VIEWS)]
        np.savez_compressed(path.with_suffix(".tmp.npz"), layers=np.stack(layers))
        path.with_suffix(".tmp.npz").rename(path)


def _object(index: int, rng: Generator) -> DemoObject:
    match index % 5:
        case 0 | 1:
            return make_object("chair", index, SEED)
        case 2:
            return make_object("car", index, SEED)
        case _:
            return _furniture(rng)


def _furniture(rng: Generator) -> DemoObject:
    """A random table, shelf, lamp, sofa or heap of parts."""
    parts = []
    materials: dict[str, Material] = {}
    for name in ("a", "b", "c"):
        palette = (WOODS, DYES, LACQUERS)[int(rng.integers(3))]
        surface = ("wood", "cloth", "leather", "lacquer", "plastic", "metal")[int(rng.integers(6))]
        materials[name] = make_material(Finish(surface, pick(rng, palette)), rng)  # type: ignore[arg-type]
    width, depth, height = rng.uniform(0.3, 1.4), rng.uniform(0.3, 0.9), rng.uniform(0.3, 1.3)
    kind = int(rng.integers(5))
    thin = float(rng.uniform(0.015, 0.07))
    corners = [(x * width * 0.45, y * depth * 0.45) for x in (-1, 1) for y in (-1, 1)]
    if kind in (0, 1):  # table, stool or shelf
        boards = 1 if kind == 0 else int(rng.integers(2, 6))
        for level in np.linspace(height, 0.12 * height, boards):
            parts.append(box((width, depth, rng.uniform(0.02, 0.08)), (0, 0, float(level))).of("a"))
        for x, y in corners:
            lean = rng.uniform(0.8, 1.2) if kind == 0 else 1.0
            parts.append(tube(np.array([(x * lean, y * lean, 0.0), (x, y, height)]), thin / 2).of("b"))
        if kind == 1 and rng.random() < 0.5:
            parts.append(box((width, 0.02, height), (0, depth / 2, height / 2)).of("c"))
    elif kind == 2:  # lamp, vase or post
        wide = rng.uniform(0.1, 0.35)
        parts.append(lathe([(wide, 0.0), (wide, 0.03), (thin, 0.06), (thin, height)]).of("b"))
        parts.append(lathe([(wide * rng.uniform(0.7, 1.5), height * 0.7), (wide * 0.6, height * 1.1)]).of("a"))
    elif kind == 3:  # sofa or bed
        parts.append(cushion((width, depth, 0.2), (0, 0, 0.3), 0.04, 0.06).of("a"))
        parts.append(box((width, 0.14, height), (0, -depth / 2, height / 2 + 0.1), 0.03).of("c"))
        for side in (-1, 1):
            parts.append(box((0.12, depth, 0.5), (side * width / 2, 0, 0.35), 0.02).of("a"))
        parts += [box((0.05, 0.05, 0.2), (x, y, 0.1)).of("b") for x, y in corners]
    else:
        for _ in range(int(rng.integers(2, 7))):
            size = tuple(float(each) for each in rng.uniform(0.05, 0.8, 3))
            x, y = rng.uniform(-0.3, 0.3, 2)
            made = (
                box((size[0], size[1], size[2]), (float(x), float(y), size[2] / 2 + float(rng.uniform(0, 0.3))))
                if rng.random() < 0.6
                else lathe([(0.4 * size[0], 0.0), (0.5 * size[1], size[2])], (float(x), float(y), 0.0))
            )
            parts.append(made.of(str(rng.choice(["a", "b", "c"]))))
    made_parts = tuple(normalized(parts))
    used = {part.material: materials[part.material] for part in made_parts}
    return DemoObject(
        "chair", "furniture", "random", "none", made_parts, used, corner_normals(concatenated(made_parts))
    )


def _painted(item: DemoObject, rng: Generator) -> DemoObject:
    """The object with some of its materials in white or grey."""
    materials = dict(item.materials)
    for name in materials:
        if rng.random() < 0.55:
            grey = float(rng.choice([rng.uniform(0.9, 0.99), rng.uniform(0.35, 0.85)], p=[0.7, 0.3]))
            tint = rng.uniform(-0.02, 0.02)
            materials[name] = Material((min(1.0, grey + tint), grey, min(1.0, grey - tint)), None, 0.5, 0.1)
    return replace(item, materials=materials)


def _layer(item: DemoObject, rng: Generator) -> Bytes:
    """(LAYER_PX, LAYER_PX, 10): RGB, coverage, hard and soft light on the floor, mirror image and its coverage."""
    caster = Caster(render_mesh(item))
    if item.class_name == "car" or rng.random() < 0.3:
        viewpoint = rng.uniform(-180, 180), rng.uniform(-2, 30)
    else:
        viewpoint = tuple(load_class("chair").sample_viewpoints(1, rng)[0])
    azimuth, elevation = np.radians(viewpoint)
    pose = CameraPose(azimuth, elevation, 1.6, (0.0, 0.0), 0.0, float(rng.uniform(34, 70)), (LAYER_PX, LAYER_PX))
    while True:
        camera = camera_of(pose)
        pixels, _ = camera.project(caster.vertices)
        if pixels.min() >= 0.16 * LAYER_PX and pixels.max() <= 0.84 * LAYER_PX:
            break
        pose = replace(pose, distance=1.06 * pose.distance)
    side, up = rng.choice([-1.0, 1.0]) * rng.uniform(0.2, 1.4), rng.uniform(0.5, 1.3)
    angle = np.arctan2(camera.position[0], camera.position[2]) + side
    towards = np.array([np.sin(angle) * np.cos(up), np.sin(up), np.cos(angle) * np.cos(up)], np.float32)
    light = Light(towards, 0.1, float(rng.uniform(0.4, 0.8)), float(rng.uniform(0.4, 0.75)), np.ones(3, np.float32))
    shown = render(caster, camera, light, None, rng)
    floor = float(caster.vertices[:, 1].min())
    mirrored = tuple(
        replace(
            part,
            vertices=part.vertices * [1, 1, -1] + [0, 0, 2 * floor],
            faces=part.faces[:, ::-1],
            uvs=part.uvs[:, ::-1],
        )
        for part in item.parts
    )
    below = Caster(render_mesh(replace(item, parts=mirrored, normals=corner_normals(concatenated(mirrored)))))
    image = render(below, camera, light, None, rng, samples=1)
    rows, columns = np.mgrid[:LAYER_PX, :LAYER_PX].astype(np.float32) + 0.5
    rays = camera.directions(np.stack([columns, rows], axis=-1)).reshape(-1, 3)
    fall = (floor - camera.position[1]) / np.minimum(rays[:, 1], -1e-4)
    ground = (camera.position + fall[:, None] * rays).astype(np.float32)
    on_floor = np.flatnonzero((rays[:, 1] < -1e-3) & (np.linalg.norm(ground, axis=1) < 5))
    upright = np.tile(np.array([0, 1, 0], np.float32), (len(on_floor), 1))
    lit = np.full((2, LAYER_PX * LAYER_PX), 255, np.uint8)
    lit[0, on_floor] = 255 * caster.lit(ground[on_floor], upright, np.tile(towards, (len(on_floor), 1)))
    spread = towards + rng.normal(0, rng.uniform(0.1, 0.5), (6 * len(on_floor), 3)).astype(np.float32)
    spread[:, 1] = np.maximum(spread[:, 1], 0.05)
    spread /= np.linalg.norm(spread, axis=1, keepdims=True)
    soft = caster.lit(np.repeat(ground[on_floor], 6, 0), np.repeat(upright, 6, 0), spread).reshape(-1, 6).mean(1)
    openness = caster.openness(ground[on_floor], upright) if rng.random() < 0.5 else 1.0
    lit[1, on_floor] = np.clip(255 * soft * openness, 0, 255)
    faces = [
        shown.cut_out,
        np.rint(255 * shown.coverage)[..., None],
        lit.reshape(2, LAYER_PX, LAYER_PX).transpose(1, 2, 0),
        image.cut_out,
        np.rint(255 * image.coverage)[..., None],
    ]
    return np.concatenate(faces, axis=2).astype(np.uint8)


# --- photos composed of layers


def compose(layer: Bytes, rng: Generator) -> tuple[Singles, Singles]:
    """A photo's network input (INPUT_PX, INPUT_PX, c) and coverage (INPUT_PX, INPUT_PX), foreground crop."""
    if rng.random() < 0.5:
        layer = layer[:, ::-1]
    rgb, coverage = layer[..., :3].astype(np.float32), layer[..., 3:4].astype(np.float32) / 255
    if rng.random() < 0.15:
        rgb, coverage, layer = _flat_shape(rng)
    rgb = _exposed(rgb, rng)
    ground = np.full(3, 255.0, np.float32)
    kind = rng.random()
    if kind > 0.6:
        ground = (
            rng.uniform(235, 255, 3).astype(np.float32) if kind < 0.8 else rng.uniform(40, 240, 3).astype(np.float32)
        )
    behind = np.ones_like(rgb) * ground
    if rng.random() < 0.5:
        light = layer[..., 4 if rng.random() < 0.4 else 5].astype(np.float32) / 255
        light = cv2.GaussianBlur(light, (0, 0), float(rng.uniform(0.3, 3.5)))
        behind *= 1.0 - rng.uniform(0.04, 0.7) * (1.0 - light[..., None])
    if rng.random() < 0.3:
        mirror, shown = layer[..., 6:9].astype(np.float32), layer[..., 9].astype(np.float32) / 255
        rows = np.flatnonzero(coverage[..., 0].max(axis=1) > 0.5)
        fade = (
            np.clip(1 - (np.arange(len(rgb)) - rows[-1] + 8) / rng.uniform(10, 90), 0, 1)
            if len(rows)
            else np.ones(len(rgb))
        )
        share = cv2.GaussianBlur(
            shown * np.minimum(fade, 1)[:, None].astype(np.float32), (0, 0), float(rng.uniform(0.3, 2))
        )
        share = (rng.uniform(0.05, 0.55) * share)[..., None]
        behind = behind * (1 - share) + _exposed(mirror, rng) * share
    photo = behind * (1 - coverage) + rgb * coverage
    if rng.random() < 0.3:
        _add_clutter(photo, coverage[..., 0], ground, rng)
    grain = rng.uniform(0, 1.2) if rng.random() < 0.6 else 0.0
    photo = np.rint(np.clip(photo + rng.normal(0, grain, photo.shape), 0, 255))
    if rng.random() < 0.4:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(80, 99))]
        photo = cv2.imdecode(cv2.imencode(".jpg", photo.astype(np.uint8), quality)[1], cv2.IMREAD_COLOR)
    return _cut(photo.astype(np.float32), ground, coverage[..., 0], rng)


def _exposed(rgb: Singles, rng: Generator) -> Singles:
    rgb = rgb * rng.uniform(0.85, 1.45)
    if rng.random() < 0.4:  # paler, down to a few levels under white
        rgb = 255 - (255 - np.minimum(rgb, 255)) * 10 ** rng.uniform(-1.5, 0)
    return np.clip(rgb * rng.uniform(0.97, 1.03, 3), 0, 255).astype(np.float32)


def _flat_shape(rng: Generator) -> tuple[Singles, Singles, Bytes]:
    """A 2D drawing: boxes, ellipses and bars, with holes, a sheared shadow and a reflection below."""
    canvas = np.zeros((LAYER_PX, LAYER_PX), np.uint8)
    centre = LAYER_PX // 2
    for number in range(int(rng.integers(1, 7))):
        x, y = (rng.uniform(-0.2, 0.2, 2) * LAYER_PX + centre).astype(int)
        wide, high = (rng.uniform(0.03, 0.25, 2) * LAYER_PX).astype(int) + 1
        value = 255 if number < 2 or rng.random() < 0.6 else 0
        if rng.random() < 0.7:
            cv2.rectangle(canvas, (x - wide, y - high), (x + wide, y + high), value, -1)
        else:
            cv2.ellipse(canvas, (x, y), (wide, high), float(rng.uniform(0, 90)), 0, 360, value, -1)
    if not canvas.any():
        canvas[centre - 20 : centre + 20, centre - 20 : centre + 20] = 255
    rows = np.flatnonzero(canvas.max(axis=1))
    foot = int(rows[-1])
    colours = rng.uniform(0, 255, (2, 3)).astype(np.float32)
    ramp = np.linspace(0, 1, LAYER_PX, dtype=np.float32)[:, None, None] * rng.uniform(0, 0.5)
    rgb = np.ones((LAYER_PX, LAYER_PX, 3), np.float32) * colours[0] * (1 - ramp) + colours[1] * ramp
    shear = np.float32([[1, rng.uniform(-1, 1), 0], [0, rng.uniform(0.1, 0.4) * rng.choice([-1, 1]), 0]])
    shear[:, 2] = np.array([centre, foot]) - shear[:, :2] @ np.array([centre, foot])
    shadow = 255 - cv2.warpAffine(canvas, shear, (LAYER_PX, LAYER_PX))
    mirror = np.zeros_like(canvas)
    height = min(foot + 1, LAYER_PX - foot - 1)
    mirror[foot + 1 : foot + 1 + height] = canvas[foot - height + 1 : foot + 1][::-1]
    flipped = np.zeros_like(rgb)
    flipped[foot + 1 : foot + 1 + height] = rgb[foot - height + 1 : foot + 1][::-1]
    layer = np.dstack([rgb, canvas, shadow, shadow, flipped, mirror]).astype(np.uint8)
    return rgb, canvas[..., None].astype(np.float32) / 255, layer


def _add_clutter(photo: Singles, coverage: Singles, ground: Singles, rng: Generator) -> None:
    """Draws swatches, text, dimension lines and frames beside the object into the photo."""
    rows, columns = np.flatnonzero(coverage.max(axis=1) > 0.1), np.flatnonzero(coverage.max(axis=0) > 0.1)
    drawn = np.clip(photo, 0, 255).astype(np.uint8)
    colour = tuple(
        float(each) for each in (rng.uniform(0, 255, 3) if rng.random() < 0.5 else ground * rng.uniform(0, 0.8))
    )
    top, bottom, left, right = rows[0], rows[-1], columns[0], columns[-1]
    for _ in range(int(rng.integers(1, 4))):
        x, y = rng.integers(2, LAYER_PX - 8, 2).tolist()
        size = int(rng.integers(4, 22))
        match int(rng.integers(5)):
            case 0:
                cv2.rectangle(drawn, (x, y), (x + size, y + int(rng.integers(4, 22))), colour, -1)
            case 1:
                cv2.circle(drawn, (x, y), size // 2, colour, -1)
            case 2:
                word = "".join(rng.choice(list("ABCDEFGHKLMNRSTUX 0123456789"), 6))
                cv2.putText(
                    drawn,
                    word,
                    (x, y),
                    cv2.FONT_HERSHEY_SIMPLEX,
                    float(rng.uniform(0.2, 0.6)),
                    colour,
                    1,
                    cv2.LINE_AA,
                )
            case 3:
                gap = int(rng.integers(2, 12))
                cv2.line(drawn, (left - gap, top), (left - gap, bottom), colour, 1, cv2.LINE_AA)
                cv2.line(drawn, (left, bottom + gap), (right, bottom + gap), colour, 1, cv2.LINE_AA)
                for end in (top, bottom):
                    cv2.line(drawn, (left - gap - 2, int(end)), (left - gap + 2, int(end)), colour, 1, cv2.LINE_AA)
            case _:
                gap = int(rng.integers(3, 20))
                cv2.rectangle(
                    drawn, (left - gap, top - gap), (right + gap, bottom + gap), colour, int(rng.integers(1, 4))
                )
    near = cv2.dilate(coverage, np.ones((3, 3), np.uint8))[..., None]
    photo[:] = np.where(near > 0.02, photo, drawn)


def _cut(photo: Singles, ground: Singles, coverage: Singles, rng: Generator) -> tuple[Singles, Singles]:
    """The foreground region with a margin, as the network's input."""
    away = np.abs(photo - ground).max(axis=2) > rng.uniform(3, 14)
    away |= coverage > 0.5
    rows, columns = np.flatnonzero(away.any(axis=1)), np.flatnonzero(away.any(axis=0))
    margin = int(rng.uniform(0.03, 0.15) * max(np.ptp(rows), np.ptp(columns), 8)) + 2
    top, bottom = max(0, rows[0] - margin), min(LAYER_PX, rows[-1] + 1 + margin)
    left, right = max(0, columns[0] - margin), min(LAYER_PX, columns[-1] + 1 + margin)
    difference = luma_chroma(photo) - luma_chroma(ground[None, None])
    shown, _ = network_input(difference[top:bottom, left:right])
    truth, _ = placed(coverage[top:bottom, left:right])
    return shown, truth


def luma_chroma(rgb: Singles) -> Singles:
    """(h, w, 3) Y, Cr and Cb in 0..255 of RGB in 0..255."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(rgb / np.float32(255)), cv2.COLOR_RGB2YCrCb) * 255)


# --- training


class _Network(nn.Module):
    """The layers of `vondata.images.mask_refinement` with batch norm, which is folded into the weights at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleDict(
            {name: nn.Conv2d(inputs, outputs, 3, stride, 1) for name, inputs, outputs, stride in LAYERS}
        )
        self.norms = nn.ModuleDict({name: nn.BatchNorm2d(outputs) for name, _, outputs, _ in LAYERS[:-1]})

    def forward(self, x: Tensor) -> Tensor:
        def step(name: str, x: Tensor) -> Tensor:
            return torch.relu(self.norms[name](self.convolutions[name](x)))

        def joined(low: Tensor, high: Tensor) -> Tensor:
            return torch.cat([nn.functional.interpolate(low, scale_factor=2, mode="nearest"), high], dim=1)

        a = step("half_b", step("half_a", x))
        b = step("quarter_b", step("quarter_a", a))
        c = step("eighth_b", step("eighth_a", b))
        d = step("sixteenth_c", step("sixteenth_b", step("sixteenth_a", c)))
        c = step("eighth_up", joined(d, c))
        b = step("quarter_up", joined(c, b))
        a = step("half_up", joined(b, a))
        logits: Tensor = self.convolutions["out"](a)
        return logits

    def folded(self) -> dict[str, npt.NDArray[np.float16]]:
        """Weights (o, i, 3, 3) and biases (o,) with the batch norms folded in."""
        result = {}
        for name, *_ in LAYERS:
            weight, bias = self.convolutions[name].weight.detach(), self.convolutions[name].bias.detach()
            if name in self.norms:
                norm = self.norms[name]
                scale = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
                weight = weight * scale[:, None, None, None]
                bias = (bias - norm.running_mean) * scale + norm.bias.detach()
            result[f"{name}.weight"] = weight.numpy().astype(np.float16)
            result[f"{name}.bias"] = bias.numpy().astype(np.float16)
        return result


def train(folder: Path, minutes: float, output: Path) -> None:
    """Trains for some minutes and writes the weights; layers added to the folder meanwhile are used too."""
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    network = _Network()
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-4)
    average = {name: value.clone() for name, value in network.state_dict().items()}
    started, step, losses = time.monotonic(), 0, []
    layers: list[Bytes] = []
    known: set[Path] = set()
    while (share := (time.monotonic() - started) / (60 * minutes)) < 1.0:
        if step % 200 == 0:
            for path in sorted(set(folder.glob("[0-9]*[0-9].npz")) - known):
                layers += list(np.load(path)["layers"])
                known.add(path)
            if not layers:
                sys.exit(f"{folder} holds no layers: write some first (train_mask_network.py layers {folder})")
        batch = [compose(layers[int(rng.integers(len(layers)))], rng) for _ in range(16)]
        shown = torch.from_numpy(np.stack([each[0] for each in batch]).transpose(0, 3, 1, 2).copy())
        truth = torch.from_numpy(np.stack([each[1] for each in batch])[:, None])
        truth = nn.functional.avg_pool2d(truth, 2)
        logits = network(shown)
        likely = torch.sigmoid(logits)
        overlap = 1 - (2 * (likely * truth).sum((1, 2, 3)) + 1) / ((likely + truth).sum((1, 2, 3)) + 1)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, truth) + 0.5 * overlap.mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 100) * (1 - share) ** 0.9
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                average[name].lerp_(value, max(0.01, 1 / (step + 2)))
            else:
                average[name] = value.clone()
        losses.append(loss.item())
        step += 1
        if step % 100 == 0:
            sys.stdout.write(f"{step} steps, {len(layers)} layers, loss {np.mean(losses[-100:]):.4f}\n")
            sys.stdout.flush()
        if step % 500 == 0:
            _save(network, average, output)
    _save(network, average, output)


def _save(network: _Network, average: dict[str, Tensor], output: Path) -> None:
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(average)
    save_file(network.folded(), output)
    network.load_state_dict(kept)


if __name__ == "__main__":
    main()
