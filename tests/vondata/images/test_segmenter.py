"""A user's network segments objects where GrabCut does not; wrong files are reported before a run begins."""

import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from vondata.images.object_mask import find_object
from vondata.images.prepare import prepare_image
from vondata.images.segmenter import NetworkSettings, SegmenterError, load_network_settings, open_segmenter
from vondata.images.settings import ImageSettings
from vondata.pipeline.task import settings_hash
from vondata.types import Rejected

from .onnx_file import colour_network

SIZE = 160
# What is red is object; one works on colours in 0..1.
PLAIN_TOML = f"size_px = {SIZE}\nmean = [0, 0, 0]\nstd = [1, 1, 1]\nstretch = false\n"


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "red.onnx"
    path.write_bytes(colour_network([40.0, -20.0, -20.0], -8.0, SIZE))
    path.with_suffix(".toml").write_text(PLAIN_TOML, "utf-8")
    return path


@pytest.fixture
def clutter(chair):
    """(240, 320, 3) a red chair before a wall of green, blue and grey tiles that no GrabCut can read."""
    rng = np.random.default_rng(3)
    tiles = rng.choice([[30, 160, 60], [40, 70, 200], [120, 120, 120], [230, 230, 230]], size=(12, 16))
    wall = cv2.resize(tiles.astype(np.uint8), (320, 240), interpolation=cv2.INTER_NEAREST)
    coverage = chair[..., None]
    return np.clip(coverage * np.array([200, 30, 40]) + (1 - coverage) * wall + 0.5, 0, 255).astype(np.uint8)


def test_it_finds_what_grabcut_cannot(weights, clutter, chair, iou):
    with pytest.raises(Rejected):
        find_object(clutter, None)
    segmenter = open_segmenter(weights, load_network_settings(weights))
    found = find_object(clutter, None, segmenter=segmenter)
    assert found.origin == "segmenter"
    assert iou(found.mask, chair > 0.5) > 0.8  # the network sees a quarter of the pixels
    assert found.quality.agreement > 0.8


def test_the_map_is_that_of_the_network(weights):
    settings = load_network_settings(weights)
    rgb = np.full((50, 70, 3), (90, 40, 20), dtype=np.uint8)
    share = open_segmenter(weights, settings)(rgb)
    assert share.shape == (50, 70)
    logit = 40 * 90 / 255 - 20 * 60 / 255 - 8
    np.testing.assert_allclose(share, 1 / (1 + np.exp(-logit)), atol=1e-4)


def test_conventions_of_the_file_beside_it(tmp_path):
    path = tmp_path / "logits.onnx"
    path.write_bytes(colour_network([2.0, 0.0, 0.0], 0.0, 32, sigmoid=False))
    path.with_suffix(".toml").write_text('size_px = 32\nactivation = "sigmoid"\nstretch = false\n', "utf-8")
    settings = load_network_settings(path)
    share = open_segmenter(path, settings)(np.full((32, 32, 3), 200, dtype=np.uint8))
    np.testing.assert_allclose(share, 1 / (1 + np.exp(-2 * (200 / 255 - 0.485) / 0.229)), atol=1e-4)
    path.with_suffix(".toml").write_text("size_px = 32\n", "utf-8")  # stretched to 0..1, as U2-Net's are
    ramp = np.repeat(np.linspace(0, 255, 32).astype(np.uint8)[None, :, None], 32, axis=0).repeat(3, axis=2)
    share = open_segmenter(path, load_network_settings(path))(ramp)
    np.testing.assert_allclose(share[5], np.linspace(0, 1, 32), atol=0.02)


def test_the_size_is_the_networks_own(weights):
    weights.with_suffix(".toml").unlink()
    assert load_network_settings(weights) == NetworkSettings(load_network_settings(weights).sha256, SIZE)


def test_what_is_missing_is_named(weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        SegmenterError,
        match=r"red\.onnx needs ONNX Runtime: pip install 'visual-object-networks\[segmenter\]'",
    ):
        load_network_settings(weights)


def test_a_plain_background_is_still_read_by_contrast(weights, chair, paint):
    segmenter = open_segmenter(weights, load_network_settings(weights))
    assert find_object(paint(chair), None, segmenter=segmenter).origin == "plain"


def test_doubts_about_contrast_are_put_to_the_network(weights, chair):
    """Pale red fades into white: contrast finds pieces at best, the network sees the colour."""
    photo = np.full((*chair.shape, 3), 255, dtype=np.uint8)
    photo[60:120, 60:120] = photo[130:190, 180:240] = 60
    with pytest.raises(Rejected, match="mask_in_pieces"):
        find_object(photo, None)
    photo[60:120, 60:120] = (200, 40, 40)
    found = find_object(photo, None, segmenter=open_segmenter(weights, load_network_settings(weights)))
    assert found.origin == "segmenter"
    assert found.mask[90, 90]
    assert not found.mask[160, 210]


def test_a_network_without_an_opinion_is_not_trusted(tmp_path, clutter):
    path = tmp_path / "grey.onnx"
    path.write_bytes(colour_network([0.5, -0.5, 0.0], 0.1, SIZE))
    path.with_suffix(".toml").write_text(PLAIN_TOML, "utf-8")
    with pytest.raises(Rejected) as caught:
        find_object(clutter, None, segmenter=open_segmenter(path, load_network_settings(path)))
    assert caught.value.reason.startswith("mask_")


def test_photos_are_prepared_with_it(weights, clutter, photo_item, tmp_path):
    settings = ImageSettings(network=load_network_settings(weights), weights=str(weights))
    row = prepare_image(photo_item(clutter), settings, tmp_path / "out.png")
    assert row["mask_origin"] == "segmenter"
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == (128, 128)


def test_results_belong_to_the_content_of_the_weights_not_to_their_place(weights):
    def key(network, path):
        return settings_hash("images", ImageSettings(network=network, weights=path))

    settings = load_network_settings(weights)
    assert key(settings, "/a/red.onnx") == key(settings, "/b/red.onnx")
    assert key(settings, "") != key(None, "")
    other = NetworkSettings("0" * 64, settings.size_px, settings.mean, settings.std)
    assert key(other, "") != key(settings, "")


@pytest.mark.parametrize(
    ("content", "toml", "words"),
    [
        (None, None, r"red\.onnx cannot be read"),
        (b"no network at all", None, "is not an ONNX network"),
        ("good", "size_px = ", "is not valid TOML"),
        ("good", "sise_px = 32", "unknown name 'sise_px'; known names: size_px, mean"),
        ("good", "mean = [1, 2]", "mean must be three numbers"),
        ("good", "size_px = 5", "from 16 to 4096"),
        ("good", 'activation = "relu"', "activation must be one of none, sigmoid"),
        ("good", "std = [1, 0, 1]", "std must be positive"),
        ("good", f'size_px = {SIZE}\noutput = "nothing"', "fails on a picture of 160 pixels"),
    ],
)
def test_wrong_files_are_named(weights, content, toml, words):
    if content is None:
        weights.unlink()
    elif content != "good":
        weights.write_bytes(content)
    if toml is not None:
        weights.with_suffix(".toml").write_text(toml, "utf-8")
    with pytest.raises(SegmenterError, match=words):
        load_network_settings(weights)


def test_weights_that_change_during_a_run_are_noticed(weights):
    settings = load_network_settings(weights)
    weights.write_bytes(colour_network([1.0, 1.0, 1.0], 0.0, SIZE))
    open_segmenter.cache_clear()
    with pytest.raises(SegmenterError, match="has changed since the run began"):
        open_segmenter(weights, settings)
