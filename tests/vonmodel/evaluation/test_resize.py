import numpy as np
import pytest
import torch
from PIL import Image

from vonmodel.evaluation.features import resize_antialiased, resize_clean, resize_tensorflow


def tensorflow_pixel(image, row, column, size):
    """One target pixel by the definition of TensorFlow 1's resize_bilinear with align_corners=False."""
    height, width = image.shape
    y, x = row * height / size, column * width / size
    top, left = int(np.floor(y)), int(np.floor(x))
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = image[top, left] * (1 - (x - left)) + image[top, right] * (x - left)
    lower = image[bottom, left] * (1 - (x - left)) + image[bottom, right] * (x - left)
    return upper * (1 - (y - top)) + lower * (y - top)


@pytest.mark.parametrize(("height", "width", "size"), [(5, 7, 13), (64, 32, 21), (9, 9, 9), (1, 2, 4)])
def test_resize_tensorflow_equals_the_definition_pixel_by_pixel(height, width, size):
    image = np.random.default_rng(0).uniform(0, 255, (height, width))
    expected = [[tensorflow_pixel(image, row, column, size) for column in range(size)] for row in range(size)]
    resized = resize_tensorflow(torch.from_numpy(image).float()[None, None], size)
    np.testing.assert_allclose(resized[0, 0].numpy(), expected, atol=2e-3)


def test_resize_tensorflow_samples_without_half_pixel_offset():
    image = torch.tensor([[0.0, 100.0]]).expand(2, 2)[None, None]
    assert resize_tensorflow(image, 4)[0, 0, 0].tolist() == [0.0, 50.0, 100.0, 100.0]


def test_resize_antialiased_averages_what_it_drops():
    checkers = (torch.arange(16)[:, None] + torch.arange(16)).remainder(2).float()[None, None]
    inner = resize_antialiased(checkers, 4)[..., 1:-1, 1:-1]
    assert (inner - 0.5).abs().max() < 0.02
    assert torch.equal(resize_antialiased(checkers, 16), checkers)


@pytest.mark.parametrize(("height", "width", "size"), [(64, 48, 21), (40, 40, 99), (17, 31, 30)])
def test_resize_clean_equals_pillows_bicubic_in_float(height, width, size):
    image = 255 * np.random.default_rng(0).integers(0, 2, (height, width)).astype(np.float32)
    expected = np.asarray(Image.fromarray(image, mode="F").resize((size, size), Image.Resampling.BICUBIC))
    resized = resize_clean(torch.from_numpy(image)[None, None], size)[0, 0].numpy()
    np.testing.assert_allclose(resized, expected.clip(0, 255), atol=2e-3)
    same = torch.from_numpy(image)[None, None]
    assert height != width or torch.equal(resize_clean(same, height), same)
