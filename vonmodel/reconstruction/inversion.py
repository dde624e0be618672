"""Inversion: the shape code of a mesh, predicted from its volume by a shape encoder and refined by gradient descent.

The encoder is the model's own, if it was trained with one. Otherwise it is trained on the model's own shapes, whose
codes are known, once for a checkpoint, and kept beside its run. Shapes outside the generator's range can only be
approximated, so the overlap of both shapes is always reported.
"""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vondata.dataset.schema import load_reason
from vondata.errors import VonError
from vondata.frames import Axis
from vondata.shapes.prepare import ShapeSettings, prepare_shape
from vondata.shapes.sources import BINVOX_SUFFIX, MESH_SUFFIXES
from vondata.types import Item, Rejected
from vonmodel.inference.sampling import Seed, generate_volumes
from vonmodel.inference.session import LoadedModel, ModelSession, Shape
from vonmodel.inference.views import View, base_viewpoint, draw_views, other_azimuths, turnable
from vonmodel.model import VonModel, initialise_kaiming
from vonmodel.networks import ShapeCodeRegressor
from vonmodel.reconstruction.carving import solid_of
from vonmodel.reconstruction.regression import kept_network
from vonmodel.reports.album import RESULT, Plate, Strip, Written, replaced_folder, write_account, write_each
from vonmodel.seeding import torch_generator

Phase = Literal["encoder", "descent"]
Progress = Callable[[Phase, int, int], None]
"""Called with the phase, its steps done and their number."""

Encoder = Callable[[Float[Tensor, "n 1 r r r"]], Float[Tensor, "n k"]]
"""Volumes -> shape codes."""

SHAPE_SUFFIXES = (*MESH_SUFFIXES, BINVOX_SUFFIX)
"""Files that are prepared on the fly."""
LEVELS = 3
"""Volumes are compared at this many grids, each half as fine as the last: coarse ones give gradients from afar."""
CODE_RATE = 0.1
CODE_WEIGHT = 0.01
"""Weight of a code's excess length over sampled codes, against the relative difference of volumes."""
SHORTER = (1.0, 0.6, 0.3, 0.0)
"""The descent starts from these multiples of the encoder's code: shorter codes give more typical shapes."""
TRIED = 8
"""Shapes that decide whether a model's own encoder is trained."""
NEARER = 0.9
"""Its squared errors are below this multiple of those to other shapes: 0.1 to 0.5 if trained, 1.00 if not."""
VIEWS = 4
_SHAPENET_MESH = "model_normalized.obj"


class GivenShapeError(VonError, ValueError):
    """A file that is not a shape, or an unusable one."""


@dataclass(frozen=True)
class EncoderSettings:
    """Settings of the encoder's training.

    Attributes:
        shapes: generated shapes.
        epochs: over all of them.
        batch_size: shapes a step.
        learning_rate: of Adam, following a cosine to zero.
        seed: of all random numbers.
    """

    shapes: int = 2000
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 2e-3
    seed: int = 0


@dataclass(frozen=True)
class InversionSettings:
    """Settings of an inversion.

    Attributes:
        steps: of the descent from every start; 0 keeps the encoder's code.
        encoder: how an encoder is trained for a model without one, if none is kept.
    """

    steps: int = 60
    encoder: EncoderSettings = field(default_factory=EncoderSettings)


@dataclass(frozen=True, eq=False)
class Inversion:
    """The inversion of a given shape.

    Attributes:
        given: the given shape, in the model's representation.
        shape: the shape of the code found, with the name of the given one.
        iou: intersection over union of both solids, on the grid that the model's shapes are rendered on.
        encoder_iou: the same for the encoder's code.
    """

    given: Shape
    shape: Shape
    iou: float
    encoder_iou: float


class Inverter:
    """Finds codes with one model; unless the model has an encoder, one is trained, or read, on first use."""

    def __init__(self, session: ModelSession, settings: InversionSettings | None = None) -> None:
        self.session = session
        self.settings = settings or InversionSettings()
        self._encoder: Encoder | None = None

    def invert(self, given: Shape, progress: Progress | None = None) -> Inversion:
        """Finds the code whose shape overlaps the given one most; deterministic."""

        def step(phase: Phase, done: int, total: int) -> None:
            if progress is not None:
                progress(phase, done, total)

        encode, session = self._encoder_of(step), self.session
        model, volume = session.source.model, given.volume[None]
        with torch.no_grad():
            encoded = encode(volume)[0]
            if self.session.config.symmetric:
                # The generator's shapes are symmetric: the mirror image has the same code, and errors halve.
                encoded = (encoded + encode(volume.flip(2))[0]) / 2.0
        codes = torch.stack([share * encoded for share in SHORTER])
        descended = descend(model, volume, codes, self.settings.steps, partial(step, "descent"))
        candidates = [session.shape_of_code(code, given.name) for code in (encoded, *descended)]
        solid = solid_of(model, given.volume)
        overlaps = [_iou(solid_of(model, each.volume), solid) for each in candidates]
        best = max(range(len(candidates)), key=lambda index: overlaps[index])
        return Inversion(given, candidates[best], overlaps[best], overlaps[0])

    def _encoder_of(self, step: Callable[[Phase, int, int], None]) -> Encoder:
        if self._encoder is None:
            self._encoder = own_encoder(self.session.source.model) or shape_encoder(
                self.session.source, self.settings.encoder, partial(step, "encoder")
            )
        return self._encoder


def own_encoder(model: VonModel) -> Encoder | None:
    """The encoder that the model was trained with; None if it has none, or one that is not trained.

    Packed models come without its weights. It counts as trained if its reconstructions of the model's shapes are
    nearer to their own shape than to another one; without training they hardly depend on it.
    """
    network, prior = model.shape_encoder, model.shape_prior
    if network is None:
        return None

    def latents(volumes: Float[Tensor, "n 1 r r r"]) -> Float[Tensor, "n k"]:
        mean: Tensor = network(volumes)[0]
        return mean

    with torch.no_grad():
        size = model.config.shape_code_size
        shapes = generate_volumes(model, torch.randn(TRIED, size, generator=torch_generator(0, "encoder", "tried")))
        again = model.decode_shapes(latents(shapes))
        own, other = ((again - each).square().sum() for each in (shapes, shapes.roll(1, 0)))
    if not own < NEARER * other:
        return None
    return latents if prior is None else lambda volumes: prior(latents(volumes))[0]


def shape_encoder(
    source: LoadedModel, settings: EncoderSettings, step: Callable[[int, int], None]
) -> ShapeCodeRegressor:
    """The encoder of a model, trained with these settings if none is kept."""
    network = ShapeCodeRegressor(source.config.resolution, source.config.shape_code_size)
    return kept_network(source, "shape-encoder", network, lambda: train_encoder(source, settings, step))


def train_encoder(
    source: LoadedModel, settings: EncoderSettings, step: Callable[[int, int], None]
) -> ShapeCodeRegressor:
    """Trains an encoder on a model's own shapes; `step` is called with the steps done and their number, may raise."""
    model, size = source.model, source.config.shape_code_size
    device = next(model.parameters()).device
    batches = math.ceil(settings.shapes / settings.batch_size)
    total = batches * (1 + settings.epochs)
    codes = torch.randn(settings.shapes, size, generator=torch_generator(settings.seed, "encoder", "codes"))
    kept = list[Tensor]()
    encoder = ShapeCodeRegressor(source.config.resolution, size).to(device)
    for some in torch.split(codes, settings.batch_size):
        with torch.no_grad():
            volumes = generate_volumes(model, some)
            kept.append(functional.adaptive_avg_pool3d(volumes, encoder.resolution).half())
        step(len(kept), total)
    volumes = torch.cat(kept)
    initialise_kaiming(encoder, torch_generator(settings.seed, "encoder", "weights"))
    order = torch_generator(settings.seed, "encoder", "order")
    optimizer = torch.optim.Adam(encoder.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs * batches)
    done = batches
    for _ in range(settings.epochs):
        for rows in torch.split(torch.randperm(settings.shapes, generator=order), settings.batch_size):
            with torch.enable_grad():
                found = encoder(volumes[rows.to(device)].float())
                loss = (found - codes[rows].to(device)).square().mean()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(encoder.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            done += 1
            step(done, total)
    return encoder.eval()


def descend(
    model: VonModel,
    volume: Float[Tensor, "1 1 r r r"],
    codes: Float[Tensor, "n k"],
    steps: int,
    step: Callable[[int, int], None],
) -> Float[Tensor, "n k"]:
    """Adam from every code towards the volume; returns the best code of each start."""
    best, least = codes.clone(), torch.full((len(codes),), math.inf, device=codes.device)
    moved = codes.clone().requires_grad_()
    optimizer = torch.optim.Adam([moved], lr=CODE_RATE, betas=(0.8, 0.95))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    for index in range(steps + 1):
        with torch.enable_grad():
            losses = volume_losses(model.generate_shapes(moved), volume)
            losses = losses + CODE_WEIGHT * (moved.square().mean(1) - 1.0).clamp_min(0.0)
        nearer = losses.detach() < least
        best[nearer], least[nearer] = moved.detach()[nearer], losses.detach()[nearer]
        if index < steps:
            optimizer.zero_grad()
            torch.autograd.backward(losses.sum())
            optimizer.step()
            schedule.step()
            step(index + 1, steps)
    return best


def volume_losses(found: Float[Tensor, "n 1 r r r"], wanted: Float[Tensor, "1 1 r r r"]) -> Float[Tensor, " n"]:
    """Squared differences of volumes relative to those of an empty volume, mean over the levels."""
    levels = []
    for level in range(LEVELS):
        ours, theirs = (functional.avg_pool3d(each, 2**level) for each in (found, wanted))
        levels.append((ours - theirs).square().mean((1, 2, 3, 4)) / theirs.square().mean().clamp_min(1e-6))
    return torch.stack(levels).mean(0)


def given_shape(session: ModelSession, name: str, *, up: Axis | None = None, front: Axis | None = None) -> Shape:
    """A user's shape: a mesh or .binvox file, prepared now; a prepared .npz file; or the id of a prepared shape.

    Args:
        session: the model it is for.
        name: a path, or the id of a prepared shape.
        up: up axis of a file; if None +y for meshes and +z for voxels, as in exports.
        front: the axis that the front faces; if None +z for meshes, -z for ShapeNetCore's and +y for voxels.

    Raises:
        GivenShapeError: a file is not a mesh, or cannot be prepared.
        UnknownShapeError, ManifestMissingError, ShapeFileError, ResolutionError: as for `ModelSession`.
    """
    path = Path(name).expanduser()
    if path.suffix == ".npz" and path.is_file():
        return session.shape_of_file(path)
    if path.suffix.lower() not in SHAPE_SUFFIXES and not path.exists() and "/" not in name:
        return session.prepared_shape(name)
    if not path.is_file():
        raise GivenShapeError(f"{path}: {'name a file, not a folder' if path.is_dir() else 'no such file'}")
    voxels = path.suffix.lower() == BINVOX_SUFFIX
    axes = {
        "up": up or ("z" if voxels else "y"),
        "front": front or ("y" if voxels else "-z" if path.name == _SHAPENET_MESH else "z"),
    }
    item = Item(path.stem, session.source.class_name, str(path), (str(path),), fields=axes)
    resolution = max(32, session.config.resolution, session.config.finer_grid)
    with tempfile.TemporaryDirectory(prefix="von-given-") as folder:
        file = Path(folder) / f"{path.stem}.npz"
        try:
            prepare_shape(item, ShapeSettings(resolution=resolution), file)
        except Rejected as error:
            advice = load_reason(error.reason).advice
            raise GivenShapeError(f"{path}: {error.detail} ({error.reason}); {advice}") from error
        return session.shape_of_file(file)


def invert_shapes(
    inverter: Inverter, given: Sequence[Shape], output: Path, progress: Progress | None = None
) -> dict[str, Any]:
    """Writes the codes of given shapes as result.json, with pictures of both and a page.

    Args:
        inverter: the model and its settings.
        given: the shapes (see `given_shape`).
        output: the folder; an older inversion in it is replaced.
        progress: called after every step on a shape.

    Returns:
        the content of result.json.

    Raises:
        OutputError: the folder holds something other than an older inversion.
    """
    session = inverter.session
    with replaced_folder(output, "invert") as folder:

        def write_one(shape: Shape, name: str) -> Written:
            return _written(session, inverter.invert(shape, progress), folder, name)

        written = write_each(given, write_one, folder, None)
        lead = "Above what was given, below the shape of the code that comes nearest, in the same texture."
        words = f"Codes of {session.source.class_name}s", lead
        asked = dataclasses.asdict(inverter.settings)
        return write_account(folder, "invert", session.source.provenance, asked, words, written)


def read_inverted_shapes(session: ModelSession, folder: Path) -> list[Shape]:
    """The shapes of the codes that an inversion found.

    Args:
        session: the model.
        folder: the output of `invert_shapes`, or its result.json.

    Raises:
        GivenShapeError: it is damaged, not an inversion, or of another checkpoint.
        CodeError: its codes are of another model.
    """
    file = folder / RESULT if folder.is_dir() else folder
    try:
        said = json.loads(file.read_text("utf-8"))
        codes = [(str(each["name"]), each["shape_code"]) for each in said["objects"]]
        verb, checkpoint = said["verb"], said["checkpoint"]
        name, same = checkpoint["name"], checkpoint["sha256"] == session.source.checkpoint.sha256
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GivenShapeError(f"{file} is missing or damaged; invert the shape again") from error
    if verb != "invert":
        raise GivenShapeError(f"{file} is not the result of an inversion")
    if not same:
        raise GivenShapeError(f"{file} was made with checkpoint {name}, not with {session.source.checkpoint.name}")
    return [session.shape_of_code(code, name) for name, code in codes]


def is_inversion(path: Path) -> bool:
    """Whether a folder, or its result.json, holds an inversion."""
    file = path / RESULT if path.is_dir() else path
    try:
        return file.name == RESULT and json.loads(file.read_text("utf-8")).get("verb") == "invert"
    except (OSError, ValueError, AttributeError):
        return False


def _written(session: ModelSession, found: Inversion, folder: Path, name: str) -> Written:
    viewpoint, texture = base_viewpoint(session, found.given, None, None), session.texture(Seed(0))
    strips = []
    for label, kind, shape in (("given", "given", found.given), ("of its code", "found", found.shape)):
        views = other_azimuths(View(kind, "", shape, viewpoint, texture), VIEWS)
        views = [dataclasses.replace(view, name=f"{kind}-{view.name}") for view in views]
        strips.append(Strip(label, draw_views(session, views, folder, name)))
    said = {
        "name": found.given.name,
        "iou": found.iou,
        "encoder_iou": found.encoder_iou,
        "shape_code": [] if found.shape.code is None else found.shape.code.tolist(),
        "pictures": {strip.label: [each.file for each in strip.pictures] for strip in strips},
    }
    facts = f"solids overlap {found.iou:.0%}, {found.encoder_iou:.0%} before the descent"
    return said, Plate(found.given.name, facts, tuple(strips), (), (), turnable(session, found.shape, texture))


def _iou(first: Any, second: Any) -> float:
    """Intersection over union of solids; 0 if both are empty."""
    return float((first & second).sum() / max(1, (first | second).sum()))
