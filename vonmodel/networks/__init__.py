"""The networks of a Visual Object Network."""

from vonmodel.networks.shape_networks import ShapeCritic, ShapeGenerator
from vonmodel.networks.texture_networks import (
    CodeRegressor,
    DepthUNet,
    GeometryPainter,
    PatchCritic,
    ResidualCritic,
    SketchEncoder,
    TextureEncoder,
    TextureGenerator,
    sample_texture_code,
)

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
