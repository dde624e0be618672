"""Writes images sampled by a trained model or baseline, one PNG each, for `von score`.

`python scripts/write_samples.py RUN --output FOLDER [--data DATA] [--count 400] [--seed 0] [--baseline wgan-gp]`. The
images are those that `von evaluate` scores: untruncated codes, viewpoints of the class, at the model's size.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image

from vonmodel.baselines.models import BASELINES
from vonmodel.baselines.training import baseline_folder, load_baseline
from vonmodel.builtin import builtin_name, unpack_builtin
from vonmodel.checkpoint import load_model
from vonmodel.evaluation.samples import BaselineGenerator, Generator, VonGenerator
from vonmodel.run_folder import RunFolder

BATCH = 32


def open_generator(run: str, data: Path, baseline: str | None) -> Generator:
    """The model of a run folder or a built-in one, or a baseline trained in a run folder."""
    name = builtin_name(run)
    folder = RunFolder(Path(run)) if name is None else unpack_builtin(name)
    if baseline is None:
        return VonGenerator(load_model(folder.path)[0], folder.config(), data)
    kind = next(each for each in BASELINES if each == baseline)
    folder = baseline_folder(folder.path, kind)
    return BaselineGenerator(kind, load_baseline(folder, kind)[0], folder.config(), data)


def main() -> None:
    """Reads the command line and writes the images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run folder, or builtin:chair or the like")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("data"), help="the prepared dataset, for viewpoints")
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--baseline", choices=BASELINES)
    arguments = parser.parse_args()
    images = open_generator(arguments.run, arguments.data, arguments.baseline).images(arguments.count, arguments.seed)
    if images is None:
        parser.error(f"{arguments.run} makes no images")
    arguments.output.mkdir(parents=True, exist_ok=True)
    for start in range(0, arguments.count, BATCH):
        with torch.inference_mode():
            part = images.part(start, min(arguments.count, start + BATCH))
        for index, pixels in enumerate(part.permute(0, 2, 3, 1).cpu().numpy(), start):
            Image.fromarray(pixels).save(arguments.output / f"{index:05d}.png")


if __name__ == "__main__":
    main()
