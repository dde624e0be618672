"""Batches are functions of seed, stage and step; viewpoints belong to their photos; loading ahead keeps the order."""

import dataclasses
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from vonmodel.config import DataConfig, Representation
from vonmodel.data.datasets import ImageDataset, ShapeDataset, viewpoint_sampler
from vonmodel.data.loader import Batch, PhotoSource, ShapeSource, joined, loaded_ahead
from vonmodel.geometry import viewpoint_rotation

STILL = DataConfig(hue_jitter=0.0, shift_px=0, mirror=False)


def photos(data: Path, variation: DataConfig = STILL, *, mirror_symmetry: bool = True, seed: int = 0) -> PhotoSource:
    dataset = ImageDataset(data, "chair", size=32)
    sampler = viewpoint_sampler(data, "chair", source="class")
    return PhotoSource(dataset, sampler, variation, mirror_symmetry, "texture", seed)


def shapes(data: Path) -> ShapeSource:
    return ShapeSource(ShapeDataset(data, "chair", resolution=32, representation="occupancy"), "shape", 0)


def test_a_photo_keeps_its_own_viewpoint(tiny_data: Path) -> None:
    # The published code pairs photos with viewpoints of a shuffled list by index.
    source = photos(tiny_data)
    place, drawn = {id: index for index, id in enumerate(source.dataset.ids)}, 0
    for step in range(4):
        batch = source.load(step, 6)
        assert batch.images is not None
        assert batch.rotations is not None
        for index, id in enumerate(batch.ids):
            photo = source.dataset[place[id]]
            assert torch.equal(batch.images[index], photo.image)
            if photo.viewpoint is None:
                drawn += 1
                continue
            own = viewpoint_rotation(*(torch.tensor([angle]) for angle in photo.viewpoint))
            torch.testing.assert_close(batch.rotations[index], own[0].float())
    assert drawn == 12


def test_photos_without_viewpoint_get_another_one_every_time(tiny_data: Path) -> None:
    source = photos(tiny_data)
    unknown = next(index for index in range(24) if source.dataset[index].viewpoint is None)
    seen = set()
    for step in range(16):
        batch = source.load(step, 6)
        assert batch.rotations is not None
        for id, rotation in zip(batch.ids, batch.rotations, strict=True):
            if id == source.dataset.ids[unknown]:
                seen.add(tuple(rotation.flatten().tolist()))
    assert len(seen) == 4


@pytest.mark.parametrize("mirror_symmetry", [True, False])
def test_mirrored_photos_turn_their_camera_where_the_class_is_symmetric(
    tiny_data: Path, mirror_symmetry: bool
) -> None:
    mirroring = DataConfig(hue_jitter=0.0, shift_px=0, mirror=True)
    plain = photos(tiny_data)
    varied = photos(tiny_data, mirroring, mirror_symmetry=mirror_symmetry)
    mirrored = 0
    for step in range(4):
        one, two = plain.load(step, 6), varied.load(step, 6)
        assert one.images is not None
        assert two.images is not None
        assert one.rotations is not None
        assert two.rotations is not None
        for index, id in enumerate(one.ids):
            if plain.dataset[plain.dataset.ids.index(id)].viewpoint is None:
                continue
            if torch.equal(two.rotations[index], one.rotations[index]):
                assert torch.equal(two.images[index], one.images[index])
                continue
            mirrored += 1
            assert torch.equal(two.images[index], one.images[index].flip(-1))
            # Mirroring x in the object and left-right in the camera: the camera's place has the other x.
            flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
            other = flip @ one.rotations[index] @ torch.diag(torch.tensor([1.0, -1.0, 1.0]))
            torch.testing.assert_close(two.rotations[index], other)
    assert (mirrored > 3) == mirror_symmetry
    assert mirror_symmetry or mirrored == 0


def test_batches_repeat_and_differ_by_step_and_seed(tiny_data: Path) -> None:
    one, two = (photos(tiny_data, DataConfig()).load(5, 7) for _ in range(2))
    assert one.ids == two.ids
    assert one.images is not None
    assert two.images is not None
    assert torch.equal(one.images, two.images)
    assert photos(tiny_data, DataConfig()).load(6, 7).ids != one.ids
    assert photos(tiny_data, DataConfig(), seed=1).load(5, 7).ids != one.ids


def test_shapes_and_photos_joined(tiny_data: Path) -> None:
    some, others = shapes(tiny_data).load(0, 3), photos(tiny_data).load(0, 4)
    batch = joined(some, others)
    assert batch.ids == some.ids + others.ids
    assert batch.volumes is some.volumes
    assert batch.masks is others.masks
    moved = batch.to(torch.device("cpu"))
    assert moved.ids == batch.ids
    assert moved.volumes is not None
    assert moved.volumes.shape == (3, 1, 32, 32, 32)


@pytest.mark.parametrize(
    ("representation", "kept"), [("occupancy", torch.uint8), ("distance", torch.float16), ("signed", torch.float16)]
)
def test_shapes_travel_in_few_bytes(tiny_data: Path, representation: Representation, kept: torch.dtype) -> None:
    source = ShapeSource(ShapeDataset(tiny_data, "chair", resolution=32, representation=representation), "shape", 0)
    batch = source.load(0, 3)
    assert batch.volumes is not None
    assert batch.volumes.dtype == kept
    moved = batch.to(torch.device("cpu")).volumes
    assert moved is not None
    assert moved.dtype == torch.float32
    for id, volume in zip(batch.ids, moved, strict=True):
        assert torch.equal(volume, source.dataset[source.dataset.ids.index(id)])


def test_every_second_shape_is_mirrored_in_any_process(tiny_data: Path) -> None:
    plain = shapes(tiny_data)
    source = dataclasses.replace(plain, mirror=True)
    mirrored = 0
    for step in range(8):
        given, varied = plain.load(step, 4), source.load(step, 4)
        assert given.ids == varied.ids
        assert given.volumes is not None
        assert varied.volumes is not None
        for volume, other in zip(given.volumes, varied.volumes, strict=True):
            turned = torch.equal(other, volume.flip(1))
            assert turned or torch.equal(other, volume)
            mirrored += turned and not torch.equal(volume, volume.flip(1))
        # A process that loads some rows of a batch mirrors the same ones.
        some = source.load(step, 4, [1, 3]).volumes
        assert some is not None
        assert torch.equal(some, varied.volumes[[1, 3]])
    assert 4 <= mirrored <= 28


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_order_and_ahead(workers: int) -> None:
    rng = np.random.default_rng(0)
    delays = rng.uniform(0, 0.004, 40)
    started, threads = [], set()

    def load(step: int) -> list[Batch]:
        started.append(step)
        threads.add(threading.current_thread().name)
        time.sleep(delays[step])
        return [Batch(ids=(str(step),))]

    with loaded_ahead(load, range(3, 40), workers=workers, pin=False) as batches:
        assert next(batches)[0].ids == ("3",)
        assert max(started) <= 3 + workers + 2  # ahead, but not without bound
        assert [int(batch.ids[0]) for (batch,) in batches] == list(range(4, 40))
    assert (threading.current_thread().name in threads) == (workers == 0)


def test_an_error_arrives_with_its_step_and_threads_end() -> None:
    def load(step: int) -> list[Batch]:
        if step == 2:
            raise OSError("photo2.png is damaged")
        return [Batch(ids=(str(step),))]

    before = set(threading.enumerate())
    with loaded_ahead(load, range(1000), workers=2, pin=False) as batches:
        assert next(batches)[0].ids == ("0",)
        assert next(batches)[0].ids == ("1",)
        with pytest.raises(OSError, match="photo2"):
            next(batches)
    assert set(threading.enumerate()) <= before
