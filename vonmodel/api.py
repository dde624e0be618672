"""Python API of a trained model: sampling, editing, rendering, reconstruction from photos and export.

    from vonmodel import load_run

    model = load_run("runs/chair")
    view = model.view(shape=7, texture=3, azimuth_deg=40.0, elevation_deg=20.0)
    model.render(view).image  # (R, R, 3) uint8

Shapes, viewpoints and texture codes are independent: `edit` changes one of them and leaves the others as they are.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from vondata.errors import VonError
from vondata.io.fs import DataFolder, mirror
from vonmodel.builtin import builtin_name, unpack_builtin
from vonmodel.config import ModelConfig
from vonmodel.inference.export import ExportSettings, FileFormat, write_shape_files
from vonmodel.inference.interpolate import interpolate_linear, interpolate_spherical
from vonmodel.inference.photo import CutPhoto, photo_of_pixels, read_photo
from vonmodel.inference.sampling import Seed, parse_seed
from vonmodel.inference.session import ModelSession, Shape, open_model
from vonmodel.inference.texture_baking import painted_mesh
from vonmodel.mesh import SurfaceMesh, to_pixels
from vonmodel.reconstruction.reconstruct import Reconstructor, ReconstructSettings
from vonmodel.run_folder import latest_run

Floats = npt.NDArray[np.float32]
Code = int | str | Sequence[float] | npt.NDArray[np.floating[Any]] | torch.Tensor
"""A code by its seed (`7`, or `"7:3"` for the third code of seed 7), or the numbers of the code itself."""
PhotoLike = str | Path | npt.NDArray[np.uint8]
"""The path of an image file, or (S, S, 4) pixels with the object's mask as alpha, cut out and centred."""
FORMATS: tuple[FileFormat, ...] = get_args(FileFormat)


class ArgumentError(VonError, ValueError):
    """An argument that the model cannot take; the message says what it accepts."""

    http_status = 400


@dataclass(frozen=True, eq=False)
class ObjectView:
    """A view to render, as three independent factors: shape, viewpoint and texture.

    Attributes:
        shape: the shape, with its (1, r, r, r) volume and its code.
        azimuth_deg: azimuth of the camera; 0 sees the front, 90 the object's left side.
        elevation_deg: elevation of the camera above the object's centre.
        texture: (k,) the texture code.
    """

    shape: Shape
    azimuth_deg: float
    elevation_deg: float
    texture: Floats


@dataclass(frozen=True, eq=False)
class RenderedView:
    """Image, silhouette and depth of a view, R pixels along an edge.

    Attributes:
        image: (R, R, 3) uint8, the object on white.
        silhouette: (R, R) float32, the fraction of the pixel that the object covers, in [0, 1].
        depth: (R, R) float32, near is 1, far and the background -1, normalised over the object.
    """

    image: npt.NDArray[np.uint8]
    silhouette: Floats
    depth: Floats


@dataclass(frozen=True, eq=False)
class PhotoFit:
    """Shape, viewpoint and texture fitted to a photo.

    Attributes:
        view: shape, viewpoint and texture of the photo.
        silhouette_iou: IoU of the photo's mask and the shape's silhouette, in [0, 1].
        confidence: probability of the viewpoint among those that were fitted, in [0, 1].
        alternatives: other fitted viewpoints, best first: (azimuth, elevation) in degrees.
    """

    view: ObjectView
    silhouette_iou: float
    confidence: float
    alternatives: tuple[tuple[float, float], ...]


def load_run(
    run: str | Path | None = None,
    *,
    class_name: str | None = None,
    checkpoint: str | None = None,
    data: str | Path = "data",
    runs: str | Path = "runs",
    device: str = "cpu",
) -> TrainedModel:
    """Loads a trained model.

    Args:
        run: a run folder, its URL such as s3://bucket/runs/chair, which is copied into the cache, or `builtin:chair`,
            a model that comes with the package. Without it and `class_name`, the run trained last.
        class_name: loads the run of this class in `runs`; together with `run`, the class to generate with a model of
            several classes.
        checkpoint: name of a checkpoint; the newest if None.
        data: the prepared dataset of the class, for its viewpoints and shapes; it may be missing.
        runs: the folder of runs.
        device: "cpu", "cuda" or "cuda:1".

    Raises:
        ClassNotInModelError: the run's model is not of this class.
        RunError: there is no such run.
        CheckpointError: the run has no such checkpoint, or a damaged one.
        RemoteError: the URL cannot be read.
        BuiltinModelError: the package has no such model.
    """
    builtin = None if run is None else builtin_name(run)
    if run is None and class_name is not None:
        path = Path(runs) / class_name
    elif builtin is not None:
        path = unpack_builtin(builtin).path
    elif run is None:
        path = latest_run(Path(runs)).path
    else:
        path = mirror(DataFolder.at(run))
    source = open_model(path, data=Path(data), checkpoint=checkpoint, device=device, class_name=class_name)
    return TrainedModel(ModelSession(source))


class TrainedModel:
    """A trained Visual Object Network. Equal arguments give equal results; nothing tracks gradients."""

    def __init__(self, session: ModelSession) -> None:
        self.session = session
        self._reconstructor: Reconstructor | None = None

    def __repr__(self) -> str:
        source, config = self.session.source, self.config
        sizes = f"{config.resolution}^3 voxels, {config.image_size} px"
        return f"TrainedModel({source.class_name}, {source.checkpoint.name} of {source.run}, {sizes})"

    @property
    def config(self) -> ModelConfig:
        """Sizes and representation of the model."""
        return self.session.config

    @property
    def class_name(self) -> str:
        """The object class, such as chair."""
        return self.session.source.class_name

    def shape(self, which: Code) -> Shape:
        """The shape of a seed or of a shape code.

        Raises:
            SeedError: the seed cannot be parsed.
            CodeError: the code has the wrong length or values that are not finite.
        """
        return self.session.shape(_code_like(which))

    def shapes(self, count: int, seed: int = 0) -> list[Shape]:
        """`count` random shapes, generated together; the n-th one is `shape(f"{seed}:{n}")`, counted from 1."""
        return self.session.shapes([Seed(seed, number) for number in range(1, count + 1)])

    def prepared_shape(self, id: str) -> Shape:
        """A shape of the prepared dataset.

        Raises:
            UnknownShapeError: the dataset has no usable shape of this id.
            ManifestMissingError: the dataset has no shapes of the class.
        """
        return self.session.prepared_shape(id)

    def texture(self, which: Code) -> Floats:
        """(k,) the texture code of a seed, or the code itself; errors as `shape`."""
        return self.session.texture(_code_like(which)).numpy()

    def view(
        self,
        shape: Code | Shape = 0,
        texture: Code = 0,
        azimuth_deg: float | None = None,
        elevation_deg: float | None = None,
        *,
        seed: int = 0,
    ) -> ObjectView:
        """A view to render; an angle that is not given is sampled, with `seed`, from the viewpoints of the class."""
        azimuth, elevation = np.degrees(self.session.viewpoints(1, seed)[0])
        return ObjectView(
            shape if isinstance(shape, Shape) else self.shape(shape),
            float(azimuth) if azimuth_deg is None else _angle(azimuth_deg),
            float(elevation) if elevation_deg is None else _angle(elevation_deg),
            self.texture(texture),
        )

    def edit(
        self,
        view: ObjectView,
        *,
        shape: Code | Shape | None = None,
        texture: Code | None = None,
        azimuth_deg: float | None = None,
        elevation_deg: float | None = None,
    ) -> ObjectView:
        """The view with the given factors changed and the others kept."""
        return ObjectView(
            view.shape if shape is None else shape if isinstance(shape, Shape) else self.shape(shape),
            view.azimuth_deg if azimuth_deg is None else _angle(azimuth_deg),
            view.elevation_deg if elevation_deg is None else _angle(elevation_deg),
            view.texture if texture is None else self.texture(texture),
        )

    def render(self, view: ObjectView) -> RenderedView:
        """The image and the sketch of a view."""
        return self.render_all([view])[0]

    def render_all(self, views: Sequence[ObjectView]) -> list[RenderedView]:
        """Images and sketches of views, rendered in one batch."""
        if not views:
            return []
        viewpoints = np.radians([[view.azimuth_deg, view.elevation_deg] for view in views])
        textures = torch.stack([torch.as_tensor(view.texture) for view in views])
        rendered = self.session.render([view.shape for view in views], viewpoints, textures)
        sketch = rendered.sketch
        return [
            RenderedView(to_pixels(image.movedim(0, -1)), silhouette[0].cpu().numpy(), depth[0].cpu().numpy())
            for image, silhouette, depth in zip(
                rendered.images.cpu(), sketch.silhouette, sketch.normalized_depth, strict=True
            )
        ]

    def turntable(self, view: ObjectView, frames: int = 24) -> list[RenderedView]:
        """Frames of one turn around the object, at the elevation of the view and starting at it."""
        angles = [view.azimuth_deg + 360.0 * frame / frames for frame in range(frames)]
        return self.render_all([dataclasses.replace(view, azimuth_deg=angle) for angle in angles])

    def interpolate(
        self,
        start: ObjectView,
        end: ObjectView,
        steps: int,
        curve: Literal["spherical", "linear"] = "spherical",
        to_class: str | None = None,
    ) -> list[ObjectView]:
        """`steps` views from start to end, both included: codes along the curve, angles along the shorter way round.

        With `to_class`, a model of several classes interpolates from the class it was loaded with to this one.

        Raises:
            ClassNotInModelError: the model is not of this class.
            ArgumentError: fewer than two steps, or a shape without a code.
        """
        if steps < 2:
            raise ArgumentError(f"steps={steps}: a path has at least its two ends")
        if start.shape.code is None or end.shape.code is None:
            raise ArgumentError("a shape that no code makes (a prepared or carved one) has no path to another")
        fractions = torch.linspace(0.0, 1.0, steps)
        path = interpolate_spherical if curve == "spherical" else interpolate_linear
        shapes = path(start.shape.code, end.shape.code, fractions)
        textures = path(torch.as_tensor(start.texture), torch.as_tensor(end.texture), fractions)
        if to_class is not None:
            shapes, textures = (self.session.between_classes(e, fractions, to_class) for e in (shapes, textures))
        turn = math.remainder(end.azimuth_deg - start.azimuth_deg, 360.0)
        rise = end.elevation_deg - start.elevation_deg
        made = self.session.shapes(list(shapes))
        return [
            ObjectView(shape, start.azimuth_deg + t * turn, start.elevation_deg + t * rise, texture.numpy())
            for shape, texture, t in zip(made, textures, fractions.tolist(), strict=True)
        ]

    def texture_of(self, photo: PhotoLike) -> Floats:
        """(k,) the texture code of a photo, given by the texture encoder.

        Raises:
            PhotoError: the file is not an image, or no object is found in it with confidence.
        """
        return self.session.encode_texture(self._photo(photo).image).numpy()

    def transfer(self, photo: PhotoLike, view: ObjectView) -> ObjectView:
        """The view with the texture of a photo; errors as `texture_of`."""
        return dataclasses.replace(view, texture=self.texture_of(photo))

    def reconstruct(
        self,
        photo: PhotoLike,
        settings: ReconstructSettings | None = None,
        on_progress: Callable[[str, int, int], None] | None = None,
    ) -> PhotoFit:
        """Shape, viewpoint and texture of the object in a photo.

        Args:
            photo: a photo of one whole object.
            settings: numbers of candidates and steps of the search.
            on_progress: called with the phase, its steps done and their number.

        Raises:
            PhotoError: as `texture_of`.
        """
        if self._reconstructor is None or settings is not None:
            self._reconstructor = Reconstructor(self.session, settings)
        found = self._reconstructor.reconstruct(self._photo(photo), on_progress)
        view = ObjectView(
            found.shape, math.degrees(found.azimuth), math.degrees(found.elevation), found.texture.numpy()
        )
        others = tuple((math.degrees(each.azimuth), math.degrees(each.elevation)) for each in found.alternatives)
        return PhotoFit(view, float(found.overlap), found.confidence, others)

    def mesh(self, shape: Code | Shape, texture: Code | None = None) -> SurfaceMesh:
        """The closed surface of a shape: vertices, faces, and the colours of a texture if given."""
        shape = shape if isinstance(shape, Shape) else self.shape(shape)
        mesh = self.session.mesh(shape)
        if texture is None:
            return mesh
        return painted_mesh(self.session, shape, torch.as_tensor(self.texture(texture)), mesh)

    def export(self, shape: Code | Shape, path: str | Path, texture: Code | None = None) -> Path:
        """Writes a shape as .glb, .obj, .ply or .binvox, in the colours of a texture if given.

        Returns:
            the path.

        Raises:
            ArgumentError: the path has another suffix.
            NoSurfaceError: the shape has no surface.
        """
        path = Path(path)
        formats = tuple(each for each in FORMATS if path.suffix.lower() == f".{each}")
        if not formats:
            raise ArgumentError(f"{path}: a shape is written as {', '.join(f'.{each}' for each in FORMATS)}")
        shape = shape if isinstance(shape, Shape) else self.shape(shape)
        code = None if texture is None else torch.as_tensor(self.texture(texture))
        path.parent.mkdir(parents=True, exist_ok=True)
        settings = ExportSettings(formats=formats)
        write_shape_files(self.session, shape, settings, code, path.parent, path.stem)
        return path

    def _photo(self, photo: PhotoLike) -> CutPhoto:
        if isinstance(photo, str | Path):
            return read_photo(Path(photo), self.config.image_size)
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[0] != photo.shape[1] or photo.shape[2] != 4:
            raise ArgumentError(
                f"a photo as an array is (S, S, 4) uint8, its alpha the object's mask; this one is {photo.shape} "
                f"{photo.dtype}"
            )
        return photo_of_pixels("photo", photo, self.config.image_size)


def _code_like(which: Code) -> Seed | int | torch.Tensor:
    if isinstance(which, str):
        return parse_seed(which)
    if isinstance(which, int | torch.Tensor):
        return which
    return torch.as_tensor(np.asarray(which, dtype=np.float32))


def _angle(degrees: float) -> float:
    if not math.isfinite(degrees):
        raise ArgumentError(f"an angle is a finite number of degrees, not {degrees}")
    return float(degrees)
