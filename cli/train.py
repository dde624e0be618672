"""`von train`: trains the model of a class, or one of the baselines that the paper compares with."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from voncli.local_launch import INTERRUPTED, RememberingCommand, train_on_devices
from voncli.model_options import choose_device
from voncli.options import LOCAL_PATH, FiniteRange, folder_option, json_option, print_json
from voncli.output import disk_errors_said_once, stop_on_signal, user_errors

if TYPE_CHECKING:
    from vonmodel.baselines.configs import BaselineName
    from vonmodel.checkpoint import CheckpointInfo
    from vonmodel.config import StageName, TrainConfig
    from vonmodel.run_folder import RunFolder
    from vonmodel.training.loop import TrainingJob


NAMES = ("dcgan", "lsgan", "wgan-gp", "3dgan")


def _print_baseline_plan(
    name: BaselineName, folder: RunFolder, config: TrainConfig, data: Path, as_json: bool
) -> None:
    from vonmodel.baselines.training import plan_baseline

    found = plan_baseline(name, config, data)
    plan = {
        "baseline": name,
        "run": folder.path,
        "items": found.items,
        "steady": found.steady,
        "decaying": found.decaying,
        "batch_size": found.batch_size,
        "steps": found.steady + found.decaying,
    }
    if as_json:
        print_json(plan)
    else:
        click.echo("\n".join(f"{key}: {value}" for key, value in plan.items()))


@click.command(cls=RememberingCommand, short_help="Trains shapes, then textures, then both together.")
@click.option("--class", "class_name", help="Class to train. [default: the one that was prepared]")
@click.option(
    "--stage",
    type=click.Choice(["shape", "texture", "joint"]),
    help="Train this stage only. [default: all, in order]",
)
@click.option(
    "--preset",
    type=click.Choice(["demo", "published", "fast", "modern"]),
    default="published",
    show_default=True,
    help="demo learns on a CPU in minutes, published has the paper's numbers, fast is the same on a GPU in bfloat16, "
    "modern differs where we know better.",
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="JSON file of fields to change in the preset, such as the config.json of a run.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="STAGE.FIELD=VALUE",
    help="Change one field, such as shape.learning_rate=1e-4 or model.resolution=64; repeat for more.",
)
@click.option(
    "--baseline",
    type=click.Choice(NAMES),
    help="Train this one of the paper's comparisons in place of the model, on the same data for as many steps.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Of everything random.  [default: 0]")
@click.option("--run", type=LOCAL_PATH, help="The run folder. [default: RUNS/CLASS]")
@folder_option("runs", help="Where the runs are.")
@folder_option("data", help="The prepared dataset.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--devices",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Devices of this machine to train on together, each with its share of every batch; torchrun does it too.",
)
@click.option(
    "--patience",
    type=FiniteRange(0, 7 * 24 * 60, min_open=True),
    default=20,
    show_default=True,
    metavar="MINUTES",
    help="How long a device waits for another one that does not answer before training ends.",
)
@click.option(
    "--skip-nonfinite",
    is_flag=True,
    help="Leave a step out where a loss or gradient is not finite, and count it, instead of stopping.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be trained, and train nothing.")
@json_option
def train(data: Path, as_json: bool, dry_run: bool, **options: Any) -> None:
    """Trains shapes, then textures, then both together.

    The same command goes on where it was stopped: Ctrl-C, a crash or a reboot cost at most the steps since the last
    checkpoint. RUN/samples shows what the model makes while it trains; RUN/tensorboard holds its curves.
    """
    import torch

    from vonmodel.baselines.training import baseline_folder
    from vonmodel.config import STAGES
    from vonmodel.run_folder import RunFolder
    from vonmodel.training.loop import TrainingJob, stage_before
    from vonmodel.training.setup import check, describe

    stages = STAGES if options["stage"] is None else (options["stage"],)
    device = _own_device(choose_device(options["device"]), options["devices"])
    with user_errors():
        class_name = _class_name(options["class_name"], data)
        run = RunFolder(options["run"] or options["runs"] / class_name)
        config = _resolve(run, class_name, options)
        run.check(config)
        if options["baseline"] is not None:
            if options["stage"] is not None:
                raise click.UsageError("--stage and --baseline: a baseline has no stages, leave --stage away")
            run = baseline_folder(run.path, options["baseline"])
            run.check(config)
        else:
            check(config, data, stages, processes=_processes(options["devices"]))
        if dry_run:
            if options["baseline"] is not None:
                _print_baseline_plan(options["baseline"], run, config, data, as_json)
            else:
                _print_plan(describe(config, data, run, stages), as_json)
            return
        if not run.exists and options["baseline"] is None:
            stage_before(run, stages[0])
        if options["devices"] > 1:
            train_on_devices(options["devices"], click.get_current_context().meta["von.arguments"])
            return
        job = TrainingJob(
            run=run,
            config=config,
            data=data,
            device=torch.device(device),
            skip_nonfinite=options["skip_nonfinite"],
            on_progress=lambda progress: click.echo(progress.line(), err=as_json),
        )
        info = _train(job, stages, options["baseline"], timedelta(minutes=options["patience"]))
    _print_end(info, job, options["baseline"], as_json)


def _processes(devices: int) -> int:
    """How many processes train together: those asked for here, or those of a launcher such as torchrun."""
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if devices > 1 and launched > 1:
        raise click.UsageError("--devices: a launcher started this process as one of several already; leave it away")
    return max(devices, launched)


def _own_device(device: str, devices: int) -> str:
    """The device of this process where several train together: GPUs by their number on this machine.

    Raises:
        click.UsageError: there are not as many GPUs.
    """
    import torch

    if device.partition(":")[0] != "cuda" or _processes(devices) == 1:
        return device
    index = int(os.environ.get("LOCAL_RANK", devices - 1))
    if index >= torch.cuda.device_count():
        raise click.UsageError(
            f"--devices: this machine has {torch.cuda.device_count()} GPUs, {index + 1} are needed"
        )
    return f"cuda:{index}"


def _class_name(given: str | None, data: Path) -> str:
    """The class asked for, or the only one there is.

    Raises:
        click.UsageError: several classes were prepared, or none.
    """
    from vondata.classes import load_class
    from vondata.dataset.manifest import dataset_classes

    if given is not None:
        return load_class(given).name
    found = dataset_classes(data, "shapes")
    if len(found) != 1:
        what = f"has shapes of {', '.join(found)}" if found else "has no prepared shapes"
        raise click.UsageError(f"{data} {what}: name the class with --class")
    return found[0]


def _resolve(run: RunFolder, class_name: str, options: dict[str, Any]) -> TrainConfig:
    """The configuration that the options say; that of the run itself where none of them is given."""
    from vonmodel.config import apply_setting, load_config
    from vonmodel.presets import PRESETS

    source = click.get_current_context().get_parameter_source
    chosen = ("preset", "config_file", "settings", "seed")
    if run.exists and all(source(name) is click.core.ParameterSource.DEFAULT for name in chosen):
        config = run.config()
    else:
        config = PRESETS[options["preset"]]
    if options["config_file"] is not None:
        config = load_config(options["config_file"], config)
    for setting in options["settings"]:
        config = apply_setting(config, setting)
    if options["seed"] is not None:
        config = dataclasses.replace(config, seed=options["seed"])
    return dataclasses.replace(config, class_name=class_name)


def _train(
    job: TrainingJob, stages: Sequence[StageName], baseline: BaselineName | None, timeout: timedelta
) -> CheckpointInfo:
    from vonmodel.baselines.training import train_baseline
    from vonmodel.distributed import is_writer, processes_joined, wait_for_all
    from vonmodel.training.loop import train as train_stages

    joined = processes_joined(job.device, timeout)
    with stop_on_signal() as stop, disk_errors_said_once(), _errors_printed_once(job.run), joined:
        job = dataclasses.replace(job, should_stop=lambda: bool(stop))
        if is_writer():
            job.run.start(job.config)
        wait_for_all()
        return train_stages(job, stages) if baseline is None else train_baseline(job, baseline)


@contextmanager
def _errors_printed_once(run: RunFolder) -> Iterator[None]:
    """Turns the errors that end training into messages; those that all processes raise are printed by the first."""
    from vonmodel.distributed import DisagreementError, LostProcessError
    from vonmodel.training.log import NonFiniteLossError

    try:
        yield
    except (NonFiniteLossError, DisagreementError) as error:
        if os.environ.get("RANK", "0") != "0":
            raise SystemExit(1) from error
        raise click.ClickException(str(error)) from error
    except LostProcessError as error:
        raise click.ClickException(
            f"{error}. The same command goes on from the last checkpoint in {run.path}"
        ) from error


def _print_plan(plan: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(plan)
        return
    click.echo(json.dumps(plan["config"], indent=2))
    click.echo(f"run {plan['run']}, data {plan['data']}")
    for name, count in plan["parameters"].items():
        click.echo(f"  {name:18} {count:>12,} parameters")
    for name, stage in plan["stages"].items():
        photos = (
            ""
            if stage["photos"] is None
            else (f", {stage['photos']} photos ({stage['photos_with_viewpoint']} with viewpoint)")
        )
        click.echo(
            f"  {name:8} {stage['done']:,} of {stage['steps']:,} steps done, {stage['batch_size']} items each, "
            f"{stage['shapes']} shapes{photos}"
        )


def _print_end(info: CheckpointInfo, job: TrainingJob, baseline: BaselineName | None, as_json: bool) -> None:
    if os.environ.get("RANK", "0") != "0":
        raise SystemExit(0 if info.finished else INTERRUPTED)
    sheets = sorted(job.run.samples.glob(f"{baseline or info.stage}-*.png"))
    if as_json:
        print_json(
            {
                "run": job.run.path,
                "checkpoint": dataclasses.asdict(info),
                "finished": info.finished,
                "sheet": sheets[-1] if sheets else None,
            }
        )
    elif info.finished:
        what = f"Stage {info.stage}" if baseline is None else f"Baseline {baseline}"
        click.echo(f"{what} is finished: checkpoint {info.name} in {job.run.path}")
        click.echo(f"Samples: {sheets[-1] if sheets else job.run.samples}")
        if baseline is not None:
            click.echo("Beside the model: von evaluate --table")
    if not info.finished:
        click.echo(f"Saved as {info.name} in {job.run.path}; the same command goes on from there.", err=True)
        raise SystemExit(INTERRUPTED)
