"""The networks of a Visual Object Network."""

from vonmodel.networks.geometry_painter import GeometryPainter
from vonmodel.networks.patch_critic import PatchCritic
from vonmodel.networks.residual_critic import ResidualCritic
from vonmodel.networks.residual_encoders import CodeRegressor, DepthUNet
from vonmodel.networks.shape_critic import ShapeCritic
from vonmodel.networks.shape_generator import ShapeGenerator
from vonmodel.networks.sketch_encoder import SketchEncoder
from vonmodel.networks.texture_encoder import TextureEncoder, sample_texture_code
from vonmodel.networks.texture_generator import TextureGenerator

__all__ = [
    "CodeRegressor",
    "DepthUNet",
    "GeometryPainter",
    "PatchCritic",
    "ResidualCritic",
    "ShapeCritic",
    "ShapeGenerator",
    "SketchEncoder",
    "TextureEncoder",
    "TextureGenerator",
    "sample_texture_code",
]
