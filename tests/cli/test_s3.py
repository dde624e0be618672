"""From raw meshes and photos on a store to a trained model: every verb takes the dataset's URL."""

import re
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import NoCredentialsError

from tests import harness
from vondata.dataset.manifest import read_manifest
from vondata.io import fs as remote
from vondata.io.fs import DataFolder, file_system, mirror


@pytest.mark.slow
def test_training_scores_and_shards_through_a_url(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    harness.von_json("demo", "demo", "--chair-count", 6, "--car-count", 0, "--photo-count", 2)
    system, path = file_system(bucket)
    system.put(f"{tmp_path}/demo/", f"{path}/demo/", recursive=True)
    data = f"{bucket}/data"
    common = ("--data", data, "--class", "chair", "--workers", 0)
    shapes = harness.von_json(
        "prepare", "shapenet", "--root", f"{bucket}/demo/ShapeNetCore.v2", "--resolution", 32, *common
    )
    assert shapes["classes"]["chair"]["prepared"] == 6
    photos = harness.von_json(
        *("prepare", "images", "--pix3d", f"{bucket}/demo/pix3d", "--photos", f"{bucket}/demo/photos"),
        *("--size", 64, *common),
    )
    matched = photos["viewpoints"]["chair"]["matched"]
    rows = read_manifest(mirror(DataFolder.at(data)), "chair", "images")
    assert (rows["viewpoint_origin"] == "matched").sum() == matched > 0
    assert Path(photos["report"]).is_file()

    harness.von_json("train", "--preset", "demo", "--data", data, "--class", "chair", *harness.SMALL_TRAINING)
    scores = ("evaluate", "--fid", "--features", "random", "--count", 4, "--no-untrained")
    (line,) = harness.von_json(*scores, "--data", data)["results"]
    harness.von_json("generate", "--data", data)

    harness.von_json("pack", "--data", data, "--output", f"{bucket}/shards")
    assert harness.von_json(*scores, "--data", f"{bucket}/shards")["results"][0]["value"] == line["value"]
    harness.von_json(
        "train",
        "--preset",
        "demo",
        "--data",
        f"{bucket}/shards",
        "--class",
        "chair",
        "--run",
        "packed",
        *harness.SMALL_TRAINING,
    )
    networks = [
        tmp_path / run / "checkpoints/joint-00000002/networks.safetensors" for run in ("runs/chair", "packed")
    ]
    assert networks[0].read_bytes() == networks[1].read_bytes()


class Closed:
    """A store that denies every request."""

    def __getattr__(self, name: str) -> Any:
        raise NoCredentialsError


@pytest.mark.parametrize(
    "command",
    [
        "prepare shapenet --root s3://bucket/raw",
        "prepare meshes --root meshes --class chair --data s3://bucket/data",
        "inspect s3://bucket/data",
        "pack --data s3://bucket/data --output shards",
        "train --class chair --data s3://bucket/data",
    ],
)
def test_a_store_that_denies_access_is_reported(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "file_system_of", lambda scheme: Closed())
    (tmp_path / "meshes").mkdir()
    (tmp_path / "meshes" / "one.obj").write_text("v 0 0 0\n", "utf-8")
    done = harness.von(*command.split())
    assert done.exit_code in (1, 2)
    said = " ".join(done.output.split())
    assert re.search(r"s3://bucket/\S+ cannot be reached: Unable to locate credentials; credentials and endp", said)
