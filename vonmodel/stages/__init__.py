"""What one training step does in the shape, texture and joint stage."""

from .joint import JointStage
from .phase import Phase, Stage, Step, learning_rate_share, run_phase, run_step, set_learning_rate
from .shape import ShapeStage
from .texture import TextureStage

__all__ = [
    "JointStage",
    "Phase",
    "ShapeStage",
    "Stage",
    "Step",
    "TextureStage",
    "learning_rate_share",
    "run_phase",
    "run_step",
    "set_learning_rate",
]
