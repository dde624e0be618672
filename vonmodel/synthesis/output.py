"""Where a generation may write, and how its folder appears there whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .gallery import SIDECAR


class OutputError(Exception):
    """A folder that generation must not write to."""


@contextmanager
def replaced_folder(output: Path) -> Iterator[Path]:
    """An empty folder to fill; when the block ends without error, it takes the place of `output`.

    Raises:
        OutputError: `output` holds something else than an older generation.
    """
    _check_ours(output)
    partial, old = (output.with_name(f".{output.name}.{kind}") for kind in ("partial", "old"))
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if output.exists():
        output.replace(old)
    partial.replace(output)
    shutil.rmtree(old, ignore_errors=True)


def _check_ours(output: Path) -> None:
    if output.is_dir() and not any(output.iterdir()):
        return
    if output.exists():
        try:
            sidecar = json.loads((output / SIDECAR).read_text("utf-8"))
            ours = isinstance(sidecar, dict) and "texture_codes" in sidecar
        except (OSError, ValueError):
            ours = False
        if not ours:
            raise OutputError(
                f"--output {output} holds something that von generate did not write; name another folder"
            )
