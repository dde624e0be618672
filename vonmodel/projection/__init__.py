"""Differentiable projection of volumes to 2.5D sketches: silhouette, depth, framing and surface maps."""

from vonmodel.projection.dispatch import Implementation, project
from vonmodel.projection.framing import (
    DepthRange,
    frame_positions,
    frame_sketch,
    frame_with_positions,
    reduce_sketch,
)
from vonmodel.projection.sketch import (
    FramedSketch,
    Sketch,
    SurfaceSketch,
    distance_to_opacity,
    geometry_maps,
    locate_surface,
)

__all__ = [
    "DepthRange",
    "FramedSketch",
    "Implementation",
    "Sketch",
    "SurfaceSketch",
    "distance_to_opacity",
    "frame_positions",
    "frame_sketch",
    "frame_with_positions",
    "geometry_maps",
    "locate_surface",
    "project",
    "reduce_sketch",
]
