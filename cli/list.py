"""`von list`: runs with their checkpoints and scores, and what the dataset holds."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click
from voncli.command import Command, option
from voncli.options import json_option
from voncli.output import print_json, user_errors
from voncli.settings import folder_option


@click.command("list", cls=Command)
@option("--checkpoints", is_flag=True, help="List every checkpoint of every run.")
@folder_option("runs", help="Look for runs in this folder.")
@folder_option("data", help="Look for the prepared dataset in this folder.")
@json_option
def list_all(runs: Path, data: Path, checkpoints: bool, as_json: bool) -> None:
    """Lists the runs in a folder with their newest checkpoint and scores, and what the dataset holds."""
    with user_errors():
        found = [describe_run(folder) for folder in run_folders(runs)]
        parts = describe_dataset(data)
    if as_json:
        print_json({"runs": found, "datasets": parts})
        return
    _print_runs(runs, found, checkpoints)
    click.echo()
    _print_dataset(data, parts)


def run_folders(runs: Path) -> list[Path]:
    """The run folders among a folder and its subfolders, sorted by name."""
    candidates = [runs, *sorted(runs.iterdir())] if runs.is_dir() else []
    return [each for each in candidates if (each / "config.json").is_file()]


def describe_run(folder: Path) -> dict[str, Any]:
    """Describes a run as JSON values; `problem` says why it cannot be read."""
    from vondata.errors import VonError
    from vonmodel.checkpoint import list_checkpoints
    from vonmodel.config import load_config
    from vonmodel.reports.metrics_log import read_metrics

    try:
        config = load_config(folder / "config.json")
        checkpoints = [
            {
                "name": each.name,
                "stage": each.stage,
                "step": each.step,
                "finished": each.finished,
                "scores": _scores(read_metrics(folder, each.sha256)),
            }
            for each in list_checkpoints(folder)
        ]
    except VonError as error:
        return {"run": str(folder), "problem": str(error), "checkpoints": []}
    saved = [file.stat().st_mtime for file in folder.glob("checkpoints/*/checkpoint.json")]
    return {
        "run": str(folder),
        "class": config.class_name,
        "resolution": config.model.resolution,
        "image_size": config.model.image_size,
        "representation": config.model.representation,
        "saved": datetime.fromtimestamp(max(saved)).isoformat(" ", "minutes") if saved else None,
        "checkpoints": checkpoints,
        "problem": None,
    }


def _scores(lines: Any) -> dict[str, float]:
    """The newest value of each metric whose value is one number."""
    return {str(line["metric"]): float(line["value"]) for line in lines if isinstance(line.get("value"), int | float)}


def describe_dataset(data: Path) -> list[dict[str, Any]]:
    """What a dataset holds by class and kind, as its von-dataset.json records it."""
    from vondata.dataset.metadata import read_dataset

    return [
        {"data": str(data), "class": class_name, "kind": kind, "prepared": each.prepared, "rejected": each.rejected}
        for class_name, kinds in sorted(read_dataset(data).items())
        for kind, each in sorted(kinds.items())
    ]


def _print_runs(runs: Path, found: list[dict[str, Any]], every_checkpoint: bool) -> None:
    from voncli.output import print_table

    if not found:
        click.echo(f"No runs in {runs}; von train --class CLASS starts one.")
        return
    rows = []
    for run in found:
        if run["problem"] is not None:
            rows.append([run["run"], "", "", "", "", run["problem"]])
            continue
        model = f"{run['resolution']}³ {run['representation']}, {run['image_size']} px"
        checkpoints = run["checkpoints"] if every_checkpoint else run["checkpoints"][-1:]
        for each in checkpoints or [None]:
            name = "none yet" if each is None else each["name"] + ("" if each["finished"] else " (unfinished)")
            scores = {} if each is None else each["scores"]
            text = ", ".join(f"{metric} {value:.4g}" for metric, value in scores.items())
            rows.append([run["run"], run["class"], model, name, run["saved"] or "", text])
    print_table(f"Runs in {runs}", ["run", "class", "model", "checkpoint", "saved", "scores"], rows)


def _print_dataset(data: Path, parts: list[dict[str, Any]]) -> None:
    from voncli.output import print_table

    if not parts:
        click.echo(f"No prepared dataset in {data}; von prepare writes one.")
        return
    rows = [[each["class"], each["kind"], f"{each['prepared']:,}", f"{each['rejected']:,}"] for each in parts]
    print_table(f"Dataset {data}", ["class", "kind", "prepared", "rejected"], rows)
