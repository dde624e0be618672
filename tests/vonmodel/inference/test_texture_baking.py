"""Texture images: every face has its place in the atlas, and a texel the colour of the point that it lies on."""

import numpy as np
import pytest
import torch
import trimesh

from vonmodel.inference.texture_baking import bake, paint_views, rasterise, textured_mesh, unwrap
from vonmodel.mesh import SurfaceMesh, to_pixels

SIZE = 256


def ball():
    made = trimesh.creation.icosphere(3, radius=0.7)
    return SurfaceMesh(np.asarray(made.vertices), np.asarray(made.faces).astype(np.int64))


@pytest.mark.parametrize("most", [2500, 300])
def test_charts_keep_every_face_and_do_not_overlap(monkeypatch, most):
    monkeypatch.setattr("vonmodel.inference.texture_baking.MAX_BLOCK_FACES", most)
    mesh = ball()
    source, faces, uvs = unwrap(mesh)
    assert np.array_equal(source[faces], mesh.faces)
    assert ((uvs >= 0) & (uvs <= 1)).all()
    corners = uvs[faces].astype(float)
    one, other = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    areas = np.abs(one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]) / 2
    face_of, _ = rasterise(uvs, faces, 1024)
    # Overlapping charts would cover fewer texels than their areas add up to.
    assert (face_of >= 0).mean() == pytest.approx(areas.sum(), rel=0.01)
    assert set(np.unique(face_of)) - {-1} == set(range(len(faces)))


def test_rasterised_weights_give_the_texel_back():
    mesh = ball()
    _, faces, uvs = unwrap(mesh)
    face_of, weights = rasterise(uvs, faces, SIZE)
    rows, columns = np.nonzero(face_of >= 0)
    place = (uvs[faces].astype(float)[face_of[rows, columns]] * weights[rows, columns][:, :, None]).sum(1)
    np.testing.assert_allclose(place * SIZE - 0.5, np.stack([columns, rows], axis=1), atol=1e-3)


def painted_by_position(session, shape, mesh):
    """Views whose pixels have the colour of the point they show: a colour field equal in all views."""
    views = paint_views(session, shape, session.texture(0), mesh)
    for view in range(len(views.images)):
        start, directions = views.rays(view)
        known = np.isfinite(views.depths[view])
        points = start + directions * np.where(known, views.depths[view], 0.0)[..., None]
        views.images[view] = np.where(known[..., None], np.clip(points, -1.0, 1.0), 0.0)
    return views


def test_a_texel_has_the_colour_of_the_point_that_it_lies_on(session):
    shape = session.shape(7)
    mesh = session.mesh(shape)
    made = bake(mesh, painted_by_position(session, shape, mesh), SIZE)
    face_of, weights = rasterise(made.atlas.uvs, made.atlas.faces, SIZE)
    covered = face_of >= 0
    points = (made.vertices[made.faces[face_of[covered]]] * weights[covered][:, :, None]).sum(1)
    away = np.abs(made.atlas.image[covered] / 127.5 - 1.0 - points).max(axis=1)
    # The underside, a fifth of the surface, is visible in no view; a view has 32 pixels, 0.06 apart.
    assert np.median(away) < 0.03
    assert np.quantile(away, 0.7) < 0.1


def test_one_view_that_disagrees_is_outvoted(session):
    shape = session.shape(7)
    mesh = session.mesh(shape)
    views = paint_views(session, shape, session.texture(0), mesh)
    views.images[:] = 0.2
    views.images[4] = -1.0
    made = bake(mesh, views, SIZE)
    share = np.abs(made.atlas.image.astype(int) - to_pixels(torch.tensor(0.2))).max(axis=2)
    seen_alone = (share > 60).mean()
    assert np.median(share) <= 12
    assert seen_alone < 0.1


def test_an_empty_mesh_stays_as_it_is(session):
    empty = SurfaceMesh(np.empty((0, 3)), np.empty((0, 3), dtype=np.int64))
    assert textured_mesh(session, session.shape(7), session.texture(0), empty) is empty


def test_the_rays_of_a_view_hit_what_its_pixels_show(session):
    """Outlines as the model projects them, soft and so a little larger, and as rays meet the mesh: the same place."""
    shape = session.shape(7)
    views = paint_views(session, shape, session.texture(0), session.mesh(shape))
    for depth, silhouette in zip(views.depths, views.silhouettes, strict=True):
        hit, shown = (np.argwhere(each) for each in (np.isfinite(depth), silhouette > 0.5))
        np.testing.assert_allclose(hit.mean(axis=0), shown.mean(axis=0), atol=0.7)
        assert set(map(tuple, hit)) <= set(map(tuple, np.argwhere(silhouette > 0.05)))
