import numpy as np
import torch

from vonmodel.evaluation.shape_metrics import point_sets, sample_surface
from vonmodel.mesh import SurfaceMesh

SQUARE = SurfaceMesh(
    np.array([[0, 0, 0], [3, 0, 0], [3, 1, 0], [0, 1, 0], [0, 0, 5]], dtype=float),
    np.array([[0, 1, 2], [0, 2, 3], [0, 0, 4]]),
)


class Volumes:
    def __init__(self, *volumes):
        self.volumes = torch.stack(volumes)

    def __len__(self):
        return len(self.volumes)

    def part(self, start, stop):
        return self.volumes[start:stop]


def ball(radius, edge=32):
    axis = torch.linspace(-1, 1, edge)
    position = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))
    return (0.5 + 8 * (radius - position.norm(dim=0))).clamp(0, 1)[None]


def test_points_are_uniform_over_the_area():
    points = sample_surface(SQUARE, 20000, np.random.default_rng(0))
    assert points.shape == (20000, 3)
    assert (points[:, 2] == 0).all()  # the third face has no area
    counts, *_ = np.histogram2d(points[:, 0], points[:, 1], bins=(6, 2), range=[[0, 3], [0, 1]])
    np.testing.assert_allclose(counts, 20000 / 12, rtol=0.12)
    assert len(sample_surface(SurfaceMesh(np.empty((0, 3)), np.empty((0, 3), int)), 9, np.random.default_rng(0))) == 0


def test_points_lie_on_the_surface_of_a_ball():
    small, large, nothing = point_sets(Volumes(ball(0.4), ball(0.8), ball(-1.0)), 0.5, points=500, seed=0)
    np.testing.assert_allclose(np.linalg.norm(small, axis=1), 0.4, atol=0.01)
    np.testing.assert_allclose(np.linalg.norm(large, axis=1), 0.8, atol=0.01)
    assert np.abs(large.mean(axis=0)).max() < 0.06
    assert nothing.shape == (0, 3)


def test_points_depend_only_on_shape_and_seed():
    first, second = point_sets(Volumes(ball(0.4), ball(0.8)), 0.5, points=50, seed=3)
    (alone,) = point_sets(Volumes(ball(0.8)), 0.5, points=50, seed=3)
    assert np.array_equal(second, alone)
    (other,) = point_sets(Volumes(ball(0.8)), 0.5, points=50, seed=4)
    assert not np.array_equal(other, alone)
    assert first.shape == second.shape
