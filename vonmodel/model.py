"""VonModel, all networks of VON and their initialisation: codes and viewpoints to shapes, sketches and images."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vonmodel.config import ModelConfig
from vonmodel.geometry import Camera
from vonmodel.networks import (
    CodeFlow,
    CodeRegressor,
    DepthUNet,
    GeometryPainter,
    PatchCritic,
    ResidualCritic,
    ShapeCritic,
    ShapeEncoder,
    ShapeGenerator,
    SketchEncoder,
    TextureEncoder,
    TextureField,
    TextureGenerator,
)
from vonmodel.networks.blocks import (
    ClassEmbedding,
    ClassScores,
    Modulation,
    PlainResidual,
    Pyramid,
    UNet,
    WholeSampleNorm,
)
from vonmodel.networks.shape_networks import CouplingLayer
from vonmodel.networks.texture_networks import REGIONS
from vonmodel.projection import (
    DepthRange,
    FramedSketch,
    Sketch,
    SurfaceSketch,
    frame_with_positions,
    geometry_maps,
    locate_surface,
    project,
    reduce_sketch,
)
from vonmodel.projection.framing import MIN_MARGIN_PX
from vonmodel.representation import opacity
from vonmodel.seeding import torch_generator

GENERATORS = ("shape_generator", "texture_generator", "sketch_encoder", "texture_encoder")


class VonModel(nn.Module):
    """All networks of a model of one class or several.

    Attributes:
        config: sizes and representation.
        shape_generator: shape code -> volume.
        shape_critic: volume -> score.
        shape_encoder: volume -> mean and log variance of its latent code; None if there is none.
        shape_prior: latent codes <-> shape codes; None if they are the same.
        texture_generator: normalised depth, or the maps of a surface, and texture code -> image.
        sketch_encoder: image -> normalised depth.
        texture_encoder: image -> mean and log variance of its texture code.
        image_critic: image -> patch scores, or image with mask -> score.
        sketch_critic: normalised depth -> patch scores; None without a critic of sketches.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        size, width = config.image_size, config.texture_base_channels
        classes, class_size = len(config.classes), config.class_embedding
        self.shape_generator = ShapeGenerator(
            config.resolution,
            code_size=config.shape_code_size,
            base_channels=config.shape_base_channels,
            classes=classes,
            class_size=class_size,
        )
        self.shape_critic = ShapeCritic(config.resolution, base_channels=config.shape_base_channels, classes=classes)
        self.shape_encoder = (
            ShapeEncoder(config.resolution, config.shape_code_size, config.shape_base_channels)
            if config.shape_encoder
            else None
        )
        self.shape_prior = CodeFlow(config.shape_code_size, config.shape_prior) if config.shape_prior else None
        code_size, geometry = config.texture_code_size, config.painter != "published"
        self.texture_generator = _painter(config)
        self.sketch_encoder = (
            DepthUNet(size, width // 2, surface=config.surface_encoder) if geometry else SketchEncoder(size, width)
        )
        self.texture_encoder = (
            CodeRegressor(
                size,
                code_size,
                width,
                spread=config.surface_encoder,
                regions=REGIONS if config.painter == "field" else 0,
            )
            if geometry
            else TextureEncoder(size, code_size, width)
        )
        patches = config.critics == "patch"
        self.image_critic = (
            PatchCritic(3, size, width, classes=classes)
            if patches
            else ResidualCritic(4, size, width, classes=classes)
        )
        self.sketch_critic = PatchCritic(1, size, width, classes=classes) if patches else None

    def choose_class(self, name: str) -> None:
        """Sets the class of codes that have no class weights; a no-op for a model of one class.

        Raises:
            ValueError: it is not one of the model's classes.
        """
        index = self.config.classes.index(name) if self.config.classes else 0
        for network in (self.shape_generator, self.texture_generator):
            if network.embedding is not None:
                network.embedding.choose(index)

    def generate_shapes(self, codes: Float[Tensor, "n code"]) -> Float[Tensor, "n 1 r r r"]:
        """Volumes of shape codes, in the model's representation, [0, 1]."""
        if self.shape_prior is not None:
            size = self.config.shape_code_size
            # The class weights follow the code.
            codes = torch.cat([self.shape_prior.inverse(codes[:, :size]), codes[:, size:]], dim=1)
        return self.decode_shapes(codes)

    def decode_shapes(self, latents: Float[Tensor, "n code"]) -> Float[Tensor, "n 1 r r r"]:
        """Volumes of the shape encoder's codes, which are shape codes unless the model has a `shape_prior`."""
        volumes: Tensor = self.shape_generator(latents)
        return mirrored(volumes) if self.config.symmetric else volumes

    def opacity(self, volumes: Float[Tensor, "n 1 r r r"]) -> Float[Tensor, "n 1 g g g"]:
        """The opacity of volumes in the model's representation, in [0, 1]; see `representation.opacity`."""
        return opacity(self.config, volumes)

    @property
    def camera(self) -> Camera:
        """The camera that the model was trained with."""
        return Camera.at(self.config.camera_distance)

    def sketch(
        self,
        volumes: Float[Tensor, "n 1 r r r"],
        rotations: Float[Tensor, "n 3 3"],
        *,
        depth_range: DepthRange | None = None,
        everywhere: bool = False,
    ) -> SurfaceSketch:
        """The framed 2.5D sketches of volumes at the model's image size.

        Args:
            volumes: in the model's representation, [0, 1].
            rotations: from the camera's frame to the object's, see `geometry.viewpoint_rotation`.
            depth_range: whether items or the batch share one range of depth; the model's own if None.
            everywhere: the batch spans all training processes; all of them must call this.
        """
        size = self.config.image_size * self.config.rays_per_pixel
        seen = view_opacity(self.config, self.opacity(volumes), rotations, camera=self.camera, image_size=size)
        return self.frame(seen, rotations, camera=self.camera, depth_range=depth_range, everywhere=everywhere)

    def frame(
        self,
        seen: Sketch,
        rotations: Float[Tensor, "n 3 3"],
        *,
        camera: Camera,
        image_size: int | None = None,
        depth_range: DepthRange | None = None,
        everywhere: bool = False,
    ) -> SurfaceSketch:
        """Frames sketches as the painter is trained on them.

        Args:
            seen: the sketches of `view_opacity`, at a multiple of the image's size.
            rotations: their viewpoints.
            camera: their camera.
            image_size: pixels along an edge of the result; the model's if None.
            depth_range: as for `sketch`.
            everywhere: as for `sketch`.
        """
        config, chosen = self.config, depth_range or self.config.depth_range
        size = image_size or config.image_size
        framed, *positions = frame_with_positions(
            seen,
            depth_range=chosen,
            everywhere=everywhere,
            exact=config.exact_framing,
            min_margin_px=MIN_MARGIN_PX,
        )
        framed = reduce_sketch(framed, size, depth_range=chosen, everywhere=everywhere)
        rows, columns = (each.reshape(len(each), size, -1).mean(-1) for each in positions)
        return locate_surface(framed, rows, columns, rotations, camera=camera, image_size=seen.silhouette.shape[-1])

    def colours(
        self, framed: FramedSketch | SurfaceSketch, texture_codes: Float[Tensor, "n code"]
    ) -> Float[Tensor, "n 3 size size"]:
        """Colours of framed sketches in these textures, in [-1, 1], also outside the object.

        Args:
            framed: one sketch for each texture, or a single one that is painted in all of them.
            texture_codes: the textures.

        Raises:
            TypeError: the painter needs a `SurfaceSketch`, as `sketch` and `frame` return it.
        """
        seen = framed.normalized_depth
        if self.config.painter != "published":
            if not isinstance(framed, SurfaceSketch):
                raise TypeError("this painter needs a SurfaceSketch; take it from VonModel.sketch or frame")
            seen = geometry_maps(framed)
        if len(seen) == 1 and self.config.painter != "field":
            seen = seen.expand(len(texture_codes), -1, -1, -1)
        colours: Tensor = self.texture_generator(seen, texture_codes)
        return colours

    def paint(
        self, framed: FramedSketch | SurfaceSketch, texture_codes: Float[Tensor, "n code"]
    ) -> Float[Tensor, "n 3 size size"]:
        """Images of framed sketches in these textures, in [-1, 1], composed on white; arguments as `colours`."""
        colours = self.colours(framed, texture_codes)
        return on_background(colours, framed.silhouette.expand(len(colours), -1, -1, -1), 1.0)

    def read_surface(
        self, images: Float[Tensor, "n 3 size size"], masks: Float[Tensor, "n 1 size size"]
    ) -> Float[Tensor, "n 8 size size"]:
        """The painter's input maps of the objects in images, estimated by its surface encoder.

        Args:
            images: colours in [-1, 1], the object on white.
            masks: 1 on the object.
        """
        assert isinstance(self.sketch_encoder, DepthUNet)
        return self.sketch_encoder.maps(images, masks)


def _painter(config: ModelConfig) -> TextureGenerator | GeometryPainter | TextureField:
    size, code_size, width = config.image_size, config.texture_code_size, config.texture_base_channels
    classes, class_size = len(config.classes), config.class_embedding
    match config.painter:
        case "published":
            return TextureGenerator(size, code_size, width, classes=classes, class_size=class_size)
        case "geometry":
            return GeometryPainter(size, code_size, width, classes=classes, class_size=class_size)
        case "field":
            return TextureField(size, code_size, width, classes=classes, class_size=class_size)


def view_opacity(
    config: ModelConfig,
    opacity: Float[Tensor, "n 1 g g g"],
    rotations: Float[Tensor, "n 3 3"],
    *,
    camera: Camera,
    image_size: int,
) -> Sketch:
    """The sketch of volumes before framing; differentiable with respect to opacity and rotations.

    Args:
        config: of the model.
        opacity: opacity of the voxels, in [0, 1], on any grid.
        rotations: from the camera's frame to the object's.
        camera: the camera.
        image_size: pixels along an edge.

    Returns:
        The sketch; its depths are shifted to the range of the published camera, at any camera distance.
    """
    seen = project(opacity, rotations, camera=camera, image_size=image_size, resampled=config.resampled)
    return Sketch(seen.silhouette, seen.depth - (camera.distance - Camera().distance))


def build_model(config: ModelConfig, seed: int) -> VonModel:
    """A model whose initial weights are a function of the seed."""
    model = VonModel(config)
    initialise_kaiming(model, torch_generator(seed, "initial weights"))
    return model


def with_classes(codes: Float[Tensor, "n k"], classes: Float[Tensor, "n c"] | None) -> Float[Tensor, "n d"]:
    """Codes with class weights appended; unchanged if there are none."""
    return codes if classes is None else torch.cat([codes, classes.to(codes)], dim=1)


def blend_classes(networks: Iterable[nn.Module], share: float) -> None:
    """Sets the weight of the class conditioning of networks, in [0, 1]; a no-op for those of one class."""
    for network in networks:
        for module in network.modules():
            if isinstance(module, ClassEmbedding | ClassScores):
                module.blend.fill_(share)


def arrange_channels_last(model: nn.Module) -> None:
    """Stores convolution weights channels-last, which makes CPU convolutions a fifth faster; no value changes."""
    for weight in model.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        elif weight.dim() == 5:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last_3d)


def on_background(
    image: Float[Tensor, "n c h w"], mask: Float[Tensor, "n 1 h w"], background: float
) -> Float[Tensor, "n c h w"]:
    """The image where the mask is 1, the background's value where it is 0."""
    return mask * image + (1.0 - mask) * background


def mirrored(volumes: Float[Tensor, "n 1 r r r"]) -> Float[Tensor, "n 1 r r r"]:
    """Volumes whose half at x < 0 is the mirror image of the one at x > 0."""
    half = volumes[:, :, volumes.shape[2] // 2 :]
    return torch.cat([half.flip(2), half], dim=2)


# --- initial weights, drawn from a generator that the caller seeds

# Gains on the published rule for networks without normalisation. Residual blocks start near the identity and styles
# near no modulation; layers without a following ReLU have PyTorch's default variance, 1 / (3 fan-in). A critic that
# amplifies its input at every level would start so steep that it wins before the painter learns anything.
RESIDUAL_SHARE = 0.3 / math.sqrt(2.0)
MODULATION_SHARE = 0.3
LINEAR_SHARE = math.sqrt(1.0 / 6.0)


@torch.no_grad()
def initialise_kaiming(network: nn.Module, generator: torch.Generator) -> None:
    """Draws normal weights with variance 2 / fan-in, as the published training does for all seven networks.

    Fan-in is counted as in the published code, over the numbers in `weight[0]`; for transposed convolutions those are
    the output channels. Biases are 0, batch norm is the identity, gains of whole-sample normalisation are uniform in
    [0, 1]. Layers of networks without normalisation are scaled down by their role.

    Args:
        network: initialised in place, on any device.
        generator: the source of all random numbers; equal seeds give equal weights on every device.
    """
    for module in network.modules():
        match module:
            case nn.Conv2d() | nn.Conv3d() | nn.ConvTranspose3d() | nn.Linear():
                drawn = torch.randn(module.weight.shape, generator=generator, device=generator.device)
                module.weight.copy_(drawn * math.sqrt(2.0 / module.weight[0].numel()))
                if module.bias is not None:
                    module.bias.zero_()
            case WholeSampleNorm():
                gains = torch.rand(module.gamma.shape, generator=generator, device=generator.device)
                module.gamma.copy_(gains)
                module.beta.zero_()
            case ClassEmbedding():
                shape = module.vectors.shape
                module.vectors.copy_(torch.randn(shape, generator=generator, device=generator.device))
            case nn.BatchNorm3d():
                module.reset_running_stats()
                module.weight.fill_(1.0)
                module.bias.zero_()
    _begin_small(network)


def _begin_small(network: nn.Module) -> None:
    """Scales down the layers of networks without normalisation by their role."""
    for module in network.modules():
        match module:
            case PlainResidual(shortcut=shortcut):
                module.second.weight.mul_(RESIDUAL_SHARE)
                if isinstance(shortcut, nn.Conv2d):
                    shortcut.weight.mul_(LINEAR_SHARE)
            case Modulation():
                module.linear.weight.mul_(MODULATION_SHARE)
            case Pyramid():
                module.stem.weight.mul_(LINEAR_SHARE)
            case UNet():
                module.stem.weight.mul_(LINEAR_SHARE)
                module.head.weight.mul_(LINEAR_SHARE)
            case ResidualCritic() | CodeRegressor():
                _scale_linear(module)
            case TextureField():
                _scale_linear(module)
                module.detail.weight.zero_()
            case CouplingLayer():
                module.head.weight.zero_()


def _scale_linear(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            layer.weight.mul_(LINEAR_SHARE)
