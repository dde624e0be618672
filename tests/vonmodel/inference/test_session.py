import math

import numpy as np
import pytest
import torch

from vondata.dataset.manifest import output_path
from vondata.dataset.shape_file import load_occupancy
from vonmodel.inference import session as session_module
from vonmodel.inference.sampling import MAX_SEED, Seed, SeedError, parse_seed, render, sample_codes
from vonmodel.inference.session import CodeError, LruCache, ModelSession, UnknownShapeError, open_model


@pytest.fixture
def counted(session, monkeypatch):
    """How many shapes were generated and how many sketches projected."""
    counts = {"shapes": 0, "sketches": 0}
    for name, kind in (("generate_volumes", "shapes"), ("render_sketches", "sketches")):
        real = getattr(session_module, name)

        def count(model, items, *rest, real=real, kind=kind):
            counts[kind] += len(items)
            return real(model, items, *rest)

        monkeypatch.setattr(session_module, name, count)
    return counts


def test_a_seed_is_the_code_that_generation_draws(session):
    codes = sample_codes(3, 8, seed=7, purpose="shape")
    assert torch.equal(session.shape(7).code, codes[0])
    assert torch.equal(session.shape(Seed(7, 3)).code, codes[2])
    assert session.shape(Seed(7, 3)).name == "seed 7:3"
    assert torch.equal(session.texture(5), sample_codes(1, 8, seed=5, purpose="texture")[0])


def test_answers_equal_those_of_the_model(session):
    viewpoints = np.array([[0.4, 0.2], [-1.0, 0.3]])
    shapes, textures = session.shapes([1, 2]), torch.stack([session.texture(1), session.texture(2)])
    answer = session.render(shapes, viewpoints, textures)
    volumes = session.source.model.generate_shapes(torch.stack([shape.code for shape in shapes]))
    expected = render(session.source.model, volumes, viewpoints, textures)
    torch.testing.assert_close(answer.images, expected.images)
    torch.testing.assert_close(answer.sketch.depth, expected.sketch.depth)
    alone = session.image(shapes[1], -1.0, 0.3, textures[1])
    torch.testing.assert_close(alone, expected.images[1], rtol=1e-4, atol=1e-4)


def test_a_new_viewpoint_generates_nothing_and_a_new_texture_projects_nothing(session, counted):
    chair = session.shape(7)
    session.image(chair, 0.1, 0.2, session.texture(0))
    assert counted == {"shapes": 1, "sketches": 1}
    session.image(session.shape(7), 0.5, 0.2, session.texture(0))
    assert counted == {"shapes": 1, "sketches": 2}
    session.image(session.shape(chair.code.tolist()), 0.5, 0.2, session.texture(1))
    assert counted == {"shapes": 1, "sketches": 2}


def test_what_is_asked_for_twice_at_once_is_computed_once(session, counted):
    shapes = session.shapes([1, 2, 1])
    assert torch.equal(shapes[0].volume, shapes[2].volume)
    sketches = session.sketches(shapes, np.array([[0.1, 0.2]] * 3))
    assert torch.equal(sketches.depth[0], sketches.depth[2])
    assert counted == {"shapes": 2, "sketches": 2}


def test_memory_is_bounded_and_forgetting_changes_no_answer(tiny_run, tiny_data, counted):
    session = ModelSession(open_model(tiny_run, data=tiny_data), shapes_kept=2, sketches_kept=2)
    first = session.sketch(session.shape(0), 0.0, 0.1)
    many = session.shapes([0, 1, 2, 3])
    session.sketches(many, np.array([[0.3, 0.1]] * 4))
    asked = dict(counted)
    session.sketches(session.shapes([2, 3]), np.array([[0.3, 0.1]] * 2))
    assert counted == asked
    assert torch.equal(session.sketch(session.shape(0), 0.0, 0.1).depth, first.depth)
    assert counted == {name: count + 1 for name, count in asked.items()}


def test_the_value_used_longest_ago_is_forgotten():
    recent = LruCache(2)
    recent.keep({"a": 1})
    recent.keep({"b": 2})
    recent.keep({"a": 1})
    recent.keep({"c": 3})
    assert dict(recent) == {"a": 1, "c": 3}


def test_prepared_shapes_are_seen_like_generated_ones(session, tiny_data):
    shape = session.prepared_shape("shape3")
    solid = load_occupancy(output_path(tiny_data, "chair", "shapes", "shape3"))
    assert np.array_equal(shape.volume[0].numpy() > 0.5, solid)
    assert shape.code is None
    assert session.sketch(shape, 0.5, 0.3).silhouette.max() > 0.99
    assert len(session.mesh(shape).faces)
    with pytest.raises(UnknownShapeError, match="no prepared chair 'sofa'; it has shape0"):
        session.prepared_shape("sofa")


def test_no_answer_tracks_gradients(session):
    assert not session.shape(1).volume.requires_grad
    # Inference tensors could never be optimised through.
    assert not session.shape(1).volume.is_inference()


@pytest.mark.parametrize("code", [[0.0] * 7, [0.0] * 7 + [math.nan], [[0.0] * 8]])
def test_codes_of_another_model_are_refused(session, code):
    with pytest.raises(CodeError, match="a shape code of this model is 8 finite numbers"):
        session.shape(torch.tensor(code))


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, Seed(1, 0), Seed(1, 10**9)])
def test_seeds_out_of_range_are_refused(session, seed):
    with pytest.raises(SeedError, match="out of range"):
        session.shape(seed)


def test_viewpoints_are_finite(session):
    with pytest.raises(ValueError, match="two finite angles"):
        session.sketch(session.shape(0), math.nan, 0.0)


@pytest.mark.parametrize("seed", [Seed(0), Seed(7, 3), Seed(MAX_SEED)])
def test_seeds_are_read_as_they_are_written(seed):
    assert parse_seed(str(seed)) == seed


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "7:", "7:0", "99999999999", "1:2:3", "nan"])
def test_what_is_no_seed_says_so(text):
    with pytest.raises(SeedError, match="seed"):
        parse_seed(text)


def test_seeds_begin_again_after_the_largest():
    assert Seed(MAX_SEED).after(2) == Seed(1)


def test_viewpoints_are_those_of_the_class(session):
    drawn = session.viewpoints(3, 0)
    assert np.array_equal(drawn, session.viewpoints(5, 0)[:3])
    assert (
        abs(np.degrees(drawn)[:, 1] - 20.0) <= 2.5
    ).all()  # drawn from the cell that the photos' 20 degrees lie in
