"""`von train --baseline`: a generator that the paper compares with, on the data and for the steps of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from voncli.settings import print_json

if TYPE_CHECKING:
    from vonmodel.baselines.recipes import BaselineName
    from vonmodel.config import TrainConfig
    from vonmodel.run_folder import RunFolder

NAMES = ("dcgan", "lsgan", "wgan-gp", "3dgan")
INTERRUPTED = 130


@dataclasses.dataclass(frozen=True)
class BaselineRequest:
    """What was asked for: the baseline beside a run, and how to tell."""

    name: BaselineName
    run: RunFolder
    config: TrainConfig
    data: Path
    device: str
    dry_run: bool
    as_json: bool


def train_baseline(request: BaselineRequest, should_stop: Callable[[], bool]) -> None:
    """Trains the baseline and tells how it went."""
    import torch

    from vonmodel.baselines.budget import BaselineData
    from vonmodel.baselines.training import BaselineJob, baseline_folder
    from vonmodel.baselines.training import train_baseline as train
    from vonmodel.training.loss_record import NonFiniteLossError

    folder = baseline_folder(request.run.path, request.name)
    if folder.exists:
        folder.check_same(request.config)
    if request.dry_run:
        data = BaselineData(request.name, request.config, request.data)
        plan = {"baseline": request.name, "run": folder.path, "items": len(data.dataset)}
        plan |= dataclasses.asdict(data.budget) | {"steps": data.budget.steps}
        if request.as_json:
            print_json(plan)
        else:
            click.echo("\n".join(f"{name}: {value}" for name, value in plan.items()))
        return
    job = BaselineJob(
        name=request.name,
        run=request.run,
        config=request.config,
        data=request.data,
        device=torch.device(request.device),
        on_progress=lambda line: click.echo(line, err=request.as_json),
        should_stop=should_stop,
    )
    try:
        info = train(job)
    except NonFiniteLossError as error:
        raise click.ClickException(str(error)) from error
    sheets = sorted(folder.samples.glob("*.png"))
    sheet = sheets[-1] if sheets else None
    if request.as_json:
        checkpoint = dataclasses.asdict(info)
        print_json({"run": folder.path, "checkpoint": checkpoint, "finished": info.finished, "sheet": sheet})
    elif info.finished:
        click.echo(f"Baseline {request.name} is finished: checkpoint {info.name} in {folder.path}")
        click.echo(f"Samples: {sheet}")
        click.echo("Beside the model: von evaluate --table")
    if not info.finished:
        click.echo(f"Saved as {info.name} in {folder.path}; the same command goes on from there.", err=True)
        raise SystemExit(INTERRUPTED)
