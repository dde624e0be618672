"""Transfer learning: starting a run from the weights of another run, of the same class or another one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from vondata.io.files import atomic_path
from vonmodel.checkpoint import (
    CheckpointError,
    CheckpointInfo,
    CheckpointState,
    checkpoint_name,
    list_checkpoints,
    load_model,
    load_weights,
    save_checkpoint,
)
from vonmodel.config import StageName, difference, load_config
from vonmodel.model import VonModel, build_model
from vonmodel.networks.blocks import Pyramid, UNet, grown
from vonmodel.run_files import JsonError, parse_object, read_run_file
from vonmodel.run_folder import ORIGIN, RunError
from vonmodel.training.loop import TrainingJob, training_lock
from vonmodel.training.setup import open_data

MIN_GROWING = 64
"""Smallest image size from which networks grow without becoming wider."""


@dataclass(frozen=True)
class Origin:
    """The source of a run's initial weights.

    Attributes:
        run: the other run's folder.
        checkpoint: a checkpoint of it; None for the newest undamaged one.
    """

    run: Path
    checkpoint: str | None = None


class StartedElsewhereError(RunError):
    """A run that has already started from other weights."""


def start_from(job: TrainingJob, stage: StageName, origin: Origin) -> CheckpointInfo | None:
    """Writes a checkpoint of step 0 with another run's (averaged) weights into a new run.

    Training continues from it as from any other; the other run is not needed any more. If the run was started from
    the same weights before, nothing happens. The geometry painter and the residual critic of a run on images of half
    the size are grown to this one's, so that most of the training can use images at a quarter of the cost.

    Args:
        job: the new run; its folder need not exist.
        stage: the first stage to train.
        origin: the source of the weights.

    Returns:
        The checkpoint; None if the run was started before.

    Raises:
        StartedElsewhereError: the run has started from other weights.
        CheckpointError: the other run has no such checkpoint, or its model has other sizes.
    """
    other, source = load_model(origin.run, checkpoint=origin.checkpoint)
    if list_checkpoints(job.run.path):
        if _recorded(job.run.path) == source.sha256:
            return None
        raise StartedElsewhereError(
            f"{job.run.path} has begun already, and not from {source.name} of {origin.run}",
            hint="choose a new run folder, or continue this run as it is",
        )
    model = build_model(job.config.model, job.config.seed)
    state = CheckpointState(_fitted(other, model), {}, {})
    try:
        load_weights(model, state, source)
    except CheckpointError as error:
        theirs = load_config(origin.run / "config.json")
        fields = [name for name in difference(theirs, job.config) if name.startswith("model.")]
        raise CheckpointError(
            f"the weights of {origin.run} do not fit this model: {', '.join(fields) or 'the networks'} differ",
            hint="give these fields the other run's values",
        ) from error
    data = open_data(job.config, job.data, stage)
    own = job.config.stage(stage)
    info = CheckpointInfo(
        name=checkpoint_name(stage, 0),
        stage=stage,
        step=0,
        steps=max(1, sum(own.steps(data.items))),
        images_seen=0,
        sha256="",
        dataset=data.fingerprint,
        schedule=own.schedule,
    )
    record = {"run": str(origin.run.resolve()), "checkpoint": source.name, "sha256": source.sha256}
    with training_lock(job):
        with atomic_path(job.run.path / ORIGIN) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n", "utf-8")
        return save_checkpoint(job.run.path, info, CheckpointState(model.state_dict(), {}, {}))


def _fitted(other: VonModel, model: VonModel) -> dict[str, Tensor]:
    """The other model's weights, with a shape prior if it lacks one, and grown from images of half the size."""
    weights = other.state_dict()
    if model.shape_prior is not None and other.shape_prior is None:
        # An untrained prior only permutes the elements of a code.
        weights |= {f"shape_prior.{key}": value for key, value in model.shape_prior.state_dict().items()}
    if 2 * other.config.image_size != model.config.image_size or other.config.image_size < MIN_GROWING:
        return weights
    for name, network in model.named_modules():
        if isinstance(network, Pyramid | UNet):
            theirs = {key: weights.pop(key) for key in list(weights) if key.startswith(f"{name}.")}
            bare = {key.removeprefix(f"{name}."): value for key, value in theirs.items()}
            # Networks of a fixed size, inside of others, do not grow.
            fitting = bare if bare.keys() == network.state_dict().keys() else grown(bare, network)
            weights |= {f"{name}.{key}": value for key, value in fitting.items()}
    return weights


def _recorded(run: Path) -> str | None:
    """The hash of the weights that a run was started from; None if it was not, or the record cannot be read."""
    try:
        return str(parse_object(read_run_file(run, ORIGIN, max_bytes=1 << 16)).get("sha256"))
    except (OSError, JsonError):
        return None
