"""Shards return what was written, by random access through the index and as a WebDataset stream."""

import json
import shutil
import tarfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests import harness
from vondata.dataset.manifest import output_path, prepared, read_manifest
from vondata.dataset.shards import OutputFiles, ShardError, ShardIndexError, index_path, sample_key, write_shards
from vondata.io.fs import DataFolder, file_system
from vondata.types import Event, file_safe
from vonmodel.data.datasets import ImageDataset, ShapeDataset, viewpoint_sampler

PARTS = [("chair", "shapes"), ("chair", "images")]


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path) -> Path:
    """A copy of the dataset with a name that has dots, other splits and a rejected row."""
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    frame = read_manifest(data, "chair", "shapes")
    frame.loc[0, "id"] = "v1.2.shape"
    output_path(data, "chair", "shapes", "shape0").rename(output_path(data, "chair", "shapes", "v1.2.shape"))
    frame.loc[1, "split"] = "val"
    frame.loc[2, "status"] = "rejected"
    frame["faces"] = pd.array([None, *range(7)], dtype="Int64")
    frame.to_parquet(data / "chair" / "shapes.parquet")
    for kind in ("shapes", "images"):
        read_manifest(data, "chair", kind).to_csv(data / "chair" / f"{kind}.csv")
    return data


def streamed(folder: Path, pattern: str) -> list[dict[str, bytes]]:
    """The samples of shards, put together as WebDataset does: by what stands before the first dot."""
    samples = []
    for path in sorted(folder.glob(pattern)):
        found: dict[str, dict[str, bytes]] = defaultdict(dict)
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                opened = tar.extractfile(member)
                assert opened is not None
                found[key][suffix] = opened.read()
        samples += found.values()
    return samples


def test_a_stream_has_every_sample_with_its_row(data: Path, tmp_path: Path) -> None:
    write_shards(data, tmp_path / "shards", PARTS, shard_bytes=8000)
    frame = prepared(read_manifest(data, "chair", "shapes"))
    folder = tmp_path / "shards" / "chair"
    assert len(list(folder.glob("shapes-train-*.tar"))) > 1
    seen = []
    for split in ("train", "val", "test"):
        for sample in streamed(folder, f"shapes-{split}-*.tar"):
            assert set(sample) == {"npz", "json"}
            row = json.loads(sample["json"])
            assert row["split"] == split
            assert sample["npz"] == output_path(data, "chair", "shapes", row["id"]).read_bytes()
            seen.append(row["id"])
    assert sorted(seen) == sorted(frame["id"])
    assert "v1.2.shape" in seen
    photos = streamed(folder, "images-*.tar")
    assert len(photos) == 24
    assert all(set(photo) == {"png", "json"} for photo in photos)


def test_the_index_finds_every_file_and_training_sees_no_difference(data: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    packed = write_shards(data, shards, PARTS, shard_bytes=10_000)
    assert [part.files for part in packed] == [7, 24]
    assert not (shards / "chair" / "shapes").exists()
    options = {"resolution": 32, "split": None}
    for representation in ("occupancy", "distance"):
        here = ShapeDataset(data, "chair", representation=representation, **options)
        there = ShapeDataset(shards, "chair", representation=representation, **options)
        assert here.ids == there.ids
        assert all(torch.equal(here[index], there[index]) for index in range(len(here)))
    images, packed_images = (ImageDataset(folder, "chair", size=32) for folder in (data, shards))
    assert all(torch.equal(images[index].image, packed_images[index].image) for index in range(len(images)))
    draws = [viewpoint_sampler(folder, "chair")(5, np.random.default_rng(0)) for folder in (data, shards)]
    assert np.array_equal(*draws)


def test_the_same_dataset_gives_the_same_bytes(data: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_shards(data, tmp_path / name, PARTS, shard_bytes=8000)
    one = {path.name: path.read_bytes() for path in (tmp_path / "one" / "chair").iterdir()}
    assert one == {path.name: path.read_bytes() for path in (tmp_path / "two" / "chair").iterdir()}


def test_shards_go_to_a_url(data: Path, tmp_path: Path) -> None:
    system, _ = file_system("memory://shards")
    system.store.clear()
    write_shards(data, tmp_path / "shards", PARTS, shard_bytes=8000)
    write_shards(data, DataFolder.at("memory://shards"), PARTS, shard_bytes=8000)
    for path in (tmp_path / "shards" / "chair").iterdir():
        assert system.cat_file(f"/shards/chair/{path.name}") == path.read_bytes()
    with pytest.raises(ShardError, match="memory://shards is not empty"):
        write_shards(data, DataFolder.at("memory://shards"), PARTS, shard_bytes=8000)
    system.store.clear()


def test_what_cannot_be_packed_or_read_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="is not empty"):
        write_shards(data, data, PARTS, shard_bytes=1)
    write_shards(data, tmp_path / "shards", PARTS, shard_bytes=10**9)
    (shard,) = (tmp_path / "shards" / "chair").glob("images-train-*.tar")
    shard.write_bytes(shard.read_bytes()[:2000])
    dataset = ImageDataset(tmp_path / "shards", "chair", size=32)
    with pytest.raises(OSError, match=r"ends before photo\d+; write the shards again or fetch"):
        [dataset[index] for index in range(len(dataset))]
    with pytest.raises(FileNotFoundError, match="does not list other"):
        OutputFiles(tmp_path / "shards", "chair", "shapes")["other"]
    output_path(data, "chair", "images", "photo3").unlink()
    with pytest.raises(ShardError, match=r"photo3\.png is in the manifest but not there"):
        write_shards(data, tmp_path / "again", PARTS, shard_bytes=10**9)
    assert not index_path(tmp_path / "again", "chair", "images").exists()


def test_progress_is_reported(data: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    write_shards(data, tmp_path / "shards", PARTS, shard_bytes=10**9, on_event=events.append)
    assert [event.done for event in events] == list(range(1, 32))


@given(st.text("ab._-", min_size=1, max_size=30), st.text("ab._-", min_size=1, max_size=30))
def test_keys_have_no_dot_and_stay_different(one: str, other: str) -> None:
    ids = {file_safe(one), file_safe(other)}
    keys = {sample_key(id) for id in ids}
    assert not any("." in key for key in keys)
    assert len(keys) == len(ids)


def test_the_command_packs_and_says_what(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = harness.von("pack", "-o", "shards", "--class", "chair", "--shard-size", "1MB", "--json")
    assert done.exit_code == 0, done.output
    parts = json.loads(done.stdout)["parts"]
    assert [(part["kind"], part["files"], len(part["shards"])) for part in parts] == [
        ("shapes", 7, 2),
        ("images", 24, 1),
    ]
    for arguments, words in (
        (
            ["--output", "shards"],
            "no old shard is taken for a new one (--output)",
        ),
        (["--output", "new", "--class", "spoon"], "has no class 'spoon'; it has chair"),
        (["--output", "new", "--shard-size", "many"], "write it as 500MB"),
        (["--output", "new", "--data", "shards/none"], "holds no prepared dataset"),
    ):
        failed = harness.von("pack", *arguments)
        assert failed.exit_code in (1, 2)
        assert words in failed.output


def test_a_damaged_index_is_named(data: Path, tmp_path: Path) -> None:
    write_shards(data, tmp_path / "shards", PARTS, shard_bytes=10**9)
    path = index_path(tmp_path / "shards", "chair", "images")
    whole = pq.read_table(path)
    for column, value, what in (
        ("shard", "../../secret.tar", "not a shard beside it"),
        ("shard", "/etc/passwd", "not a shard beside it"),
        ("offset", -1, "negative"),
    ):
        place = whole.column_names.index(column)
        changed = pa.array([value] * len(whole), whole.schema.field(column).type)
        pq.write_table(whole.set_column(place, column, changed), path)
        with pytest.raises(ShardIndexError, match=what):
            OutputFiles(tmp_path / "shards", "chair", "images")
    place = whole.column_names.index("size")
    pq.write_table(whole.set_column(place, "size", pa.array([2**62] * len(whole))), path)
    files = OutputFiles(tmp_path / "shards", "chair", "images")
    with pytest.raises(OSError, match="ends before"):
        files[whole["id"][0].as_py()].open()
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ShardIndexError, match="is damaged"):
        OutputFiles(tmp_path / "shards", "chair", "images")
