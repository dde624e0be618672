import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vonmodel.inference.interpolate import interpolate_spherical
from vonmodel.inference.sampling import Seed, SeedError
from vonmodel.inference.session import CodeError, ModelSession, open_model
from vonmodel.studio.view_request import LatentMix, ViewRequestError, decode_code, encode_code, parse_view_request


@pytest.fixture
def session(tiny_run, tiny_data):
    return ModelSession(open_model(tiny_run, data=tiny_data))


def test_a_link_says_everything():
    asked = parse_view_request(
        {
            "checkpoint": "joint-00000020",
            "shape": "7:3",
            "shape-to": "9",
            "shape-mix": "0.25",
            "texture": "3",
            "azimuth": "-40.5",
            "elevation": "20",
        }
    )
    assert asked.checkpoint == "joint-00000020"
    assert asked.shape == LatentMix(Seed(7, 3), Seed(9), 0.25)
    assert asked.texture == LatentMix(Seed(3))
    assert asked.viewpoint == (math.radians(-40.5), math.radians(20))


def test_what_is_not_said_is_seed_0_from_the_front():
    assert parse_view_request({}) == parse_view_request(
        {"shape": "0", "texture": "", "azimuth": "0", "elevation": "0"}
    )


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=200))
def test_a_spelt_code_is_read_as_it_was(numbers):
    assert decode_code(encode_code(torch.tensor(numbers))) == tuple(numbers)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"azimuth": "nan"}, ViewRequestError, "azimuth=nan is out of range"),
        ({"azimuth": "inf"}, ViewRequestError, "azimuth goes from -360 to 360"),
        ({"elevation": "91"}, ViewRequestError, "elevation goes from -90 to 90"),
        ({"elevation": "up"}, ViewRequestError, "elevation=up is not a number"),
        ({"shape-mix": "NaN"}, ViewRequestError, "shape-mix goes from 0 to 1"),
        ({"azimut": "3"}, ViewRequestError, "did you mean azimuth?"),
        ({"checkpoint": "../../etc"}, ViewRequestError, "is not the name of a checkpoint"),
        ({"shape": "-1"}, SeedError, "'-1' is not a seed"),
        ({"shape": "4294967296"}, SeedError, "out of range"),
        ({"texture": "7:0"}, SeedError, "out of range"),
        ({"texture": "~AAA"}, CodeError, "copy the whole link"),
        ({"texture": "~A!AA"}, CodeError, "copy the whole link"),
        ({"texture": encode_code(torch.tensor([math.nan]))}, CodeError, "not finite"),
    ],
)
def test_invalid_arguments_are_named(arguments, error, says):
    with pytest.raises(error, match=says.replace("?", r"\?")):
        parse_view_request(arguments)


def test_a_mix_goes_from_one_code_to_the_other(session):
    start, end = session.code(1, "shape"), session.code(2, "shape")

    def at(fraction):
        return LatentMix(Seed(1), Seed(2), fraction).code(session, "shape")

    assert torch.equal(at(0.0), start)
    assert torch.equal(at(1.0), end)
    torch.testing.assert_close(at(0.3), interpolate_spherical(start, end, torch.tensor([0.3]))[0])
    assert torch.equal(LatentMix(Seed(1), None, 0.7).code(session, "shape"), start)


def test_a_code_of_another_model_is_refused(session):
    with pytest.raises(CodeError, match="a texture code of this model is 8 finite numbers"):
        LatentMix((1.0, 2.0)).code(session, "texture")
