"""Packs a finished run as a built-in model: python scripts/pack_builtin_model.py RUN --card CARD.json.

The card is a short form of the model card in docs/models.md: data, recipe, scores, limits. The networks that invert
the checkpoint are included, and trained if none are kept beside the run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

from vonmodel.builtin import pack_builtin
from vonmodel.checkpoint import INVERSE, CheckpointState, load_model, read_inverse, save_checkpoint, save_inverse
from vonmodel.inference.session import ModelSession, open_model
from vonmodel.reconstruction.inversion import EncoderSettings, shape_encoder
from vonmodel.reconstruction.regression import RegressionSettings, photo_regressor
from vonmodel.reports.gallery import WHOLE
from vonmodel.run_folder import RunFolder

FOLDER = Path(__file__).parent.parent / "vonmodel" / "builtin_models"
CARD = ("data", "recipe", "scores", "limits")


SEEDS = 64
SHAPE_NETWORKS = ("shape_generator", "shape_critic", "shape_encoder", "shape_prior")


def join_runs(run: Path, shapes: Path, joined: Path, checkpoint: str | None = None) -> None:
    """Writes a new run with the painter and encoders of one run and the shape networks of another.

    The networks that invert a model depend on its shapes alone, so those of the other run come along.

    Args:
        run: its averaged weights, but for the shape networks; its configuration with the other's shape stage.
        shapes: its averaged shape networks, which must have the same sizes.
        joined: the new run folder.
        checkpoint: of `run`; the newest if None.

    Raises:
        CheckpointError, RunError, ConfigError: a run has no such model.
    """
    model, info = load_model(run, checkpoint=checkpoint)
    other, other_info = load_model(shapes)
    for name in SHAPE_NETWORKS:
        network = getattr(model, name)
        if network is not None:
            network.load_state_dict(getattr(other, name).state_dict())
    config = dataclasses.replace(RunFolder(run).config(), shape=RunFolder(shapes).config().shape)
    folder = RunFolder(joined)
    folder.start(config)
    saved = save_checkpoint(folder.path, info, CheckpointState(model.state_dict(), {}, {}))
    for file in sorted((shapes / INVERSE).glob("*.safetensors")):
        inverse = read_inverse(shapes, file.stem, other_info.sha256)
        if inverse is not None:
            save_inverse(joined, file.stem, inverse, saved.sha256)


def best_seed(session: ModelSession) -> int:
    """The seed, of the first `SEEDS`, whose shape is in one piece and scored highest."""
    shapes = session.shapes(range(SEEDS))
    return max(range(SEEDS), key=lambda seed: (shapes[seed].largest_piece >= WHOLE, session.score(shapes[seed])))


def _print_progress(name: str) -> Callable[[int, int], None]:
    """A callback that prints the progress of a network's training."""

    def report(done: int, total: int) -> None:
        if done % 100 == 0 or done == total:
            sys.stderr.write(f"{name}: step {done:,} of {total:,}\n")

    return report


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--card", type=Path, required=True, help=f"JSON with {', '.join(CARD)}")
    parser.add_argument("--checkpoint")
    parser.add_argument("--shapes", type=Path, help="take the shape networks of this run")
    parser.add_argument("--joined", type=Path, help="with --shapes: write both as this new run")
    parser.add_argument("--without-inverse", action="store_true", help="leave out what inverts it (0.3 MB)")
    arguments = parser.parse_args()
    card = json.loads(arguments.card.read_text("utf-8"))
    missing = [name for name in CARD if name not in card]
    if missing:
        parser.error(f"{arguments.card} says nothing of {', '.join(missing)}")
    if (arguments.shapes is None) != (arguments.joined is None):
        parser.error("--shapes and --joined go together")
    run, checkpoint = arguments.run, arguments.checkpoint
    if arguments.shapes is not None:
        join_runs(run, arguments.shapes, arguments.joined, checkpoint)
        run, checkpoint = arguments.joined, None
    file = FOLDER / f"{RunFolder(run).config().class_name}.safetensors"
    session = ModelSession(open_model(run, data=Path("data"), checkpoint=checkpoint))
    if not arguments.without_inverse:
        photo_regressor(session.source, RegressionSettings(), _print_progress("photo regressor"))
        shape_encoder(session.source, EncoderSettings(), _print_progress("shape encoder"))
    seed = best_seed(session)
    packed = pack_builtin(run, file, card, checkpoint, seed, with_inverse=not arguments.without_inverse)
    sys.stdout.write(f"{file}: {file.stat().st_size / 1e6:.2f} MB, {packed.checkpoint.name} of {run}\n")


if __name__ == "__main__":
    main()
