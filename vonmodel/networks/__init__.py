"""The networks of a Visual Object Network."""

from vonmodel.networks.shape_networks import ShapeCritic, ShapeEncoder, ShapeGenerator
from vonmodel.networks.texture_networks import (
    CodeRegressor,
    DepthUNet,
    GeometryPainter,
    PatchCritic,
    ResidualCritic,
    SketchEncoder,
    TextureEncoder,
    TextureGenerator,
    sample_code,
)

__all__ = [
    "CodeRegressor",
    "DepthUNet",
    "GeometryPainter",
    "PatchCritic",
    "ResidualCritic",
    "ShapeCritic",
    "ShapeEncoder",
    "ShapeGenerator",
    "SketchEncoder",
    "TextureEncoder",
    "TextureGenerator",
    "sample_code",
]
