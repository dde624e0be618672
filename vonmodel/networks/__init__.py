"""Network architectures: shape and texture generators, encoders and critics."""

from vonmodel.networks.shape_networks import CodeFlow, ShapeCodeRegressor, ShapeCritic, ShapeEncoder, ShapeGenerator
from vonmodel.networks.texture_networks import (
    CodeRegressor,
    DepthUNet,
    GeometryPainter,
    PatchCritic,
    ResidualCritic,
    SketchEncoder,
    TextureEncoder,
    TextureField,
    TextureGenerator,
    sample_code,
)

__all__ = [
    "CodeFlow",
    "CodeRegressor",
    "DepthUNet",
    "GeometryPainter",
    "PatchCritic",
    "ResidualCritic",
    "ShapeCodeRegressor",
    "ShapeCritic",
    "ShapeEncoder",
    "ShapeGenerator",
    "SketchEncoder",
    "TextureEncoder",
    "TextureField",
    "TextureGenerator",
    "sample_code",
]
