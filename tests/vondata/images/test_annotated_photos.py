"""Photos with annotated masks: orientation and polarity of mask and photo, or a row with the reason of rejection."""

import cv2
import numpy as np
import pytest
from PIL import Image

from vondata.classes import known_classes
from vondata.images.prepare import prepare_image
from vondata.images.settings import ImageSettings
from vondata.images.sources import pix3d_items
from vondata.io.listing import open_tree
from vondata.types import Item, Rejected

SETTINGS = ImageSettings(size=64)
TURNS = {2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (3, False), 7: (1, True), 8: (1, False)}


def one_armed(height=200, width=200):
    """(h, w) coverage of a chair with one arm rest: no turn and no mirror image is like it."""
    truth = np.zeros((height, width), dtype=bool)
    truth[30:110, 60:80] = truth[100:120, 60:140] = truth[120:180, 62:72] = truth[120:180, 126:136] = True
    truth[70:80, 80:120] = True
    return truth


def painted(truth):
    rgb = np.full((*truth.shape, 3), (205, 200, 190), dtype=np.uint8)
    rgb[truth] = (150, 60, 40)
    rgb[:40, -40:] = (40, 90, 50)  # something else in the room
    return rgb


def turned(pixels, orientation):
    quarters, mirrored = TURNS.get(orientation, (0, False))
    result = np.rot90(pixels, quarters)
    return result[:, ::-1] if mirrored else result


def stored(rgb, orientation):
    """How a camera stores a photo that is to be seen as `rgb`."""
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    return np.ascontiguousarray(turned(rgb, inverse))


def prepared(tmp_path, photo, mask, truth, name="photo.png", **options):
    """The object's coverage (h, w) in the prepared picture, and the row."""
    photo_path, mask_path = tmp_path / name, tmp_path / "mask.png"
    image = photo if isinstance(photo, Image.Image) else Image.fromarray(photo)
    image.save(photo_path, **options)
    (mask if isinstance(mask, Image.Image) else Image.fromarray(mask)).save(mask_path)
    rows, columns = np.flatnonzero(truth.any(axis=1)), np.flatnonzero(truth.any(axis=0))
    fields = {
        "bbox": [int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])],
        "img_size": list(truth.shape[::-1]),
        "truncated": False,
    }
    item = Item("a", "chair", str(photo_path), (str(photo_path), str(mask_path)), fields)
    row = prepare_image(item, SETTINGS, tmp_path / "out.png")
    return np.asarray(Image.open(tmp_path / "out.png")), row


def rgba_cut_out(truth):
    rgba = np.zeros((*truth.shape, 4), dtype=np.uint8)
    rgba[truth] = (150, 60, 40, 255)
    rgba[truth & (np.arange(len(truth))[:, None] > 115)] = (40, 30, 20, 255)  # dark legs
    return Image.fromarray(rgba)


def palette(truth, colours):
    image = Image.fromarray(truth.astype(np.uint8), "P")
    image.putpalette(colours)
    return image


MASKS = {
    "grey": lambda truth: Image.fromarray(np.where(truth, 255, 0).astype(np.uint8)),
    "ones": lambda truth: Image.fromarray(truth.astype(np.uint8)),
    "bits": Image.fromarray,
    "16 bits": lambda truth: Image.fromarray(np.where(truth, 65535, 0).astype(np.uint16)),
    "inverted": lambda truth: Image.fromarray(np.where(truth, 0, 255).astype(np.uint8)),
    "inverted bits": lambda truth: Image.fromarray(~truth),
    "cut-out": rgba_cut_out,
    "palette": lambda truth: palette(truth, [0, 0, 0, 128, 0, 0]),
    "inverted palette": lambda truth: palette(~truth, [0, 0, 0, 255, 255, 255]),
    "palette with white first": lambda truth: palette(~truth, [255, 255, 255, 0, 0, 0]),
}


@pytest.mark.parametrize("kind", list(MASKS))
def test_masks_of_every_kind_give_the_same_picture(tmp_path, kind):
    truth = one_armed()
    expected, _ = prepared(tmp_path, painted(truth), MASKS["grey"](truth), truth)
    picture, row = prepared(tmp_path, painted(truth), MASKS[kind](truth), truth)
    np.testing.assert_array_equal(picture, expected)
    assert row["mask_origin"] == "annotated"


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("shape", [(200, 200), (200, 240)])
@pytest.mark.parametrize("drawn_on", ["upright", "stored"])
def test_a_turned_photo_is_read_as_the_mask_was_drawn(tmp_path, orientation, shape, drawn_on):
    truth = one_armed(*shape)
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = stored(painted(truth), orientation)
    mask = truth if drawn_on == "upright" else stored(truth, orientation)
    picture, _ = prepared(tmp_path, photo, mask, mask, "photo.jpg", exif=exif, quality=95)
    plain, _ = prepared(tmp_path, painted(truth) if drawn_on == "upright" else photo, mask, mask)
    inside = plain[..., 3] == 255
    assert np.abs(picture[..., :3].astype(int) - plain[..., :3])[inside].mean() < 6
    np.testing.assert_array_equal(picture[..., 3] > 127, plain[..., 3] > 127)


def test_of_a_label_map_the_object_with_the_annotated_box_is_taken(tmp_path):
    truth = one_armed()
    labels = np.zeros(truth.shape, dtype=np.uint8)
    labels[140:], labels[:40, -40:], labels[truth] = 1, 3, 2
    colours = np.array([[0, 0, 0], [200, 40, 40], [40, 200, 40], [40, 40, 200]], dtype=np.uint8)
    expected, _ = prepared(tmp_path, painted(truth), MASKS["grey"](truth), truth)
    for mask in (labels, palette(labels, [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]), colours[labels]):
        picture, _ = prepared(tmp_path, painted(truth), mask, truth)
        np.testing.assert_array_equal(picture, expected)


def test_an_object_with_an_uncertain_rim_is_the_value_with_the_annotated_box(tmp_path):
    truth = one_armed()
    rim = cv2.morphologyEx(truth.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((7, 7), np.uint8)) > 0
    inside = truth & ~rim
    picture, _ = prepared(tmp_path, painted(truth), np.where(rim, 255, truth).astype(np.uint8), inside)
    expected, _ = prepared(tmp_path, painted(truth), inside, inside)
    np.testing.assert_array_equal(picture, expected)


def outline(truth):
    drawn = np.zeros(truth.shape, dtype=np.uint8)
    contours, _ = cv2.findContours(truth.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(drawn, contours, -1, 255, 1)


WRONG_MASKS = {
    "moved left": (lambda truth: np.roll(truth, -14, axis=1), "mask_mismatch"),
    "moved down": (lambda truth: np.roll(truth, 18, axis=0), "mask_mismatch"),
    "outline": (outline, "mask_uncertain"),
    "hatched": (lambda truth: truth & (np.arange(truth.shape[1]) % 4 < 2), "mask_in_pieces"),
    "dotted": (lambda truth: truth & (np.indices(truth.shape).sum(axis=0) // 3 % 2 == 0), "mask_in_pieces"),
    "empty": (np.zeros_like, "mask_empty"),
    "whole picture": (np.ones_like, "mask_touches_border"),
    "of another photo": (lambda truth: truth[::-1, ::-1].copy(), "mask_mismatch"),
}


@pytest.mark.parametrize("box", ["the object's", "the mask's"])
@pytest.mark.parametrize("kind", list(WRONG_MASKS))
def test_a_mask_that_is_not_the_object_is_rejected(tmp_path, kind, box):
    wrong, reason = WRONG_MASKS[kind]
    truth = one_armed(240, 240)
    mask = wrong(truth)
    with pytest.raises(Rejected) as caught:
        prepared(tmp_path, painted(truth), mask, mask > 0 if box == "the mask's" and np.any(mask) else truth)
    assert caught.value.reason == reason or (box == "the object's" and caught.value.reason == "annotation_invalid")


def test_a_dark_outline_is_rejected(tmp_path):
    truth = one_armed()
    with pytest.raises(Rejected) as caught:
        prepared(tmp_path, painted(truth), 255 - outline(truth), truth)
    assert caught.value.reason == "mask_uncertain"


def test_where_a_moved_mask_belongs_is_said(tmp_path):
    truth = one_armed(240, 240)
    with pytest.raises(Rejected, match="moved 14 pixels right"):
        prepared(tmp_path, painted(truth), np.roll(truth, -14, axis=1), truth)


def test_a_photo_without_edges_along_the_mask_is_rejected(tmp_path):
    truth = one_armed()
    blank = np.full((*truth.shape, 3), 128, dtype=np.uint8)
    with pytest.raises(Rejected, match="no edges"):
        prepared(tmp_path, blank, truth, truth)


def test_thin_parts_around_large_openings_are_no_outline(tmp_path):
    truth = one_armed()
    truth[30:180, 60:66] = truth[174:180, 60:136] = truth[30:36, 60:136] = truth[30:180, 130:136] = True
    _, row = prepared(tmp_path, painted(truth), truth, truth)
    assert row["mask_pieces"] == 1


def test_annotated_photos_of_the_reference_data_are_prepared(realdata, tmp_path):
    settings = ImageSettings(keep_truncated=True, keep_occluded=True, keep_slightly_occluded=True, max_roll_deg=180.0)
    items = list(pix3d_items(open_tree(realdata / "pix3d"), known_classes(), settings))[::7]
    rows = [prepare_image(item, settings, tmp_path / "out.png") for item in items]
    assert len(rows) > 30


def test_a_mask_that_fits_either_way_is_rejected(tmp_path):
    truth = np.zeros((160, 160), dtype=bool)
    truth[40:120, 50:110] = True
    exif = Image.Exif()
    exif[0x0112] = 3
    with pytest.raises(Rejected) as caught:
        prepared(tmp_path, np.where(truth, 90, 200).astype(np.uint8), truth, truth, "photo.jpg", exif=exif)
    assert caught.value.reason == "mask_mismatch"


def test_a_mask_of_another_size_is_rejected(tmp_path):
    truth = one_armed()
    with pytest.raises(Rejected) as caught:
        prepared(tmp_path, painted(truth)[:-1], truth, truth)
    assert caught.value.reason == "mask_mismatch"


def test_what_became_of_the_colour_profile_is_in_the_row(tmp_path):
    truth = one_armed()
    assert prepared(tmp_path, painted(truth), truth, truth)[1]["colour_profile"] is None
    row = prepared(tmp_path, painted(truth), truth, truth, icc_profile=b"no profile")[1]
    assert (row["colour_profile"], row["missing_share"]) == ("ignored", 0.0)
