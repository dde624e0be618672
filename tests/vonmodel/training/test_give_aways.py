"""Real and generated input of the critics before training: no single statistic may distinguish them.

A critic uses the easiest difference. If the frame, the border or the sharpness of silhouettes differs, it ignores
everything else, and the texture generator, which can change none of these, learns nothing.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vondata import prepare_images, prepare_shapes
from vondata.demo.write import DemoSettings, write_demo
from vondata.images.settings import ImageSettings
from vondata.shapes.prepare import ShapeSettings
from vonmodel.config import TrainConfig, update
from vonmodel.data.datasets import ImageDataset, ShapeDataset, viewpoint_sampler
from vonmodel.data.loader import augment
from vonmodel.geometry import viewpoint_rotation
from vonmodel.model import VonModel
from vonmodel.presets import PRESETS
from vonmodel.seeding import numpy_generator

pytestmark = pytest.mark.slow

SIZE = 64
# Area under the ROC curve of a statistic as a test of real against generated: 0.5 is uninformative, 0 and 1 are
# perfect. With 30 of each its standard deviation by chance is 0.075.
COLOUR_CONTRAST = 0.35


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight procedural chairs, and photos of them in rooms and on white: they differ only by preparation."""
    folder = tmp_path_factory.mktemp("both")
    write_demo(folder / "demo", DemoSettings(chairs=8, cars=0, photos_per_object=4, seed=3))
    settings = ShapeSettings(resolution=64)
    prepare_shapes(folder / "demo" / "ShapeNetCore.v2", folder / "data", class_names=["chair"], settings=settings)
    prepare_images(
        folder / "data",
        pix3d=folder / "demo" / "pix3d",
        photos=folder / "demo" / "photos",
        class_names=["chair"],
        settings=ImageSettings(size=SIZE),
        match_viewpoints=False,
    )
    return folder / "data"


def border(mask: Tensor) -> Tensor:
    """The largest value on the border of each mask."""
    edges = [mask[..., 0, :], mask[..., -1, :], mask[..., 0], mask[..., -1]]
    return torch.stack([edge.flatten(1).amax(1) for edge in edges]).amax(0)


def margin(mask: Tensor) -> Tensor:
    """The longer side of the box of what is more than half covered, in pixels."""
    rows, columns = ((mask[:, 0] > 0.5).any(axis).sum(1) for axis in (2, 1))
    return torch.maximum(rows, columns).float()


def coverage(mask: Tensor) -> Tensor:
    """Share of the frame that is covered."""
    return mask.mean((1, 2, 3))


def grey(mask: Tensor) -> Tensor:
    """Of the pixels that are covered at all, the share of those that are covered in part."""
    return ((mask > 0.05) & (mask < 0.95)).sum((1, 2, 3)) / (mask > 0.05).sum((1, 2, 3))


def sharpness(mask: Tensor) -> Tensor:
    """Mean step between neighbouring pixels, weighted by the step."""
    steps = mask.diff(dim=-1).abs()
    return steps.square().sum((1, 2, 3)) / steps.sum((1, 2, 3))


def roc(first: Tensor, second: Tensor) -> float:
    """How often the first set's value is the larger one; ties count half."""
    larger, same = first[:, None] > second, first[:, None] == second
    return (larger.float() + 0.5 * same.float()).mean().item()


def both_masks(config: TrainConfig, data: Path) -> tuple[Tensor, Tensor]:
    """Masks of photos, varied as in training, and as many silhouettes of prepared shapes, from such viewpoints."""
    smaller = {
        "model": {"image_size": SIZE, "resolution": min(64, config.model.resolution)},
        "data": {"shift_px": config.data.shift_px * SIZE // config.model.image_size},
    }
    config = update(config, smaller, "test")
    photos = ImageDataset(data, "chair", size=SIZE, split=None)
    shapes = ShapeDataset(
        data,
        "chair",
        resolution=config.model.resolution,
        representation=config.model.representation,
        band=config.model.band,
        split=None,
    )
    rng = numpy_generator(0, "give-aways")
    real = [augment(photos[i], config.data, rng, mirror_symmetry=True).mask for i in range(len(photos))]
    drawn = viewpoint_sampler(data, "chair")(len(real), rng)
    with torch.device("meta"):
        model = VonModel(config.model)
    silhouettes = []
    for index in range(len(real)):
        azimuth, elevation = torch.from_numpy(drawn[index : index + 1]).float().unbind(-1)
        volume = shapes[index % len(shapes)][None]
        silhouettes.append(model.sketch(volume, viewpoint_rotation(azimuth, elevation)).silhouette)
    return torch.stack(real), torch.cat(silhouettes)


@pytest.mark.parametrize("name", ["modern", "demo"])
def test_no_statistic_of_silhouettes_tells_generated_from_real(name: str, data: Path) -> None:
    real, generated = both_masks(PRESETS[name], data)  # type: ignore[index]
    statistics: tuple[Callable[[Tensor], Tensor], ...] = (border, margin, coverage, grey, sharpness)
    telling = {each.__name__: roc(each(real), each(generated)) for each in statistics}
    assert {each: value for each, value in telling.items() if abs(value - 0.5) > COLOUR_CONTRAST} == {}


@pytest.mark.parametrize("name", PRESETS)
def test_no_silhouette_touches_the_border_more_than_photos_do(name: str, data: Path) -> None:
    real, generated = both_masks(PRESETS[name], data)  # type: ignore[index]
    assert abs(roc(border(real), border(generated)) - 0.5) <= COLOUR_CONTRAST
    assert border(generated).amax().item() < 0.5


@pytest.mark.parametrize("name", ["modern", "demo"])
def test_the_background_is_the_same_white_on_both_sides(name: str, data: Path) -> None:
    """Where a mask is 0 the image is 1, in photos and in generated images, whatever the generator's output."""
    photos = ImageDataset(data, "chair", size=SIZE, split=None)
    for index in range(len(photos)):
        photo = photos[index]
        assert (photo.image[:, photo.mask[0] == 0] == 1.0).all()
    config = update(PRESETS[name], {"model": {"image_size": SIZE}}, "test").model  # type: ignore[index]
    model = VonModel(config)
    shapes = ShapeDataset(
        data,
        "chair",
        resolution=config.resolution,
        representation=config.representation,
        band=config.band,
        split=None,
    )
    with torch.no_grad():
        sketch = model.sketch(shapes[0][None], viewpoint_rotation(torch.tensor([0.4]), torch.tensor([0.3])))
        image = model.paint(sketch, torch.zeros(1, config.texture_code_size))
    assert (image[0][:, sketch.silhouette[0, 0] == 0] == 1.0).all()


def test_only_what_both_sides_have_is_varied_before_a_critic_sees_it() -> None:
    """The published preset augments hue and position of photos only; its critics see no other augmentation."""
    for name, config in PRESETS.items():
        alone = config.data.hue_jitter > 0.0 or config.data.shift_px > 0
        assert alone == (config.texture.objective == "least-squares"), name


def test_the_measure_finds_a_give_away(data: Path) -> None:
    """Frames without a margin, as small sketches once had, are detected."""
    real, generated = both_masks(PRESETS["modern"], data)
    tight = torch.nn.functional.interpolate(generated[..., 3:-3, 3:-3], size=(SIZE, SIZE), mode="bilinear")
    assert roc(border(real), border(tight)) < 0.15
    fat = torch.nn.functional.max_pool2d(generated, 3, stride=1, padding=1)
    assert roc(coverage(real), coverage(fat)) < roc(coverage(real), coverage(generated))
    assert np.isclose(roc(real.flatten()[:100], real.flatten()[:100]), 0.5)
