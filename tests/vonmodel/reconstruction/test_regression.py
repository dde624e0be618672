import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.vonmodel.reconstruction.test_reconstruct import photo_of
from vonmodel.checkpoint import INVERSE
from vonmodel.reconstruction.reconstruct import Reconstructor, ReconstructSettings
from vonmodel.reconstruction.regression import (
    APART,
    AZIMUTH_BINS,
    BIN,
    PhotoRegressor,
    RegressionError,
    RegressionSettings,
    bin_middles,
    draw_views,
    kept_network,
    regression_loss,
    soft_bins,
    train_regressor,
    view_of,
)

FEW = RegressionSettings(shapes=64, views=4, epochs=12, batch_size=16, learning_rate=3e-3)


def quiet(done, total):
    """Ignores progress."""


def said(network, likely, elevations=0.0):
    """The network with given azimuth probabilities, and with the sine of the azimuth as codes."""
    network.forward = lambda views: (torch.zeros(1, 4), (likely / likely.sum()).log()[None])
    network.at = lambda _, azimuths: (torch.full_like(azimuths, elevations), azimuths.sin()[:, None].expand(-1, 8))
    return network


@pytest.mark.parametrize("azimuth", [0.0, 1.0, -3.1, 3.14159, 9.0])
def test_an_azimuth_counts_for_the_bins_around_it(azimuth):
    weights = soft_bins(torch.tensor([azimuth]))[0]
    assert weights.sum().item() == pytest.approx(1.0)
    middle = bin_middles(weights)[weights.argmax()].item()
    assert abs(math.remainder(middle - azimuth, 2 * math.pi)) <= BIN / 2 + 1e-5
    turned = soft_bins(torch.tensor([azimuth + BIN]))[0]
    torch.testing.assert_close(turned, weights.roll(1), atol=1e-5, rtol=0)


def test_hypotheses_are_the_peaks_with_what_lies_around_them():
    likely = torch.full((AZIMUTH_BINS,), 1e-6)
    middles = bin_middles(likely)
    likely[10], likely[11] = 0.3, 0.3  # one viewpoint, between two bins
    likely[-1], likely[0] = 0.1, 0.1  # another, behind, where angles begin again
    likely[30] = 0.2
    found = said(PhotoRegressor(32, 8), likely, 1.5).hypotheses(torch.zeros(2, 32, 32), 3)
    assert [round(each.probability, 3) for each in found] == [0.6, 0.2, 0.2]
    assert found[0].azimuth == pytest.approx((middles[10] + middles[11]).item() / 2, abs=1e-4)
    others = sorted(abs(math.remainder(each.azimuth, 2 * math.pi)) for each in found[1:])
    assert others == pytest.approx([abs(middles[30].item()), math.pi], abs=1e-3)
    assert found[0].elevation == pytest.approx(math.radians(15.0))
    assert found[0].code[0].item() == pytest.approx(math.sin(found[0].azimuth), abs=1e-5)


def test_hypotheses_near_an_azimuth_leave_all_others_out():
    likely = torch.full((AZIMUTH_BINS,), 1e-4)
    likely[10], likely[30] = 0.8, 0.1
    network = said(PhotoRegressor(32, 8), likely)
    second = bin_middles(likely)[30].item()
    (found,) = network.hypotheses(torch.zeros(2, 32, 32), 1, near_azimuth=second)
    assert found.azimuth == pytest.approx(second, abs=0.02)
    assert found.probability > 0.95
    for each in network.hypotheses(torch.zeros(2, 32, 32), 8, near_azimuth=second):
        assert abs(each.azimuth - second) <= APART + 1e-6


def test_views_forget_exposure_and_contrast():
    rng = torch.Generator().manual_seed(0)
    mask = (torch.rand(1, 1, 16, 16, generator=rng) > 0.5).float()
    brightness = torch.rand(1, 1, 16, 16, generator=rng)
    first, second = view_of(mask, brightness), view_of(mask, 0.5 * brightness - 0.3)
    torch.testing.assert_close(first, second, atol=0.1, rtol=0.1)
    inside = first[0, 1][mask[0, 0] > 0]
    assert inside.mean().item() == pytest.approx(0.0, abs=1e-4)
    assert inside.std().item() == pytest.approx(0.93, abs=0.05)
    assert (first[0, 1][mask[0, 0] == 0] == 0).all()
    assert view_of(mask, torch.zeros_like(mask)).isfinite().all()


def test_training_views_are_of_the_class_and_drawn_alike_each_time(session):
    first, second = (draw_views(session.source, replace(FEW, shapes=20, views=2), quiet) for _ in range(2))
    for ours, theirs in zip(first, second, strict=True):
        assert torch.equal(ours, theirs)
    assert first.views.shape == (40, 2, 32, 32)
    azimuths, elevations = first.angles.rad2deg().T
    assert -130 <= azimuths.min() < -60
    assert 60 < azimuths.max() <= 120
    assert -5 <= elevations.min() < 10
    assert 30 < elevations.max() <= 43
    assert set(first.exact.tolist()) == {0.0, 1.0}


def test_shapes_that_fall_apart_are_not_learnt_from(session):
    halves = torch.zeros(1, 32, 32, 32)
    halves[:, 2:8], halves[:, 20:26] = 1.0, 1.0
    session.source.model.generate_shapes = lambda codes: halves.expand(len(codes), 1, -1, -1, -1).clone()
    with pytest.raises(RegressionError, match="in one piece"):
        train_regressor(session.source, FEW, quiet)


def test_codes_of_stretched_shapes_do_not_count(session):
    batch = draw_views(session.source, replace(FEW, shapes=8, views=1), quiet)
    network = PhotoRegressor(32, 8)
    losses = [
        regression_loss(network, batch._replace(views=batch.views.float(), codes=codes, exact=exact)).item()
        for codes in (batch.codes, batch.codes + 5.0)
        for exact in (torch.zeros_like(batch.exact), torch.ones_like(batch.exact))
    ]
    assert losses[0] == losses[2]
    assert losses[3] > losses[1] + 5.0


def test_a_trained_regressor_knows_viewpoints_of_new_shapes(session):
    told = []
    network = train_regressor(session.source, FEW, lambda *each: told.append(each))
    assert told[-1][0] == told[-1][1]
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    new = draw_views(session.source, replace(FEW, shapes=24, views=2, seed=5), quiet)
    found = [network.hypotheses(view, 2) for view in new.views.float()]
    off = [
        abs(math.remainder(each[0].azimuth - angle, 2 * math.pi))
        for each, angle in zip(found, new.angles[:, 0].tolist(), strict=True)
    ]
    # Of 250 degrees, 50 would be right by chance in a fifth of the views.
    assert sum(each < math.radians(25) for each in off) > 0.6 * len(off)


def test_a_network_is_trained_once_for_a_checkpoint(session, monkeypatch):
    source, trained = session.source, []

    def train():
        trained.append(None)
        network = nn.Linear(3, 2)
        nn.init.constant_(network.weight, 0.25 * len(trained))
        return network

    def kept(source, network=None):
        return kept_network(source, "line", network or nn.Linear(3, 2), train).weight[0, 0].item()

    file = source.run / INVERSE / "line.safetensors"
    assert kept(source) == 0.25
    assert file.is_file()
    assert (kept(source), len(trained)) == (0.25, 1)
    other = replace(source, checkpoint=replace(source.checkpoint, sha256="f" * 64))
    assert (kept(other), len(trained)) == (0.5, 2)
    assert kept(source) == 0.75  # the file is the other one's now
    assert kept(source, nn.Linear(4, 2)) == 1.0  # another layout
    file.write_bytes(b"damaged")
    assert kept(source) == 1.25

    def full(*_):
        raise OSError("no space left")

    file.unlink()
    monkeypatch.setattr("vonmodel.reconstruction.regression.save_inverse", full)
    assert (kept(source), file.exists()) == (1.5, False)


def test_the_first_use_of_a_network_gives_what_later_ones_give(session):
    first, later = (kept_network(session.source, "line", nn.Linear(3, 2), lambda: nn.Linear(3, 2)) for _ in range(2))
    assert torch.equal(first.weight, later.weight)
    assert torch.equal(first.bias, later.bias)


def test_reconstruction_begins_where_the_regression_says(session):
    shape = session.shape(7)
    sketch = session.sketch(shape, 0.6, 0.4)
    photo = photo_of(session.image(shape, 0.6, 0.4, session.texture(0)), sketch)
    settings = ReconstructSettings(
        rounds=((3, 0), (1, 4)),
        carve_steps=0,
        texture_steps=1,
        camera_distance=2.0,
        start="regression",
        regression=replace(FEW, epochs=4),
    )
    phases = []
    reconstructor = Reconstructor(session, settings)
    found = reconstructor.reconstruct(photo, lambda phase, *_: phases.append(phase))
    assert list(dict.fromkeys(phases)) == ["train", "fit", "texture"]
    assert (session.source.run / INVERSE / "photo-regressor.safetensors").is_file()
    phases.clear()
    again = Reconstructor(session, settings).reconstruct(photo, lambda phase, *_: phases.append(phase))
    assert "train" not in phases
    assert again.azimuth == pytest.approx(found.azimuth, abs=0.05)  # half precision in between
    assert len(found.alternatives) == 2
    assert sum(each.confidence for each in found.alternatives) + found.confidence == pytest.approx(1.0)
    wanted = found.alternatives[0].azimuth
    other = Reconstructor(session, replace(settings, near_azimuth=wanted)).reconstruct(photo)
    assert abs(math.remainder(other.azimuth - wanted, 2 * math.pi)) < APART + 0.2
