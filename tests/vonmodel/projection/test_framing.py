"""Framing against a plain implementation, image by image, and on empty silhouettes."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from vonmodel.projection import Sketch, frame_sketch, reduce_sketch


def _sketch(n: int, size: int, seed: int) -> Sketch:
    """Blobs of a random silhouette, smooth enough to have some components of some size."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(n, 1, size, size, generator=generator, dtype=torch.float64)
    silhouette = functional.avg_pool2d(noise, 3, stride=1, padding=1, count_include_pad=False)
    silhouette = (silhouette - silhouette.amin()) / (silhouette.amax() - silhouette.amin())
    depth = 1.0 + 2.0 * torch.rand(n, 1, size, size, generator=generator, dtype=torch.float64)
    return Sketch(silhouette.sqrt(), depth)


def _frame_one(silhouette: torch.Tensor, depth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The steps of the conventions with cropping, padding and resizing, for one image (R, R)."""
    size = len(silhouette)
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(
        (silhouette.numpy() >= 0.8).astype(np.uint8), connectivity=4
    )
    kept = 1 + int(statistics[1:, cv2.CC_STAT_AREA].argmax())
    component = torch.from_numpy(labels == kept)
    left, top, width, height, _ = (int(value) for value in statistics[kept])
    side = max(height, width)
    across, down, margin = (side - width) // 2, (side - height) // 2, max(1, int(0.03 * side))
    framed = []
    for image, outside in ((silhouette, 0.0), (depth, 3.0)):
        cut = image.where(component, torch.full_like(image, outside))[top : top + height, left : left + width]
        square = functional.pad(cut, (across, across, down, down), value=outside)
        wide = functional.pad(square, (margin,) * 4, value=outside)
        resized = functional.interpolate(wide[None, None], (size, size), mode="bilinear", align_corners=True)
        framed.append(resized[0, 0])
    return framed[0], framed[1]


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(4, 80))
def test_equals_the_plain_steps(seed: int, size: int) -> None:
    sketch = _sketch(2, size, seed)
    framed = frame_sketch(sketch, depth_range="item")
    for i in range(2):
        if not (sketch.silhouette[i] >= 0.8).any():
            continue
        silhouette, depth = _frame_one(sketch.silhouette[i, 0], sketch.depth[i, 0])
        torch.testing.assert_close(framed.silhouette[i, 0], silhouette, atol=1e-9, rtol=0)
        torch.testing.assert_close(framed.depth[i, 0], depth, atol=1e-9, rtol=0)


def test_an_object_in_the_corner_gets_its_margin_from_outside_the_image() -> None:
    sketch = Sketch(torch.zeros(1, 1, 64, 64), torch.full((1, 1, 64, 64), 3.0))
    sketch.silhouette[..., :40, 24:] = 1.0
    sketch.depth[..., :40, 24:] = 2.0
    framed = frame_sketch(sketch, depth_range="item")
    # 40 pixels and a margin of 1 on both sides fill 64.
    assert framed.silhouette[0, 0, 0].sum() == 0
    assert framed.silhouette[0, 0, :, -1].sum() == 0
    assert framed.silhouette[0, 0, 2:-2, 2:-2].min() == 1
    assert framed.depth[0, 0, 32, 32] == 2.0
    assert framed.normalized_depth[0, 0, 32, 32] == 1.0
    assert framed.normalized_depth[0, 0, 0, 0] == -1.0


def test_specks_and_holes_of_the_silhouette_are_background() -> None:
    sketch = Sketch(torch.zeros(1, 1, 16, 16), torch.full((1, 1, 16, 16), 1.5))
    sketch.silhouette[..., 4:12, 4:12] = 0.95
    sketch.silhouette[..., 7:9, 7:9] = 0.79
    sketch.silhouette[..., 0, 0] = 1.0
    framed = frame_sketch(sketch, depth_range="item")
    assert framed.silhouette[0, 0, 8, 8] == 0.0
    assert framed.depth[0, 0, 8, 8] == 3.0
    assert framed.silhouette.max() == pytest.approx(0.95)


@pytest.mark.parametrize("depth_range", ["item", "batch"])
def test_an_empty_silhouette_is_an_empty_frame(depth_range) -> None:
    full, empty = torch.ones(1, 1, 8, 8), torch.full((1, 1, 8, 8), 0.79)
    silhouette = torch.cat([full, empty]).requires_grad_()
    depth = torch.full((2, 1, 8, 8), 1.5, requires_grad=True)
    framed = frame_sketch(Sketch(silhouette, depth), depth_range=depth_range)
    assert (framed.silhouette[1] == 0).all()
    assert (framed.depth[1] == 3).all()
    assert (framed.normalized_depth[1] == -1).all()
    sum(output.sum() for output in framed).backward()
    for leaf in (silhouette, depth):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        assert (leaf.grad[1] == 0).all()


@pytest.mark.parametrize("depth_range", ["item", "batch"])
def test_a_batch_of_empty_silhouettes_is_background(depth_range) -> None:
    framed = frame_sketch(Sketch(torch.zeros(2, 1, 8, 8), torch.full((2, 1, 8, 8), 3.0)), depth_range=depth_range)
    assert (framed.normalized_depth == -1).all()


@pytest.mark.parametrize("depth_range", ["item", "batch"])
def test_no_items_give_no_frames(depth_range) -> None:
    nothing = torch.zeros(0, 1, 8, 8)
    assert all(
        output.shape == (0, 1, 8, 8) for output in frame_sketch(Sketch(nothing, nothing), depth_range=depth_range)
    )


def test_a_single_pixel_stands_in_the_middle_of_a_margin_of_one() -> None:
    sketch = Sketch(torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), 3.0))
    sketch.silhouette[..., 3, 5], sketch.depth[..., 3, 5] = 0.9, 1.25
    framed = frame_sketch(sketch, depth_range="item")
    tent = 1.0 - torch.linspace(-1.0, 1.0, 8).abs()
    there = tent[:, None] * tent
    torch.testing.assert_close(framed.silhouette[0, 0], 0.9 * there)
    torch.testing.assert_close(framed.depth[0, 0], 3.0 - 1.75 * there)


def test_a_frame_of_a_single_pixel_has_no_gradient_whatever_follows_makes_of_it() -> None:
    sketch = Sketch(torch.zeros(2, 1, 8, 8), torch.full((2, 1, 8, 8), 3.0))
    sketch.silhouette[0, :, 3, 5], sketch.depth[0, :, 3, 5] = 0.9, 1.25
    sketch.silhouette[1, :, 3, 4:6], sketch.depth[1, :, 3, 4:6] = 0.9, torch.tensor([1.25, 1.5])
    for each in sketch:
        each.requires_grad_()
    framed = frame_sketch(sketch, depth_range="item")
    upstream = torch.ones(2, 1, 8, 8)
    upstream[0, :, ::2] = torch.inf
    torch.autograd.backward(framed, [upstream] * 3)
    for each in sketch:
        assert each.grad is not None
        assert not each.grad[0].any()
        assert each.grad[1].isfinite().all()
    assert sketch.silhouette.grad is not None
    assert sketch.silhouette.grad[1].any()


def test_ranges_of_items_and_of_the_batch() -> None:
    sketch = _sketch(3, 24, seed=1)
    by_item = frame_sketch(sketch, depth_range="item")
    by_batch = frame_sketch(sketch, depth_range="batch")
    torch.testing.assert_close(by_item.normalized_depth.amax((1, 2, 3)), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(by_item.normalized_depth.amin((1, 2, 3)), -torch.ones(3, dtype=torch.float64))
    nearest, farthest = by_batch.depth.amin(), by_batch.depth.amax()
    torch.testing.assert_close(
        by_batch.normalized_depth, 1.0 - 2.0 * (by_batch.depth - nearest) / (farthest - nearest)
    )
    alone = frame_sketch(Sketch(sketch.silhouette[1:2], sketch.depth[1:2]), depth_range="item")
    torch.testing.assert_close(alone.normalized_depth, by_item.normalized_depth[1:2], atol=0, rtol=0)


@pytest.mark.parametrize("depth_range", ["item", "batch"])
def test_gradients_to_silhouette_and_depth(depth_range) -> None:
    sketch = _sketch(2, 7, seed=2)
    # No value close enough to 0.8 to change sides within a finite difference.
    assert (sketch.silhouette - 0.8).abs().min() > 1e-4
    assert torch.autograd.gradcheck(
        lambda silhouette, depth: frame_sketch(Sketch(silhouette, depth), depth_range=depth_range),
        (sketch.silhouette.requires_grad_(), sketch.depth.requires_grad_()),
    )


@pytest.mark.parametrize("items", [0, 1])
@pytest.mark.parametrize("depth_range", ["item", "batch"])
def test_a_whole_sketch_of_any_number_of_items_under_autocast(items: int, depth_range: str) -> None:
    from vonmodel.geometry import viewpoint_rotation
    from vonmodel.projection import project

    volumes = torch.rand(items, 1, 9, 9, 9, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        seen = project(volumes, viewpoint_rotation(torch.zeros(items), torch.zeros(items)), image_size=14)
        framed = frame_sketch(seen, depth_range=depth_range)
    assert {each.dtype for each in framed} == {torch.float32}
    assert framed.depth.shape == (items, 1, 14, 14)
    framed.normalized_depth.sum().backward()
    assert volumes.grad is not None
    assert bool(volumes.grad.any()) == bool(items)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(4, 80), st.booleans())
def test_nothing_touches_the_border_at_any_size(seed: int, size: int, exact: bool) -> None:
    """A frame has its margin of at least one pixel of the sketch, however small it is."""
    sketch = Sketch((_sketch(3, size, seed).silhouette > 0.7).double(), torch.full((3, 1, size, size), 1.5).double())
    silhouette = frame_sketch(sketch, depth_range="item", exact=exact).silhouette
    if not exact:
        border = torch.cat([silhouette[..., 0, :], silhouette[..., -1, :], silhouette[..., 0], silhouette[..., -1]])
        assert not border.any()
    elif size >= 48:
        assert silhouette[..., 0, :].amax() < 0.2


def test_exact_frames_are_those_of_photos() -> None:
    """A rectangle is framed as `vondata` frames a photo's mask: margins and middle within a hundredth of a pixel."""
    sketch = Sketch(torch.zeros(1, 1, 200, 200), torch.full((1, 1, 200, 200), 3.0))
    sketch.silhouette[..., 30:130, 60:110] = 1.0
    framed = reduce_sketch(frame_sketch(sketch, depth_range="item", exact=True), 50, depth_range="item").silhouette[
        0, 0
    ]
    rows, columns = framed.amax(1), framed.amax(0)
    assert rows.sum().item() == pytest.approx(50 * 100 / 106, abs=0.02)
    assert columns.sum().item() == pytest.approx(50 * 50 / 106, abs=0.02)
    torch.testing.assert_close(framed, framed.flip(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(framed, framed.flip(1), atol=1e-5, rtol=0)


def test_a_reduced_sketch_is_the_mean_of_its_rays() -> None:
    framed = frame_sketch(_sketch(2, 24, 3), depth_range="item")
    small = reduce_sketch(framed, 8, depth_range="item")
    blocks = framed.silhouette.unflatten(-1, (8, 3)).unflatten(-3, (8, 3)).mean((-1, -3))
    torch.testing.assert_close(small.silhouette, blocks)
    assert small.normalized_depth.amax().item() == pytest.approx(1.0)
    assert reduce_sketch(framed, 24, depth_range="item") is framed
