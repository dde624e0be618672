"""Augmentation of the critics' input: closed forms, per item, the same for a part of a batch as for the whole."""

import pytest
import torch
from torch import Tensor

from vonmodel.data.loader import Batch
from vonmodel.distributed import Part
from vonmodel.training.stage import Step
from vonmodel.training.texture_stage import Variation, draw_variation, shift_images, vary_colours, with_mask


def _step(part: Part | None = None) -> Step:
    return Step(3, Batch(), torch.Generator().manual_seed(11), part or Part())


def _images(count: int, size: int = 8) -> Tensor:
    return 2.0 * torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(2)) - 1.0


def _variation(**changes: list[float]) -> Variation:
    plain = {"brightness": [0.0], "saturation": [1.0], "contrast": [1.0], "down": [0.0], "right": [0.0]}
    return Variation(**{name: torch.tensor(value) for name, value in {**plain, **changes}.items()})


def test_nothing_changes_at_strength_zero() -> None:
    images = _images(4)
    variation = draw_variation(_step(), images, colour=0.0, shift=0.0)
    torch.testing.assert_close(vary_colours(images, variation), images)
    assert torch.equal(shift_images(images, variation), images)


def test_colours_follow_their_formulas() -> None:
    image = _images(1)
    grey, mean = image.mean(1, keepdim=True), image.mean()
    torch.testing.assert_close(vary_colours(image, _variation(brightness=[0.25])), image + 0.25)
    torch.testing.assert_close(vary_colours(image, _variation(saturation=[0.0])), grey.expand_as(image))
    torch.testing.assert_close(vary_colours(image, _variation(contrast=[0.5])), mean + 0.5 * (image - mean))


def test_shifts_are_those_of_loops() -> None:
    images = torch.cat([_images(2), torch.rand(2, 1, 8, 8)], dim=1)
    variation = _variation(down=[2.0, -3.0], right=[-1.0, 0.0])
    expected = torch.empty_like(images)
    for item, (down, right) in enumerate(((2, -1), (-3, 0))):
        for row in range(8):
            for column in range(8):
                source = min(max(row - down, 0), 7), min(max(column - right, 0), 7)
                expected[item, :, row, column] = images[item, :, source[0], source[1]]
    assert torch.equal(shift_images(images, variation), expected)


def test_draws_stay_in_range_and_reach_both_ends() -> None:
    images = torch.zeros(4000, 3, 16, 16)
    variation = draw_variation(_step(), images, colour=0.5, shift=0.125)
    for values, middle, reach in (
        (variation.brightness, 0.0, 0.25),
        (variation.saturation, 1.0, 0.5),
        (variation.contrast, 1.0, 0.25),
    ):
        assert (values - middle).abs().max().item() <= reach
        assert (values - middle).amax().item() > 0.95 * reach
        assert (values - middle).amin().item() < -0.95 * reach
    counts = torch.bincount((variation.down + 2).long(), minlength=5)
    assert len(counts) == 5
    assert (counts - 800).abs().max().item() < 5 * 800**0.5


@pytest.mark.parametrize("of", [2, 3])
def test_a_part_is_varied_as_in_the_whole(of: int) -> None:
    images = torch.zeros(6, 3, 16, 16)
    whole = draw_variation(_step(), images, colour=1.0, shift=0.25)
    parts = [draw_variation(_step(Part(i, of)), images[: 6 // of], colour=1.0, shift=0.25) for i in range(of)]
    for one, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(one, torch.cat(pieces))


def test_both_sides_vary_in_the_same_family() -> None:
    """The moments of varied images are the same function of an image's on both sides: equal inputs, equal law."""
    image = _images(1).expand(3000, -1, -1, -1)
    step = _step()
    real, fake = (
        shift_images(vary_colours(image, each), each)
        for each in (draw_variation(step, image, colour=0.5, shift=0.125) for _ in range(2))
    )
    for moment in (lambda x: x.mean((1, 2, 3)), lambda x: x.std((1, 2, 3)), lambda x: x[:, :, 0].mean((1, 2))):
        one, two = moment(real), moment(fake)
        assert abs(one.mean() - two.mean()) < 5 * (one.var() / len(one) + two.var() / len(two)).sqrt()


def test_variation_passes_the_gradient() -> None:
    images = _images(2).double().requires_grad_()
    variation = Variation(*(each.double() for each in draw_variation(_step(), images, colour=0.5, shift=0.25)))
    assert torch.autograd.gradcheck(lambda x: shift_images(vary_colours(x, variation), variation), images)


def test_a_mask_is_scaled_as_the_image_is() -> None:
    both = with_mask(_images(1), torch.tensor([0.0, 1.0]).repeat(32).view(1, 1, 8, 8))
    assert both.shape == (1, 4, 8, 8)
    assert both[:, 3].unique().tolist() == [-1.0, 1.0]
