"""Where a verb may write, and how its folder appears there whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from vonmodel.reports.gallery_part import SIDECAR

Verb = Literal["generate", "edit", "interpolate", "transfer", "reconstruct", "export"]
RESULT = "result.json"
"""What every verb but generate says of its folder, beside the pictures."""


class OutputError(Exception):
    """A folder that a verb must not write to."""


@contextmanager
def replaced_folder(output: Path, verb: Verb = "generate") -> Iterator[Path]:
    """An empty folder to fill; when the block ends without error, it takes the place of `output`.

    Raises:
        OutputError: `output` holds something else than an older result of this verb.
    """
    _check_ours(output, verb)
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


def _check_ours(output: Path, verb: Verb) -> None:
    if output.is_dir() and not any(output.iterdir()):
        return
    if output.exists() and not _is_result_of(output, verb):
        raise OutputError(f"--output {output} holds something that von {verb} did not write; name another folder")


def _is_result_of(output: Path, verb: Verb) -> bool:
    try:
        said = json.loads((output / (SIDECAR if verb == "generate" else RESULT)).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(said, dict):
        return False
    return "texture_codes" in said if verb == "generate" else said.get("verb") == verb
