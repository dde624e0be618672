"""Shape critic: a voxel grid to a score."""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vonmodel.networks.sizes import shape_levels, shape_width

LEAK = 0.2


class ShapeCritic(nn.Module):
    """Scores how real a shape looks, D_shape in the paper; the generator's mirror image without normalisation.

    Args:
        resolution: voxels on a side; one of `sizes.SHAPE_SIZES`.
        base_channels: channels at the finest grids; eight times as many at 4 voxels on a side.
    """

    def __init__(self, resolution: int, base_channels: int = 64) -> None:
        super().__init__()
        self.resolution, self.base_channels = resolution, base_channels
        levels = shape_levels(resolution)
        widths = [1, *(shape_width(level, base_channels) for level in reversed(range(levels)))]
        self.stages = nn.ModuleList(
            nn.Conv3d(fine, coarse, 4, stride=2, padding=1, bias=False) for fine, coarse in pairwise(widths)
        )
        self.head = nn.Conv3d(widths[-1], 1, 4, bias=False)

    def forward(self, volumes: Float[Tensor, "n 1 r r r"]) -> Float[Tensor, " n"]:
        """Scores of a batch of volumes with values in [0, 1]; larger is more real, unbounded."""
        features = volumes
        for stage in self.stages:
            features = functional.leaky_relu(stage(features), LEAK, inplace=True)
        scores: Tensor = self.head(features)
        return scores.flatten()
