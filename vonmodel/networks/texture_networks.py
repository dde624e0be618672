"""Texture networks: sketch and texture code to image, image to sketch, image to texture code; critics of images.

`TextureGenerator`, `SketchEncoder`, `TextureEncoder` and `PatchCritic` (patches at two scales) are the published
ones. `TextureField` and `GeometryPainter` make an image of the geometry maps of a surface, with `DepthUNet` and
`CodeRegressor` as encoders and `ResidualCritic`, one score for an image with its mask, as its critic.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from vonmodel.networks.blocks import (
    COARSEST,
    LEAK,
    ClassEmbedding,
    ClassScores,
    ContentEncoder,
    ConvBlock,
    Pyramid,
    ResidualBlock,
    UNet,
    UpBlock,
    append_code,
    image_levels,
    twice_as_large,
)


class PatchCritic(nn.Module):
    """Scores patches as real or generated, D_image and D_2.5D in the paper.

    The input of the second scale is averaged to half the size; the scale is half as wide.

    Args:
        in_channels: 3 for images, 1 for normalised depth.
        image_size: pixels on a side; one of `blocks.IMAGE_SIZES`.
        base_channels: channels after the first convolution of the first scale; at least 2.
        classes: number of classes; 0 for a critic without class conditioning.
    """

    def __init__(self, in_channels: int, image_size: int, base_channels: int = 64, *, classes: int = 0) -> None:
        super().__init__()
        halvings = image_levels(image_size) - 5
        self.in_channels, self.image_size, self.base_channels = in_channels, image_size, base_channels
        self.scales = nn.ModuleList(
            PatchScale(in_channels, width, halvings, classes) for width in (base_channels, round(base_channels / 2))
        )

    def forward(
        self, image: Float[Tensor, "n c r r"], classes: Float[Tensor, "n k"] | None = None
    ) -> list[Float[Tensor, "n 1 _ _"]]:
        """Scores of the patches, fine scale first: 1 means real, 0 generated, unbounded.

        Args:
            image: the batch.
            classes: their class weights; scored without class conditioning if None.
        """
        coarse = functional.avg_pool2d(image, 3, stride=2, padding=1, count_include_pad=False)
        return [scale(view, classes) for scale, view in zip(self.scales, (image, coarse), strict=True)]


class PatchScale(nn.Module):
    """One scale of the patch critic: strided 4x4 convolutions, then two of stride 1, instance norm inside."""

    def __init__(self, in_channels: int, base_channels: int, halvings: int, classes: int = 0) -> None:
        super().__init__()
        strided = [base_channels * min(2**level, 8) for level in range(max(1, halvings))]
        widths = [in_channels, *strided, base_channels * min(2**halvings, 8), 1]
        strides = [2] * len(strided) + [1, 1]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride, padding=1)
            for (before, after), stride in zip(pairwise(widths), strides, strict=True)
        )
        self.class_scores = ClassScores(nn.Conv2d(widths[-2], classes, 4, padding=1)) if classes else None

    def forward(
        self, image: Float[Tensor, "n c h w"], classes: Float[Tensor, "n k"] | None = None
    ) -> Float[Tensor, "n 1 p q"]:
        """Scores of all patches."""
        first, *inner, head = self.convolutions
        features = functional.leaky_relu(first(image), LEAK, inplace=True)
        for convolution in inner:
            features = functional.leaky_relu(functional.instance_norm(convolution(features)), LEAK, inplace=True)
        scores: Tensor = head(features)
        if self.class_scores is not None and classes is not None:
            scores = scores + self.class_scores(features, classes)
        return scores


class ResidualCritic(nn.Module):
    """Scores whole images, in place of `PatchCritic`.

    It has no normalisation: instance norm hides colour and contrast from a critic, and batch norm would make the
    score of a sample depend on others. The relativistic loss compares pairs by one score per sample.

    Args:
        in_channels: 4 for images with masks.
        image_size: pixels on a side; one of `blocks.IMAGE_SIZES`.
        base_channels: channels at half the size; four times as many in the end.
        classes: number of classes; 0 for a critic without class conditioning.
    """

    def __init__(self, in_channels: int, image_size: int, base_channels: int = 24, *, classes: int = 0) -> None:
        super().__init__()
        self.in_channels, self.image_size, self.base_channels = in_channels, image_size, base_channels
        self.body = Pyramid(in_channels, image_size, base_channels)
        self.head = nn.Linear(self.body.out_channels * COARSEST**2, 1)
        self.class_scores = ClassScores(nn.Linear(self.head.in_features, classes)) if classes else None

    def forward(
        self, image: Float[Tensor, "n c r r"], classes: Float[Tensor, "n k"] | None = None
    ) -> Float[Tensor, " n"]:
        """Scores of a batch, unbounded: higher for what looks real.

        Args:
            image: the batch.
            classes: their class weights; scored without class conditioning if None.
        """
        features = self.body(image).flatten(1)
        scores: Tensor = self.head(features)
        if self.class_scores is not None and classes is not None:
            scores = scores + self.class_scores(features, classes)
        return scores.squeeze(1)


STYLE_SIZE = 64
# Channels of `projection.geometry_maps`, and the first of the position's.
GEOMETRY_CHANNELS, X = 8, 5
# The texture field: size and channels of the map of surroundings, width of its layers.
CONTEXT_SIZE, CONTEXT_CHANNELS, FIELD_WIDTH = 32, 32, 64
# Number of colours in a palette, and factor of the regions' log odds: with 1 their edges stay soft.
REGIONS, SHARPNESS = 8, 3.0
# Octaves of sines of the position. With five, and without a palette, all textures were plaid.
OCTAVES = 2
# Width of the hidden layer between an image's palette and its code.
MIXED = 64
# Slope for colours beyond [-1, 1] in training: 0 would leave a saturated painter without gradient, 1 would let it
# diverge.
OUTSIDE_SLOPE = 0.1


class GeometryPainter(nn.Module):
    """Paints a surface, in place of `TextureGenerator`: (silhouette, depth, normal, position; z_texture) -> x_2D.

    Positions and normals in the object frame do not change with the viewpoint, so colours follow the parts and views
    agree without a loss for it. The code enters as constant channels at the input, and through a small network as the
    style that modulates the features of the decoder.

    Args:
        image_size: pixels on a side; one of `blocks.IMAGE_SIZES`.
        code_size: numbers in a texture code.
        base_channels: channels at half the size; four times as many at the bottleneck.
        geometry_channels: channels of the geometry.
        classes: number of classes; 0 for a network without class embedding.
        class_size: length of the embedding of a class.
    """

    def __init__(
        self,
        image_size: int,
        code_size: int = 8,
        base_channels: int = 24,
        geometry_channels: int = 8,
        *,
        classes: int = 0,
        class_size: int = 0,
    ) -> None:
        super().__init__()
        self.image_size, self.code_size, self.base_channels = image_size, code_size, base_channels
        self.embedding = ClassEmbedding(classes, code_size, class_size) if classes else None
        code_size += class_size if classes else 0
        self.style = _hidden_layer(code_size, STYLE_SIZE, STYLE_SIZE)
        self.body = UNet(
            geometry_channels + code_size,
            3,
            image_size,
            base_channels,
            style_size=STYLE_SIZE,
            fine_inputs=geometry_channels,
        )

    def forward(
        self, geometry: Float[Tensor, "n g r r"], texture_code: Float[Tensor, "n k"]
    ) -> Float[Tensor, "n 3 r r"]:
        """Paints a batch of surfaces.

        Args:
            geometry: maps in [-1, 1], see `projection.geometry_maps`.
            texture_code: standard normal codes, with class weights for several classes.

        Returns:
            Colours in [-1, 1], also outside the object: compose them with the silhouette. In training they may
            leave the range slightly.
        """
        texture_code = texture_code if self.embedding is None else self.embedding(texture_code)
        style = functional.leaky_relu(self.style(texture_code), LEAK)
        colours: Tensor = self.body(append_code(geometry, texture_code), style)
        inside = colours.clamp(-1.0, 1.0)
        return inside + OUTSIDE_SLOPE * (colours - inside) if self.training else inside


class TextureField(nn.Module):
    """Colours the points of a surface: (silhouette, depth, normal, position; z_texture) -> x_2D.

    A texture field (Oechsle et al. 2019): the colour of a point is a function of where it lies in the object and of
    the texture code. It is the colour of the point's region, from a palette that the code determines, plus a detail,
    times a shade that the code does not change. Regions such as seat and frame are soft and learned without labels
    from the point and from features of its surroundings. Only those come from convolutions, always at
    `CONTEXT_SIZE`, so patterns do not follow the pixels and a larger image is sharper.

    Args:
        image_size: pixels on a side of the images in training; one of `blocks.IMAGE_SIZES`.
        code_size: numbers in a texture code.
        base_channels: channels of the surroundings' network at half of its size, four times as many in the middle.
        classes: number of classes; 0 for a network without class embedding.
        class_size: length of the embedding of a class.
    """

    def __init__(
        self,
        image_size: int,
        code_size: int = 8,
        base_channels: int = 24,
        *,
        classes: int = 0,
        class_size: int = 0,
    ) -> None:
        super().__init__()
        image_levels(image_size)
        self.image_size, self.code_size, self.base_channels = image_size, code_size, base_channels
        self.embedding = ClassEmbedding(classes, code_size, class_size) if classes else None
        code_size += class_size if classes else 0
        self.style = _hidden_layer(code_size, STYLE_SIZE, STYLE_SIZE)
        self.context = UNet(GEOMETRY_CHANNELS, CONTEXT_CHANNELS, min(CONTEXT_SIZE, image_size), base_channels)
        known = GEOMETRY_CHANNELS + CONTEXT_CHANNELS
        widths = [known + 6 * OCTAVES, FIELD_WIDTH, FIELD_WIDTH, FIELD_WIDTH]
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))
        self.modulations = nn.ModuleList(nn.Linear(STYLE_SIZE, 2 * width) for width in widths[1:])
        self.detail = nn.Linear(FIELD_WIDTH, 3)
        self.regions = _hidden_layer(known, FIELD_WIDTH, REGIONS)
        self.palette = nn.Linear(STYLE_SIZE, 3 * REGIONS)
        self.shade = _hidden_layer(known, FIELD_WIDTH // 2, 1)

    def forward(
        self, geometry: Float[Tensor, "m g r r"], texture_code: Float[Tensor, "n k"]
    ) -> Float[Tensor, "n 3 r r"]:
        """Colours a batch of surfaces, of any size that is a multiple of the surroundings'.

        Args:
            geometry: maps in [-1, 1], see `projection.geometry_maps`: one for each code, or a single one for all.
            texture_code: standard normal codes, with class weights for several classes.

        Returns:
            Colours in [-1, 1], white outside the object. In training they may leave the range slightly.
        """
        texture_code = texture_code if self.embedding is None else self.embedding(texture_code)
        style = functional.leaky_relu(self.style(texture_code), LEAK)
        maps = torch.cat([geometry, self._surroundings(geometry)], dim=1).flatten(2).transpose(1, 2)
        chosen = _object_pixels(geometry[:, 0])
        points = maps.gather(1, chosen.expand(-1, -1, maps.shape[2]))
        colours = self._colours(points, style)
        inside = colours.clamp(-1.0, 1.0)
        colours = inside + OUTSIDE_SLOPE * (colours - inside) if self.training else inside
        white = colours.new_ones(len(style), maps.shape[1], 3)
        image = white.scatter(1, chosen.expand(len(style), -1, 3), colours)
        image = image.transpose(1, 2).reshape(-1, 3, *geometry.shape[2:])
        return torch.where(geometry[:, :1] > -1.0, image, 1.0)

    def _surroundings(self, geometry: Float[Tensor, "m g r r"]) -> Float[Tensor, "m c r r"]:
        """Features of each pixel's surroundings, computed at `CONTEXT_SIZE`."""
        features: Tensor = self.context(functional.avg_pool2d(geometry, geometry.shape[-1] // self.context_size))
        while features.shape[-1] < geometry.shape[-1]:
            features = twice_as_large(features)
        return features

    @property
    def context_size(self) -> int:
        """Pixels on a side of the map that features of the surroundings are computed at."""
        return min(CONTEXT_SIZE, self.image_size)

    def _colours(self, points: Float[Tensor, "m p c"], style: Float[Tensor, "n s"]) -> Float[Tensor, "n p 3"]:
        """The colours of points with their features, unbounded."""
        palette = self.palette(style).reshape(len(style), REGIONS, 3)
        plain = torch.softmax(SHARPNESS * self.regions(points), dim=-1) @ palette
        angles = [torch.pi * 2.0**octave * points[..., X : X + 3] for octave in range(OCTAVES)]
        waves = [wave(angle) for angle in angles for wave in (torch.sin, torch.cos)]
        features = torch.cat([points, *waves], dim=-1)
        for layer, modulation in zip(self.layers, self.modulations, strict=True):
            scale, offset = modulation(style).unsqueeze(1).chunk(2, dim=-1)
            features = functional.leaky_relu(layer(features) * (1.0 + scale) + offset, LEAK)
        colours: Tensor = (plain + self.detail(features) + 1.0) * (1.0 + self.shade(points)) - 1.0
        return colours


def _hidden_layer(before: int, hidden: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(before, hidden), nn.LeakyReLU(LEAK), nn.Linear(hidden, after))


def _object_pixels(silhouette: Float[Tensor, "n r r"]) -> Int[Tensor, "n p 1"]:
    """Indices of the pixels that the object covers; in images with fewer than p of them, others follow."""
    covered = silhouette.flatten(1) > -1.0  # at least in part
    most = max(1, int(covered.sum(dim=1).max()))
    return covered.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most, None]


class CodeRegressor(nn.Module):
    """Predicts the texture code of an image, in place of `TextureEncoder`.

    It is trained to predict the code that an image was painted with, under a normal distribution of variance one
    around its output: the log variance is 0, unless `spread` has it learned from photos. With `regions` it also sees
    the mean colours of that many soft regions of the image, which it learns to find: a palette, as in `TextureField`

    Args:
        image_size: pixels on a side; one of `blocks.IMAGE_SIZES`.
        code_size: numbers in a texture code.
        base_channels: channels at half the size; four times as many in the end.
        spread: learn the variance of each element as well.
        regions: number of regions; 0 for none.
    """

    def __init__(
        self, image_size: int, code_size: int = 8, base_channels: int = 24, *, spread: bool = False, regions: int = 0
    ) -> None:
        super().__init__()
        self.image_size, self.code_size, self.base_channels = image_size, code_size, base_channels
        self.body = Pyramid(3, image_size, base_channels)
        wide = self.body.out_channels + 3 * regions
        self.regions = UNet(3, regions, min(CONTEXT_SIZE, image_size), base_channels // 2) if regions else None
        self.mixed = nn.Sequential(nn.Linear(wide, MIXED), nn.LeakyReLU(LEAK)) if regions else None
        wide += MIXED if regions else 0
        self.mean = nn.Linear(wide, code_size)
        self.log_variance = nn.Linear(wide, code_size) if spread else None

    def forward(self, image: Float[Tensor, "n 3 r r"]) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k"]]:
        """Encodes a batch of images, colours in [-1, 1] on white.

        Returns:
            Mean and log variance of each element of the code.
        """
        features = self.body(image).mean(dim=(2, 3))
        if self.regions is not None and self.mixed is not None:
            small = functional.avg_pool2d(image, image.shape[-1] // min(CONTEXT_SIZE, self.image_size))
            shares = torch.softmax(self.regions(small).flatten(2), dim=-1)
            palette = shares @ small.flatten(2).transpose(1, 2)
            features = torch.cat([features, palette.flatten(1)], dim=1)
            features = torch.cat([features, self.mixed(features)], dim=1)
        mean: Tensor = self.mean(features)
        return mean, torch.zeros_like(mean) if self.log_variance is None else self.log_variance(features)


class DepthUNet(nn.Module):
    """Estimates the 2.5D sketch of an image, in place of `SketchEncoder`: x_2D -> v_2.5D.

    Args:
        image_size: pixels on a side; one of `blocks.IMAGE_SIZES`.
        base_channels: channels at half the size; four times as many at the bottleneck.
        surface: also estimate the painter's other inputs, the normal and the position of every pixel.
    """

    def __init__(self, image_size: int, base_channels: int = 12, *, surface: bool = False) -> None:
        super().__init__()
        self.image_size, self.base_channels, self.surface = image_size, base_channels, surface
        self.body = UNet(3, 7 if surface else 1, image_size, base_channels)

    def forward(self, image: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n 1 r r"]:
        """Estimates the sketches of a batch of images.

        Args:
            image: colours in [-1, 1], the object on white.

        Returns:
            Normalised depth in [-1, 1], near 1, also outside the object: compose it with the mask.
        """
        return torch.tanh(self.body(image)[:, :1])

    def maps(self, image: Float[Tensor, "n 3 r r"], mask: Float[Tensor, "n 1 r r"]) -> Float[Tensor, "n 8 r r"]:
        """Estimates the painter's input maps of the objects in images, in the form of `projection.geometry_maps`.

        Args:
            image: colours in [-1, 1], the object on white.
            mask: 1 on the object.

        Raises:
            ValueError: this encoder estimates depth only.
        """
        if not self.surface:
            raise ValueError("this sketch encoder estimates depth only: the model has no surface_encoder")
        read = self.body(image)
        depth = mask * torch.tanh(read[:, :1]) + mask - 1.0
        normal = functional.normalize(read[:, 1:4], dim=1, eps=1e-6)
        return torch.cat([2.0 * mask - 1.0, depth, mask * normal, mask * torch.tanh(read[:, 4:])], dim=1)


class TextureGenerator(nn.Module):
    """Paints a 2.5D sketch, G_texture in the paper: (v_2.5D, z_texture) -> x_2D.

    The code enters three times: before the residual blocks behind the bottleneck, which pass its channels on, before
    the second upsampling and before the output convolution.

    Args:
        image_size: pixels on a side; one of `blocks.IMAGE_SIZES`.
        code_size: numbers in a texture code.
        base_channels: channels at full size; four times as many at the bottleneck.
        classes: number of classes; 0 for a network without class embedding.
        class_size: length of the embedding of a class.
    """

    def __init__(
        self, image_size: int, code_size: int = 8, base_channels: int = 64, *, classes: int = 0, class_size: int = 0
    ) -> None:
        super().__init__()
        residual_blocks = image_levels(image_size) - 4
        self.image_size, self.code_size, self.base_channels = image_size, code_size, base_channels
        self.embedding = ClassEmbedding(classes, code_size, class_size) if classes else None
        code_size += class_size if classes else 0
        self.encoder = ContentEncoder(1, base_channels, residual_blocks)
        wide = self.encoder.out_channels
        self.residual = nn.Sequential(*(ResidualBlock(wide, code_size) for _ in range(residual_blocks)))
        self.up = nn.ModuleList(
            [
                UpBlock(wide + code_size, 2 * base_channels),
                UpBlock(2 * base_channels + code_size, base_channels),
            ]
        )
        self.to_image = ConvBlock(base_channels + code_size, 3, 7, activation=nn.Tanh())

    def forward(
        self, normalized_depth: Float[Tensor, "n 1 r r"], texture_code: Float[Tensor, "n k"]
    ) -> Float[Tensor, "n 3 r r"]:
        """Paints a batch of sketches.

        Args:
            normalized_depth: near 1, far and background -1.
            texture_code: standard normal codes, with class weights for several classes.

        Returns:
            Colours in [-1, 1], also outside the object: compose them with the silhouette.
        """
        texture_code = texture_code if self.embedding is None else self.embedding(texture_code)
        features: Tensor = self.residual(append_code(self.encoder(normalized_depth), texture_code))
        features = self.up[0](features)
        features = self.up[1](append_code(features, texture_code))
        image: Tensor = self.to_image(append_code(features, texture_code))
        return image


class SketchEncoder(nn.Module):
    """Estimates the 2.5D sketch of an image, E_2.5D in the paper: x_2D -> v_2.5D.

    Args:
        image_size: pixels on a side; one of `blocks.IMAGE_SIZES`.
        base_channels: channels at full size; four times as many at the bottleneck.
    """

    def __init__(self, image_size: int, base_channels: int = 64) -> None:
        super().__init__()
        residual_blocks = image_levels(image_size) - 4
        self.image_size, self.base_channels = image_size, base_channels
        self.encoder = ContentEncoder(3, base_channels, residual_blocks)
        wide = self.encoder.out_channels
        self.residual = nn.Sequential(*(ResidualBlock(wide) for _ in range(residual_blocks)))
        self.up = nn.Sequential(UpBlock(wide, 2 * base_channels), UpBlock(2 * base_channels, base_channels))
        self.to_depth = ConvBlock(base_channels, 1, 7, activation=nn.Tanh())

    def forward(self, image: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n 1 r r"]:
        """Estimates the sketches of a batch of images.

        Args:
            image: colours in [-1, 1], the object on white.

        Returns:
            Normalised depth in [-1, 1], near 1, also outside the object: compose it with the mask.
        """
        depth: Tensor = self.to_depth(self.up(self.residual(self.encoder(image))))
        return depth


class TextureEncoder(nn.Module):
    """Encodes the texture of an image, E_texture in the paper: x_2D -> (mean, log variance) of z_texture.

    Args:
        image_size: pixels on a side; one of `blocks.IMAGE_SIZES`.
        code_size: numbers in a texture code.
        base_channels: channels at full size; four times as many in the end.
    """

    def __init__(self, image_size: int, code_size: int = 8, base_channels: int = 64) -> None:
        super().__init__()
        self.image_size, self.code_size, self.base_channels = image_size, code_size, base_channels
        halvings = max(2, image_levels(image_size) - 4)
        widths = [base_channels * min(2**level, 4) for level in range(halvings + 1)]
        self.stem = ConvBlock(3, base_channels, 7, activation=nn.ReLU(inplace=True))
        self.down = nn.Sequential(
            *(
                ConvBlock(fine, coarse, 4, stride=2, activation=nn.ReLU(inplace=True))
                for fine, coarse in pairwise(widths)
            )
        )
        self.mean = nn.Linear(widths[-1], code_size)
        self.log_variance = nn.Linear(widths[-1], code_size)

    def forward(self, image: Float[Tensor, "n 3 r r"]) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k"]]:
        """Encodes a batch of images, colours in [-1, 1] on white.

        Returns:
            Mean and log variance of each element of the code.
        """
        pooled = self.down(self.stem(image)).mean(dim=(2, 3))
        return self.mean(pooled), self.log_variance(pooled)


def sample_code(
    mean: Float[Tensor, "n k"], log_variance: Float[Tensor, "n k"], noise: Float[Tensor, "n k"]
) -> Float[Tensor, "n k"]:
    """Samples codes of textures or shapes by the reparameterisation mean + exp(log_variance / 2) noise.

    Args:
        mean: means of the encoder.
        log_variance: its log variances.
        noise: standard normal numbers.
    """
    return mean + torch.exp(0.5 * log_variance) * noise
