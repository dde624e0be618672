"""The texture field: colours belong to points of the object, whatever the size of the image or its other pixels."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from vonmodel.model import initialise_kaiming
from vonmodel.networks import CodeRegressor, TextureField

CODE = 3


@pytest.fixture
def field() -> TextureField:
    return built(TextureField(64, CODE, 4))


def built(field: TextureField) -> TextureField:
    initialise_kaiming(field, torch.Generator().manual_seed(0))
    nn.init.normal_(field.detail.weight, std=0.1, generator=torch.Generator().manual_seed(2))
    return field.eval()


def surfaces(size: int, count: int = 3) -> Tensor:
    """Maps of smooth surfaces, each on its own rectangle of the image."""
    generator = torch.Generator().manual_seed(1)
    maps = functional.interpolate(2.0 * torch.rand(count, 8, 4, 4, generator=generator) - 1.0, size, mode="bilinear")
    for index in range(count):
        silhouette = torch.full((size, size), -1.0)
        silhouette[size // 4 * (index % 2) : size // 2 + index, : size // (index + 1)] = 1.0
        maps[index, 0] = silhouette
    return maps


def codes(count: int) -> Tensor:
    return torch.randn(count, CODE, generator=torch.Generator().manual_seed(3))


def test_one_surface_in_many_textures_is_as_painted_one_by_one(field: TextureField) -> None:
    maps, textures = surfaces(64), codes(3)
    together = field(maps, textures)
    for index in range(3):
        alone = field(maps[index : index + 1], textures)
        torch.testing.assert_close(alone[index], together[index], atol=1e-5, rtol=0)
        assert (alone[0] - alone[1]).abs().max() > 1e-2


def test_pixels_without_the_object_are_white(field: TextureField) -> None:
    maps = surfaces(64)
    image = field(maps, codes(3))
    outside = (maps[:, :1] == -1.0).expand(-1, 3, -1, -1)
    assert outside.any(dim=(1, 2, 3)).all()
    assert (image[outside] == 1.0).all()
    assert (field(torch.full((2, 8, 64, 64), -1.0), codes(2)) == 1.0).all()


def test_a_larger_image_shows_the_same_colours(field: TextureField) -> None:
    """Four times the pixels, each of the same points: what is painted is the small image, pixel by pixel."""
    maps, textures = surfaces(64), codes(3)
    large = functional.interpolate(maps, scale_factor=2.0, mode="nearest")
    inner = functional.avg_pool2d(field(large, textures), 2) - field(maps, textures)
    assert inner.abs().mean() < 0.02  # features of the surroundings are enlarged once more


def test_every_region_has_the_colour_of_the_palette(field: TextureField) -> None:
    """Without detail and shade, a surface that lies in one region alone is of one colour."""
    with torch.no_grad():
        field.detail.weight.zero_()
        for layer in (field.shade[2], field.regions[2]):
            layer.weight.zero_()
        field.regions[2].bias[5] = 50.0
        field.palette.weight.zero_()
        field.palette.bias.reshape(-1, 3)[5] = torch.tensor([0.25, -0.5, 0.75])
    maps = surfaces(64)
    image = field(maps, codes(3)).permute(0, 2, 3, 1)[maps[:, 0] > -1.0]
    torch.testing.assert_close(image, torch.tensor([0.25, -0.5, 0.75]).expand_as(image))


def test_colours_keep_their_range_in_use_and_their_gradient_in_training(field: TextureField) -> None:
    with torch.no_grad():
        field.palette.bias.fill_(5.0)
    bright = field.train()(surfaces(64), codes(3))
    assert bright.amax().item() > 1.0
    bright.sum().backward()
    assert field.palette.bias.grad is not None
    assert field.palette.bias.grad.abs().sum() > 0
    assert field.eval()(surfaces(64), codes(3)).amax().item() == 1.0


def test_the_encoder_sees_the_colours_of_regions() -> None:
    """Two images of equal mean colour, halves exchanged, differ in their palettes and so in their codes."""
    encoder = CodeRegressor(64, CODE, 4, regions=4)
    initialise_kaiming(encoder, torch.Generator().manual_seed(0))
    image = torch.ones(1, 3, 64, 64)
    image[:, 0, :32], image[:, 0, 32:] = -1.0, 0.5
    with torch.no_grad():
        encoder.mean.weight[:, : encoder.body.out_channels].zero_()  # all but the palette
        codes = [encoder(each)[0] for each in (image, image.flip(2))]
    assert (codes[0] - codes[1]).abs().max() > 1e-4
