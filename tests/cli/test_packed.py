"""Shards in place of files, wherever prepared data is read: the same scores, hashes, sketches and pages."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from tests import harness
from vondata.classes import load_class
from vondata.dataset.manifest import DATASET_KINDS, prepared, read_manifest, write_manifest
from vondata.dataset.metadata import PartRecord, record_part
from vondata.dataset.schema import plain_row
from vondata.dataset.shape_file import load_shape, save_shape
from vondata.dataset.shards import OutputFiles, ShardedDatasetError, write_shards
from vondata.matching import build_bank, choose_shapes, match_photos, match_viewpoints
from vondata.matching.bank import BankSettings, bank_key
from vonmodel.data.datasets import ShapeDataset
from vonmodel.evaluation.samples import RealImages, RealShapes
from vonmodel.evaluation.shape_classifier import dataset_sha256

ROOT = Path(__file__).resolve().parents[2]
# These write files, or make a dataset from files; all other modules read through OutputFiles.
KNOW_WHERE_FILES_LIE = {"vondata/dataset/manifest.py", "vondata/dataset/shards.py", "vondata/pipeline/merge.py"}


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path) -> Path:
    """The tiny dataset with all columns and the record of how it was made."""
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    for kind in DATASET_KINDS:
        frame = read_manifest(data, "chair", kind)
        rows = [plain_row(kind, {"source": f"/x/{row['id']}", **row}) for row in frame.to_dict("records")]
        write_manifest(data, "chair", kind, rows)
        record_part(data, "chair", kind, PartRecord({}, "", len(rows), 0))
    shutil.rmtree(data / "journal")
    for path in (data / "chair" / "shapes").iterdir():  # to be sketched, a shape needs voxels at distance 0
        shape = load_shape(path)
        save_shape(path, replace(shape, distance=np.where(shape.surface, np.float32(0), shape.distance)))
    return data


@pytest.fixture
def shards(data: Path, tmp_path: Path) -> Path:
    write_shards(data, tmp_path / "shards", [("chair", kind) for kind in DATASET_KINDS], shard_bytes=10_000)
    return tmp_path / "shards"


def von(*arguments: object) -> Result:
    return harness.von(*arguments)


def test_one_place_knows_where_files_lie() -> None:
    sources = [path for folder in ("vondata", "vonmodel", "cli") for path in (ROOT / folder).rglob("*.py")]
    found = {path.relative_to(ROOT).as_posix() for path in sources if re.search(r"\boutput_path\(", path.read_text())}
    assert found == KNOW_WHERE_FILES_LIE


def test_scores_name_the_same_content(data: Path, shards: Path, tiny_config) -> None:
    images = [RealImages(place, "chair", size=32) for place in (data, shards)]
    assert images[0].sha256 == images[1].sha256
    assert np.array_equal(*[each.part(0, 24) for each in images])
    shapes = [RealShapes(place, "chair", tiny_config.model, split="train") for place in (data, shards)]
    assert shapes[0].sha256 == shapes[1].sha256
    assert np.array_equal(*[each.part(0, 8) for each in shapes])
    hashes = {
        dataset_sha256(place, {"chair": [ShapeDataset(place, "chair", resolution=32, representation="occupancy")]})
        for place in (data, shards)
    }
    assert len(hashes) == 1


def test_evaluate_reads_shards(
    data: Path, shards: Path, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    options = ("--fid", "--shapes", "--features", "random", "--count", 6, "--shape-count", 2, "--no-untrained")
    results = []
    for place in (data, shards):
        done = von("evaluate", *options, "--json", "--data", place)
        assert done.exit_code == 0, done.output
        results.append(json.loads(done.stdout)["results"])
    values = [[(line["metric"], line.get("value")) for line in each] for each in results]
    assert values[0] == values[1]


def test_viewpoints_are_matched_out_of_shards(data: Path, shards: Path) -> None:
    chair, few = load_class("chair"), BankSettings(azimuth_step_deg=90.0, elevation_step_deg=45.0)
    found = []
    for place in (data, shards):
        shapes = choose_shapes(place, "chair", 2)
        files = OutputFiles(place, "chair", "images")
        photos = [files[id] for id in prepared(read_manifest(place, "chair", "images"))["id"].head(3)]
        found.append((bank_key(shapes, chair, few), match_viewpoints(photos, build_bank(shapes, chair, few))))
    assert found[0] == found[1]


def test_the_page_shows_what_lies_in_shards(shards: Path) -> None:
    done = von("inspect", shards, "--workers", 0, "--json")
    assert done.exit_code == 0, done.output
    text = (shards / "report" / "data.js").read_text("utf-8")
    parts = json.loads(text[text.index("{") : text.rindex("}") + 1])["parts"]
    pictures = {part["kind"]: [row[-1] for row in part["rows"]] for part in parts}
    assert [len(pictures[kind]) for kind in ("shapes", "images")] == [8, 24]
    for path in (path for each in pictures.values() for path in each):
        assert (shards / "report" / path).read_bytes()[8:12] == b"WEBP"


def test_nothing_is_added_to_shards(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "meshes").mkdir()
    (tmp_path / "meshes" / "a.obj").write_text("v 0 0 0\n", "utf-8")
    before = sorted(shards.rglob("*.*"))
    refused = von("prepare", "meshes", "--root", tmp_path / "meshes", "--class", "chair", "--data", shards)
    assert refused.exit_code == 1
    assert f"{shards}: the shapes of class chair lie in shards" in refused.output
    with pytest.raises(ShardedDatasetError, match="the images of class chair lie in shards"):
        match_photos(shards, "chair")
    assert sorted(shards.rglob("*.*")) == before
    refused = von("merge", shards, shards, "--output", tmp_path / "joined")
    assert "has shards and no journal" in refused.output
