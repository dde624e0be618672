"""`von train`: trains the model of a class or a baseline of the paper, in one process or several on one machine.

Several processes are started and stopped together, and the first one to end is named. torch's elastic launcher is not
used (measured with 2.13, two processes): when one process ends with a message and code 130, the launcher prints 49
lines, including a traceback of its own, and always ends with code 1.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from voncli.command import ARGUMENTS, Command, option
from voncli.model_options import choose_device, chosen_checkpoint, device_option
from voncli.options import json_option
from voncli.output import (
    EXIT_INTERRUPTED,
    end_signals,
    note,
    print_json,
    stop_on_signal,
    thread_errors_once,
    user_errors,
)
from voncli.serve import STUDIO_PORT
from voncli.settings import LOCAL_PATH, FiniteRange, folder_option

if TYPE_CHECKING:
    from vonmodel.baselines.models import BaselineName
    from vonmodel.checkpoint import CheckpointInfo
    from vonmodel.config import StageName, TrainConfig
    from vonmodel.run_folder import RunFolder
    from vonmodel.training.loop import TrainingJob
    from vonmodel.training.start import Origin


# Time for the other processes to end by themselves once one has.
GRACE_S = 15.0


def train_on_devices(count: int, arguments: Sequence[str]) -> None:
    """Runs `von train` in one process for each device and ends with their exit code.

    Args:
        count: how many.
        arguments: the arguments of this command.

    Raises:
        click.ClickException: one was killed; those that fail say why themselves.
        SystemExit: with the exit code of the first that failed.
    """
    processes = [_start(arguments, rank, count, port) for port in [free_port()] for rank in range(count)]
    before = {each: signal.signal(each, lambda number, _: _send(processes, number)) for each in end_signals()}
    try:
        first = _wait(processes)
        for rank, process in enumerate(processes):
            if process.poll() is None:
                click.echo(
                    f"training process {rank} did not end within {GRACE_S:.0f} s of the others: killed", err=True
                )
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        for process in processes:
            process.kill()
            process.wait()
    if first is None:
        return
    code = processes[first].returncode
    if code < 0:
        raise click.ClickException(
            f"training process {first} of 0 to {count - 1} was ended by {signal.Signals(-code).name}, and the others "
            "were stopped; the same command resumes from the last checkpoint"
        )
    raise SystemExit(code)


def _start(arguments: Sequence[str], rank: int, count: int, port: int) -> subprocess.Popen[bytes]:
    # The variables that torchrun sets, so that training handles both launchers alike.
    variables = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": count,
        "LOCAL_WORLD_SIZE": count,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count))}
    environment = {**threads, **os.environ, **{name: str(value) for name, value in variables.items()}}
    # In its own session; otherwise Ctrl-C would reach it twice, from the terminal and from here.
    command = [sys.executable, "-m", "voncli", "train", *_without(arguments, "--devices", "--serve"), "--devices=1"]
    return subprocess.Popen(command, env=environment, start_new_session=True)


def _without(arguments: Sequence[str], counted: str, flag: str) -> list[str]:
    """The arguments without an option that takes a value and without a flag."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip or argument in (counted, flag):
            skip = argument == counted
        elif not argument.startswith(f"{counted}="):
            kept.append(argument)
    return kept


def free_port(wanted: int = 0) -> int:
    """A free port of this machine: the wanted one if it is free, else any."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _send(processes: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    for process in processes:
        process.send_signal(number)


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Waits for all processes, or `GRACE_S` after the first failure; returns the rank that failed first."""
    first: int | None = None
    deadline = float("inf")
    while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
        failed = [rank for rank, process in enumerate(processes) if process.poll() not in (None, 0)]
        if failed and first is None:
            first, deadline = failed[0], time.monotonic() + GRACE_S
        time.sleep(0.1)
    if first is None:
        first = next((rank for rank, process in enumerate(processes) if process.returncode != 0), None)
    return first


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


@click.command(cls=Command)
@option(
    "--class",
    "class_names",
    multiple=True,
    metavar="NAME",
    help="Train this class; repeat for one model of several. [default: the only prepared one]",
)
@option(
    "--stage",
    type=click.Choice(["shape", "texture", "joint"]),
    help="Train this stage only. [default: all, in order]",
)
@option(
    "--baseline",
    type=click.Choice(NAMES),
    help="Train this baseline of the paper instead of the model, on the same data for as many steps.",
)
@option("--dry-run", is_flag=True, help="Print what would be trained, and train nothing.")
@option("--serve", is_flag=True, help="Open the studio on the run while it trains.")
@option(
    "--preset",
    type=click.Choice(["demo", "published", "fast", "modern"]),
    default="published",
    show_default=True,
    heading="Configuration",
    help="Start from these values: demo trains on a CPU in minutes, published has the paper's numbers, fast is "
    "published in bfloat16 for GPUs, modern has newer losses and networks.",
)
@option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    heading="Configuration",
    help="Change the fields of the preset that this JSON file names, such as the config.json of a run.",
)
@option(
    "--set",
    "settings",
    multiple=True,
    metavar="STAGE.FIELD=VALUE",
    heading="Configuration",
    help="Change one field, such as shape.learning_rate=1e-4 or model.resolution=64; repeat for more.",
)
@option(
    "--seed",
    type=click.IntRange(min=0),
    heading="Configuration",
    help="Use this seed for all random choices. [default: 0]",
)
@option(
    "--start-from",
    metavar="RUN[:CHECKPOINT]",
    heading="Configuration",
    help="Initialise a new run with the weights of another one, of the same or another class, or of builtin:chair. "
    "[default: random weights]",
)
@folder_option("data", help="Train on this prepared dataset.")
@folder_option("runs", heading="Output", help="Keep runs in this folder.")
@option(
    "-o",
    "--output",
    "--run",
    "run",
    type=LOCAL_PATH,
    heading="Output",
    help="Write the run into this folder, or resume the one in it. [default: RUNS/CLASS]",
)
@device_option
@option(
    "--devices",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    heading="Devices",
    help="Train on this many devices of this machine, each with its share of every batch; torchrun works too.",
)
@option(
    "--patience",
    type=FiniteRange(0, 7 * 24 * 60, min_open=True),
    default=20,
    show_default=True,
    metavar="MINUTES",
    heading="Devices",
    help="Stop if a device has not answered another one for this long.",
)
@option(
    "--skip-nonfinite",
    is_flag=True,
    heading="Devices",
    help="Skip and count steps with a non-finite loss or gradient instead of stopping.",
)
@json_option
def train(data: Path, as_json: bool, dry_run: bool, **options: Any) -> None:
    """Trains the shape, texture and joint stages, in this order.

    The same command resumes training: Ctrl-C, a crash or a reboot costs at most the steps since the last checkpoint.
    RUN/samples shows samples during training; RUN/tensorboard holds the curves.
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
        names = _class_names(options, data)
        run = RunFolder(options["run"] or options["runs"] / "+".join(names))
        config = _resolve(run, names, options)
        _check_run(run, config)
        if options["baseline"] is not None:
            if len(names) > 1:
                raise click.UsageError("--baseline: a baseline is of one class; give one --class")
            for name in ("stage", "start_from"):
                if options[name] is not None:
                    chosen = "--" + name.replace("_", "-")
                    raise click.UsageError(f"{chosen} and --baseline: a baseline has none, leave {chosen} out")
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
        origin = _origin(options["start_from"])
        if not run.exists and options["baseline"] is None and origin is None:
            stage_before(run, stages[0])
        if options["devices"] > 1:
            with _studio(run, config, data) if options["serve"] else nullcontext():
                train_on_devices(options["devices"], click.get_current_context().meta[ARGUMENTS])
            return
        job = TrainingJob(
            run=run,
            config=config,
            data=data,
            device=torch.device(device),
            skip_nonfinite=options["skip_nonfinite"],
        )
        with _studio(run, config, data) if options["serve"] else nullcontext():
            what = _Work(stages, options["baseline"], origin)
            info = _train(job, what, timedelta(minutes=options["patience"]), as_json)
    _print_end(info, job, options["baseline"], as_json)


def _processes(devices: int) -> int:
    """How many processes train together: as given by --devices, or by a launcher such as torchrun."""
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if devices > 1 and launched > 1:
        raise click.UsageError("--devices: a launcher started this process as one of several already; leave it out")
    return max(devices, launched)


def _own_device(device: str, devices: int) -> str:
    """The device of this process; if several train together, the GPU with its number.

    Raises:
        click.UsageError: there are fewer GPUs than processes.
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


def _class_names(options: dict[str, Any], data: Path) -> tuple[str, ...]:
    """The classes given, those of the run given, or the only prepared one.

    Raises:
        click.UsageError: several classes were prepared, or none.
    """
    from vondata.classes import load_class
    from vondata.dataset.manifest import dataset_classes
    from vonmodel.run_folder import RunFolder

    if options["class_names"]:
        return tuple(dict.fromkeys(load_class(each).name for each in options["class_names"]))
    if options["run"] is not None and (run := RunFolder(options["run"])).exists:
        return run.config().class_names
    found = dataset_classes(data, "shapes")
    if len(found) != 1:
        if not found:
            raise click.UsageError(
                f"no prepared shapes in {data}: run von prepare shapenet (or meshes) first, or name the dataset with "
                "--data"
            )
        raise click.UsageError(f"{data} has shapes of {', '.join(found)}: name the class with --class")
    return (found[0],)


def _resolve(run: RunFolder, classes: tuple[str, ...], options: dict[str, Any]) -> TrainConfig:
    """The configuration given by the options: that of a preset or, without one, of the existing run, with changes."""
    from vonmodel.config import apply_setting, load_config
    from vonmodel.presets import PRESETS

    source, unsaid = click.get_current_context().get_parameter_source, [click.core.ParameterSource.DEFAULT]
    if source("run") is click.core.ParameterSource.COMMANDLINE:
        unsaid.append(click.core.ParameterSource.DEFAULT_MAP)  # a preset in von.toml is not meant for this run
    if run.exists and all(source(name) in unsaid for name in ("preset", "config_file")):
        config = run.config()
    else:
        config = PRESETS[options["preset"]]
    if options["config_file"] is not None:
        config = load_config(options["config_file"], config)
    for setting in options["settings"]:
        config = apply_setting(config, setting)
    if options["seed"] is not None:
        config = dataclasses.replace(config, seed=options["seed"])
    several = classes if len(classes) > 1 else ()
    if not several and run.exists and classes[0] in config.model.classes:
        return config  # naming one class of the existing run selects the whole run
    model = dataclasses.replace(config.model, classes=several)
    return dataclasses.replace(config, class_name=classes[0], model=model)


def _check_run(run: RunFolder, config: TrainConfig) -> None:
    """Checks that the run can start or resume with a configuration; an error names the preset it was trained with.

    Raises:
        click.UsageError: it was trained with another preset than the one chosen.
        RunError: see `RunFolder.check`.
    """
    from vonmodel.presets import PRESETS
    from vonmodel.run_folder import ConfigChangedError

    try:
        run.check(config)
    except ConfigChangedError:
        known = {name: _model_of(preset) for name, preset in PRESETS.items()}
        theirs = [name for name, model in known.items() if model == _model_of(run.config())]
        ours = [name for name, model in known.items() if model == _model_of(config)]
        if not theirs or theirs == ours:
            raise
        raise click.UsageError(
            f"{run.path} was trained with preset {theirs[0]}: resume with --preset {theirs[0]}, or choose another "
            "folder with --run"
        ) from None


def _model_of(config: TrainConfig) -> Any:
    """The part of a configuration that identifies its preset, independent of class, seed and single fields."""
    return config.model, config.shape.batch_size, config.compute.precision


@contextmanager
def _studio(run: RunFolder, config: TrainConfig, data: Path) -> Iterator[None]:
    """Serves the studio on the run within the block, in a separate process on the CPU."""
    run.start(config)
    command = [sys.executable, "-m", "voncli", "serve", f"--run={run.path}", f"--data={data}", "--device=cpu"]
    # In a session of its own, Ctrl-C ends the training first and the studio after it.
    studio = subprocess.Popen([*command, f"--port={free_port(STUDIO_PORT)}"], start_new_session=True)
    try:
        yield
    finally:
        studio.terminate()
        studio.wait()
        note(f"von serve --run {run.path}  opens the studio again.")


@dataclasses.dataclass(frozen=True)
class _Work:
    """What to train: stages of the model, from the weights of `origin` if given, or a baseline."""

    stages: Sequence[StageName]
    baseline: BaselineName | None
    origin: Origin | None


def _origin(text: str | None) -> Origin | None:
    """The run and checkpoint given by `--start-from`; the name of an existing folder may contain a colon."""
    from vonmodel.builtin import builtin_name, unpack_builtin
    from vonmodel.run_folder import RunFolder
    from vonmodel.training.start import Origin

    if text is None:
        return None
    if name := builtin_name(text):
        return Origin(unpack_builtin(name).path)
    folder, colon, checkpoint = text.rpartition(":")
    if not colon or Path(text).is_dir():
        return Origin(RunFolder(Path(text)).path)
    return Origin(Path(folder), chosen_checkpoint(RunFolder(Path(folder)), checkpoint))


def _train(job: TrainingJob, work: _Work, timeout: timedelta, as_json: bool) -> CheckpointInfo:
    from vonmodel.baselines.training import train_baseline
    from vonmodel.distributed import is_writer, processes_joined, wait_for_all
    from vonmodel.training.loop import train as train_stages
    from vonmodel.training.start import start_from

    joined = processes_joined(job.device, timeout)
    with stop_on_signal() as stop, thread_errors_once(), _errors_printed_once(job.run), joined:
        job = dataclasses.replace(
            job,
            should_stop=lambda: stop.requested,
            on_progress=lambda progress: stop.print(progress.line(), err=as_json),
        )
        if is_writer():
            if work.origin is not None:
                start_from(job, work.stages[0], work.origin)
            job.run.start(job.config)
        wait_for_all()
        return train_stages(job, work.stages) if work.baseline is None else train_baseline(job, work.baseline)


@contextmanager
def _errors_printed_once(run: RunFolder) -> Iterator[None]:
    """Turns errors that end training into messages; those that all processes raise are printed by rank 0 only."""
    from vonmodel.distributed import DisagreementError, LostProcessError
    from vonmodel.training.log import NonFiniteLossError

    try:
        yield
    except (NonFiniteLossError, DisagreementError) as error:
        if os.environ.get("RANK", "0") != "0":
            raise SystemExit(1) from error
        raise
    except LostProcessError as error:
        raise click.ClickException(
            f"{error}. The same command resumes from the last checkpoint in {run.path}"
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
        raise SystemExit(0 if info.finished else EXIT_INTERRUPTED)
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
        click.echo(f"Saved as {info.name} in {job.run.path}; the same command resumes from there.", err=True)
        raise SystemExit(EXIT_INTERRUPTED)
