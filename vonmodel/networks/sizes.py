"""Which grid and image sizes the networks are made for."""

from vondata.errors import VonError

SHAPE_SIZES = (16, 32, 64, 128, 256)
IMAGE_SIZES = (32, 64, 128, 256, 512)


class UnsupportedSizeError(VonError, ValueError):
    """A resolution or image size for which the networks have no layout."""

    def __init__(self, name: str, size: int, supported: tuple[int, ...]) -> None:
        super().__init__(f"{name} is {size}; the networks exist for {', '.join(map(str, supported))}")


def shape_levels(resolution: int) -> int:
    """How often a grid of `resolution` halves until it has 4 voxels on a side.

    Raises:
        UnsupportedSizeError: `resolution` is not one of `SHAPE_SIZES`.
    """
    if resolution not in SHAPE_SIZES:
        raise UnsupportedSizeError("resolution", resolution, SHAPE_SIZES)
    return resolution.bit_length() - 3


def shape_width(level: int, base_channels: int) -> int:
    """Channels of the shape networks where the grid has 4 * 2^level voxels on a side.

    Eight times the base at 4 voxels, half as many at each doubling, never fewer than the base.
    """
    return base_channels * max(1, 8 >> level)


def image_levels(image_size: int) -> int:
    """The binary logarithm of an image size the networks support.

    Raises:
        UnsupportedSizeError: `image_size` is not one of `IMAGE_SIZES`.
    """
    if image_size not in IMAGE_SIZES:
        raise UnsupportedSizeError("image_size", image_size, IMAGE_SIZES)
    return image_size.bit_length() - 1
