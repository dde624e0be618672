import itertools
import math

import numpy as np
import pytest
import torch
from PIL import Image

from vonmodel.geometry import Camera
from vonmodel.inference.photo import PhotoError, photo_of_pixels, read_photo
from vonmodel.mesh import to_pixels
from vonmodel.reconstruction.reconstruct import CancelledError, Reconstructor, ReconstructSettings

QUICK = ReconstructSettings(
    8,
    12,
    ((5, 8), (2, 20)),
    carve_steps=5,
    texture_steps=3,
    camera_distance=Camera().distance,
    start="search",
)


def picture_of(session, seed, azimuth, elevation):
    """The photo of a known shape, viewpoint and texture."""
    shape = session.shape(seed)
    sketch = session.sketch(shape, azimuth, elevation)
    return photo_of(session.image(shape, azimuth, elevation, session.texture(0)), sketch), sketch


def photo_of(image, sketch):
    """An image and its silhouette as a photo."""
    pixels = to_pixels(image).transpose(1, 2, 0)
    return photo_of_pixels("chair", np.dstack([pixels, to_pixels(2.0 * sketch.silhouette[0, 0] - 1.0)]))


@pytest.mark.parametrize(("seed", "azimuth_deg"), [(3, 40.0), (11, -75.0)])
def test_shape_and_viewpoint_are_found_again(session, monkeypatch, seed, azimuth_deg):
    photo, sketch = picture_of(session, seed, math.radians(azimuth_deg), 0.4)
    # The untrained encoder cannot estimate depth: it is given, slightly wrong.
    told = 0.9 * sketch.normalized_depth + 0.05
    monkeypatch.setattr(session.source.model.sketch_encoder, "forward", lambda image: told)
    found = Reconstructor(session, QUICK).reconstruct(photo)
    assert found.overlap > 0.9
    assert math.degrees(found.azimuth) == pytest.approx(azimuth_deg, abs=10)
    again = session.sketch(session.shape(found.shape.code), found.azimuth, found.elevation)
    both, either = torch.minimum(again.silhouette, photo.mask), torch.maximum(again.silhouette, photo.mask)
    assert found.overlap == pytest.approx((both.sum() / either.sum()).item(), abs=0.02)
    azimuths = [found.azimuth, *(each.azimuth for each in found.alternatives)]
    apart = [abs(math.remainder(a - b, 2 * math.pi)) for a, b in itertools.combinations(azimuths, 2)]
    assert min(apart, default=1.0) > math.radians(15)  # carving turns the best one a little more
    confidences = [found.confidence, *(each.confidence for each in found.alternatives)]
    assert confidences == sorted(confidences, reverse=True)
    assert sum(confidences) == pytest.approx(1.0)
    assert found.texture.shape == (8,)


def test_progress_goes_through_the_phases_and_the_sketches_are_drawn_once(session):
    photo, _ = picture_of(session, 3, 0.5, 0.4)
    reconstructor = Reconstructor(
        session,
        ReconstructSettings(2, 2, ((2, 2), (1, 1)), carve_steps=1, carve_below=1.1, texture_steps=2, start="search"),
    )
    told = []
    first = reconstructor.reconstruct(photo, lambda *each: told.append(each))
    assert [phase for phase, done, total in told if done == total] == ["search", "fit", "carve", "texture"]
    assert [done for phase, done, _ in told if phase == "fit"] == [1, 2, 3, 4, 5]
    told.clear()
    second = reconstructor.reconstruct(photo, lambda *each: told.append(each))
    assert "search" not in {phase for phase, _, _ in told}
    assert (first.azimuth, first.overlap) == (second.azimuth, second.overlap)


@pytest.mark.parametrize("after", [0, 2, 6, 10])
def test_it_stops_when_it_is_not_wanted_any_more(session, after):
    photo, _ = picture_of(session, 3, 0.5, 0.4)
    asked = []

    def cancelled():
        asked.append(None)
        return len(asked) > after

    settings = ReconstructSettings(2, 2, ((2, 2), (1, 1)), carve_steps=1, texture_steps=2, start="search")
    with pytest.raises(CancelledError):
        Reconstructor(session, settings).reconstruct(photo, cancelled=cancelled)
    assert len(asked) == after + 1


def test_the_texture_is_fitted_to_the_photo(session):
    photo, _ = picture_of(session, 3, 0.5, 0.4)
    errors = []
    for steps in (0, 25):
        reconstructor = Reconstructor(
            session, ReconstructSettings(2, 4, ((1, 2),), carve_steps=0, texture_steps=steps, start="search")
        )
        found = reconstructor.reconstruct(photo)
        image = session.image(found.shape, found.azimuth, found.elevation, found.texture)
        errors.append((image - photo.image).abs().mean().item())
    assert errors[1] < errors[0]


def test_a_photo_of_another_size_is_refused(session):
    photo = photo_of_pixels("chair", np.zeros((64, 64, 4), dtype=np.uint8))
    with pytest.raises(ValueError, match="takes 32 pixels"):
        Reconstructor(session, QUICK).reconstruct(photo)


def block(size=200, ground=(240, 240, 235)):
    """A brown block on a plain ground."""
    pixels = np.full((size, size, 3), ground, dtype=np.uint8)
    pixels[size // 4 : 3 * size // 4, size // 3 : 2 * size // 3] = (120, 70, 30)
    return pixels


@pytest.mark.parametrize("size", [60, 100, 400])
def test_the_object_is_cut_out_and_framed(tmp_path, size):
    Image.fromarray(block(size)).save(tmp_path / "chair.png")
    photo = read_photo(tmp_path / "chair.png", 32)
    assert (photo.name, photo.origin) == ("chair", "plain")
    assert photo.mask.shape == (1, 32, 32)
    rows = (photo.mask[0] > 0.5).any(1).nonzero().flatten()
    assert rows.min() <= 1
    assert rows.max() >= 30
    middle = (photo.image[:, 16, 16] + 1) * 127.5
    assert middle.tolist() == pytest.approx([120, 70, 30], abs=6)
    assert (photo.image[:, :, 0] > 0.9).all()


def test_a_mask_can_be_given(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    mask = np.zeros((80, 80), dtype=np.uint8)
    mask[20:60, 30:50] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    photo = read_photo(tmp_path / "a.png", 32, tmp_path / "mask.png")
    assert photo.origin == "annotated"
    assert photo.mask.mean().item() == pytest.approx(0.5 * 0.9, abs=0.1)
    Image.fromarray(mask[:40]).save(tmp_path / "half.png")
    with pytest.raises(PhotoError, match=r"the mask is \(80, 40\), the photo \(80, 80\) pixels"):
        read_photo(tmp_path / "a.png", 32, tmp_path / "half.png")


def test_photos_of_no_use_say_why(tmp_path):
    Image.fromarray(np.full((300, 300, 3), 200, dtype=np.uint8)).save(tmp_path / "blank.png")
    (tmp_path / "text.jpg").write_text("not a photo")
    for name, why in (
        ("blank.png", "stands out"),
        ("text.jpg", "not a supported photo format"),
        ("none.png", "No such file"),
    ):
        with pytest.raises(PhotoError, match=why):
            read_photo(tmp_path / name, 32)


def test_advice_on_taking_photos_is_given_where_it_would_help(tmp_path):
    Image.fromarray(np.full((300, 300, 3), 200, dtype=np.uint8)).save(tmp_path / "blank.png")
    with pytest.raises(PhotoError, match="a plain ground"):
        read_photo(tmp_path / "blank.png", 32)
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(PhotoError) as refused:
            read_photo(path, 32)
        assert "a plain ground" not in str(refused.value)
        assert str(refused.value).count(str(path)) == 1
