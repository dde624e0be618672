"""Benchmark of image and shape quality: presets and baselines trained for equal processor time and scored alike.

`python -m benchmarks.quality --data DATA --output FOLDER [--minutes 15] [--class chair ...] [--seed 0 ...]
[--arm published ...] [--features inception --features FILE ...] [--real OTHER --split all]`;
`--smoke` runs a small one on synthetic data.

Every arm is a run folder under FOLDER/CLASS/SEED, trained by the library's own functions: a stopped run is resumed, a
finished one only scored. An arm is a preset with changes, `NAME=PRESET,FIELD=VALUE,...`, or a baseline. The number of
steps that fit into the time is measured on a few steps of each stage and kept in the run's `arm.json`. Results are
FOLDER/quality.json, FOLDER/index.html and a contact sheet for each run. Arms of an ablation are given as
`--arm plain-critics=modern,model.critics=patch`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import torch

from benchmarks.measure import describe_machine
from benchmarks.prepared import write_prepared
from benchmarks.quality_page import write_page
from benchmarks.quality_scores import Scoring, score_run
from vondata.io.files import atomic_path
from vonmodel.baselines.models import BASELINES, CONFIGS, BaselineName
from vonmodel.baselines.training import baseline_folder, train_baseline
from vonmodel.config import STAGES, StageName, TrainConfig, apply_setting, load_config, update
from vonmodel.evaluation.features import Scale
from vonmodel.presets import PRESETS, PresetName
from vonmodel.run_folder import RunFolder
from vonmodel.training.loop import TrainingJob, train

PUBLISHED_SHARES: Mapping[StageName, float] = {"shape": 0.4, "texture": 0.4, "joint": 0.2}
SHARES: Mapping[PresetName, Mapping[StageName, float]] = {
    "published": PUBLISHED_SHARES,
    "fast": PUBLISHED_SHARES,
    # About as `demo` divides its steps: shapes are learnt soon, pictures slowly, the joint stage only aligns the two.
    "modern": {"shape": 0.32, "texture": 0.62, "joint": 0.06},
    "demo": {"shape": 0.32, "texture": 0.62, "joint": 0.06},
}
"""Fractions of an arm's processor time by stage, for each preset."""
TRIAL_STEPS = 6
DECAYING = 0.4
"""Fraction of a stage's steps over which its learning rate falls."""
SMALL = ("model.shape_base_channels=4", "model.texture_base_channels=4", "model.resolution=32", "model.image_size=32")


@dataclass(frozen=True)
class Arm:
    """A contender.

    Attributes:
        name: its folder.
        preset: the base of its configuration.
        changes: settings on top, as on the command line.
        baseline: trained in place of the model; None trains the model.
    """

    name: str
    preset: PresetName = "published"
    changes: tuple[str, ...] = ()
    baseline: BaselineName | None = None

    def config(self, class_name: str, seed: int, changes: Sequence[str]) -> TrainConfig:
        """Its configuration before its length is known; its own changes override those of all arms."""
        config = dataclasses.replace(PRESETS[self.preset], class_name=class_name, seed=seed)
        for setting in (*changes, *self.changes):
            config = apply_setting(config, setting)
        return update(config, {"output": {"sample_every": 0, "save_every": 100, "keep": 1, "cache_mb": 512}}, "arm")


def parse_arm(text: str) -> Arm:
    """Parses an arm as given by `--arm`.

    Raises:
        argparse.ArgumentTypeError: its preset is not known.
    """
    name, _, rest = text.partition("=")
    preset, *changes = rest.split(",") if rest else [name]
    if name in BASELINES and not rest:
        return Arm(name, baseline=next(each for each in BASELINES if each == name))
    if preset not in get_args(PresetName):
        known = ", ".join((*get_args(PresetName), *BASELINES))
        raise argparse.ArgumentTypeError(f"{text}: no preset or baseline {preset}; there are {known}")
    return Arm(name, next(each for each in get_args(PresetName) if each == preset), tuple(changes))


ARMS = tuple(parse_arm(name) for name in ("published", "modern", *BASELINES))


@dataclass(frozen=True)
class Contest:
    """The settings that all arms share.

    Attributes:
        data: the prepared dataset.
        output: folder of runs and results.
        seconds: processor seconds of each arm.
        changes: settings of all arms, such as sizes.
        device: where to train.
        real: the prepared dataset whose photos and shapes are the real side of the scores; `data` if None.
    """

    data: Path
    output: Path
    seconds: float
    changes: tuple[str, ...]
    device: torch.device
    real: Path | None = None

    def run(self, arm: Arm, class_name: str, seed: int) -> RunFolder:
        """The run folder of an arm."""
        folder = self.output / class_name / str(seed) / arm.name
        return RunFolder(folder) if arm.baseline is None else baseline_folder(folder, arm.baseline)


def processor_seconds() -> float:
    """Processor seconds of this process so far, of all its threads, in user and system mode."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def train_arm(contest: Contest, arm: Arm, class_name: str, seed: int) -> dict[str, Any]:
    """Trains an arm from its newest checkpoint; returns the time it took, over all its attempts."""
    run = contest.run(arm, class_name, seed)
    record = run.path / "arm.json"
    if record.is_file():
        spent = json.loads(record.read_text("utf-8"))
        config = load_config(run.path / "config.json")
    else:
        config = fit_length(contest, arm, arm.config(class_name, seed, contest.changes))
        spent = {"arm": dataclasses.asdict(arm), "processor_s": 0.0, "wall_s": 0.0}
        run.start(config)
    started, wall = processor_seconds(), time.perf_counter()

    def note(_: object) -> None:
        now = {
            "processor_s": spent["processor_s"] + processor_seconds() - started,
            "wall_s": spent["wall_s"] + time.perf_counter() - wall,
        }
        with atomic_path(record) as temporary:
            temporary.write_text(json.dumps(spent | now, indent=2) + "\n", "utf-8")

    note(None)
    job = TrainingJob(run, config, contest.data, contest.device, skip_nonfinite=True, on_progress=note)
    train_part(job, arm, STAGES)
    note(None)
    result: dict[str, Any] = json.loads(record.read_text("utf-8"))
    return result


def train_part(job: TrainingJob, arm: Arm, stages: Sequence[StageName]) -> None:
    """Trains stages of an arm, or its baseline."""
    if arm.baseline is not None:
        train_baseline(job, arm.baseline)
    elif not arm_is_complete(job, arm):
        train(job, stages)


def arm_is_complete(job: TrainingJob, arm: Arm) -> bool:
    """Whether the last stage of a model is finished."""
    newest = job.run.latest_checkpoint("joint")
    return arm.baseline is None and newest is not None and newest.finished


def fit_length(contest: Contest, arm: Arm, config: TrainConfig) -> TrainConfig:
    """The configuration with as many steps of each stage as fit into the arm's processor seconds.

    The first steps of a stage, which compile and fill caches, do not count.
    """
    lengths: dict[StageName, int] = {}
    with tempfile.TemporaryDirectory() as scratch:
        if arm.baseline is not None:
            stage = CONFIGS[arm.baseline].stage
            cost = _step_cost(contest, arm, config, (stage,), Path(scratch))
            return with_lengths(config, {stage: max(2, round(contest.seconds / cost))} | {"joint": 0})
        for position, stage in enumerate(STAGES):
            cost = _step_cost(contest, arm, config, STAGES[: position + 1], Path(scratch) / stage)
            lengths[stage] = max(2, round(SHARES[arm.preset][stage] * contest.seconds / cost))
    return with_lengths(config, lengths)


def _step_cost(contest: Contest, arm: Arm, config: TrainConfig, stages: Sequence[StageName], scratch: Path) -> float:
    """Processor seconds of a step of the last of these stages: the median of a few, without the first ones."""
    trial = with_lengths(config, dict.fromkeys(STAGES, 0) | {stages[-1]: 2 + TRIAL_STEPS})
    trial = update(trial, {"output": {"log_every": 1}}, "trial")
    run = RunFolder(scratch)
    run.start(trial)
    stamps: list[float] = []
    job = TrainingJob(run, trial, contest.data, contest.device, skip_nonfinite=True)
    for stage in stages[:-1]:
        train(job, (stage,))
    job = dataclasses.replace(job, on_progress=lambda _: stamps.append(processor_seconds()))
    train_part(job, arm, stages[-1:])
    return max(1e-3, statistics.median(after - before for before, after in pairwise(stamps[1:])))


def with_lengths(config: TrainConfig, steps: Mapping[StageName, int]) -> TrainConfig:
    """The configuration with these numbers of steps, with decay over the last of them."""
    changes = {
        stage: {"unit": "steps", "steady": count - round(DECAYING * count), "decaying": round(DECAYING * count)}
        for stage, count in steps.items()
    }
    return update(config, changes, "length")


def contest_rows(
    contest: Contest, arms: Sequence[Arm], classes: Sequence[str], seeds: Sequence[int], scoring: Scoring
) -> Iterator[dict[str, Any]]:
    """Trains and scores every arm on every class with every seed, in sequence."""
    for class_name in classes:
        for seed in seeds:
            for arm in arms:
                spent = train_arm(contest, arm, class_name, seed)
                run = contest.run(arm, class_name, seed)
                scores = score_run(run, contest.real or contest.data, arm.baseline, scoring)
                sheet = str(Path(scores["sheet"]).relative_to(contest.output))
                yield {
                    **spent,
                    **scores,
                    "sheet": sheet,
                    "class": class_name,
                    "seed": seed,
                    "arm": arm.name,
                    "config": spent["arm"],
                }


def main() -> None:
    """Trains what is not trained yet, scores everything, and writes results after every arm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the prepared dataset")
    parser.add_argument("--output", type=Path, help="folder of runs and results")
    parser.add_argument("--class", dest="classes", action="append", help="repeat for more  [chair]")
    parser.add_argument("--seed", dest="seeds", type=int, action="append", help="repeat for more  [0]")
    parser.add_argument("--arm", dest="arms", type=parse_arm, action="append", help="repeat for more  [all]")
    parser.add_argument("--minutes", type=float, default=30.0, help="processor minutes of an arm: 15 of two cores")
    parser.add_argument("--size", type=int, choices=[32, 64, 128], default=64, help="pixels and voxels an edge")
    parser.add_argument("--set", dest="changes", action="append", default=[], help="a setting of all arms")
    parser.add_argument("--features", action="append", help="inception, random or a file  [random]")
    parser.add_argument("--network-size", type=int, default=224, help="input size of a feature file")
    parser.add_argument(
        "--network-scale", choices=get_args(Scale), default="imagenet", help="range of the input of a feature file"
    )
    parser.add_argument("--real", type=Path, help="the prepared dataset to compare with  [--data]")
    parser.add_argument("--split", choices=["train", "val", "test", "all"], default="test", help="the real side")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--smoke", action="store_true", help="small and once, to check that it works")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.smoke:
        run_smoke(arguments.arms or (parse_arm("published"), parse_arm("dcgan")))
        return
    if arguments.data is None or arguments.output is None:
        parser.error("--data and --output are needed, or --smoke")
    size = (f"model.resolution={arguments.size}", f"model.image_size={arguments.size}")
    contest = Contest(
        arguments.data,
        arguments.output,
        60.0 * arguments.minutes,
        (*size, *arguments.changes),
        torch.device(arguments.device),
        arguments.real,
    )
    scoring = Scoring(
        tuple(arguments.features or ["random"]), arguments.split, arguments.network_size, arguments.network_scale
    )
    run_contest(contest, arguments.arms or ARMS, arguments.classes or ["chair"], arguments.seeds or [0], scoring)


def run_contest(
    contest: Contest, arms: Sequence[Arm], classes: Sequence[str], seeds: Sequence[int], scoring: Scoring
) -> None:
    """Runs a contest; writes the results after every arm."""
    contest.output.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for row in contest_rows(contest, arms, classes, seeds, scoring):
        rows.append(row)
        print(f"{row['class']} seed {row['seed']} {row['arm']}: {row['processor_s']:.0f} processor s", flush=True)
        result = {"machine": describe_machine(), "seconds": contest.seconds, "scoring": scoring.describe()}
        with atomic_path(contest.output / "quality.json") as temporary:
            temporary.write_text(json.dumps(result | {"rows": rows}, indent=1) + "\n", "utf-8")
        write_page(contest.output, result | {"rows": rows})
    print(contest.output / "index.html")


def run_smoke(arms: Sequence[Arm]) -> None:
    """Trains and scores arms for seconds on boxes and rectangles."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        write_prepared(data, shapes=12, photos=16, resolution=32, image_size=32)
        changes = (*SMALL, "data.viewpoints=class", *(f"{stage}.batch_size=4" for stage in STAGES))
        contest = Contest(data, Path(folder) / "quality", 1.0, changes, torch.device("cpu"))
        run_contest(contest, arms, ["chair"], [0], Scoring(("random",), "train", 224, shapes=4, points=64))
        result = json.loads((contest.output / "quality.json").read_text("utf-8"))
        assert [row["arm"] for row in result["rows"]] == [arm.name for arm in arms]
        assert (contest.output / "index.html").is_file()


if __name__ == "__main__":
    main()
