"""Benchmark of the studio's response times end to end over HTTP, such as for a move of a slider.

`python -m benchmarks.studio [--run runs/chair] [--device cuda] [--rounds N] [--output results.json]`; without a run
with an untrained model of the demo's size, or of the published size with `--size 128`. `--smoke` sends a few requests
only. Finally views are requested during the reconstruction of a photo, unless `--without-photo` is given.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image, ImageDraw

from benchmarks.measure import Table
from vonmodel.checkpoint import CheckpointInfo, CheckpointState, checkpoint_name, save_checkpoint
from vonmodel.config import ModelConfig, TrainConfig
from vonmodel.model import build_model
from vonmodel.run_folder import RunFolder

DEMO = ModelConfig(resolution=32, image_size=32, shape_code_size=32, shape_base_channels=8, texture_base_channels=16)


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a trained run  [an untrained model]")
    parser.add_argument("--size", type=int, choices=(32, 128), default=32, help="of the untrained model")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--without-photo", action="store_true", help="nothing is reconstructed")
    arguments = parser.parse_args()
    rounds = 5 if arguments.smoke else arguments.rounds
    table = Table("Studio", " ".join(["python -m benchmarks.studio", *sys.argv[1:]]))
    with tempfile.TemporaryDirectory() as folder:
        run = arguments.run or _untrained(Path(folder) / "chair", arguments.size)
        with _studio(run, arguments.device) as connection:
            _measure(table, connection, rounds)
            if not arguments.without_photo:
                _measure_busy(table, connection, rounds if arguments.smoke else None)
    table.notes.append(
        f"From request to the last byte of the answer, one client, {rounds} questions each. Another viewpoint is to "
        "take at most 100 ms at the demo's size on a CPU, reconstructing or not, and 30 ms at 128 on a GPU."
    )
    table.finish(arguments.output)


def _measure(table: Table, connection: http.client.HTTPConnection, rounds: int) -> None:
    questions: dict[str, Callable[[int], str]] = {
        "another viewpoint": lambda index: f"/api/view?shape=1&azimuth={0.5 + 0.7 * index:.3f}&elevation=20",
        "another texture": lambda index: f"/api/view?shape=1&texture={index + 1}&azimuth=30&elevation=20",
        "another shape": lambda index: f"/api/view?shape={index + 2}&azimuth=30&elevation=20",
        "another surface": lambda index: f"/api/surface?shape={index + 10_000}",
        "the same view": lambda _: "/api/view?shape=1&azimuth=30&elevation=20",
    }
    for request in questions.values():  # imports and compiles
        for index in range(2):
            _ask(connection, request(index))
    for name, request in questions.items():
        times = []
        for index in range(2, rounds + 2):
            start = time.perf_counter()
            _ask(connection, request(index))
            times.append(1e3 * (time.perf_counter() - start))
        _add_row(table, name, times)


def _measure_busy(table: Table, connection: http.client.HTTPConnection, most: int | None) -> None:
    """Requests views during a reconstruction, at most `most`; pauses spread them over the phases of a step."""
    times: dict[str, list[float]] = {}
    start = time.perf_counter()
    key = json.loads(_ask(connection, "/api/photos", "POST", _photo()))["photo"]
    table.add(request="a photo brought", median_ms=1e3 * (time.perf_counter() - start))
    start = time.perf_counter()
    task = json.loads(_ask(connection, f"/api/reconstructions?photo={key}", "POST", b""))
    for index in itertools.count():
        time.sleep(0.02 + (index * 0.0137) % 0.1)
        asked = time.perf_counter()
        _ask(connection, f"/api/view?shape=1&azimuth={0.5 + 0.7 * (index % 200):.3f}&elevation=20")
        took = 1e3 * (time.perf_counter() - asked)
        task = json.loads(_ask(connection, f"/api/tasks/{task['id']}"))
        if task["state"] not in {"waiting", "working"}:
            break
        times.setdefault(task["doing"], []).append(took)
        if index + 1 == most:
            task = json.loads(_ask(connection, f"/api/tasks/{task['id']}", "DELETE"))
            break
    if most is None and task["state"] != "done":
        raise RuntimeError(f"the reconstruction ended as {task['state']}: {task.get('error')}")
    for doing, each in times.items():
        _add_row(table, f"another viewpoint while {doing}", each)
    _add_row(table, "another viewpoint during a reconstruction", [took for each in times.values() for took in each])
    if most is None:
        table.add(request="the reconstruction itself", median_ms=1e3 * (time.perf_counter() - start))


def _add_row(table: Table, request: str, times: list[float]) -> None:
    p95 = statistics.quantiles(times, n=20, method="inclusive")[-1] if len(times) > 1 else times[0]
    table.add(request=request, median_ms=statistics.median(times), p95_ms=p95, worst_ms=max(times))


def _photo() -> bytes:
    """A cut-out chair at the resolution of a photo."""
    picture = Image.new("RGBA", (320, 320))
    draw = ImageDraw.Draw(picture)
    for box in ((100, 40, 200, 170), (90, 170, 230, 195), (95, 195, 110, 290), (205, 195, 220, 290)):
        draw.rectangle(box, fill=(150, 90, 50, 255))
    for foot in (120, 180):
        draw.line((foot, 195, foot + 10, 265), fill=(110, 60, 30, 255), width=9)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _ask(connection: http.client.HTTPConnection, path: str, method: str = "GET", body: bytes | None = None) -> bytes:
    connection.request(method, path, body)
    response = connection.getresponse()
    body = response.read()
    if response.status not in {200, 202, 204}:
        raise RuntimeError(f"{path} was answered with {response.status}: {body[:200]!r}")
    return body


@contextlib.contextmanager
def _studio(run: Path, device: str) -> Iterator[http.client.HTTPConnection]:
    """A studio in a separate process, started by its command."""
    command = [
        sys.executable,
        "-m",
        "voncli",
        "serve",
        "--run",
        str(run),
        "--port",
        "0",
        "--device",
        device,
        "--json",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None:
            raise RuntimeError("the studio has no output")
        try:
            said = ""
            while not said.endswith("}\n"):
                line = process.stdout.readline()
                if not line:
                    raise RuntimeError("the studio did not start")
                said += line
            yield http.client.HTTPConnection(urlsplit(json.loads(said)["address"]).netloc, timeout=600)
        finally:
            process.terminate()


def _untrained(folder: Path, size: int) -> Path:
    """A run with a model of random weights."""
    config = TrainConfig(model=DEMO if size == DEMO.resolution else ModelConfig())
    run = RunFolder(folder)
    run.start(config)
    info = CheckpointInfo(checkpoint_name("joint", 1), "joint", 1, 1, 0, "")
    save_checkpoint(run.path, info, CheckpointState(build_model(config.model, 0).state_dict(), {}, {}))
    return run.path


if __name__ == "__main__":
    main()
