"""Sampling of shape codes, texture codes and viewpoints by seed, and batched generation and rendering."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from vondata.errors import VonError
from vonmodel.data.datasets import ViewpointSampler
from vonmodel.geometry import Camera
from vonmodel.inference.rendering import Pieces, render_framed
from vonmodel.model import VonModel
from vonmodel.projection import SurfaceSketch
from vonmodel.seeding import numpy_generator

Viewpoints = npt.NDArray[np.float64]
"""(n, 2) azimuth and elevation in radians."""


MAX_BATCH_VOXELS = 4 * 128**3
"""Voxels generated or projected at a time: each takes some 200 bytes, and larger batches are no faster."""


TYPICAL = 0.7
"""Standard deviation of the codes of what is shown; scores are computed from codes as in training, with 1."""


@dataclass(frozen=True)
class SamplingOptions:
    """How codes are sampled, and which pieces of their shapes are kept.

    Attributes:
        pieces: the largest piece of a generated shape, or all of it.
        truncation: standard deviation of the codes, see `sample_codes`.
    """

    pieces: Pieces = "largest"
    truncation: float = TYPICAL


class Rendering(NamedTuple):
    """Sketches and the images painted on them, n of each."""

    sketch: SurfaceSketch
    images: Float[Tensor, "n 3 R R"]


def sample_codes(
    count: int, size: int, *, seed: int, purpose: Literal["shape", "texture"], truncation: float = 1.0
) -> Float[Tensor, "n size"]:
    """Codes from the normal distribution.

    Args:
        count: number of codes.
        size: length of a code.
        seed: of the codes.
        purpose: codes of shapes and of textures are independent.
        truncation: their standard deviation: 1 as in training; below 1 samples are less varied and of better quality.
    """
    rng = numpy_generator(seed, "use", purpose)
    return torch.from_numpy((truncation * rng.standard_normal((count, size))).astype(np.float32))


def sample_viewpoints(count: int, sampler: ViewpointSampler, *, seed: int) -> Viewpoints:
    """Viewpoints from a class's distribution; a larger `count` starts with the same viewpoints."""
    generator = numpy_generator(seed, "use", "viewpoint")
    return np.concatenate([np.empty((0, 2)), *(sampler(1, generator) for _ in range(count))])


def generate_volumes(model: VonModel, codes: Float[Tensor, "n code"]) -> Float[Tensor, "n 1 r r r"]:
    """The volumes of shape codes, on the model's device."""
    codes = codes.to(next(model.parameters()).device)
    some = torch.split(codes, _items_at_once(model.config.resolution))
    return torch.cat([model.generate_shapes(each) for each in some])


def render_sketches(
    model: VonModel,
    volumes: Float[Tensor, "n 1 g g g"],
    viewpoints: Viewpoints,
    camera: Camera | None = None,
) -> SurfaceSketch:
    """The sketches of volumes, of the model's grid or a finer one, each from its viewpoint.

    Depth is normalised for each sketch by itself, also for models trained with batch ranges: a picture must not
    depend on the others of its batch.
    """
    angles = torch.from_numpy(viewpoints).to(volumes.device, volumes.dtype)
    at_once = _items_at_once(volumes.shape[-1])
    pieces = [
        render_framed(model, some, turned, camera)
        for some, turned in zip(torch.split(volumes, at_once), torch.split(angles, at_once), strict=True)
    ]
    return SurfaceSketch(*(torch.cat(parts) for parts in zip(*pieces, strict=True)))


def render(
    model: VonModel,
    volumes: Float[Tensor, "n 1 r r r"],
    viewpoints: Viewpoints,
    texture_codes: Float[Tensor, "n code"],
) -> Rendering:
    """Sketches and images of volumes, each from its viewpoint and in its texture."""
    sketch = render_sketches(model, volumes, viewpoints)
    return Rendering(sketch, model.paint(sketch, texture_codes))


def _items_at_once(resolution: int) -> int:
    return max(1, MAX_BATCH_VOXELS // resolution**3)


MAX_SEED = 2**32 - 1
MAX_SEED_NUMBER = 10_000
_SEED_TEXT = re.compile(r"(\d{1,12})(?::(\d{1,6}))?")


class SeedError(VonError, ValueError):
    """A seed that is not an integer or out of range."""

    http_status = 400


class Seed(NamedTuple):
    """A seed and the index of a code drawn with it; `7:3` is the third, shape-03 in a gallery of seed 7.

    Attributes:
        seed: 0 to 2**32 - 1.
        number: from 1.
    """

    seed: int
    number: int = 1

    def __str__(self) -> str:
        return str(self.seed) if self.number == 1 else f"{self.seed}:{self.number}"

    def checked(self) -> Seed:
        """The same seed, if it is in range.

        Raises:
            SeedError: it is not.
        """
        if not 0 <= self.seed <= MAX_SEED or not 1 <= self.number <= MAX_SEED_NUMBER:
            raise SeedError(
                f"seed {self} is out of range: seeds are 0 to {MAX_SEED}, numbers behind the colon 1 to "
                f"{MAX_SEED_NUMBER}"
            )
        return self

    def after(self, steps: int) -> Seed:
        """The seed plus `steps`, wrapping to 0 after the largest."""
        return Seed((self.seed + steps) % (MAX_SEED + 1), self.number)

    def code(
        self, size: int, purpose: Literal["shape", "texture"], truncation: float = 1.0
    ) -> Float[Tensor, " size"]:
        """The code itself; arguments as in `sample_codes`.

        Raises:
            SeedError: the seed is out of range.
        """
        seed, number = self.checked()
        return sample_codes(number, size, seed=seed, purpose=purpose, truncation=truncation)[-1]


def parse_seed(text: str) -> Seed:
    """Reads `7` or `7:3`.

    Raises:
        SeedError: it is neither, or out of range.
    """
    found = _SEED_TEXT.fullmatch(text.strip())
    if found is None:
        raise SeedError(f"{text!r} is not a seed: write an integer such as 7, or 7:3 for the third code of seed 7")
    return Seed(int(found[1]), int(found[2] or 1)).checked()
