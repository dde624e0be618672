"""Cues of matching: their values, their invariances, and the effect of wrong ones."""

import numpy as np
import pytest

from vondata.matching.cues import (
    EDGE_CELLS,
    EDGE_DIRECTIONS,
    SKETCH_PX,
    CueWeights,
    PhotoCues,
    PhotoUnreadableError,
    photo_cues,
    read_photo,
    similarity,
    sketch_cues,
)
from vondata.matching.sketching import sketch_volume

from .conftest import chair_boxes, photograph, union_distance, write_photo

SILHOUETTE, EDGES, SHADING = CueWeights(1, 0, 0), CueWeights(0, 1, 0), CueWeights(0, 0, 1)
VIEWS_DEG = np.array([[0.0, 10.0], [40.0, 20.0], [-40.0, 20.0], [140.0, 20.0], [-95.0, 30.0]])


@pytest.fixture(scope="module")
def field():
    return union_distance(chair_boxes())


@pytest.fixture(scope="module")
def sketches(field):
    return sketch_cues(sketch_volume(field).draw(*np.radians(VIEWS_DEG).T, 3.5, SKETCH_PX))


@pytest.fixture(scope="module")
def photos(field):
    return np.stack([photograph(field, *view, size=SKETCH_PX) for view in VIEWS_DEG])


@pytest.mark.parametrize("weights", [SILHOUETTE, EDGES, SHADING, CueWeights()], ids=["mask", "edges", "shade", "all"])
def test_every_cue_finds_the_sketch_from_the_photos_viewpoint(photos, sketches, weights):
    scores = similarity(photo_cues(photos), sketches, weights)
    assert (scores.argmax(axis=1) == np.arange(len(VIEWS_DEG))).all()
    most = weights.silhouette + weights.edges + weights.shading
    assert scores.min() >= 0.0
    assert scores.max() <= most * 1.001


def test_a_silhouette_equals_itself_and_the_score_is_that_of_sets(sketches):
    masks = sketches.silhouette.astype(np.float32) / 255
    empty = np.zeros((len(masks), 512), np.float32), np.zeros((len(masks), 256), np.float32)
    scores = similarity(PhotoCues(masks, *empty), sketches, SILHOUETTE)
    np.testing.assert_allclose(np.diag(scores), 1.0, rtol=1e-5)
    sharp = (masks > 0.5).astype(np.float32)
    cues = type(sketches)((255 * sharp).astype(np.uint8), sketches.edges, sketches.shading)
    expected = [[(a * b).sum() / np.maximum(a, b).sum() for b in sharp] for a in sharp]
    np.testing.assert_allclose(similarity(PhotoCues(sharp, *empty), cues, SILHOUETTE), expected, rtol=1e-4)


def test_shading_does_not_care_for_the_lamp_nor_for_exposure(photos, sketches):
    dark = photos.copy()
    dark[..., :3] = np.where(photos[..., 3:] > 0, 10 + photos[..., :3] // 3, 255)
    first, second = (similarity(photo_cues(each), sketches, SHADING) for each in (photos, dark))
    assert np.diag(first).min() > 0.85
    assert np.abs(np.diag(first) - np.diag(second)).max() < 0.05


def test_the_back_has_the_fronts_silhouette_but_neither_its_edges_nor_its_shading(field):
    views = np.radians([[0.0, 0.0], [180.0, 0.0]])  # from far away the two masks are each other's mirror image
    front_and_back = sketch_cues(sketch_volume(field).draw(*views.T, 50.0, SKETCH_PX))
    photo = photo_cues(photograph(field, 0.0, 0.0, 50.0, SKETCH_PX)[None])
    front, back = similarity(photo, front_and_back, SILHOUETTE)[0]
    assert front - back < 0.05
    for weights in (EDGES, SHADING):
        front, back = similarity(photo, front_and_back, weights)[0]
        assert front - back > 0.05


def test_edges_are_counted_where_and_as_they_run():
    photos = np.full((3, SKETCH_PX, SKETCH_PX, 4), 255, dtype=np.uint8)
    photos[0, :, 40:, :3] = 60  # upright edge at column 40
    photos[1, 20:, :, :3] = 60  # level edge at row 20
    rows, columns = np.indices((SKETCH_PX, SKETCH_PX))
    photos[2][rows > columns, :3] = 60  # falling diagonal
    histograms = photo_cues(photos).edges.reshape(3, EDGE_CELLS, EDGE_CELLS, EDGE_DIRECTIONS) ** 2
    strongest = [histogram.sum(axis=(0, 1)).argmax() for histogram in histograms]
    assert strongest[0] == EDGE_DIRECTIONS // 2  # brightness changes across: direction 0
    assert strongest[1] == 0  # direction 90 degrees, the same as -90
    assert strongest[2] in (EDGE_DIRECTIONS // 4, EDGE_DIRECTIONS // 4 * 3)
    assert set(np.nonzero(histograms[0].sum(axis=(0, 2)) > 1e-6)[0]) <= {4, 5}  # cells of columns 32 to 47
    assert histograms[1].sum(axis=(1, 2)).argmax() == 2  # rows 16 to 23


def test_without_texture_or_inside_there_is_no_edge_and_no_shading():
    plain = np.full((1, SKETCH_PX, SKETCH_PX, 4), 255, dtype=np.uint8)
    thin = plain.copy()
    thin[..., 3] = 0
    thin[:, 30:32, :, 3] = 255
    thin[:, 30:32, ::2, :3] = 0
    for photo in (plain, thin):
        assert not photo_cues(photo).edges.any()
    assert not photo_cues(plain).shading.any()


def test_a_photo_is_judged_on_its_own(photos, sketches):
    together = similarity(photo_cues(photos), sketches, CueWeights())
    for index, photo in enumerate(photos):
        alone = similarity(photo_cues(photo[None]), sketches, CueWeights())[0]
        np.testing.assert_allclose(alone, together[index], rtol=1e-5)


def test_any_number_of_sketches_is_compared(photos, sketches):
    copies = 1000
    many = type(sketches)(
        np.tile(sketches.silhouette, (copies, 1)),
        np.tile(sketches.edges, (copies, 1)),
        np.tile(sketches.shading, (copies, 1, 1)),
    )
    cues = photo_cues(photos)
    expected = np.tile(similarity(cues, sketches, CueWeights()), copies)
    np.testing.assert_allclose(similarity(cues, many, CueWeights()), expected, rtol=1e-5)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_photos_of_any_size_come_at_the_size_of_sketches(tmp_path, field, size):
    path = write_photo(tmp_path / "photo.png", photograph(field, 30, 20, size=size))
    photo = read_photo(path)
    assert photo.shape == (SKETCH_PX, SKETCH_PX, 4)
    whole = photograph(field, 30, 20, size=SKETCH_PX)
    assert ((photo[..., 3] > 127) == (whole[..., 3] > 127)).mean() > 0.93


def test_unusable_photos_are_refused_by_name(tmp_path, field):
    photo = photograph(field, 30, 20)
    path = tmp_path / "photo.png"
    with pytest.raises(PhotoUnreadableError, match=r"photo\.png .*cannot be read"):
        read_photo(path)
    write_photo(path, photo[..., :3])
    with pytest.raises(PhotoUnreadableError, match="not an RGBA image"):
        read_photo(path)
    photo[..., 3] = 0
    write_photo(path, photo)
    with pytest.raises(PhotoUnreadableError, match="mask is empty"):
        read_photo(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(PhotoUnreadableError, match="photo"):
        read_photo(path)
