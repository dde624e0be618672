"""Which model is used, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vonmodel.checkpoint import CheckpointInfo, load_model
from vonmodel.config import ModelConfig
from vonmodel.data.datasets import ViewpointSampler, viewpoint_sampler
from vonmodel.model import VonModel, arrange_channels_last
from vonmodel.run_folder import RunFolder


@dataclass(frozen=True)
class Source:
    """A trained model and where it comes from.

    Attributes:
        model: in evaluation mode, on the device to compute on.
        checkpoint: which weights these are.
        run: their run folder.
        class_name: the object class.
        sampler: the class's viewpoints.
        data: the prepared dataset of the class; it may be missing.
    """

    model: VonModel
    checkpoint: CheckpointInfo
    run: Path
    class_name: str
    sampler: ViewpointSampler
    data: Path = Path("data")

    @property
    def config(self) -> ModelConfig:
        """Sizes and representation."""
        return self.model.config


def open_source(run: Path, *, data: Path, checkpoint: str | None = None, device: str = "cpu") -> Source:
    """Loads the model of a run.

    Args:
        run: the run folder.
        data: the prepared dataset, whose viewpoints are those of the class; it may be missing.
        checkpoint: name of the checkpoint; the newest where None.
        device: where to compute.

    Raises:
        RunError: no run was started there.
        CheckpointError: it has no such checkpoint, or one of another version or a damaged one.
        ConfigError: its configuration cannot be read.
        UnknownClassError: its class is not known.
    """
    folder = RunFolder(run)
    config = folder.config()
    model, info = load_model(run, checkpoint=checkpoint, device=device)
    if device == "cpu":
        arrange_channels_last(model)
    sampler = viewpoint_sampler(data, config.class_name, source=config.data.viewpoints)
    return Source(model, info, run, config.class_name, sampler, data)
