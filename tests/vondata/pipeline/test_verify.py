"""`verify_dataset` finds every damaged file of a dataset and nothing else."""

import json
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests import harness
from vondata.dataset.manifest import manifest_path, output_path, read_manifest
from vondata.dataset.shape_file import PreparedShape, save_shape
from vondata.dataset.shards import write_shards
from vondata.pipeline.journal import journal_path
from vondata.pipeline.plan import PrepareOptions
from vondata.pipeline.run import prepare
from vondata.pipeline.verify import verify_dataset
from vondata.shapes.prepare import ShapeSettings
from vondata.types import Item, Kind

KINDS: tuple[Kind, ...] = ("shapes", "images")


def draw(item: Item, settings: ShapeSettings, output: Path) -> dict[str, object]:
    """A small shape, or a small picture."""
    output.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(item.id))
    if output.suffix == ".png":
        Image.fromarray(rng.integers(0, 255, (8, 8, 4), dtype=np.uint8)).save(output)
        return {"width_px": 8}
    solid = np.zeros((16, 16, 16), dtype=bool)
    solid[4:9, 4:9, 4:9] = True
    distance = rng.random((16, 16, 16), dtype=np.float32)
    save_shape(output, PreparedShape(solid, solid, distance, 1.0, (0.0, 0.0, 0.0), np.eye(3)))
    return {"faces": 1}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for kind in KINDS:
        items = []
        for id in ("a", "bb"):
            path = tmp_path / f"{id}.{kind}"
            path.write_text(id, "utf-8")
            items.append(Item(id, "chair", str(path), (str(path),), collection=kind))
        prepare(kind, items, draw, ShapeSettings(), tmp_path / "data", PrepareOptions())
    return tmp_path / "data"


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def damaged(data: Path) -> set[str]:
    return {Path(each.file).name for each in verify_dataset(data)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["output", "parquet", "csv", "journal"])
def test_every_flipped_bit_is_found(data: Path, kind: Kind, name: str) -> None:
    assert list(verify_dataset(data)) == []
    manifest = manifest_path(data, "chair", kind)
    path = {
        "output": output_path(data, "chair", kind, "a"),
        "parquet": manifest,
        "csv": manifest.with_suffix(".csv"),
        "journal": journal_path(data, "chair", kind),
    }[name]
    whole = path.read_bytes()
    rng = random.Random(kind)
    missed = []
    for bit in rng.sample(range(8 * len(whole)), 40):
        flip(path, bit)
        if path.name not in damaged(data):
            missed.append(bit)
        path.write_bytes(whole)
    if name == "parquet":  # of its footer most bits say nothing about the rows, but none of them changes a row
        rows = read_manifest(data, "chair", kind)
        for bit in missed:
            flip(path, bit)
            pd.testing.assert_frame_equal(read_manifest(data, "chair", kind), rows)
            path.write_bytes(whole)
    else:
        assert missed == []


def test_what_is_missing_or_cut_is_found(data: Path) -> None:
    output_path(data, "chair", "shapes", "a").unlink()
    path = output_path(data, "chair", "images", "bb")
    path.write_bytes(path.read_bytes()[:-1])
    (data / "chair" / "images.csv").unlink()
    (data / "von-dataset.json").write_text('{"format_version": 1e999}', "utf-8")
    assert damaged(data) == {"a.npz", "bb.png", "images.csv", "von-dataset.json"}


def test_files_without_checksum_are_decoded(data: Path) -> None:
    for kind in KINDS:
        path = manifest_path(data, "chair", kind)
        pd.read_parquet(path).drop(columns="output_sha256").to_parquet(path)
    assert damaged(data) == set()
    for kind in KINDS:
        path = output_path(data, "chair", kind, "a")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert damaged(data) == {"a.npz", "a.png"}


def test_shards_are_verified(data: Path, tmp_path: Path) -> None:
    write_shards(data, tmp_path / "shards", [("chair", kind) for kind in KINDS], shard_bytes=10**6)
    assert damaged(tmp_path / "shards") == set()
    (shard,) = (tmp_path / "shards" / "chair").glob("shapes-*.tar")
    flip(shard, 8 * 600)
    assert len(damaged(tmp_path / "shards")) == 1


def test_the_command_names_them_and_the_run_after_mends_them(data: Path, tmp_path: Path) -> None:
    whole = harness.von("inspect", str(data), "--verify")
    assert (whole.exit_code, "4 prepared files, their manifests and journals are intact" in whole.output) == (0, True)
    path = output_path(data, "chair", "shapes", "a")
    flip(path, 1000)
    found = harness.von("inspect", str(data), "--verify", "--json")
    assert found.exit_code == 1
    (only,) = json.loads(found.stdout)["damaged"]
    assert (only["file"], only["remedy"]) == (str(path), "remove it and prepare again")
    path.unlink()
    items = [
        Item(id, "chair", str(tmp_path / f"{id}.shapes"), (str(tmp_path / f"{id}.shapes"),), collection="shapes")
        for id in ("a", "bb")
    ]
    again = prepare("shapes", items, draw, ShapeSettings(), data, PrepareOptions())
    assert again.classes["chair"].worked == 1
    assert list(verify_dataset(data)) == []
