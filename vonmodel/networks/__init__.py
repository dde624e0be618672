"""The networks of a Visual Object Network."""

from .patch_critic import PatchCritic
from .shape_critic import ShapeCritic
from .shape_generator import ShapeGenerator
from .sketch_encoder import SketchEncoder
from .texture_encoder import TextureEncoder, sample_texture_code
from .texture_generator import TextureGenerator

__all__ = [
    "PatchCritic",
    "ShapeCritic",
    "ShapeGenerator",
    "SketchEncoder",
    "TextureEncoder",
    "TextureGenerator",
    "sample_texture_code",
]
