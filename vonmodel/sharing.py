"""Pushing and pulling runs: a folder, a bucket or the Hugging Face Hub, with a model card and every file's hash.

A shared run is a run folder with one checkpoint, `README.md` (the model card) and `von-run.json`, which lists the
files with their sizes and SHA-256. Only JSON, text and safetensors are copied: no fetched file can execute code.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vondata.errors import VonError
from vondata.io.files import atomic_path
from vondata.io.fs import RemoteError, deliver, exists, fetch, file_system, is_url, store_errors
from vondata.io.json_file import JsonFileError, read_json
from vondata.version import __version__
from vonmodel.checkpoint import CheckpointInfo, CheckpointMissingError, check_files, list_checkpoints, read_info
from vonmodel.config import TrainConfig
from vonmodel.reports.metrics_log import describe, read_metrics
from vonmodel.run_folder import RunFolder

FORMAT = 1
MANIFEST = "von-run.json"
CARD = "README.md"
MAX_MANIFEST_BYTES = 1 << 20
MAX_RUN_BYTES = 64 << 30
_ALLOWED = re.compile(
    r"config\.json|environment\.json|metrics\.jsonl|README\.md|"
    r"checkpoints/[a-z]+-[0-9]+/(checkpoint\.json|[a-z_]+\.safetensors)"
)
_HUB = re.compile(r"hf://([\w.-]+/[\w.-]+)/?")

OnFile = Callable[[str, int, int], None]
"""Called with a file's name, the number of files done and their total."""


class SharingError(VonError, ValueError):
    """A place without a shared run, or a file of it that does not match its manifest."""


class TargetTakenError(SharingError):
    """The place is not empty."""


@dataclass(frozen=True)
class SharedRun:
    """A run that was pushed or pulled.

    Attributes:
        place: the folder or URL that it was copied to.
        class_name: its class.
        checkpoint: the name of its checkpoint.
        bytes: size of all files.
    """

    place: str
    class_name: str
    checkpoint: str
    bytes: int


def push_run(
    run: Path,
    place: str,
    *,
    checkpoint: str | None = None,
    overwrite: bool = False,
    on_file: OnFile | None = None,
) -> SharedRun:
    """Copies a run with one checkpoint to a folder or URL.

    The manifest is written last, so that an interrupted copy is not a shared run.

    Args:
        run: the run folder.
        place: path, s3://bucket/name, hf://user/name or any URL that fsspec knows.
        checkpoint: its name; the newest if None.
        overwrite: replace a run that is there.
        on_file: see `OnFile`.

    Raises:
        RunError, CheckpointError: the run or the checkpoint is missing or damaged.
        TargetTakenError: a run is there, and `overwrite` is not set.
        RemoteError, DeliveryError: the URL cannot be used.
    """
    folder = RunFolder(run)
    config = folder.config()
    info = _choose(run, checkpoint)
    check_files(run, info)
    if not overwrite and exists(_join(place, MANIFEST)):
        raise TargetTakenError(f"{place} holds a run already; name another place, or overwrite it")
    with tempfile.TemporaryDirectory(prefix="von-push-") as scratch:
        staged = Path(scratch)
        (staged / CARD).write_text(model_card(config, info, read_metrics(run, info.sha256), place), "utf-8")
        sources = {CARD: staged / CARD} | _files_of(run, info)
        sizes = {name: file.stat().st_size for name, file in sources.items()}
        listed = {name: {"bytes": sizes[name], "sha256": _sha256(file)} for name, file in sources.items()}
        about = {"format": FORMAT, "von": __version__, "class": config.class_name, "checkpoint": info.name}
        (staged / MANIFEST).write_text(json.dumps(about | {"files": listed}, indent=1) + "\n", "utf-8")
        _send(sources | {MANIFEST: staged / MANIFEST}, place, on_file)
    return SharedRun(place, config.class_name, info.name, sum(sizes.values()))


def pull_run(place: str, target: Path, *, overwrite: bool = False, on_file: OnFile | None = None) -> SharedRun:
    """Fetches a shared run into a new folder, which appears complete or not at all.

    Args:
        place: as for `push_run`.
        target: the run folder to create.
        overwrite: replace a run that is there.
        on_file: see `OnFile`.

    Raises:
        SharingError: there is no shared run, or a file does not match its manifest.
        TargetTakenError: the folder is not empty, and `overwrite` is not set or it is not a run.
        RemoteError, OSError: the URL cannot be read.
    """
    if target.exists() and any(target.iterdir()) and not (overwrite and RunFolder(target).exists):
        raise TargetTakenError(f"{target} is not empty; name another folder, or overwrite the run in it")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
        partial = Path(scratch) / target.name
        _get(_join(place, MANIFEST), partial / MANIFEST, f"{place} holds no shared run (no {MANIFEST})")
        listed, about = _read_manifest(partial / MANIFEST, place)
        for done, (name, expected) in enumerate(listed.items()):
            if on_file is not None:
                on_file(name, done, len(listed))
            _get(_join(place, name), partial / name, f"{place} lacks {name}, which its list names")
            if (partial / name).stat().st_size != expected["bytes"] or _sha256(partial / name) != expected["sha256"]:
                raise SharingError(f"{place}: {name} does not match {MANIFEST}; it was changed or cut off on the way")
        RunFolder(partial).config()
        if target.exists():
            shutil.rmtree(target)
        partial.replace(target)
    if on_file is not None:
        on_file(MANIFEST, len(listed), len(listed))
    total = sum(each["bytes"] for each in listed.values())
    return SharedRun(str(target), str(about["class"]), str(about["checkpoint"]), total)


def model_card(config: TrainConfig, info: CheckpointInfo, metrics: Any, place: str) -> str:
    """The model card (description, scores, usage) as Markdown with the Hub's front matter."""
    model = config.model
    scores = "\n".join(f"- {describe(line)}" for line in metrics) or "- none was measured"
    return f"""---
library_name: visual-object-networks
tags: [visual-object-networks, 3d, image-generation, {config.class_name}]
---

# Visual Object Network: {config.class_name}

Generates the shape, the viewpoint and the texture of a {config.class_name} as three independent factors, and images
of it (Zhu et al., NeurIPS 2018).

| | |
|---|---|
| class | {config.class_name} |
| volumes | {model.resolution}³, {model.representation} |
| images | {model.image_size} x {model.image_size} pixels |
| checkpoint | {info.name}: {info.step:,} of {info.steps:,} steps of stage {info.stage} |
| items seen | {info.images_seen:,} |
| made with | VON {__version__} |

## Scores

{scores}

## Use

```python
from vonmodel import load_run

model = load_run("{place}")
model.render(model.view(shape=7, texture=3, azimuth_deg=40.0, elevation_deg=20.0)).image
```

Images show what the training data showed; shapes are those of its collection. The files are JSON and safetensors.
"""


def _choose(run: Path, name: str | None) -> CheckpointInfo:
    if name is not None:
        return read_info(run, name)
    found = list_checkpoints(run)
    if not found:
        raise CheckpointMissingError(f"{run} has no checkpoint yet; train it first")
    return found[-1]


def _files_of(run: Path, info: CheckpointInfo) -> dict[str, Path]:
    """The files to share, by their names in the run."""
    names = [f"checkpoints/{info.name}/{file.name}" for file in (run / "checkpoints" / info.name).iterdir()]
    names += ["config.json", "environment.json", "metrics.jsonl"]
    return {name: run / name for name in sorted(names) if _ALLOWED.fullmatch(name) and (run / name).is_file()}


def _send(sources: Mapping[str, Path], place: str, on_file: OnFile | None) -> None:
    if hub := _HUB.fullmatch(place):
        _upload_to_hub(sources, hub[1])
        return
    for done, (name, file) in enumerate(sources.items()):
        if on_file is not None:
            on_file(name, done, len(sources))
        if is_url(place):
            deliver(file, _join(place, name))
        else:
            with atomic_path(Path(place, name)) as temporary:
                shutil.copyfile(file, temporary)
    if on_file is not None:
        on_file(MANIFEST, len(sources), len(sources))


def _upload_to_hub(sources: Mapping[str, Path], repository: str) -> None:
    """One commit for all files, in a repository that is created if missing."""
    file_system(f"hf://{repository}")  # raises if a package is missing
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    files = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(file)) for name, file in sources.items()]
    try:
        HfApi().create_repo(repository, exist_ok=True)
        HfApi().create_commit(repository, operations=files, commit_message="A run of VON")
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise RemoteError(f"hf://{repository} takes no run: {error}; log in with `hf auth login`") from error


def _get(place: str, target: Path, missing: str) -> None:
    """Copies one file here."""
    if not is_url(place):
        if not Path(place).is_file():
            raise SharingError(missing)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(place, target)
        return
    system, path = file_system(place)
    try:
        with store_errors(place):
            size = system.size(path)
        if target.name == MANIFEST and (size or 0) > MAX_MANIFEST_BYTES:
            raise SharingError(f"{place} has {size:,} bytes, too many for a list of files")
        found = fetch(place, target)
    except FileNotFoundError:
        found = False
    except RemoteError:
        raise
    except OSError as error:
        raise RemoteError(f"{place} cannot be read: {error or type(error).__name__}") from error
    if not found:
        raise SharingError(missing)


def _read_manifest(file: Path, place: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The files with their sizes and hashes, and the manifest's other entries.

    Raises:
        SharingError: it is damaged, of a newer version, or names files that are not part of a run.
    """
    try:
        about = read_json(file, max_bytes=MAX_MANIFEST_BYTES)
        if about["format"] != FORMAT:
            raise SharingError(f"{place} has format {about['format']}; this version of VON reads {FORMAT}")
        listed = {str(name): dict(each) for name, each in about["files"].items()}
        total = sum(int(each["bytes"]) for each in listed.values())
        hashes = [str(each["sha256"]) for each in listed.values()]
        about["class"], about["checkpoint"] = str(about["class"]), str(about["checkpoint"])
    except (JsonFileError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, SharingError):
            raise
        raise SharingError(f"{place}: {MANIFEST} is damaged ({error})") from error
    strange = next((name for name in listed if not _ALLOWED.fullmatch(name)), None)
    if strange is not None:
        raise SharingError(f"{place}: {MANIFEST} names {strange!r}, which is not a file of a run")
    if total > MAX_RUN_BYTES or not all(re.fullmatch(r"[0-9a-f]{64}", each) for each in hashes):
        raise SharingError(f"{place}: {MANIFEST} names impossible sizes or hashes")
    return listed, about


def _join(place: str, name: str) -> str:
    return posixpath.join(place.rstrip("/"), name) if is_url(place) else str(Path(place, name))


def _sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
