"""Logging of a training: losses to log.txt, stats.jsonl and TensorBoard, sample sheets, non-finite losses."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional

from vondata.errors import VonError
from vondata.io.files import atomic_path
from vonmodel.config import StageName
from vonmodel.data.datasets import ViewpointSampler
from vonmodel.distributed import gather_objects, is_writer, mean_everywhere
from vonmodel.geometry import Camera, viewpoint_rotation
from vonmodel.model import VonModel, with_classes
from vonmodel.projection import project
from vonmodel.run_folder import RunFolder
from vonmodel.seeding import numpy_generator, torch_generator
from vonmodel.training.stage import Stage

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


TILE_PX = 96
GAP_PX = 4
# Steepness of the surface in the first row.
CONTRAST = 8.0
# Azimuth and elevation of the first row, in radians.
OVERVIEW = (0.7, 0.35)


@dataclass(frozen=True)
class SheetCodes:
    """The codes and viewpoints of a sheet, the same at every step.

    Attributes:
        shape: (n, code) shape codes.
        texture: (n, code) texture codes.
        viewpoints: (n, 2) azimuth and elevation in radians.
    """

    shape: Float[Tensor, "n shape_code"]
    texture: Float[Tensor, "n texture_code"]
    viewpoints: Float[Tensor, "n 2"]


def sheet_codes(model: VonModel, sampler: ViewpointSampler, *, seed: int, count: int = 8) -> SheetCodes:
    """The codes of a run's sheets, of several classes in turn."""
    generator, number = torch_generator(seed, "sheet"), len(model.config.classes)
    classes = torch.eye(number)[torch.arange(count) % number] if number else None
    return SheetCodes(
        shape=with_classes(torch.randn(count, model.config.shape_code_size, generator=generator), classes),
        texture=with_classes(torch.randn(count, model.config.texture_code_size, generator=generator), classes),
        viewpoints=torch.from_numpy(sampler(count, numpy_generator(seed, "sheet"))).float(),
    )


@torch.no_grad()
def draw_sheet(model: VonModel, codes: SheetCodes, *, images: bool) -> npt.NDArray[np.uint8]:
    """Renders a sheet: a column for each object with shape, silhouette, depth and image.

    Args:
        model: in evaluation mode.
        codes: codes and viewpoints of the objects.
        images: whether to render the row of images, which is meaningless before the texture stage.

    Returns:
        (height, width, 3) colours.
    """
    weight = next(model.parameters())
    volumes = model.generate_shapes(codes.shape.to(weight))
    azimuth, elevation = codes.viewpoints.to(weight).unbind(-1)
    sketch = model.sketch(volumes, viewpoint_rotation(azimuth, elevation), depth_range="item")
    rows = [
        shaded(model.opacity(volumes)),
        1.0 - sketch.silhouette,
        torch.where(sketch.silhouette > 0.5, 0.15 + 0.375 * (sketch.normalized_depth + 1.0), 1.0),
    ]
    if images:
        rows.append((model.paint(sketch, codes.texture.to(weight)) + 1.0) / 2.0)
    return _tiled([_as_tiles(row) for row in rows])


def save_sheet(sheet: npt.NDArray[np.uint8], path: Path) -> None:
    """Writes a sheet as PNG."""
    Image.fromarray(sheet).save(path)


def shaded(opacity: Float[Tensor, "n 1 r r r"]) -> Float[Tensor, "n 1 tile tile"]:
    """A picture of each volume's surface, lit from above the camera, in [0, 1] on white."""
    count, camera = len(opacity), Camera()
    # Half-transparent voxels would veil the surface behind them.
    opacity = (0.5 + CONTRAST * (opacity - 0.5)).clamp(0.0, 1.0)
    azimuth, elevation = (torch.full((count,), angle, device=opacity.device) for angle in OVERVIEW)
    seen = project(opacity, viewpoint_rotation(azimuth, elevation), image_size=TILE_PX)
    points = seen.depth.squeeze(1).unsqueeze(-1) * camera.ray_directions(TILE_PX, opacity)
    down = functional.pad(points.diff(dim=1), (0, 0, 0, 0, 0, 1))
    right = functional.pad(points.diff(dim=2), (0, 0, 0, 1))
    normals = functional.normalize(torch.linalg.cross(right, down), dim=-1)
    # Camera frame: looks along +x, up is +z, the image's right is -y.
    light = functional.normalize(torch.tensor([-1.0, 0.5, 0.9]).to(opacity), dim=0)
    brightness = (0.2 + 0.7 * (normals @ light).abs()).unsqueeze(1)
    # Empty space absorbs a ten-thousandth of the light at every sample; keeps the background white.
    silhouette = ((seen.silhouette - 0.02) / 0.98).clamp(min=0.0)
    return silhouette * brightness + (1.0 - silhouette)


def _as_tiles(row: Float[Tensor, "n c h w"]) -> npt.NDArray[np.uint8]:
    """(n, tile, tile, 3) tiles of a row of pictures in [0, 1]."""
    row = functional.interpolate(row, size=(TILE_PX, TILE_PX), mode="nearest").expand(-1, 3, -1, -1)
    tiles: npt.NDArray[np.uint8] = (row.clamp(0.0, 1.0) * 255.0).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return tiles


def _tiled(rows: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    step = TILE_PX + GAP_PX
    height, width = (count * step + GAP_PX for count in (len(rows), len(rows[0])))
    sheet = np.full((height, width, 3), 255, dtype=np.uint8)
    for i, row in enumerate(rows):
        for j, tile in enumerate(row):
            top, left = GAP_PX + i * step, GAP_PX + j * step
            sheet[top : top + TILE_PX, left : left + TILE_PX] = tile
    return sheet


_log = logging.getLogger(__name__)


class NonFiniteLossError(VonError, ArithmeticError):
    """A loss became infinite or NaN.

    Attributes:
        where: step, phase, terms and the ids of the items.
    """

    def __init__(self, where: dict[str, Any]) -> None:
        self.where = where
        super().__init__(
            f"stage {where['stage']}, step {where['step']}, phase {where['phase']}: "
            f"{', '.join(where['terms'])} is not finite; items {', '.join(where['items'])}. "
            "The last checkpoint is from before. Look at these items, lower the learning rate in another run, or "
            "leave such steps out"
        )


class LossRecord:
    """Losses since the last report, kept on the device so that no step synchronises with the host."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._steps: list[tuple[int, tuple[str, ...]]] = []
        self._values: dict[str, dict[int, Tensor]] = {}

    def add(self, step: int, items: tuple[str, ...], losses: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Adds the losses of a step, by phase and term; steps may differ in the terms that they have."""
        column = len(self._steps)
        self._steps.append((step, items))
        for phase, terms in losses.items():
            for term, value in terms.items():
                self._values.setdefault(f"{phase}/{term}", {})[column] = value

    def read(self) -> dict[str, float]:
        """Mean of each term over the steps since the last call that have it and over all processes, by `phase/term`.

        Raises:
            NonFiniteLossError: names the first step with a loss that is not finite, in any process.
        """
        if not self._steps:
            return {}
        names, columns = list(self._values), range(len(self._steps))
        absent = torch.zeros_like(next(iter(self._values[names[0]].values())))
        rows = [torch.stack([values.get(column, absent) for column in columns]) for values in self._values.values()]
        table = torch.stack(rows).double().cpu()
        means = mean_everywhere(table).numpy()
        if not np.isfinite(means).all():
            own = None if torch.isfinite(table).all() else self._where(names, table.numpy())
            # Gradients are averaged: a NaN in one process reaches all of them a phase later.
            phases = list(dict.fromkeys(name.partition("/")[0] for name in names))
            found = [where for where in gather_objects(own) if where is not None]
            raise NonFiniteLossError(min(found, key=lambda where: (where["step"], phases.index(where["phase"]))))
        steps = [len(values) for values in self._values.values()]
        self._steps.clear()
        self._values.clear()
        return dict(zip(names, (means.sum(axis=1) / steps).tolist(), strict=True))

    def _where(self, names: list[str], table: npt.NDArray[np.float64]) -> dict[str, Any]:
        column = int((~np.isfinite(table)).any(axis=0).argmax())
        step, items = self._steps[column]
        bad = [name for name, value in zip(names, table[:, column], strict=True) if not math.isfinite(value)]
        phase = bad[0].partition("/")[0]
        terms = [name.partition("/")[2] for name in bad if name.startswith(f"{phase}/")]
        return {"stage": self._stage, "step": step, "phase": phase, "terms": terms, "items": list(items)}


MAX_SKIPPED_IN_A_ROW = 20
"""Number of consecutive steps without an update after which training stops."""


@dataclass(frozen=True)
class Progress:
    """The progress of a stage.

    Attributes:
        stage: the stage.
        step: steps done.
        steps: steps in all.
        losses: weighted terms, means over the steps since the last report, by `phase/term`.
        images_per_s: items trained on in a second, since the last report.
        learning_rate_share: fraction of the full learning rate.
        seconds_left: at this speed.
        skipped: steps skipped since the start because a loss or gradient was not finite.
        label: name of the stage in the line; its own name if empty.
    """

    stage: StageName
    step: int
    steps: int
    losses: dict[str, float]
    images_per_s: float
    learning_rate_share: float
    seconds_left: float
    skipped: int = 0
    label: str = ""

    def line(self) -> str:
        """The progress as one line of text."""
        losses = "  ".join(f"{name.rpartition('/')[2]} {value:.4g}" for name, value in self.losses.items())
        minutes, seconds = divmod(round(self.seconds_left), 60)
        return (
            f"{self.label or self.stage} {self.step}/{self.steps}  {losses}  {self.images_per_s:.1f} images/s  "
            f"{minutes}:{seconds:02d} left" + (f"  {self.skipped} skipped" if self.skipped else "")
        )


class Monitor:
    """Reports the progress of a stage; a context manager that closes its files.

    Every training process has one, as all of them gather the losses; rank 0 writes.
    """

    def __init__(self, run: RunFolder, stage: Stage, start: int, on_progress: Callable[[Progress], None]) -> None:
        """Opens the reports.

        Args:
            run: the run folder.
            stage: the stage.
            start: the step it resumes from; statistics of later steps are dropped.
            on_progress: called with every report.
        """
        self._run, self._stage, self._on_progress = run, stage, on_progress
        self._record = LossRecord(stage.label)
        self._step, self._time = start, time.perf_counter()
        self._start = start
        self._writer: SummaryWriter | None = None
        self._skipped = self._in_a_row = 0
        self._unwritten: set[str] = set()
        if is_writer():
            run.rewind_stats(stage.name, start)

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            with self._never_failing("tensorboard"):
                self._writer.close()

    def add(self, step: int, items: tuple[str, ...], losses: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Adds the losses of a step, by phase and term."""
        self._in_a_row = 0
        self._record.add(step, items, losses)

    def skip(self, step: int, items: tuple[str, ...], losses: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Counts a step whose last phase was not finite, and records it in nonfinite.jsonl.

        Raises:
            NonFiniteLossError: there were too many in a row.
        """
        phase = list(losses)[-1]
        bad = [term for term, value in losses[phase].items() if not value.isfinite().all()]
        gathered = gather_objects((bad, items))
        where = {
            "stage": self._stage.label,
            "step": step,
            "phase": phase,
            "terms": sorted({term for terms, _ in gathered for term in terms}) or ["gradient"],
            "items": [item for terms, items in gathered if terms or not bad for item in items],
        }
        self._skipped += 1
        self._in_a_row += 1
        if is_writer():
            with self._never_failing("nonfinite.jsonl"):
                self._run.log_nonfinite(where)
        if self._in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise NonFiniteLossError(where)

    def report(self, step: int, steps: int, learning_rate_share: float) -> None:
        """Reports the losses since the last report, after `step` steps.

        Raises:
            NonFiniteLossError: one of them is not finite; step, phase, terms and items are saved as nonfinite.json.
        """
        try:
            losses = self._record.read()
        except NonFiniteLossError as error:
            if is_writer():
                with self._never_failing("nonfinite.json"), atomic_path(self._run.path / "nonfinite.json") as file:
                    file.write_text(json.dumps(error.where, indent=2) + "\n", "utf-8")
                with self._never_failing("log.txt"):
                    self._run.append_log(str(error))
            raise
        now = time.perf_counter()
        seconds_a_step = (now - self._time) / (step - self._step)
        progress = Progress(
            stage=self._stage.name,
            step=step,
            steps=steps,
            losses=losses,
            images_per_s=self._stage.config.batch_size / seconds_a_step,
            learning_rate_share=learning_rate_share,
            seconds_left=(steps - step) * seconds_a_step,
            skipped=self._skipped,
            label=self._stage.label,
        )
        self._step, self._time = step, now
        if not is_writer():
            return
        with self._never_failing("stats.jsonl"):
            self._run.log_stats(asdict(progress))
        with self._never_failing("log.txt"):
            self._run.append_log(progress.line())
        with self._never_failing("tensorboard"):
            for name, value in {**losses, "images_per_s": progress.images_per_s}.items():
                self._board.add_scalar(name, value, step)
        self._on_progress(progress)

    def sheet(self, step: int, sheet: npt.NDArray[np.uint8]) -> None:
        """Saves a sample sheet."""
        with self._never_failing("samples"):
            save_sheet(sheet, self._run.samples / f"{self._stage.label}-{step:08d}.png")
        with self._never_failing("tensorboard"):
            self._board.add_image("samples", sheet, step, dataformats="HWC")

    @contextmanager
    def _never_failing(self, name: str) -> Iterator[None]:
        """Skips reports that cannot be written, with one warning: only a failing checkpoint stops a training."""
        try:
            yield
        except OSError as error:
            if name not in self._unwritten:
                self._unwritten.add(name)
                _log.warning("%s cannot be written (%s): training goes on without it", self._run.path / name, error)

    @property
    def _board(self) -> SummaryWriter:
        """TensorBoard's files, a run of their own for each stage, so that steps count from 0 in each."""
        if self._writer is None:
            # Imported on first use: it takes a second.
            from torch.utils.tensorboard import SummaryWriter

            folder = self._run.path / "tensorboard" / self._stage.label
            self._writer = SummaryWriter(str(folder), purge_step=self._start + 1)
        return self._writer
