"""Photo regression: a small network that predicts a distribution of viewpoints and a shape code for each of them.

It is trained on the model's own shapes, rendered from the class's viewpoints with random shading: lights, tones of
the parts and noise differ between views, so that it learns what photos and renders have in common. Its predictions
are the starts of a reconstruction. A trained network is kept beside the run with the hash of its checkpoint.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vondata.classes import load_class
from vondata.errors import VonError
from vonmodel.checkpoint import read_inverse, save_inverse
from vonmodel.geometry import Camera
from vonmodel.inference.photo import CutPhoto
from vonmodel.inference.rendering import frame_seen, render_volume, share_in_largest_piece
from vonmodel.inference.session import LoadedModel
from vonmodel.model import initialise_kaiming
from vonmodel.networks.blocks import LEAK, Pyramid
from vonmodel.projection.sketch import VISIBLE_SILHOUETTE, SurfaceSketch, surface_normals
from vonmodel.representation import surface_level
from vonmodel.seeding import torch_generator

VIEW_SIZE = 64
"""Input size of the network in pixels, or the model's image size if that is smaller."""
AZIMUTH_BINS = 48
BIN = 2.0 * math.pi / AZIMUTH_BINS
AZIMUTH_SPREAD = math.radians(5.0)
"""Standard deviation of the soft azimuth labels."""
APART = math.radians(25.0)
"""Hypotheses differ by at least this much in azimuth."""
HARMONICS = 4
ELEVATION_SCALE = math.radians(10.0)
MARGIN_ELEVATION = math.radians(5.0)
"""Elevations of training views extend this far beyond those of the class."""
DISTANCES = (3.0, 4.5)
"""Camera distances of training views, in half edges of the object's cube, as of most photos."""
STRETCH = 0.2
"""Half of the training shapes are stretched by up to this fraction along each axis, and train viewpoints only."""
WHOLE = 0.9
"""Smallest fraction of a training shape's solid in its largest piece."""

_log = logging.getLogger(__name__)
Network = TypeVar("Network", bound=nn.Module)
Step = Callable[[int, int], None]
"""Called with the steps done and their number."""


class RegressionError(VonError):
    """A model whose shapes cannot be trained on."""


@dataclass(frozen=True)
class RegressionSettings:
    """Settings of the regressor's training.

    Attributes:
        shapes: generated shapes.
        views: of each.
        epochs: over all views.
        batch_size: views a step.
        learning_rate: of Adam, following a cosine to zero.
        seed: of all random numbers.
    """

    shapes: int = 2000
    views: int = 4
    epochs: int = 8
    batch_size: int = 32
    learning_rate: float = 1e-3
    seed: int = 0


class Hypothesis(NamedTuple):
    """A possible viewpoint of a photo, with a shape code for it.

    Attributes:
        azimuth: radians.
        elevation: radians.
        code: (k,) the shape code.
        probability: of the azimuths within `APART` that are nearer to this one than to any other hypothesis'.
    """

    azimuth: float
    elevation: float
    code: Float[Tensor, " k"]
    probability: float


class PhotoRegressor(nn.Module):
    """Predicts azimuth, then elevation and shape code given the azimuth, from silhouette and brightness of an object.

    Args:
        view_size: pixels on a side.
        code_size: length of a shape code.
        base_channels: at half the size; four times as many in the end.
        features: length of the feature vector of a view.
    """

    def __init__(self, view_size: int, code_size: int, base_channels: int = 12, features: int = 64) -> None:
        super().__init__()
        self.view_size, self.code_size = view_size, code_size
        self.body = Pyramid(2, view_size, base_channels)
        self.features = nn.Linear(16 * self.body.out_channels, features)
        self.azimuth = nn.Linear(features, AZIMUTH_BINS)
        self.hidden = nn.Linear(features + 2 * HARMONICS, 2 * features)
        self.given_azimuth = nn.Linear(2 * features, 1 + code_size)

    def forward(self, views: Float[Tensor, "n 2 s s"]) -> tuple[Float[Tensor, "n f"], Float[Tensor, "n bins"]]:
        """Features of a batch of views, and the log probabilities of the azimuth bins."""
        features = functional.leaky_relu(self.features(self.body(views).flatten(1)), LEAK)
        return features, functional.log_softmax(self.azimuth(features), dim=1)

    def at(
        self, features: Float[Tensor, "n f"], azimuths: Float[Tensor, " n"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n k"]]:
        """Elevations in units of `ELEVATION_SCALE` and shape codes, given azimuths in radians."""
        turns = azimuths[:, None] * torch.arange(1, HARMONICS + 1, device=azimuths.device)
        hidden = self.hidden(torch.cat([features, turns.sin(), turns.cos()], dim=1))
        result = self.given_azimuth(functional.leaky_relu(hidden, LEAK))
        return result[:, 0], result[:, 1:]

    @torch.no_grad()
    def hypotheses(
        self, view: Float[Tensor, "2 s s"], count: int, near_azimuth: float | None = None
    ) -> list[Hypothesis]:
        """The likeliest viewpoints, at least `APART` from each other, the likeliest first.

        Args:
            view: see `view_of`.
            count: largest number of hypotheses.
            near_azimuth: radians; only viewpoints within `APART` of it. None for all.
        """
        features, logs = self(view[None])
        likely = logs[0].exp()
        if near_azimuth is not None:
            likely = torch.where(_apart(bin_middles(likely), likely.new_tensor(near_azimuth)) < APART, likely, 0.0)
            likely = likely / likely.sum().clamp_min(1e-12)
        # A peak may lie between two bins, so neighbouring bins are smoothed.
        smooth = (likely.roll(1) + 2.0 * likely + likely.roll(-1)) / 4.0
        middles = bin_middles(likely)
        left = smooth.clone()
        peaks = list[int]()
        while len(peaks) < count and left.max() > 0.0:
            peaks.append(int(left.argmax()))
            left[_apart(middles, middles[peaks[-1]]) < APART] = 0.0
        azimuths = torch.stack([_local_mean(likely, middles, middles[peak]) for peak in peaks])
        apart = _apart(middles[:, None], azimuths[None])
        nearest, owner = apart.min(1)
        mass = [float(likely[(owner == index) & (nearest < APART)].sum()) for index in range(len(peaks))]
        elevations, codes = self.at(features.expand(len(peaks), -1), azimuths)
        found = zip(azimuths.tolist(), (elevations * ELEVATION_SCALE).tolist(), codes, mass, strict=True)
        return sorted((Hypothesis(*each) for each in found), key=lambda each: -each.probability)


def bin_middles(like: Tensor) -> Float[Tensor, " bins"]:
    """The centres of the azimuth bins, in (-pi, pi)."""
    return (torch.arange(AZIMUTH_BINS, device=like.device, dtype=like.dtype) + 0.5) * BIN - math.pi


def soft_bins(azimuths: Float[Tensor, " n"]) -> Float[Tensor, "n bins"]:
    """Soft labels of azimuths: a normal distribution around the circle over the bins, with sum 1."""
    weights = torch.exp(-0.5 * (_apart(bin_middles(azimuths), azimuths[:, None]) / AZIMUTH_SPREAD).square())
    return weights / weights.sum(1, keepdim=True)


def view_size_of(source: LoadedModel) -> int:
    """Input size of a regressor of this model, in pixels along an edge."""
    return min(VIEW_SIZE, source.config.image_size)


def view_of_photo(photo: CutPhoto, size: int) -> Float[Tensor, "2 s s"]:
    """Silhouette and brightness of a photo as the network's input."""
    mask, image = (functional.adaptive_avg_pool2d(each, size) for each in (photo.mask, photo.image))
    return view_of(mask[None], image.mean(0)[None, None])[0]


def view_of(silhouette: Float[Tensor, "n 1 s s"], brightness: Float[Tensor, "n 1 s s"]) -> Float[Tensor, "n 2 s s"]:
    """Silhouettes, and brightness inside them with a mean of 0 and a standard deviation of 1 for each view."""
    area = silhouette.sum((1, 2, 3), keepdim=True).clamp_min(1.0)
    mean = (silhouette * brightness).sum((1, 2, 3), keepdim=True) / area
    off = silhouette * (brightness - mean)
    spread = (off.square().sum((1, 2, 3), keepdim=True) / area).sqrt()
    return torch.cat([2.0 * silhouette - 1.0, (off / (spread + 0.02)).clamp(-3.0, 3.0)], dim=1)


class TrainingViews(NamedTuple):
    """Views of generated shapes.

    Attributes:
        views: (n, 2, s, s) see `view_of`.
        angles: (n, 2) azimuth and elevation in radians.
        codes: (n, k) shape codes.
        exact: (n,) 1 if the view shows the shape of the code, 0 if it was stretched.
    """

    views: Float[Tensor, "n 2 s s"]
    angles: Float[Tensor, "n 2"]
    codes: Float[Tensor, "n k"]
    exact: Float[Tensor, " n"]


@torch.no_grad()
def draw_views(source: LoadedModel, settings: RegressionSettings, step: Step) -> TrainingViews:
    """Renders generated shapes with random viewpoints, distances and lights; `step` is called after every batch.

    Shapes in several pieces are left out: framing would show one piece as if it were the whole.

    Raises:
        RegressionError: no shape is in one piece.
    """
    model, size = source.model, view_size_of(source)
    device = next(model.parameters()).device
    generator = torch_generator(settings.seed, "regression", "views")
    bands = load_class(source.class_name).viewpoints
    azimuths, elevations = (
        (math.radians(min(low for low, _ in ranges)), math.radians(max(high for _, high in ranges)))
        for ranges in ([band.azimuth_deg for band in bands], [band.elevation_deg for band in bands])
    )
    lows = torch.tensor([azimuths[0], elevations[0] - MARGIN_ELEVATION])
    spans = torch.tensor([azimuths[1], elevations[1] + MARGIN_ELEVATION]) - lows
    at_once, drawn = max(1, min(16, 4 * 128**3 // (4 * source.config.resolution**3))), list[TrainingViews]()
    for first in range(0, settings.shapes, at_once):
        count = min(at_once, settings.shapes - first)
        codes = torch.randn(count, source.config.shape_code_size, generator=generator).to(device)
        volumes = model.generate_shapes(codes)
        whole = [share_in_largest_piece(volume[0], surface_level(source.config)) >= WHOLE for volume in volumes]
        codes, volumes = codes[whole], volumes[whole]
        step(first + count, settings.shapes)
        if not len(codes):
            continue
        exact = (torch.rand(len(codes), generator=generator) < 0.5).to(codes)
        volumes = _stretched(volumes, exact, generator)
        for _ in range(settings.views):
            angles = (lows + spans * torch.rand(len(codes), 2, generator=generator)).to(device)
            share = torch.rand(1, generator=generator).item()
            camera = Camera.at(DISTANCES[0] + (DISTANCES[1] - DISTANCES[0]) * share)
            seen = render_volume(model, volumes, angles, camera=camera, image_size=2 * size)
            framed = frame_seen(model, seen, angles, camera, size)
            views = view_of(framed.silhouette, shaded(framed, generator))
            drawn.append(TrainingViews(views.half(), angles, codes, exact))
    if not drawn:
        raise RegressionError("none of the model's shapes is in one piece: train it longer before it reads photos")
    return TrainingViews(*(torch.cat(parts) for parts in zip(*drawn, strict=True)))


def shaded(sketch: SurfaceSketch, generator: torch.Generator) -> Float[Tensor, "n 1 s s"]:
    """Brightness of surfaces under random lights, two tones to each object, with noise, in about [-1, 1]."""
    like, count = sketch.position, len(sketch.position)

    def draw(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator).to(like)

    def share(low: float, high: float) -> Tensor:
        return (low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)).to(like)

    normals = surface_normals(sketch.position, sketch.silhouette >= VISIBLE_SILHOUETTE)
    lights = functional.normalize(draw(3, 1, 1) + torch.tensor([0.0, 0.0, 1.0]).to(like).view(3, 1, 1), dim=1)
    fill, ambient = share(0.0, 0.5), share(0.2, 0.7)
    facing = (normals * lights).sum(1, keepdim=True)
    light = ambient + (1.0 - ambient) * (facing.clamp_min(0.0) + fill * (-facing).clamp_min(0.0))
    # Tones differ mostly along the height, as those of seats and legs do.
    across = functional.normalize(draw(3, 1, 1) * torch.tensor([0.4, 0.7, 1.5]).to(like).view(3, 1, 1), dim=1)
    second = torch.sigmoid(30.0 * ((sketch.position * across).sum(1, keepdim=True) - 0.4 * draw(1, 1, 1)))
    tones = torch.lerp(share(0.1, 1.0), share(0.1, 1.0), second)
    grain = functional.interpolate(draw(1, 8, 8), size=like.shape[-1], mode="bilinear") * share(0.0, 0.15)
    return 2.0 * tones * light * (1.0 + grain) - 1.0 + 0.05 * share(0.0, 1.0) * draw(1, *like.shape[-2:])


def _stretched(
    volumes: Float[Tensor, "n 1 r r r"], exact: Float[Tensor, " n"], generator: torch.Generator
) -> Float[Tensor, "n 1 r r r"]:
    """Volumes stretched along their axes and sheared back or forth, except those that are `exact`."""
    count = len(volumes)
    amount = (1.0 - exact)[:, None] * (2.0 * torch.rand(count, 4, generator=generator).to(volumes) - 1.0)
    # Rows and columns in the order of `affine_grid`: the last axis of the volume, z, comes first.
    matrix = torch.diag_embed(torch.exp(STRETCH * amount[:, :3].flip(1) + 0.5 * STRETCH * (1.0 - exact)[:, None]))
    matrix[:, 1, 0] = STRETCH * amount[:, 3]
    matrix = torch.cat([matrix, matrix.new_zeros(count, 3, 1)], dim=2)
    grid = functional.affine_grid(matrix, list(volumes.shape), align_corners=True)
    return functional.grid_sample(volumes, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def train_regressor(source: LoadedModel, settings: RegressionSettings, step: Step) -> PhotoRegressor:
    """Trains a regressor on a model's own shapes; `step` is called with steps done and total, and may raise."""
    batches = math.ceil(settings.shapes * settings.views / settings.batch_size)
    total = settings.shapes + settings.epochs * batches
    data = draw_views(source, settings, lambda done, _: step(done, total))
    network = PhotoRegressor(view_size_of(source), source.config.shape_code_size).to(data.views.device)
    initialise_kaiming(network, torch_generator(settings.seed, "regression", "weights"))
    generator = torch_generator(settings.seed, "regression", "order")
    mirrored = load_class(source.class_name).mirror_symmetry and source.config.symmetric
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs * batches)
    for epoch in range(settings.epochs):
        done = settings.shapes + epoch * batches
        for rows in torch.split(torch.randperm(len(data.views), generator=generator), settings.batch_size):
            batch = TrainingViews(*(part[rows.to(part.device)] for part in data))
            views, angles = _shifted(batch.views.float(), generator), batch.angles
            if mirrored and torch.rand(1, generator=generator) < 0.5:
                views, angles = views.flip(-1), angles * angles.new_tensor([-1.0, 1.0])
            with torch.enable_grad():
                loss = regression_loss(network, batch._replace(views=views, angles=angles))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            done += 1
            step(done, total)
    step(total, total)
    return network.eval()


def regression_loss(network: PhotoRegressor, batch: TrainingViews) -> Float[Tensor, ""]:
    """Cross-entropy of azimuths, robust error of elevations, squared error of the codes of `exact` views."""
    features, logs = network(batch.views)
    elevations, codes = network.at(features, batch.angles[:, 0])
    azimuth = -(soft_bins(batch.angles[:, 0]) * logs).sum(1).mean()
    elevation = functional.smooth_l1_loss(elevations, batch.angles[:, 1] / ELEVATION_SCALE)
    code = ((codes - batch.codes).square().mean(1) * batch.exact).sum() / batch.exact.sum().clamp_min(1.0)
    loss: Tensor = azimuth + elevation + code
    return loss


def photo_regressor(source: LoadedModel, settings: RegressionSettings, step: Step) -> PhotoRegressor:
    """The regressor of a model, trained with these settings if none is kept."""
    network = PhotoRegressor(view_size_of(source), source.config.shape_code_size)
    return kept_network(source, "photo-regressor", network, lambda: train_regressor(source, settings, step))


def kept_network(source: LoadedModel, name: str, network: Network, train: Callable[[], Network]) -> Network:
    """A network that inverts a checkpoint: the one kept beside its run, or else trained now, and kept.

    If the run is read-only the network is trained each time.

    Args:
        source: the model.
        name: of the network; also of its file.
        network: one of the same layout, whose weights are overwritten.
        train: trains it.
    """
    weights = read_inverse(source.run, name, source.checkpoint.sha256)
    if weights is not None:
        try:
            network.load_state_dict(weights)
            return network.to(next(source.model.parameters()).device).eval()
        except RuntimeError:
            _log.warning("the %s of %s has another layout than this version's; it is trained anew", name, source.run)
    trained = train()
    # Rounded as it is kept, so that the first use gives the same results as later ones.
    trained.load_state_dict({key: value.half().to(value.dtype) for key, value in trained.state_dict().items()})
    try:
        save_inverse(source.run, name, trained.state_dict(), source.checkpoint.sha256)
    except OSError as error:
        _log.warning("the %s of %s cannot be kept: %s", name, source.run, error)
    return trained


def _shifted(views: Float[Tensor, "n 2 s s"], generator: torch.Generator) -> Float[Tensor, "n 2 s s"]:
    """Views shifted by up to two pixels, as masks of photos are not exact."""
    down, right = torch.randint(-2, 3, (2,), generator=generator).tolist()
    moved = views.roll((down, right), (2, 3))
    for axis, by in ((2, down), (3, right)):
        gap = moved.narrow(axis, 0 if by > 0 else views.shape[axis] + by, abs(by))
        gap[:, :1], gap[:, 1:] = -1.0, 0.0
    return moved


def _apart(first: Tensor, second: Tensor) -> Tensor:
    """Absolute difference of angles around the circle."""
    return (torch.remainder(first - second + math.pi, 2.0 * math.pi) - math.pi).abs()


def _local_mean(
    likely: Float[Tensor, " bins"], middles: Float[Tensor, " bins"], peak: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """The mean azimuth around a peak, which lies between bins."""
    near = torch.where(_apart(middles, peak) < 2.0 * BIN, likely, 0.0)
    return torch.atan2((near * middles.sin()).sum(), (near * middles.cos()).sum())
