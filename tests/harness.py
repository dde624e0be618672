"""Helpers of many tests: the command in this process, the smallest training, losses of a run, ports, waiting."""

import json
import os
import random
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from click.testing import CliRunner, Result
from voncli.main import main

# The smallest model of `von train`.
SMALL_MODEL = [
    "--set=model.resolution=32",
    "--set=model.image_size=32",
    "--set=model.shape_base_channels=2",
    "--set=model.texture_base_channels=4",
    "--set=model.shape_code_size=4",
    "--set=model.resampled=false",
]
# `von train` on it, two steps a stage.
SMALL_TRAINING = [
    *SMALL_MODEL,
    "--set=model.depth_range=item",
    *(
        f"--set={stage}.{setting}"
        for stage in ("shape", "texture", "joint")
        for setting in ("batch_size=2", 'unit="steps"', "steady=2", "decaying=0")
    ),
]


def von(*arguments: object, **variables: str | None) -> Result:
    """The result of a command, run in this process; unexpected exceptions are raised."""
    environment = {name: None for name in os.environ if name.startswith("VON_") and name not in KEPT} | variables
    return CliRunner().invoke(main, list(map(str, arguments)), env=environment, catch_exceptions=False)


KEPT = {"VON_DATA", "VON_INCEPTION_WEIGHTS"}  # which fixtures set


def von_json(*arguments: object, **variables: str | None) -> Any:
    """What a command that must succeed prints with --json."""
    result = von(*arguments, "--json", **variables)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def logged_losses(run: Path) -> list[tuple[str, int, dict[str, float]]]:
    """Stage, step and losses of every line of a run's stats.jsonl, in their order."""
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text("utf-8").splitlines()]
    return [(line["stage"], line["step"], line["losses"]) for line in lines if "losses" in line]


def losses_by_step(run: Path) -> dict[tuple[str, int], dict[str, float]]:
    """Losses by stage and step; of a step that was done again the later ones."""
    return {(stage, step): losses for stage, step, losses in logged_losses(run)}


# Far longer than anything takes, so that no test fails because a busy machine is slow.
TIMEOUT_S = 600.0


def wait_until(condition: Callable[[], object], every_s: float = 0.05) -> None:
    """Polls a condition until it holds; an error that it raises ends the wait.

    Raises:
        AssertionError: it does not hold in ten minutes.
    """
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end, f"still not so after {TIMEOUT_S:.0f} s"
        time.sleep(every_s)


def free_port() -> int:
    """A free port of this machine, outside the range that outgoing connections use."""
    chosen = random.SystemRandom()
    while True:
        port = chosen.randrange(20_000, 32_000)  # outgoing connections use the ports above
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def on_white(file: Path | IO[bytes]) -> Any:
    """A picture (h, w, 3) as it looks on a white page, transparent or not."""
    import numpy as np
    from PIL import Image

    with Image.open(file) as picture:
        rgba = np.asarray(picture.convert("RGBA")).astype(np.float64)
    opacity = rgba[..., 3:] / 255.0
    return (rgba[..., :3] * opacity + 255.0 * (1.0 - opacity)).round().astype(int)
