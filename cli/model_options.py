"""Options that select a trained model (run, class, checkpoint, device, sampling), and opening the one selected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from voncli.command import option
from voncli.options import all_of, json_option, output_options
from voncli.settings import FiniteRange, FolderType, folder_option

if TYPE_CHECKING:
    from vondata.io.fs import DataFolder
    from vonmodel.inference.sampling import SamplingOptions
    from vonmodel.inference.session import ModelSession
    from vonmodel.run_folder import RunFolder

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def run_options(command: Decorated) -> Decorated:
    """--run, --class, --runs and --data: a run and the data of its class."""
    return all_of(
        [
            option(
                "--run",
                type=FolderType("used"),
                heading="Model",
                group="run",
                help="Use the run in this folder, at this URL, or builtin:chair. [default: the run trained last]",
            ),
            option(
                "--class",
                "class_name",
                metavar="NAME",
                heading="Model",
                group="run",
                help="Use the run of this class below --runs; with --run, this class of a model of several.",
            ),
            folder_option("runs", heading="Model", help="Look for runs in this folder."),
            folder_option("data", heading="Model", help="Read prepared shapes and viewpoints from this dataset."),
        ]
    )(command)


device_option = option(
    "--device",
    default="auto",
    show_default=True,
    heading="Model",
    help="Compute on auto, cpu, cuda, cuda:N or mps.",
)


checkpoint_option = option(
    "--checkpoint",
    default="newest",
    show_default=True,
    metavar="newest|STEP|NAME",
    heading="Model",
    group="checkpoints",
    help="Use the newest checkpoint, or the one with this step or name.",
)


def model_options(command: Decorated) -> Decorated:
    """`run_options`, --checkpoint and --device: a trained model and the data of its class."""
    return run_options(checkpoint_option(device_option(command)))


pieces_option = option(
    "--pieces",
    type=click.Choice(["largest", "all"]),
    default="largest",
    show_default=True,
    heading="Model",
    help="Keep only the largest piece of a generated shape, or all pieces.",
)
truncation_option = option(
    "--truncation",
    type=FiniteRange(0, 2, min_open=True),
    default=0.7,
    show_default=True,
    heading="Model",
    help="Draw codes with this standard deviation; 1, as in training, is more varied and less good.",
)


def result_options(place: str) -> Callable[[Decorated], Decorated]:
    """Options of verbs that use a trained model and write a folder: model, sampling, output, --json.

    Args:
        place: describes the default output folder.
    """
    return all_of([model_options, pieces_option, truncation_option, output_options(place), json_option])


def chosen_sampling(options: Mapping[str, Any]) -> SamplingOptions:
    """The settings given by `pieces_option` and `truncation_option`."""
    from vonmodel.inference.sampling import SamplingOptions

    return SamplingOptions(options["pieces"], options["truncation"])


@dataclass(frozen=True)
class ChosenRun:
    """The run that a verb works with.

    Attributes:
        folder: the run.
        results: parent of the default output folders: the run's folder, or the current folder for remote and
            built-in runs.
        class_name: the class to use of a model of several; None for its first.
    """

    folder: RunFolder
    results: Path
    class_name: str | None = None


def chosen_run(options: Mapping[str, Any], *, builtin_instead: bool = False) -> ChosenRun:
    """The run selected by `run_options`, by default the one with the newest checkpoint.

    Args:
        options: the options of the verb.
        builtin_instead: if there is no run, use a built-in model and print a note.

    Raises:
        RunError: there is no such run.
        RemoteError: the URL of a run cannot be read.
        BuiltinModelError: there is no such built-in model.
    """
    from vondata.classes import load_class
    from vonmodel.builtin import builtin_name, unpack_builtin
    from vonmodel.run_folder import RunFolder, RunMissingError, latest_run

    run: DataFolder | None = options["run"]
    class_name, runs = options["class_name"], options["runs"]
    name_in_run = None if class_name is None else load_class(class_name).name
    if run is None:
        try:
            folder = latest_run(runs) if name_in_run is None else _run_of_class(runs, name_in_run)
        except RunMissingError:
            if builtin_instead and (instead := _builtin_instead(class_name, runs)):
                return instead
            raise
        if builtin_instead and not folder.exists and (instead := _builtin_instead(class_name, runs)):
            return instead
        return ChosenRun(folder, folder.path, name_in_run)
    if not run.is_remote:
        name = builtin_name(str(run))
        if name is not None:
            return ChosenRun(unpack_builtin(name), Path(), name_in_run)
        return ChosenRun(RunFolder(run.path), run.path, name_in_run)
    from voncli.output import local_copy

    copy = local_copy(run, asked=True, why="")
    assert copy is not None
    return ChosenRun(RunFolder(copy), Path(), name_in_run)


def _run_of_class(runs: Path, class_name: str) -> RunFolder:
    """The run RUNS/CLASS, else the newest run whose model has this class among others."""
    from vonmodel.run_folder import RunFolder

    own = RunFolder(runs / class_name)
    if own.exists or not runs.is_dir():
        return own
    shared = [folder for each in sorted(runs.iterdir()) if _has_class(folder := RunFolder(each), class_name)]
    return max(shared, key=lambda folder: (folder.path / "config.json").stat().st_mtime, default=own)


def _has_class(run: RunFolder, class_name: str) -> bool:
    from vonmodel.config import ConfigError

    try:
        return run.exists and class_name in run.config().model.classes
    except ConfigError:
        return False


def _builtin_instead(class_name: str | None, runs: Path) -> ChosenRun | None:
    """The built-in model of a class, by default `DEFAULT`; None if there is none."""
    from voncli.output import note

    from vondata.classes import load_class
    from vonmodel.builtin import DEFAULT, builtin_names, unpack_builtin

    name = DEFAULT if class_name is None else load_class(class_name).name
    if name not in builtin_names():
        return None
    note(f"No run of your own in {runs}: this is the built-in model builtin:{name}")
    return ChosenRun(unpack_builtin(name), Path())


def chosen_checkpoint(run: RunFolder, wanted: str) -> str | None:
    """The name of the checkpoint given by `--checkpoint`; None for the newest.

    A step selects the checkpoint of the latest stage that has one at this step.

    Raises:
        click.ClickException: the run has other checkpoints, but not this one.
    """
    from vonmodel.builtin import spoken_run
    from vonmodel.checkpoint import checkpoint_names, list_checkpoints

    if wanted == "newest":
        return None
    names = checkpoint_names(run.path)
    steps = [each.name for each in list_checkpoints(run.path) if wanted.isdecimal() and each.step == int(wanted)]
    if steps or wanted in names or not names:
        return steps[-1] if steps else wanted
    raise click.ClickException(
        f"--checkpoint: {spoken_run(run.path)} has no checkpoint {wanted!r}; it has: {', '.join(names)}"
    )


def choose_device(name: str) -> str:
    """The device to compute on; "auto" is the first GPU, or the CPU if there is none.

    Raises:
        click.UsageError: there is no such device.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind not in {"cpu", "cuda", "mps"} or (index and not index.isdigit()) or (kind != "cuda" and index):
        raise click.UsageError(f"--device {name}: use auto, cpu, cuda, cuda:N or mps")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise click.UsageError("--device mps: this machine has no Metal device")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise click.UsageError(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices")
    return name


@dataclass(frozen=True)
class ChosenModel:
    """The model that a verb works with.

    Attributes:
        session: the model, loaded.
        results: see `ChosenRun`.
    """

    session: ModelSession
    results: Path

    @property
    def checkpoint(self) -> str:
        """The name of its checkpoint."""
        return self.session.source.checkpoint.name


def open_chosen_model(options: Mapping[str, Any], sampling: SamplingOptions) -> ChosenModel:
    """Loads the model selected by `model_options`, with codes drawn as `sampling` says.

    Raises as `chosen_run` and `choose_device`.
    """
    from vonmodel.inference.session import ModelSession, open_model

    device = choose_device(options["device"])
    run = chosen_run(options, builtin_instead=True)
    source = open_model(
        run.folder.path,
        data=options["data"],
        checkpoint=chosen_checkpoint(run.folder, options["checkpoint"]),
        device=device,
        sampling=sampling,
        class_name=run.class_name,
    )
    return ChosenModel(ModelSession(source), run.results)
