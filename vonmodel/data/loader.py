"""What happens to a photo before a step sees it: another hue, a small shift, a mirror."""

from __future__ import annotations

import math
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from vonmodel.config import DataConfig
from vonmodel.data.datasets import Photo
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from jaxtyping import Float, Num
from vonmodel.data.datasets import ImageDataset, ShapeDataset, ViewpointSampler
from vonmodel.geometry import viewpoint_rotation
from vonmodel.seeding import epoch_positions, numpy_generator



def augment(photo: Photo, data: DataConfig, rng: np.random.Generator, *, mirror_symmetry: bool) -> Photo:
    """A variation of a photo; the numbers drawn do not depend on the photo.

    Args:
        photo: the photo.
        data: how far it may vary.
        rng: source of the variation.
        mirror_symmetry: whether the class looks alike in the mirror. Only then is a mirrored photo one of an object
            of this class, seen from the negated azimuth; photos of other classes are never mirrored.
    """
    hue = rng.uniform(-data.hue_jitter, data.hue_jitter)
    down, right = rng.integers(-data.shift_px, data.shift_px, size=2, endpoint=True)
    mirrored = rng.random() < 0.5
    image = shift(turn_hue(photo.image, hue), int(down), int(right), fill=1.0)
    mask = shift(photo.mask, int(down), int(right), fill=0.0)
    viewpoint = photo.viewpoint
    if mirrored and data.mirror and mirror_symmetry:
        image, mask = image.flip(-1), mask.flip(-1)
        viewpoint = None if viewpoint is None else (-viewpoint[0], viewpoint[1])
    return Photo(image, mask, viewpoint)


def turn_hue(image: Float[Tensor, "3 h w"], turn: float) -> Float[Tensor, "3 h w"]:
    """Turns every colour around the grey axis and keeps it inside the cube of colours.

    Args:
        image: colours in [-1, 1].
        turn: fraction of the whole circle.

    Returns:
        The turned colours; greys, white and black stay what they are.
    """
    if turn == 0.0:
        return image
    angle = 2.0 * math.pi * turn
    cos, sin = math.cos(angle), math.sin(angle)
    # Rodrigues' rotation about (1, 1, 1) / sqrt 3.
    across = sin / math.sqrt(3.0)
    level = (1.0 - cos) / 3.0
    rotation = torch.tensor(
        [
            [cos + level, level - across, level + across],
            [level + across, cos + level, level - across],
            [level - across, level + across, cos + level],
        ],
        dtype=image.dtype,
    )
    return torch.einsum("ij,jhw->ihw", rotation, image).clamp(-1.0, 1.0)


def shift(image: Float[Tensor, "c h w"], down: int, right: int, *, fill: float) -> Float[Tensor, "c h w"]:
    """Moves an image by whole pixels; what comes in at the edges is `fill`."""
    _, height, width = image.shape
    moved = torch.full_like(image, fill)
    moved[:, max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = image[
        :, max(0, -down) : height + min(0, -down), max(0, -right) : width + min(0, -right)
    ]
    return moved

# Steps whose data is ready or under way, beyond one for each worker.
STEPS_AHEAD = 2
# Each of a step's many operations takes the interpreter back from a thread that decodes; Python's 5 ms are too long.
SWITCH_INTERVAL_S = 1e-4


@dataclass(frozen=True)
class Batch:
    """The data of one step.

    Attributes:
        volumes: shapes in the model's representation, [0, 1]; in few bytes, as they are kept, until `to` moved them.
        images: photos in [-1, 1] on white.
        masks: their masks in [0, 1].
        rotations: the viewpoint of each photo, its own or one drawn for it, as rotation to the object frame.
        ids: ids of shapes and photos, to name in an error.
        classes: weights of the class of every row, of a model of several classes.
    """

    volumes: Num[Tensor, "m 1 r r r"] | None = None
    images: Float[Tensor, "n 3 size size"] | None = None
    masks: Float[Tensor, "n 1 size size"] | None = None
    rotations: Float[Tensor, "n 3 3"] | None = None
    ids: tuple[str, ...] = ()
    classes: Float[Tensor, "_ c"] | None = None

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Batch:
        """The batch on a device; copies to a GPU from pinned memory without waiting.

        One move after the other, as a move that changes the type as well would do that on the host, and wait.
        """
        return self._each(lambda tensor: tensor.to(device, non_blocking=True).to(dtype))

    def pinned(self) -> Batch:
        """The batch in pinned memory."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        tensors = (self.volumes, self.images, self.masks, self.rotations, self.classes)
        volumes, images, masks, rotations, classes = (None if each is None else change(each) for each in tensors)
        return Batch(volumes, images, masks, rotations, self.ids, classes)


@dataclass(frozen=True)
class ShapeSource:
    """Draws shapes for the steps of a stage.

    Attributes:
        dataset: the prepared shapes.
        stage: whose steps they are.
        seed: of the run.
        mirror: mirror every second shape; for classes that look alike in the mirror.
    """

    dataset: ShapeDataset
    stage: str
    seed: int
    mirror: bool = False

    def load(self, step: int, count: int, rows: Sequence[int] | None = None) -> Batch:
        """`count` shapes for a step, or those of them in these rows."""
        positions = epoch_positions(step, count, len(self.dataset), seed=self.seed, purpose=f"{self.stage} shapes")
        rows = range(count) if rows is None else rows
        positions = [positions[row] for row in rows]
        volumes = [self.dataset.compact(position) for position in positions]
        if self.mirror:
            mirrored = numpy_generator(self.seed, self.stage, "shapes mirrored", step).random(count) < 0.5
            volumes = [each.flip(1) if mirrored[row] else each for row, each in zip(rows, volumes, strict=True)]
        return Batch(
            volumes=torch.stack(volumes),
            ids=tuple(self.dataset.ids[position] for position in positions),
        )


@dataclass(frozen=True)
class PhotoSource:
    """Draws photos with their viewpoints for the steps of a stage."""

    dataset: ImageDataset
    viewpoints: ViewpointSampler
    data: DataConfig
    mirror_symmetry: bool
    stage: str
    seed: int

    def load(self, step: int, count: int, rows: Sequence[int] | None = None) -> Batch:
        """`count` photos for a step, varied, each with its own viewpoint or one drawn from the class's.

        Args:
            step: the step.
            count: items of the step.
            rows: only these of them, the same as among all.
        """
        positions = epoch_positions(step, count, len(self.dataset), seed=self.seed, purpose=f"{self.stage} photos")
        rows = range(count) if rows is None else rows
        positions = [positions[row] for row in rows]
        # A generator for each photo, as a process that loads some of them knows nothing of the others.
        rngs = [numpy_generator(self.seed, self.stage, "photos", step, row) for row in rows]
        photos = [
            augment(self.dataset[position], self.data, rng, mirror_symmetry=self.mirror_symmetry)
            for position, rng in zip(positions, rngs, strict=True)
        ]
        drawn = self.viewpoints(count, numpy_generator(self.seed, self.stage, "viewpoints", step))[list(rows)]
        angles = [
            tuple(other) if photo.viewpoint is None else photo.viewpoint
            for photo, other in zip(photos, drawn, strict=True)
        ]
        azimuth, elevation = torch.from_numpy(np.array(angles)).unbind(-1)
        return Batch(
            # As convolutions write images: made ones and photos then take the same path through compiled networks.
            images=torch.stack([photo.image for photo in photos]).contiguous(memory_format=torch.channels_last),
            masks=torch.stack([photo.mask for photo in photos]),
            rotations=viewpoint_rotation(azimuth, elevation).float(),
            ids=tuple(self.dataset.ids[position] for position in positions),
        )


def joined(shapes: Batch, photos: Batch) -> Batch:
    """One batch of shapes and photos."""
    ids = shapes.ids + photos.ids
    return Batch(shapes.volumes, photos.images, photos.masks, photos.rotations, ids, photos.classes)


@dataclass(frozen=True)
class ClassBalancedSource:
    """Deals the rows of all steps to classes in turn, so that a batch has as many of each as can be.

    Row r of step n is of class (n * count + r) modulo the number of classes. Each class passes through its own items
    in an order of its own; sources of shapes and of photos that are asked for as many rows give the same classes.

    Attributes:
        sources: of each class, in the order of the model's classes; their stages must differ by the class.
    """

    sources: tuple[ShapeSource | PhotoSource | ClassBalancedSource, ...]

    def load(self, step: int, count: int, rows: Sequence[int] | None = None) -> Batch:
        """Arguments as of the sources; the batch says the classes."""
        places = [divmod(step * count + row, len(self.sources)) for row in (range(count) if rows is None else rows)]
        items = [self.sources[which].load(turn, 1) for turn, which in places]
        classes = torch.eye(len(self.sources))[[which for _, which in places]]
        return Batch(
            volumes=_stacked([each.volumes for each in items]),
            images=_stacked([each.images for each in items]),
            masks=_stacked([each.masks for each in items]),
            rotations=_stacked([each.rotations for each in items]),
            ids=tuple(id for each in items for id in each.ids),
            classes=classes,
        )


Shapes = ShapeSource | ClassBalancedSource
Photos = PhotoSource | ClassBalancedSource


def _stacked(parts: Sequence[Tensor | None]) -> Tensor | None:
    """Tensors of one row each as one, laid out in memory as they are; None where there are none."""
    there = [each for each in parts if each is not None]
    return torch.cat(there) if there else None


@contextmanager
def loaded_ahead(
    load: Callable[[int], list[Batch]], steps: range, *, workers: int, pin: bool
) -> Iterator[Iterator[list[Batch]]]:
    """Loads the batches of `steps` in threads, in order, a few steps ahead.

    Args:
        load: the batch of a step, in the parts that it is computed in; called from several threads.
        steps: the steps to come.
        workers: threads; 0 loads when the step asks.
        pin: put batches into pinned memory, for a GPU.

    Raises:
        Exception: what `load` raised, when its step is asked for.
    """

    def prepare(step: int) -> list[Batch]:
        return [part.pinned() if pin else part for part in load(step)]

    if workers == 0:
        yield map(prepare, steps)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="batches")
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        yield _in_order(pool, prepare, steps, workers + STEPS_AHEAD)
    finally:
        sys.setswitchinterval(interval)
        pool.shutdown(wait=True, cancel_futures=True)


def _in_order(
    pool: ThreadPoolExecutor, load: Callable[[int], list[Batch]], steps: range, ahead: int
) -> Iterator[list[Batch]]:
    under_way: deque[Future[list[Batch]]] = deque()
    for step in steps:
        under_way.append(pool.submit(load, step))
        if len(under_way) > ahead:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()
