"""Traces the files that run for one prepared shape, one training step, one score and one view of the studio.

A reader opens them to follow each path; docs/architecture.md lists them, and this script writes the lists. The trace
covers the item itself, after the command has read its options and loaded the model. The inside of the model (networks
and projection) is listed for the training step only.

    python scripts/files_on_path.py            # rewrite the lists
    python scripts/files_on_path.py --check    # fail if a path exceeds its limit or the page is out of date
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- paths -->", "<!-- end of paths -->"
PACKAGES = ("cli", "vondata", "vonmodel")
IS_FUNCTION = 0x02  # code flag that module and class bodies lack
SCORE, VIEW = "`--fid`", "a view in the studio"
LIMITS = {"a prepared shape": 34, "a training step": 34, SCORE: 25, VIEW: 22}
INTRODUCTION = """`python scripts/files_on_path.py` traced what happens to the item itself, in order of entry,
after the command has read its options and loaded the model. The inside of the model (`vonmodel.networks`,
`vonmodel.projection`) is listed for the training step alone.
"""
INSIDE_THE_MODEL = ("vonmodel/networks/", "vonmodel/projection/")


class FileTrace:
    """A profile function that records the files whose functions are called.

    Attributes:
        files: their paths below the repository, in the order of the first call.
        is_on: whether calls are recorded.
    """

    def __init__(self, *, is_on: bool = True) -> None:
        self.files: dict[str, None] = {}
        self.is_on = is_on
        self._names: dict[str, str | None] = {}

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """Called by the interpreter at every call and return: millions of times while kernels are compiled."""
        if self.is_on and event == "call" and frame.f_code.co_flags & IS_FUNCTION:
            file = frame.f_code.co_filename
            if file not in self._names:
                self._names[file] = _name_in_repository(file)
            if name := self._names[file]:
                self.files.setdefault(name)


def _name_in_repository(file: str) -> str | None:
    """A file's path below the repository; None for one outside the packages."""
    path = Path(file)
    if not path.is_relative_to(ROOT):
        return None
    name = path.relative_to(ROOT)
    return name.as_posix() if name.parts[0] in PACKAGES and name.name != "__init__.py" else None


@contextmanager
def traced(*, is_on: bool = True) -> Iterator[FileTrace]:
    """Traces the block, in this thread and those it starts."""
    trace = FileTrace(is_on=is_on)
    threading.setprofile(trace)
    sys.setprofile(trace)
    try:
        yield trace
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]  # None ends it


def prepared_shape(folder: Path) -> list[str]:
    """One mesh through the pipeline, in this process, after another one has compiled the kernels."""
    import trimesh

    from vondata.api import prepare_shapes
    from vondata.shapes.prepare import ShapeSettings

    def prepare(name: str) -> None:
        meshes = folder / name
        meshes.mkdir()
        trimesh.creation.box((0.4, 0.6, 0.3)).export(meshes / "box.obj")
        settings = ShapeSettings(resolution=32)
        prepare_shapes(meshes, folder / f"{name}-data", layout="meshes", class_names=["chair"], settings=settings)

    prepare("first")
    with traced() as trace:
        prepare("second")
    return list(trace.files)


def training_step(folder: Path) -> list[str]:
    """The second step of a texture stage: its batch, its phases, the average and the log."""
    import dataclasses

    import torch

    from vonmodel.config import OutputConfig, TextureStageConfig
    from vonmodel.presets import PRESETS
    from vonmodel.run_folder import RunFolder
    from vonmodel.training.loop import TrainingJob, train_stage

    old = PRESETS["demo"]
    config = dataclasses.replace(
        old,
        model=dataclasses.replace(old.model, resolution=32, image_size=32, finer_grid=32),
        texture=dataclasses.replace(
            old.texture, batch_size=2, unit="steps", steady=3, decaying=0, generated_share=0.0
        ),
        output=OutputConfig(workers=0, log_every=1, sample_every=0, save_every=0),
    )
    assert isinstance(config.texture, TextureStageConfig)
    run = RunFolder(folder / "run")
    run.start(config)
    _finish_shape_stage(run.path, config)
    trace, steps = FileTrace(), 0

    def after_a_step() -> bool:
        nonlocal steps
        steps += 1
        sys.setprofile(trace if steps == 1 else None)
        return False

    train_stage(TrainingJob(run, config, OLD / "data", torch.device("cpu"), should_stop=after_a_step), "texture")
    sys.setprofile(None)
    return list(trace.files)


def _finish_shape_stage(run: Path, config: Any) -> None:
    from vonmodel.checkpoint import CheckpointInfo, CheckpointState, checkpoint_name, save_checkpoint
    from vonmodel.model import build_model

    info = CheckpointInfo(checkpoint_name("shape", 1), "shape", 1, 1, 1, "")
    save_checkpoint(run, info, CheckpointState(build_model(config.model, config.seed).state_dict(), {}, {}))


def image_score(folder: Path) -> list[str]:
    """The Fréchet distance of a checkpoint whose model is loaded."""
    import shutil

    from vonmodel.evaluation.score import open_checkpoint, open_extractors, score
    from vonmodel.evaluation.settings import ScoreSettings
    from vonmodel.run_folder import RunFolder

    run = RunFolder(Path(shutil.copytree(OLD / "runs" / "chair", folder / "scored")))
    settings = ScoreSettings(kid=False, precision_recall=False, shapes=False, features="random", untrained=False)
    extractors = open_extractors(settings)
    scored = open_checkpoint(run, OLD / "data", settings)
    with traced() as trace:
        score(scored, extractors, settings)
    return list(trace.files)


def studio_view(folder: Path) -> list[str]:
    """The answer to a request for a view, the second one of the studio."""
    import asyncio
    import http.client
    from urllib.parse import urlsplit

    from vonmodel.studio.server import StudioSettings, serve

    files: list[str] = []

    async def look() -> None:
        address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        stop = asyncio.Event()
        settings = StudioSettings(run=OLD / "runs" / "chair", data=OLD / "data", port=0)
        serving = asyncio.create_task(serve(settings, address.set_result, stop))
        await asyncio.wait([serving, address], return_when=asyncio.FIRST_COMPLETED)
        if not address.done():  # it could not start: says why
            await serving
        at = await address

        def ask(shape: int) -> bytes:
            connection = http.client.HTTPConnection(urlsplit(at).netloc, timeout=300)
            connection.request("GET", f"/api/view?shape={shape}&azimuth=40")
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != http.HTTPStatus.OK:
                raise RuntimeError(f"the studio answers {answer.status}: {content.decode(errors='replace')}")
            return content

        try:
            await asyncio.to_thread(ask, 1)
            trace.is_on = True
            await asyncio.to_thread(ask, 2)
            trace.is_on = False
        finally:
            stop.set()
            await serving
        files.extend(trace.files)

    with traced(is_on=False) as trace:
        asyncio.run(look())
    return files


OLD = ROOT / "tests" / "from_0_1_0"
PATHS: dict[str, Callable[[Path], list[str]]] = {
    "a prepared shape": prepared_shape,
    "a training step": training_step,
    SCORE: image_score,
    VIEW: studio_view,
}


def first_line(name: str) -> str:
    """The first sentence of a file's docstring."""
    docstring = ast.get_docstring(ast.parse((ROOT / name).read_text("utf-8"))) or ""
    return docstring.split("\n")[0].rstrip(".")


def lists() -> tuple[str, dict[str, int]]:
    """The section of the page with the paths, and their lengths."""
    parts, lengths = ["## Four paths through the files\n", INTRODUCTION], {}
    for title, follow in PATHS.items():
        with tempfile.TemporaryDirectory() as folder:
            files = follow(Path(folder))
        if title in (SCORE, VIEW):
            files = [name for name in files if not name.startswith(INSIDE_THE_MODEL)]
        lengths[title] = len(files)
        parts.append(
            f"### {title[0].upper()}{title[1:]}: {len(files)} files\n\n{follow.__doc__}\n".replace("`-", "`-")
        )
        parts += [f"{number}. `{name}`: {first_line(name)}" for number, name in enumerate(files, start=1)]
        parts.append("")
    return "\n".join(parts), lengths


def _unordered(page: str) -> list[str]:
    """The page's lines without list numbers: the order of calls of two threads may differ between runs."""
    return sorted(re.sub(r"^\d+\. ", "", line) for line in page.splitlines())


def main() -> None:
    """Writes or checks the lists."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    text, lengths = lists()
    page = PAGE.read_text("utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    current = f"{before}{BEGIN}\n{text}{END}{after}"
    for title, length in lengths.items():
        print(f"{title}: {length} files (at most {LIMITS[title]})")
    if check:
        longer = [title for title, length in lengths.items() if length > LIMITS[title]]
        if longer:
            sys.exit(f"too long: {', '.join(longer)}")
        sys.exit(None if _unordered(page) == _unordered(current) else f"{PAGE} is out of date")
    PAGE.write_text(current, "utf-8")


if __name__ == "__main__":
    main()
