"""Which trained model a verb works with: the options that say so, and how its errors reach the user."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from voncli.options import LOCAL_PATH, FiniteRange, folder_option, print_json

if TYPE_CHECKING:
    from vonmodel.inference.sampling import SamplingOptions
    from vonmodel.inference.session import LoadedModel
    from vonmodel.run_folder import RunFolder

Command = TypeVar("Command", bound=Callable[..., Any])


def model_options(command: Command) -> Command:
    """--run, --class, --runs, --data, --checkpoint and --device: a trained model and the data of its class."""
    options = [
        click.option("--run", type=LOCAL_PATH, help="The run folder. [default: the latest run]"),
        click.option("--class", "class_name", help="The run of this class, in place of --run."),
        folder_option("runs", help="Where the runs are."),
        folder_option("data", help="The prepared dataset."),
        click.option("--checkpoint", help="Name of a checkpoint. [default: the newest]"),
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def sampling_options(command: Command) -> Command:
    """--pieces and --truncation: what of generated shapes is kept, and how far from the middle codes are drawn."""
    options = [
        click.option(
            "--pieces",
            type=click.Choice(["largest", "all"]),
            default="largest",
            show_default=True,
            help="Drop what hangs loose of a generated shape, or keep it.",
        ),
        click.option(
            "--truncation",
            type=FiniteRange(0, 2, min_open=True),
            default=1.0,
            show_default=True,
            help="Spread of the codes drawn: 1 as in training, 0.7 plainer and better.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def chosen_sampling(options: Mapping[str, Any]) -> SamplingOptions:
    """What the options of `sampling_options` say."""
    from vonmodel.inference.sampling import SamplingOptions

    return SamplingOptions(options["pieces"], options["truncation"])


def output_option(folder: str) -> Callable[[Command], Command]:
    """--output; the default is a folder of this name in the run, by checkpoint."""
    return click.option(
        "--output",
        type=LOCAL_PATH,
        help=f"The folder to write. [default: RUN/{folder}/<checkpoint>]",
    )


def print_result(result: dict[str, Any], output: Path, as_json: bool, summary: str) -> None:
    """Prints what a verb made: its result.json, or a line on it and the page to open."""
    page = output / "index.html"
    if as_json:
        print_json({"page": page, "folder": output, **result})
        return
    click.echo(f"{summary} with checkpoint {result['checkpoint']['name']}; open")
    click.echo(str(page))


def choose_run(run: Path | None, class_name: str | None, runs: Path) -> RunFolder:
    """The run that the options name, else the one with the newest checkpoint.

    Raises:
        click.UsageError: both a run and a class are named.
        RunError: there is no such run.
    """
    from vondata.classes import load_class
    from vonmodel.run_folder import RunFolder, latest_run

    if run is not None and class_name is not None:
        source = click.get_current_context().get_parameter_source
        typed = [name for name in ("run", "class_name") if source(name) is click.core.ParameterSource.COMMANDLINE]
        if len(typed) == 2:
            raise click.UsageError("--run and --class both name a run: give one of them")
        # What is typed goes before what a file or the environment says.
        run = None if typed == ["class_name"] else run
    if run is None and class_name is None:
        return latest_run(runs)
    return RunFolder(run if run is not None else runs / load_class(str(class_name)).name)


def choose_device(name: str) -> str:
    """The device to compute on: with "auto" the first GPU where there is one.

    Raises:
        click.UsageError: there is no such device.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind not in {"cpu", "cuda"} or (index and not index.isdigit()) or (kind == "cpu" and index):
        raise click.UsageError(f"--device {name}: use auto, cpu, cuda or cuda:N")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise click.UsageError(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices")
    return name


def open_chosen_model(
    run: Path | None, class_name: str | None, runs: Path, options: Mapping[str, Any]
) -> LoadedModel:
    """The model that the options of `model_options` and `sampling_options` name, loaded.

    Raises as `choose_run` and `choose_device`.
    """
    from vonmodel.inference.session import open_model

    device = choose_device(options["device"])
    folder = choose_run(run, class_name, runs)
    return open_model(
        folder.path,
        data=options["data"],
        checkpoint=options["checkpoint"],
        device=device,
        sampling=chosen_sampling(options),
    )


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on standard error, nothing where that is no terminal; it is told what, how many, of how many."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield report
