"""Batches of training steps: augmentation of photos, sampling of items and viewpoints, loading ahead in threads."""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Num
from torch import Tensor

from vonmodel.config import DataConfig
from vonmodel.data.datasets import ImageDataset, Photo, ShapeDataset, ViewpointSampler
from vonmodel.geometry import viewpoint_rotation
from vonmodel.seeding import epoch_positions, numpy_generator


def augment(photo: Photo, data: DataConfig, rng: np.random.Generator, *, mirror_symmetry: bool) -> Photo:
    """Augments a photo by hue, shift and mirror; the random numbers do not depend on the photo.

    Args:
        photo: the photo.
        data: strength of the augmentation.
        rng: source of randomness.
        mirror_symmetry: whether the class has mirror symmetry. Only then does a mirrored photo show an object of the
            class, seen from the negated azimuth; photos of other classes are never mirrored.
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
    """Rotates every colour around the grey axis and clips it to the colour cube.

    Args:
        image: colours in [-1, 1].
        turn: fraction of the whole circle.

    Returns:
        The rotated colours; greys, white and black do not change.
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
    """Shifts an image by whole pixels; the uncovered border is `fill`."""
    _, height, width = image.shape
    moved = torch.full_like(image, fill)
    moved[:, max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = image[
        :, max(0, -down) : height + min(0, -down), max(0, -right) : width + min(0, -right)
    ]
    return moved


# Steps loaded ahead, beyond one for each worker.
STEPS_AHEAD = 2
# The training thread takes the GIL back from decoding threads at every operation; Python's 5 ms would stall it.
SWITCH_INTERVAL_S = 1e-4


@dataclass(frozen=True)
class Batch:
    """The data of one step.

    Attributes:
        volumes: shapes in the model's representation, [0, 1]; in the small type of `ShapeDataset.compact` until `to`.
        images: photos in [-1, 1] on white.
        masks: their masks in [0, 1].
        rotations: the viewpoint of each photo, known or sampled, as rotation from the camera's to the object's frame.
        ids: ids of shapes and photos, named in errors.
        classes: class weights of every row, for a model of several classes.
    """

    volumes: Num[Tensor, "m 1 r r r"] | None = None
    images: Float[Tensor, "n 3 size size"] | None = None
    masks: Float[Tensor, "n 1 size size"] | None = None
    rotations: Float[Tensor, "n 3 3"] | None = None
    ids: tuple[str, ...] = ()
    classes: Float[Tensor, "_ c"] | None = None

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Batch:
        """The batch on a device; copies from pinned memory to a GPU are asynchronous.

        Copy and type conversion are separate: together, the conversion would run on the host and block.
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
    """Samples shapes for the steps of a stage.

    Attributes:
        dataset: the prepared shapes.
        stage: name of the stage.
        seed: of the run.
        mirror: mirror every second shape; for classes with mirror symmetry.
    """

    dataset: ShapeDataset
    stage: str
    seed: int
    mirror: bool = False

    def load(self, step: int, count: int, rows: Sequence[int] | None = None) -> Batch:
        """`count` shapes for a step, or only these rows of them."""
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
    """Samples photos with their viewpoints for the steps of a stage."""

    dataset: ImageDataset
    viewpoints: ViewpointSampler
    data: DataConfig
    mirror_symmetry: bool
    stage: str
    seed: int

    def load(self, step: int, count: int, rows: Sequence[int] | None = None) -> Batch:
        """`count` augmented photos for a step, each with its own viewpoint or a sampled one.

        Args:
            step: the step.
            count: items of the step.
            rows: load only these rows; each is the same as when all are loaded.
        """
        positions = epoch_positions(step, count, len(self.dataset), seed=self.seed, purpose=f"{self.stage} photos")
        rows = range(count) if rows is None else rows
        positions = [positions[row] for row in rows]
        # A generator for each photo, so that a process that loads some rows gets the same photos.
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
            # Channels last like generated images, so that both take the same path through compiled networks.
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
    """Assigns the rows of all steps to classes round-robin, so that batches are balanced.

    Row r of step n is of class (n * count + r) modulo the number of classes. Each class passes through its own items
    in its own order; sources of shapes and of photos give the same classes for the same number of rows.

    Attributes:
        sources: of each class, in the order of the model's classes; their stages must differ by the class.
    """

    sources: tuple[ShapeSource | PhotoSource | ClassBalancedSource, ...]

    def load(self, step: int, count: int, rows: Sequence[int] | None = None) -> Batch:
        """Arguments as of the sources; the batch has the classes."""
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
    """Concatenates tensors of one row each, keeping their memory format; None if there are none."""
    there = [each for each in parts if each is not None]
    return torch.cat(there) if there else None


@contextmanager
def loaded_ahead(
    load: Callable[[int], list[Batch]], steps: range, *, workers: int, pin: bool
) -> Iterator[Iterator[list[Batch]]]:
    """Loads the batches of `steps` in threads, in order, a few steps ahead.

    Args:
        load: the batch of a step, split into micro-batches; called from several threads.
        steps: the steps to load.
        workers: threads; 0 loads each step when it is requested.
        pin: put batches into pinned memory, for a GPU.

    Raises:
        Exception: what `load` raised, when its step is requested.
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
