"""Sketches against closed forms and against the projection of the model."""

import numpy as np
import pytest
import torch

from vondata.frames import camera_direction
from vondata.matching.sketching import MARGIN, EmptyShapeError, sketch_volume
from vonmodel.geometry import viewpoint_rotation
from vonmodel.projection import frame_sketch, project

from .conftest import RESOLUTION, box_distance, chair_boxes, union_distance

VIEWPOINTS_DEG = np.array([[0.0, 0.0], [30.0, 20.0], [-75.0, 35.0], [140.0, 10.0], [180.0, -5.0]])


@pytest.fixture(scope="module")
def sphere():
    axis = np.linspace(-1.0, 1.0, 96)
    radius = np.linalg.norm(np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1), axis=-1)
    return sketch_volume((np.abs(radius - 0.6) / 2.0).astype(np.float32))


def test_a_sphere_is_a_disc_with_the_normals_and_depth_of_a_sphere(sphere):
    distance, size = 3.0, 65
    sketches = sphere.draw(*np.radians(VIEWPOINTS_DEG).T, distance, size)
    for sketch in sketches:
        inside = sketch[0] > 0.0
        assert inside.mean() == pytest.approx(np.pi / 4 / (1 + 2 * MARGIN) ** 2, rel=0.03)
        assert sketch[0, size // 2, size // 2] == pytest.approx(distance - 0.6, abs=1.5 / 95 * 2)
        np.testing.assert_allclose(sketch[1:, size // 2, size // 2], [0.0, 0.0, 1.0], atol=0.15)
        lengths = np.linalg.norm(sketch[1:], axis=0)
        np.testing.assert_allclose(lengths[inside], 1.0, rtol=1e-5)
        assert not sketch[:, ~inside].any()
        rows, columns = np.nonzero(inside)
        right, up = sketch[1][inside], sketch[2][inside]
        assert np.corrcoef(right, columns)[0, 1] > 0.99  # on the right side the surface faces right
        assert np.corrcoef(up, -rows)[0, 1] > 0.99


@pytest.mark.parametrize("viewpoint_deg", VIEWPOINTS_DEG.tolist())
def test_sketches_are_those_of_the_models_projection(viewpoint_deg):
    field = union_distance(chair_boxes(width=0.7, back=0.6)[:-1])  # a leg less, so that left and right differ
    azimuth, elevation = np.radians(viewpoint_deg)
    size = RESOLUTION
    turns = np.radians([[0.0, 0.0], [10.0, 0.0], [-10.0, 0.0], [0.0, 10.0], [0.0, -10.0]])
    drawn = sketch_volume(field).draw(azimuth + turns[:, 0], elevation + turns[:, 1], 2.0, size)
    solid = torch.from_numpy((field * (RESOLUTION - 1) <= 0.8).astype(np.float32))[None, None]
    angles = torch.tensor([azimuth], dtype=torch.float32), torch.tensor([elevation], dtype=torch.float32)
    framed = frame_sketch(project(solid, viewpoint_rotation(*angles)), depth_range="item")
    silhouette = framed.silhouette[0, 0].numpy() > 0.5
    overlap = [(silhouette & found).sum() / (silhouette | found).sum() for found in drawn[:, 0] > 0.0]
    assert overlap[0] > 0.85
    assert overlap[0] > max(overlap[1:])  # as seen from there and not from beside it
    both = silhouette & (drawn[0, 0] > 0.0)
    assert np.median(np.abs(framed.depth[0, 0].numpy()[both] - drawn[0, 0][both])) < 0.04


def test_the_camera_follows_the_conventions():
    towards = camera_direction(np.radians(VIEWPOINTS_DEG[:, 0]), np.radians(VIEWPOINTS_DEG[:, 1]))
    for direction, viewpoint in zip(towards, np.radians(VIEWPOINTS_DEG), strict=True):
        nose = sketch_volume(box_distance(0.55 * direction - 0.08, 0.55 * direction + 0.08))
        depth = nose.draw(viewpoint[:1], viewpoint[1:], 2.0, 16)[0, 0]
        assert depth[depth > 0].min() == pytest.approx(2.0 - 0.55 - 0.08, abs=0.09)


def test_a_finer_grid_is_brought_down_and_looks_the_same():
    views = np.radians(VIEWPOINTS_DEG).T
    coarse = sketch_volume(union_distance(chair_boxes(), 48))
    fine = sketch_volume(union_distance(chair_boxes(), 95), largest=48)
    assert fine.clearance.shape == (48, 48, 48)
    same = (coarse.draw(*views, 3.0, 32)[:, 0] > 0) == (fine.draw(*views, 3.0, 32)[:, 0] > 0)
    assert same.mean() > 0.97


def test_a_flat_shape_is_drawn():
    sketch = sketch_volume(box_distance((-0.5, -0.5, 0.0), (0.5, 0.5, 0.0), 65)).draw(
        np.array([0.3]), np.array([0.6]), 3.0, 32
    )
    assert (sketch[0, 0] > 0).mean() > 0.2


def test_a_shape_without_surface_is_refused():
    with pytest.raises(EmptyShapeError, match="no surface"):
        sketch_volume(np.full((8, 8, 8), 0.5, dtype=np.float32))
