"""Benchmark of one multi-class model against one model per class, on the same data and total processor time.

`python -m benchmarks.classes --data DATA --output FOLDER --class chair --class table --class lamp [--minutes 30]`

Every single-class model gets the given minutes, the multi-class one the sum of them, with half of the parameters as
the aim: `--set` makes single-class models narrower. Trained, resumed and scored like the arms of
`benchmarks.quality`; scores are on held-out photos, class by class. `--smoke` runs it small.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import torch

from benchmarks.measure import describe_machine
from benchmarks.prepared import write_prepared
from benchmarks.quality import SMALL, Arm, Contest, train_arm
from benchmarks.quality_scores import Scoring, score_run
from vondata.dataset.manifest import manifest_path, output_folder
from vondata.io.files import atomic_path
from vondata.types import Kind
from vonmodel.checkpoint import load_model
from vonmodel.config import STAGES
from vonmodel.presets import PresetName

TOGETHER, ALONE = "together", "alone"


def compare(contest: Contest, preset: PresetName, classes: Sequence[str], scoring: Scoring) -> list[dict[str, Any]]:
    """Trains and scores the model of all classes and those of each: a row for every class and model."""
    named = Arm(TOGETHER, preset, (f"model.classes={json.dumps(list(classes))}",))
    whole = dataclasses.replace(contest, seconds=len(classes) * contest.seconds)
    spent = train_arm(whole, named, classes[0], 0)
    rows = [_row(whole, named, classes[0], name, spent, scoring) for name in classes]
    single = Arm(ALONE, preset)
    for name in classes:
        rows.append(_row(contest, single, name, name, train_arm(contest, single, name, 0), scoring))
    return rows


def _row(
    contest: Contest, arm: Arm, home: str, class_name: str, spent: dict[str, Any], scoring: Scoring
) -> dict[str, Any]:
    run = contest.run(arm, home, 0)
    model, _ = load_model(run.path)
    parameters = {
        name: sum(each.numel() for each in network.parameters()) for name, network in model.named_children()
    }
    scores = score_run(run, contest.data, None, scoring, class_name)
    return {"arm": arm.name, "class": class_name, "parameters": parameters, **spent, **scores}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """KID of both models by class, their quotient, and the parameters of each side."""
    kid = {(row["arm"], row["class"]): _kid(row) for row in rows}
    sizes = {(row["arm"], row["class"]): sum(row["parameters"].values()) for row in rows}
    classes = list(dict.fromkeys(row["class"] for row in rows))
    lines = ["| class | KID together | KID alone | quotient |", "|---|---|---|---|"]
    for name in classes:
        one, other = kid[TOGETHER, name], kid[ALONE, name]
        lines.append(f"| {name} | {one:.4f} | {other:.4f} | {one / other:.2f} |")
    shared, singles = sizes[TOGETHER, classes[0]], sum(sizes[ALONE, name] for name in classes)
    return "\n".join([*lines, "", f"{shared:,} parameters against {singles:,}: {shared / singles:.2f}"])


def _kid(row: dict[str, Any]) -> float:
    measured = next(iter(row["images"].values()))
    return float(measured["kid"]["value"] if isinstance(measured["kid"], dict) else measured["kid"])


def main() -> None:
    """Trains what is not trained yet, scores, and writes FOLDER/classes.json and a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the prepared dataset")
    parser.add_argument("--output", type=Path, help="where runs and results go")
    parser.add_argument("--class", dest="classes", action="append", help="two or more")
    parser.add_argument("--preset", choices=get_args(PresetName), default="modern")
    parser.add_argument("--minutes", type=float, default=30.0, help="processor minutes of a single-class model")
    parser.add_argument("--size", type=int, choices=[32, 64, 128], default=64, help="pixels and voxels an edge")
    parser.add_argument("--set", dest="changes", action="append", default=[], help="a setting of all models")
    parser.add_argument("--features", action="append", help="inception, random or a file  [random]")
    parser.add_argument("--split", choices=["train", "val", "test", "all"], default="test", help="the real side")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--smoke", action="store_true", help="small and once, to check that it works")
    arguments = parser.parse_args()
    if arguments.smoke:
        run_smoke()
        return
    if arguments.data is None or arguments.output is None or len(arguments.classes or ()) < 2:
        parser.error("--data, --output and two or more of --class are needed, or --smoke")
    size = (f"model.resolution={arguments.size}", f"model.image_size={arguments.size}")
    changes, device = (*size, *arguments.changes), torch.device(arguments.device)
    contest = Contest(arguments.data, arguments.output, 60.0 * arguments.minutes, changes, device)
    scoring = Scoring(tuple(arguments.features or ["random"]), arguments.split, 224)
    rows = compare(contest, arguments.preset, arguments.classes, scoring)
    result = {"machine": describe_machine(), "seconds": contest.seconds, "scoring": scoring.describe(), "rows": rows}
    with atomic_path(arguments.output / "classes.json") as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(table(rows))


def run_smoke() -> None:
    """Runs the benchmark on two classes of boxes and rectangles, for seconds."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        write_prepared(data, shapes=12, photos=16, resolution=32, image_size=32)
        (data / "table").mkdir()
        kinds: tuple[Kind, ...] = ("shapes", "images")
        for kind in kinds:
            output_folder(data, "table", kind).symlink_to(output_folder(data, "chair", kind))
            chairs = pd.read_parquet(manifest_path(data, "chair", kind))
            chairs.assign(**{"class": "table"}).to_parquet(manifest_path(data, "table", kind))
        changes = (*SMALL, "data.viewpoints=class", *(f"{stage}.batch_size=4" for stage in STAGES))
        contest = Contest(data, Path(folder) / "classes", 1.0, changes, torch.device("cpu"))
        scoring = Scoring(("random",), "train", 224, shapes=4, points=64)
        rows = compare(contest, "published", ["chair", "table"], scoring)
        assert len(rows) == 4
        print(table(rows))


if __name__ == "__main__":
    main()
