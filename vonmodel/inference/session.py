"""Loading of a trained model from its run, and the session that computes and caches shapes, sketches and images."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vondata.errors import VonError
from vonmodel.builtin import spoken_run
from vonmodel.checkpoint import CheckpointInfo, ClassNotInModelError, chosen_class, load_model
from vonmodel.config import ModelConfig
from vonmodel.data.datasets import ShapeDataset, ViewpointSampler, read_shape_volume, viewpoint_sampler
from vonmodel.inference.rendering import largest_pieces, share_in_largest_piece
from vonmodel.inference.sampling import (
    Rendering,
    SamplingOptions,
    Seed,
    Viewpoints,
    generate_volumes,
    render_sketches,
    sample_viewpoints,
)
from vonmodel.mesh import SurfaceMesh, surface_mesh, without_crumbs
from vonmodel.model import VonModel, arrange_channels_last
from vonmodel.projection import SurfaceSketch
from vonmodel.reports.provenance import Provenance
from vonmodel.representation import refined, surface_field, surface_level
from vonmodel.run_folder import RunFolder


@dataclass(frozen=True)
class LoadedModel:
    """A trained model and its origin.

    Attributes:
        model: in evaluation mode, on the device to compute on.
        checkpoint: the checkpoint of its weights.
        run: the run folder.
        class_name: the object class.
        sampler: the class's viewpoints.
        data: the prepared dataset of the class; it may be missing.
        sampling: how codes are sampled and which pieces of shapes are kept.
        critic_trained: whether the shape stage trained the shape critic, so that its scores say something.
    """

    model: VonModel
    checkpoint: CheckpointInfo
    run: Path
    class_name: str
    sampler: ViewpointSampler
    data: Path = Path("data")
    sampling: SamplingOptions = SamplingOptions()  # noqa: RUF009  # frozen
    critic_trained: bool = True

    @property
    def config(self) -> ModelConfig:
        """Sizes and representation."""
        return self.model.config

    @property
    def provenance(self) -> Provenance:
        """The provenance recorded with results of this model."""
        config, checkpoint = self.config, dataclasses.asdict(self.checkpoint)
        sizes = (config.resolution, config.image_size)
        sampling = dataclasses.asdict(self.sampling)
        return Provenance(self.class_name, spoken_run(self.run), checkpoint, *sizes, sampling=sampling)


def open_model(
    run: Path,
    *,
    data: Path,
    checkpoint: str | None = None,
    device: str = "cpu",
    sampling: SamplingOptions = SamplingOptions(),  # noqa: B008  # frozen
    class_name: str | None = None,
) -> LoadedModel:
    """Loads the model of a run.

    Args:
        run: the run folder.
        data: the prepared dataset, for the viewpoints of the class; it may be missing.
        checkpoint: name of the checkpoint; the newest if None.
        device: where to compute.
        sampling: how codes are sampled and which pieces of shapes are kept.
        class_name: the class to generate with a model of several classes; the first if None.

    Raises:
        ClassNotInModelError: the model is not of this class.
        RunError: the folder is not a run.
        CheckpointError: the checkpoint is missing, damaged or of another version.
        ConfigError: its configuration cannot be read.
        UnknownClassError: its class is not known.
    """
    folder = RunFolder(run)
    config = chosen_class(folder.config(), class_name)
    model, info = load_model(run, checkpoint=checkpoint, device=device)
    model.choose_class(config.class_name)
    if device == "cpu":
        arrange_channels_last(model)
    sampler = viewpoint_sampler(data, config.class_name, source=config.data.viewpoints)
    critic_trained = config.shape.critic_from < 1.0
    return LoadedModel(model, info, run, config.class_name, sampler, data, sampling, critic_trained)


Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
Made = TypeVar("Made")
CodeLike = Seed | int | Sequence[float] | Tensor
"""A code by its seed, or the code itself."""
MAX_BATCH_IMAGES = 32
MADE_KEPT = 8
"""Textured meshes that a session caches, a few MB each."""


class UnknownShapeError(VonError, ValueError):
    """A prepared shape that the dataset does not have."""


class CodeError(VonError, ValueError):
    """A code of the wrong length, or with values that are not finite."""

    http_status = 400


@dataclass(frozen=True, eq=False)
class Shape:
    """A shape: its volume and its origin.

    Attributes:
        name: display name: `seed 7`, `chair 1a2b`.
        volume: (1, g, g, g) in the model's representation, on its device; of the model's resolution, or finer if it
            was carved.
        code: (k,) its shape code; None for a shape without one.
        key: cache key, equal for equal volumes.
        seed: of its code; None if the code was not sampled.
        largest_piece: fraction of the generated solid in its largest piece, before loose ones were removed; 1 for a
            shape without a code.
    """

    name: str
    volume: Float[Tensor, "1 g g g"]
    code: Float[Tensor, " k"] | None
    key: bytes
    seed: Seed | None = None
    largest_piece: float = 1.0


class LruCache(OrderedDict[Key, Value]):
    """A least-recently-used cache."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def keep(self, used: Mapping[Key, Value]) -> None:
        """Inserts or refreshes values and evicts the least recently used ones."""
        for key, value in used.items():
            self[key] = value
            self.move_to_end(key)
        while len(self) > self._most:
            self.popitem(last=False)


class ModelSession:
    """Shapes, sketches, images and meshes of one model; results depend on the arguments only, not on earlier calls.

    To be used by one thread at a time. Angles are in radians. Nothing here tracks gradients.

    Attributes:
        source: the model and its origin.
    """

    def __init__(self, source: LoadedModel, *, shapes_kept: int = 32, sketches_kept: int = 256) -> None:
        """Takes a model (see `open_model`).

        Args:
            source: the model.
            shapes_kept: number of generated shapes in the cache, 4 bytes a voxel.
            sketches_kept: number of sketches in the cache, 24 bytes a pixel.
        """
        self.source = source
        self._volumes: LruCache[bytes, tuple[Tensor, float]] = LruCache(shapes_kept)
        self._sketches: LruCache[tuple[bytes, float, float], SurfaceSketch] = LruCache(sketches_kept)
        self._made: LruCache[Hashable, Any] = LruCache(MADE_KEPT)

    @property
    def config(self) -> ModelConfig:
        """Sizes and representation of the model."""
        return self.source.model.config

    @property
    def device(self) -> torch.device:
        """The model's device."""
        return next(self.source.model.parameters()).device

    @property
    def level(self) -> float:
        """The value of a volume on its surface."""
        return surface_level(self.config)

    def code(
        self, which: CodeLike, purpose: Literal["shape", "texture"], truncation: float | None = None
    ) -> Float[Tensor, " k"]:
        """The code of a seed, or the given code, checked.

        Args:
            which: a seed or a code.
            purpose: the network that takes the code.
            truncation: standard deviation of the codes of seeds; that of the source's sampling options if None.

        Raises:
            SeedError: the seed is out of range.
            CodeError: the code has the wrong length or is not finite.
        """
        size = self.config.shape_code_size if purpose == "shape" else self.config.texture_code_size
        if isinstance(which, Seed | int):
            own = self.source.sampling.truncation
            return _seed(which).code(size, purpose, own if truncation is None else truncation)
        code = torch.as_tensor(which, dtype=torch.float32).detach().cpu()
        with_classes = (size + len(self.config.classes),)
        if code.shape not in ((size,), with_classes) or not torch.isfinite(code).all():
            raise CodeError(f"a {purpose} code of this model is {size} finite numbers; this one is not")
        return code

    def between_classes(
        self, codes: Float[Tensor, "n k"], fractions: Float[Tensor, " n"], to_class: str
    ) -> Float[Tensor, "n d"]:
        """Codes with the class weights of a path: the session's class at fraction 0, `to_class` at 1.

        Raises:
            ClassNotInModelError: the model is not of this class.
        """
        names = self.config.classes or (self.source.class_name,)
        if to_class not in names:
            raise ClassNotInModelError(f"this model is of {', '.join(names)}, not of {to_class}")
        start, end = (torch.eye(len(names))[names.index(each)] for each in (self.source.class_name, to_class))
        t = fractions[:, None]
        return torch.cat([codes, (1.0 - t) * start + t * end], dim=1) if self.config.classes else codes

    def texture(self, which: CodeLike) -> Float[Tensor, " k"]:
        """The texture code of a seed, or the code itself; errors as `code`."""
        return self.code(which, "texture")

    def shape(self, which: CodeLike) -> Shape:
        """The shape of a seed or of a shape code; errors as `code`."""
        return self.shapes([which])[0]

    def shapes(self, which: Sequence[CodeLike]) -> list[Shape]:
        """The shapes of seeds or shape codes, generated in one batch unless cached; errors as `code`."""
        codes = [self.code(each, "shape") for each in which]
        keys = [code.numpy().tobytes() for code in codes]
        new = {key: code for key, code in zip(keys, codes, strict=True) if key not in self._volumes}
        found = {key: self._volumes[key] for key in keys if key not in new}
        if new:
            with torch.no_grad():
                codes_of_new = torch.stack(list(new.values()))
                volumes = generate_volumes(self.source.model, codes_of_new)
                shares = [share_in_largest_piece(volume[0], self.level) for volume in volumes]
                if self.source.sampling.pieces == "largest":
                    volumes = largest_pieces(volumes, self.level)
                found |= zip(new, zip(volumes, shares, strict=True), strict=True)
        self._volumes.keep(found)
        seeds = [_seed(each) if isinstance(each, Seed | int) else None for each in which]
        return [
            Shape("a code" if seed is None else f"seed {seed}", found[key][0], code, key, seed, found[key][1])
            for seed, key, code in zip(seeds, keys, codes, strict=True)
        ]

    def shape_of_code(self, code: Sequence[float] | Tensor, name: str) -> Shape:
        """The shape of a code, with the given name; errors as `code`."""
        return replace(self.shape(code), name=name)

    def shape_of_volume(self, name: str, volume: Float[Tensor, "1 g g g"]) -> Shape:
        """A shape without a code: its volume in the model's representation, of its resolution or finer."""
        digest = hashlib.blake2b(volume.cpu().contiguous().numpy().tobytes()).digest()
        return Shape(name, volume.to(self.device), None, digest)

    def prepared_shape(self, id: str) -> Shape:
        """A shape of the prepared dataset.

        Raises:
            UnknownShapeError: the dataset has no usable shape of this id.
            ManifestMissingError: the dataset has no shapes of the class.
            ShapeFileError: its file is damaged.
            ResolutionError: it was prepared at a lower resolution than the model's.
        """
        source = self.source
        dataset = ShapeDataset(
            source.data,
            source.class_name,
            resolution=self.config.resolution,
            representation=self.config.representation,
            band=self.config.band,
            split=None,
        )
        if id not in dataset.ids:
            some = ", ".join(dataset.ids[:3])
            raise UnknownShapeError(f"{source.data} has no prepared {source.class_name} {id!r}; it has {some} ...")
        return self.shape_of_volume(f"{source.class_name} {id}", dataset[dataset.ids.index(id)])

    def shape_of_file(self, path: Path) -> Shape:
        """The shape of a prepared .npz file; errors as `read_shape_volume`."""
        return self.shape_of_volume(path.stem, read_shape_volume(path, self.config))

    def viewpoints(self, count: int, seed: int) -> Viewpoints:
        """Viewpoints sampled from the class's distribution, equal for equal seeds."""
        return sample_viewpoints(count, self.source.sampler, seed=Seed(seed).checked().seed)

    def sketch(self, shape: Shape, azimuth: float, elevation: float) -> SurfaceSketch:
        """The sketch of a shape, (1, 1, R, R) each."""
        return self.sketches([shape], np.array([[azimuth, elevation]]))

    def sketches(self, shapes: Sequence[Shape], viewpoints: Viewpoints) -> SurfaceSketch:
        """Sketches of shapes, each from its viewpoint (n, 2); cached ones are not projected again."""
        if not np.isfinite(viewpoints).all():
            raise ValueError("a viewpoint is two finite angles")
        keys = [
            (shape.key, float(azimuth), float(elevation))
            for shape, (azimuth, elevation) in zip(shapes, viewpoints, strict=True)
        ]
        new = {key: shape for key, shape in zip(keys, shapes, strict=True) if key not in self._sketches}
        found = {key: self._sketches[key] for key in keys if key not in new}
        if new:
            for size in {shape.volume.shape[-1] for shape in new.values()}:
                alike = {key: shape.volume for key, shape in new.items() if shape.volume.shape[-1] == size}
                with torch.inference_mode():
                    volumes, views = torch.stack(list(alike.values())), np.array([angles for _, *angles in alike])
                    seen = render_sketches(self.source.model, volumes, views)
                # Cloned outside of inference mode, a sketch can be part of a differentiable computation.
                found |= {
                    key: SurfaceSketch(*(part[index].clone() for part in seen)) for index, key in enumerate(alike)
                }
        self._sketches.keep(found)
        return SurfaceSketch(*(torch.stack(parts) for parts in zip(*(found[key] for key in keys), strict=True)))

    def image(self, shape: Shape, azimuth: float, elevation: float, texture: Tensor) -> Float[Tensor, "3 R R"]:
        """The image of a shape in a texture, in [-1, 1], the object on white."""
        return self.render([shape], np.array([[azimuth, elevation]]), texture[None]).images[0]

    def render(self, shapes: Sequence[Shape], viewpoints: Viewpoints, textures: Float[Tensor, "n k"]) -> Rendering:
        """Sketches and images of shapes, each from its viewpoint (n, 2) and in its texture."""
        sketches = self.sketches(shapes, viewpoints)
        return Rendering(sketches, self.paint(sketches, textures))

    def paint(self, sketches: SurfaceSketch, textures: Float[Tensor, "n k"]) -> Float[Tensor, "n 3 R R"]:
        """Images of sketches, each in its texture, or of a single sketch in all textures."""
        codes = torch.split(textures.to(self.device), MAX_BATCH_IMAGES)
        some = list(zip(*(torch.split(part, MAX_BATCH_IMAGES) for part in sketches), strict=True))
        if len(sketches.silhouette) == 1:
            some *= len(codes)
        pieces = zip(some, codes, strict=True)
        with torch.inference_mode():
            images = torch.cat([self.source.model.paint(SurfaceSketch(*each), chosen) for each, chosen in pieces])
        return images.clone()  # outside of inference mode: usable in a differentiable computation

    def encode_texture(self, image: Float[Tensor, "3 R R"]) -> Float[Tensor, " k"]:
        """The texture code of an image in [-1, 1], the object on white, given by the texture encoder."""
        with torch.no_grad():
            mean: Tensor = self.source.model.texture_encoder(image[None].to(self.device))[0]
        return mean[0].cpu()

    def score(self, shape: Shape) -> float:
        """How good a shape on the model's own grid is likely to be: larger is better, only the order counts.

        The shape critic's score; if no critic was trained, minus the norm of the code: codes near 0 are typical.
        """
        if not self.source.critic_trained and shape.code is not None:
            return -float(shape.code.norm())
        with torch.no_grad():
            return float(self.source.model.shape_critic(shape.volume[None])[0])

    def mesh(self, shape: Shape, level: float | None = None, grid: int | None = None) -> SurfaceMesh:
        """The closed surface of a shape; without faces if nothing exceeds the level.

        Where only the largest piece of generated shapes is kept, crumbs of the surface are dropped too.

        Args:
            shape: the shape.
            level: value of the volume on the surface; the representation's own if None.
            grid: voxels along an edge of the grid that it is extracted from, interpolated cubically; the
                configuration's if None.
        """
        field = surface_field(self.config, shape.volume)
        if grid is not None and grid > field.shape[-1]:
            field = refined(shape.volume[None], grid)[0]
        mesh = surface_mesh(field[0].cpu().numpy(), self.level if level is None else level)
        is_whole = shape.code is None or self.source.sampling.pieces == "all"
        return mesh if is_whole else without_crumbs(mesh)

    def remembered(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """The cached result of this key, else that of `make`; for results that take seconds, such as textures."""
        if key not in self._made:
            self._made.keep({key: make()})
        value: Made = self._made[key]
        self._made.keep({key: value})
        return value


def _seed(which: Seed | int) -> Seed:
    return which if isinstance(which, Seed) else Seed(which)
