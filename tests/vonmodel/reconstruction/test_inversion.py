import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from vondata.shapes.binvox import export_binvox
from vonmodel.checkpoint import INVERSE
from vonmodel.inference.export import ExportSettings, write_shape_files
from vonmodel.networks import ShapeCodeRegressor
from vonmodel.networks.shape_networks import CodeFlow, ShapeEncoder
from vonmodel.reconstruction.inversion import (
    EncoderSettings,
    GivenShapeError,
    InversionSettings,
    Inverter,
    descend,
    given_shape,
    invert_shapes,
    is_inversion,
    own_encoder,
    read_inverted_shapes,
    train_encoder,
    volume_losses,
)

FEW = EncoderSettings(shapes=96, epochs=8, batch_size=12)
QUICK = InversionSettings(steps=12, encoder=FEW)


def quiet(done, total):
    """Ignores progress."""


def box_iou(first, second):
    """Intersection over union of what is above 1/2."""
    first, second = first > 0.5, second > 0.5
    return ((first & second).sum() / (first | second).sum()).item()


def test_the_encoder_reads_codes_of_new_shapes(session):
    told = []
    encoder = train_encoder(session.source, FEW, lambda *each: told.append(each))
    assert told == [(done, 8 * 9) for done in range(1, 8 * 9 + 1)]
    # Four of the eight numbers of these codes have no effect, so they cannot be recovered.
    codes = torch.randn(32, 8, generator=torch.Generator().manual_seed(99))
    with torch.no_grad():
        errors = (encoder(session.source.model.generate_shapes(codes)) - codes)[:, :4].square().mean()
    assert errors < 0.5


@pytest.mark.parametrize(("resolution", "code_size"), [(16, 8), (32, 64), (64, 200), (128, 200)])
def test_encoders_of_all_resolutions(resolution, code_size):
    encoder = ShapeCodeRegressor(resolution, code_size)
    assert encoder(torch.rand(2, 1, *(resolution,) * 3)).shape == (2, code_size)
    assert encoder.resolution == min(32, resolution)
    assert sum(weight.numel() for weight in encoder.parameters()) < 300_000


def test_losses_of_volumes_by_hand():
    wanted = torch.zeros(1, 1, 8, 8, 8)
    wanted[..., :4] = 1.0
    found = torch.stack([wanted[0], torch.zeros(1, 8, 8, 8), 1.0 - wanted[0]])
    assert volume_losses(found, wanted).tolist() == pytest.approx([0.0, 1.0, 2.0])


def test_descent_keeps_the_nearest_code_of_every_start(session):
    model, wanted = session.source.model, session.shape(7)
    codes = torch.stack([wanted.code, wanted.code + 1.0])
    found = descend(model, wanted.volume[None], codes, 20, quiet)
    before, after = (volume_losses(model.generate_shapes(each), wanted.volume[None]) for each in (codes, found))
    assert torch.equal(found[0], codes[0])  # nothing is nearer than the truth
    assert after[1] < 0.3 * before[1]
    assert torch.equal(descend(model, wanted.volume[None], codes, 0, quiet), codes)


def test_a_shape_that_a_code_makes_is_found_again(session):
    phases = []
    wanted = session.shape(7)
    given = session.shape_of_volume("mine", wanted.volume)
    found = Inverter(session, QUICK).invert(given, lambda phase, *_: phases.append(phase))
    assert list(dict.fromkeys(phases)) == ["encoder", "descent"]
    assert found.shape.name == "mine"
    assert found.iou >= found.encoder_iou
    assert found.iou > 0.9
    assert found.iou == pytest.approx(box_iou(found.shape.volume, wanted.volume))
    assert (session.source.run / INVERSE / "shape-encoder.safetensors").is_file()
    phases.clear()
    Inverter(session, QUICK).invert(given, lambda phase, *_: phases.append(phase))
    assert set(phases) == {"descent"}


class OwnEncoder(torch.nn.Module):
    """An encoder as a model has it, mean and log variance, of a trained one's codes."""

    def __init__(self, trained):
        super().__init__()
        self.trained = trained

    def forward(self, volumes):
        codes = self.trained(volumes)
        return codes, torch.full_like(codes, -4.0)


def test_a_model_with_an_encoder_needs_no_other(session):
    model = session.source.model
    model.decode_shapes = model.generate_shapes
    model.shape_encoder = OwnEncoder(train_encoder(session.source, FEW, quiet))
    phases = []
    given = session.shape_of_volume("mine", session.shape(7).volume)
    found = Inverter(session, QUICK).invert(given, lambda phase, *_: phases.append(phase))
    assert set(phases) == {"descent"}
    assert found.iou > 0.9
    assert not (session.source.run / INVERSE).exists()


def test_an_untrained_encoder_of_the_model_is_not_used(session):
    model = session.source.model
    assert own_encoder(model) is None
    model.decode_shapes = model.generate_shapes
    model.shape_encoder = ShapeEncoder(32, 8, 4)
    assert own_encoder(model) is None
    phases = []
    given = session.shape_of_volume("mine", session.shape(7).volume)
    Inverter(session, QUICK).invert(given, lambda phase, *_: phases.append(phase))
    assert phases[0] == "encoder"


def test_codes_of_a_model_with_a_prior_are_those_before_the_prior(session):
    model, decode = session.source.model, session.source.model.generate_shapes
    trained = train_encoder(session.source, FEW, quiet)
    prior = CodeFlow(8, 2)
    with torch.no_grad():
        for weight in prior.parameters():
            weight.normal_(0.0, 0.2, generator=torch.Generator().manual_seed(5))
    model.shape_encoder, model.shape_prior, model.decode_shapes = OwnEncoder(trained), prior, decode
    model.generate_shapes = lambda codes: decode(prior.inverse(codes))
    encode, shapes = own_encoder(model), decode(torch.randn(4, 8))
    with torch.no_grad():
        torch.testing.assert_close(model.generate_shapes(encode(shapes)), decode(trained(shapes)))


@pytest.mark.parametrize("format", ["obj", "glb", "ply", "binvox"])
def test_what_was_exported_is_the_given_shape(session, tmp_path, format):
    shape = session.shape(7)
    write_shape_files(session, shape, ExportSettings((format,)), None, tmp_path)
    given = given_shape(session, str(tmp_path / f"shape.{format}"))
    assert given.name == "shape"
    # Prepared shapes fill their cube: the same up to place and size, upright and not turned or mirrored.
    ours, theirs = (_filled(each.volume[0] > 0.5) for each in (given, shape))
    assert box_iou(ours, theirs) > 0.8
    for axis in range(3):
        assert box_iou(ours, theirs.flip(axis)) < box_iou(ours, theirs)


def _filled(solid):
    """A solid, scaled so that its bounding box is the cube."""
    where = solid.nonzero()
    low, high = where.amin(0), where.amax(0) + 1
    cut = solid[tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))].float()
    return torch.nn.functional.interpolate(cut[None, None], size=(24, 24, 24), mode="trilinear")[0, 0]


def test_axes_can_be_named_and_shapenet_faces_back(session, tmp_path):
    shape = session.shape(7)
    write_shape_files(session, shape, ExportSettings(("obj",)), None, tmp_path)
    turned = tmp_path / "model_normalized.obj"
    (tmp_path / "shape.obj").rename(turned)
    back = given_shape(session, str(turned)).volume
    front = given_shape(session, str(turned), front="z").volume
    assert box_iou(back.flip((1, 2)), front) > 0.9 > box_iou(back, front)


def test_files_of_no_use_say_why(session, tmp_path):
    (tmp_path / "text.obj").write_text("no mesh at all\n")
    for name, why in (("text.obj", "text.obj: "), ("none.stl", "no such file")):
        with pytest.raises(GivenShapeError, match=why):
            given_shape(session, str(tmp_path / name))
    assert given_shape(session, "shape3").name == "chair shape3"


def test_an_inversion_is_written_and_read_back(session, tmp_path):
    solid = np.zeros((32, 32, 32), dtype=bool)
    solid[8:24, 8:24, 4:28] = True
    export_binvox(tmp_path / "box.binvox", solid)
    given = [given_shape(session, str(tmp_path / "box.binvox")), session.prepared_shape("shape1")]
    result = invert_shapes(Inverter(session, QUICK), given, tmp_path / "out")
    said = json.loads((tmp_path / "out" / "result.json").read_text())
    assert said == result
    assert [each["name"] for each in said["objects"]] == ["box", "chair shape1"]
    assert all(each["iou"] >= each["encoder_iou"] > 0.0 for each in said["objects"])
    assert all(
        (tmp_path / "out" / file).is_file()
        for each in said["objects"]
        for files in each["pictures"].values()
        for file in files
    )
    assert is_inversion(tmp_path / "out")
    assert is_inversion(tmp_path / "out" / "result.json")
    assert not is_inversion(tmp_path)
    shapes = read_inverted_shapes(session, tmp_path / "out")
    assert [shape.name for shape in shapes] == ["box", "chair shape1"]
    assert shapes[0].code.tolist() == pytest.approx(said["objects"][0]["shape_code"])
    other = dataclasses.replace(session.source.checkpoint, sha256="0" * 64, name="joint-00000001")
    session.source = dataclasses.replace(session.source, checkpoint=other)
    with pytest.raises(GivenShapeError, match="not with joint-00000001"):
        read_inverted_shapes(session, tmp_path / "out")
    (tmp_path / "out" / "result.json").write_text("{")
    with pytest.raises(GivenShapeError, match="damaged"):
        read_inverted_shapes(session, tmp_path / "out")
    assert math.isfinite(said["objects"][0]["iou"])
