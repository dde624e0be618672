import numpy as np
import pytest
import torch
from PIL import Image

from vonmodel.data.datasets import viewpoint_sampler
from vonmodel.evaluation.samples import GeneratedImages, RealImages, batches
from vonmodel.model import build_model


def pixels(images, batch_size):
    return torch.cat(list(batches(images, batch_size)))


@pytest.fixture(scope="module")
def generated(tiny_data, tiny_config):
    model = build_model(tiny_config.model, 0).eval()
    return GeneratedImages(model, viewpoint_sampler(tiny_data, "chair"), 7, seed=5)


def test_real_images_are_the_prepared_files(tiny_data):
    real = RealImages(tiny_data, "chair", size=32)
    parts = list(batches(real, 10))
    assert [len(part) for part in parts] == [10, 10, 4]
    assert len(real) == 24
    for id, image in zip(real.ids, torch.cat(parts), strict=True):
        file = np.asarray(Image.open(tiny_data / "chair" / "images" / f"{id}.png").convert("RGB"))
        assert np.array_equal(image.numpy().transpose(1, 2, 0), file)


def test_fewer_real_images_are_part_of_more(tiny_data):
    every = RealImages(tiny_data, "chair", size=32)
    some = RealImages(tiny_data, "chair", size=32, maximum=9)
    assert some.ids == every.ids[:9]
    assert sorted(every.ids) != list(every.ids)
    assert some.sha256 != every.sha256


def test_the_dataset_hash_follows_the_content(tiny_data, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(tiny_data, copy)
    before = RealImages(tiny_data, "chair", size=32).sha256
    assert RealImages(copy, "chair", size=32).sha256 == before
    file = copy / "chair" / "images" / "photo3.png"
    Image.open(file).rotate(90).save(file)
    assert RealImages(copy, "chair", size=32).sha256 != before


def test_generated_images_do_not_depend_on_the_batch(generated):
    whole = pixels(generated, 7)
    assert whole.shape == (7, 3, 32, 32)
    assert whole.dtype == torch.uint8
    for batch_size in (1, 3):
        difference = (pixels(generated, batch_size).int() - whole.int()).abs()
        assert difference.max() <= 1


def test_generated_images_differ_and_depend_only_on_the_seed(generated):
    first = pixels(generated, 4)
    assert torch.equal(pixels(generated, 4), first)
    assert not torch.equal(first[0], first[1])
    other = GeneratedImages(generated.model, generated.sampler, 7, seed=6)
    assert not torch.equal(pixels(other, 4), first)


def test_more_generated_images_begin_with_the_fewer(generated):
    few = GeneratedImages(generated.model, generated.sampler, 3, seed=5)
    assert (pixels(few, 8).int() - pixels(generated, 8)[:3].int()).abs().max() <= 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_generated_images_on_a_gpu_equal_those_on_the_cpu(generated):
    import copy

    twin = GeneratedImages(copy.deepcopy(generated.model).cuda(), generated.sampler, 7, seed=5)
    difference = (pixels(twin, 7).int() - pixels(generated, 7).int()).abs().float()
    assert difference.mean() < 0.5
