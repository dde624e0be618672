"""Networks without normalisation: sizes, gradients, samples that do not see each other, and what the critic sees."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vonmodel.model import initialise_kaiming
from vonmodel.networks import CodeRegressor, DepthUNet, GeometryPainter, ResidualCritic, TextureField
from vonmodel.networks.blocks import PlainResidual, UnsupportedSizeError, level_widths, twice_as_large

Build = Callable[[int], nn.Module]
BUILD: dict[str, Build] = {
    "painter": lambda size: GeometryPainter(size, 3, 4),
    "field": lambda size: TextureField(size, 3, 4),
    "critic": lambda size: ResidualCritic(4, size, 4),
    "code": lambda size: CodeRegressor(size, 3, 4),
    "palette": lambda size: CodeRegressor(size, 3, 4, regions=5),
    "depth": lambda size: DepthUNet(size, 4),
}


def inputs_of(name: str, size: int, count: int = 2) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    channels = {"painter": 8, "field": 8, "critic": 4}.get(name, 3)
    image = torch.randn(count, channels, size, size, generator=generator)
    return (image, torch.randn(count, 3, generator=generator)) if name in ("painter", "field") else (image,)


def first_output(network: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    result = network(*inputs)
    return result[0] if isinstance(result, tuple) else result


@pytest.fixture(params=BUILD)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def built(name: str, size: int = 32) -> nn.Module:
    network = BUILD[name](size)
    initialise_kaiming(network, torch.Generator().manual_seed(0))
    if isinstance(network, TextureField):  # its detail begins at zero
        nn.init.normal_(network.detail.weight, std=0.1, generator=torch.Generator().manual_seed(2))
    return network


@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_outputs_have_the_size_of_the_image(name: str, size: int) -> None:
    device = torch.device("cpu" if name == "field" else "meta")  # it counts the object's pixels
    with device:
        output = first_output(BUILD[name](size), tuple(each.to(device) for each in inputs_of(name, size)))
    expected = {"critic": (2,), "code": (2, 3), "palette": (2, 3), "depth": (2, 1, size, size)}
    assert tuple(output.shape) == expected.get(name, (2, 3, size, size))


def test_maps_read_off_an_image_are_ones_that_a_painter_sees() -> None:
    network = DepthUNet(32, 4, surface=True)
    initialise_kaiming(network, torch.Generator().manual_seed(0))
    (image,) = inputs_of("depth", 32)
    mask = torch.zeros(2, 1, 32, 32)
    mask[:, :, 8:24, 4:20] = 1.0
    maps = network.maps(image, mask)
    assert maps.shape == (2, 8, 32, 32)
    inside, outside = maps[:, :, 8:24, 4:20], maps[:, :, :8]
    assert inside.abs().max() <= 1
    torch.testing.assert_close(inside[:, 2:5].norm(dim=1), torch.ones(2, 16, 16))
    torch.testing.assert_close(inside[:, 1:2], network(image)[:, :, 8:24, 4:20])
    assert (outside[:, :2] == -1).all()
    assert (outside[:, 2:] == 0).all()
    with pytest.raises(ValueError, match="depth only"):
        DepthUNet(32, 4).maps(image, mask)


def test_other_sizes_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedSizeError):
        BUILD[name](48)


def test_every_weight_gets_a_gradient(name: str) -> None:
    network = built(name)
    first_output(network, inputs_of(name, 32)).square().sum().backward()
    for key, weight in network.named_parameters():
        assert weight.grad is not None, key
        assert weight.grad.isfinite().all(), key
        assert weight.grad.abs().sum() > 0, key


def test_samples_of_a_batch_do_not_see_each_other(name: str) -> None:
    network, inputs = built(name), inputs_of(name, 32, 3)
    together = first_output(network, inputs)
    alone = torch.cat([first_output(network, tuple(each[i : i + 1] for each in inputs)) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_the_critic_sees_colour_and_contrast() -> None:
    """What instance norm hides: the same image brighter, or with less contrast, has another score."""
    critic = built("critic")
    (image,) = inputs_of("critic", 32, 1)
    scores = critic(torch.cat([image, image + 0.5, 0.5 * image]))
    assert scores.unique().numel() == 3


def test_it_can_be_differentiated_twice() -> None:
    critic = built("critic").double()
    images = inputs_of("critic", 32)[0].double().requires_grad_()
    (slopes,) = torch.autograd.grad(critic(images).sum(), images, create_graph=True)
    slopes.square().sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in critic.body.parameters())


def test_the_code_reaches_every_pixel_of_the_painting() -> None:
    painter, (geometry, code) = built("painter"), inputs_of("painter", 32, 1)
    change = (painter(geometry, code) - painter(geometry, code + 1.0)).abs()
    assert (change.amax(1) > 0).all()


def test_the_painting_is_fine_at_full_size() -> None:
    """A difference in a single pixel of the geometry shows in that pixel more than around it."""
    painter, (geometry, code) = built("painter"), inputs_of("painter", 32, 1)
    changed = geometry.clone()
    changed[..., 11, 20] += 1.0
    change = (painter(geometry, code) - painter(changed, code)).abs().sum((0, 1))
    assert int(change.argmax()) in {row * 32 + column for row in (10, 11, 12) for column in (19, 20, 21)}


def test_colours_keep_their_range_in_use_and_their_gradient_in_training() -> None:
    painter, (geometry, code) = built("painter"), inputs_of("painter", 32)
    with torch.no_grad():
        painter.body.head.bias.fill_(5.0)
    painter.train()
    bright = painter(geometry, code)
    assert bright.amax().item() > 1.0
    bright.sum().backward()
    assert painter.body.head.weight.grad is not None
    assert painter.body.head.weight.grad.abs().sum() > 0
    assert painter.eval()(geometry, code).amax().item() == 1.0


def test_a_block_begins_near_the_identity() -> None:
    block = PlainResidual(8, 8)
    initialise_kaiming(block, torch.Generator().manual_seed(0))
    features = torch.randn(4, 8, 16, 16, generator=torch.Generator().manual_seed(1))
    change = block(features) - features
    assert change.std().item() < 0.5 * features.std().item()


def test_levels_halve_down_to_four_pixels() -> None:
    assert level_widths(64, 8) == [8, 8, 16, 32]
    assert level_widths(128, 8) == [8, 8, 16, 32, 32]


def test_enlarging_has_no_pattern_of_its_own() -> None:
    """A constant stays constant, and a ramp rises everywhere inside: no checkerboard."""
    constant = torch.full((1, 2, 4, 4), 0.3)
    torch.testing.assert_close(twice_as_large(constant), torch.full((1, 2, 8, 8), 0.3))
    ramp = torch.arange(6.0).expand(1, 1, 6, 6)
    steps = twice_as_large(ramp).diff(dim=-1)[..., 1:-1]
    assert (steps > 0.3).all()
    assert (steps < 0.7).all()


def test_an_even_surface_is_painted_without_a_checkerboard() -> None:
    """Where what the painter sees is constant, neighbouring pixels have one colour, but near the border."""
    painter = built("painter", 64)
    middle = painter(torch.full((1, 8, 64, 64), 0.2), torch.zeros(1, 3))[..., 24:40, 24:40]
    for axis in (-2, -1):
        assert middle.diff(dim=axis).abs().mean().item() < 0.006
