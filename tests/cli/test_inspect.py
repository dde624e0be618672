"""`von inspect`: the dataset in numbers, and its page."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tests import harness
from vondata.dataset.manifest import split_of, write_manifest
from vondata.dataset.schema import plain_row


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [
        plain_row(
            "shapes",
            {
                "id": f"m{number}",
                "class": "chair",
                "source": "/x",
                "split": split_of(f"m{number}"),
                "status": "rejected" if number < 3 else "prepared",
                "reason": "no_mesh" if number < 3 else None,
            },
        )
        for number in range(10)
    ]
    write_manifest(tmp_path / "data", "chair", "shapes", rows)
    return tmp_path / "data"


@pytest.mark.parametrize("arguments", [["data"], ["--data", "data"], []])
def test_numbers_and_page(data: Path, arguments: list[str]) -> None:
    result = harness.von("inspect", *arguments, "--workers", "0")
    assert result.exit_code == 0
    assert result.stdout.split("reasons")[1].split()[:5] == ["chair", "shapes", "10", "7", "3"]
    assert "no_mesh 3" in result.stdout
    assert (data / "report" / "index.html").is_file()


def test_as_json(data: Path) -> None:
    result = harness.von("inspect", "data", "--json", "--no-page")
    document = json.loads(result.stdout)
    assert document["report"] is None
    (part,) = document["parts"]
    assert (part["found"], part["prepared"], part["reasons"]) == (10, 7, {"no_mesh": 3})
    assert sum(part["splits"].values()) == 7
    assert not (data / "report").exists()


def test_a_folder_without_dataset_is_wrong_usage(tmp_path: Path) -> None:
    result = harness.von("inspect", str(tmp_path))
    assert result.exit_code == 2
    assert "holds no prepared dataset" in " ".join(result.stderr.split())
    result = harness.von("inspect", tmp_path / "nowhere")
    assert result.exit_code == 2
    assert "nowhere is not there; name the folder" in " ".join(result.stderr.split())


def test_where_no_page_can_be_written_the_counts_can_still_be_had(data: Path) -> None:
    (data / "report").write_text("in the way")
    result = harness.von("inspect", "data", "--workers", "0")
    assert result.exit_code == 1
    assert "(--no-page prints the counts without a page)" in result.stderr
    assert harness.von("inspect", "data", "--no-page").exit_code == 0


@pytest.mark.parametrize("damage", ["words", "cut", "columns", "class"])
def test_a_damaged_table_is_named_with_its_remedy(data: Path, damage: str) -> None:
    table = data / "chair" / "shapes.parquet"
    match damage:
        case "words":
            table.write_text("no table", "utf-8")
        case "cut":
            table.write_bytes(table.read_bytes()[:-20])
        case "columns":
            pd.DataFrame({"id": ["a"]}).to_parquet(table)
        case "class":
            pd.read_parquet(table).assign(**{"class": "car"}).to_parquet(table)
    for command in (["inspect", "data"], ["pack", "--data", "data", "--output", "shards"]):
        result = harness.von(*command)
        assert result.exit_code == 1
        assert "Error: data/chair/shapes.parquet is damaged (" in result.output
        assert "writes it anew from the journal" in result.output


def test_a_place_that_takes_no_files_is_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder", "utf-8")
    (tmp_path / "one.obj").write_text("v 0 0 0\n", "utf-8")
    prepare = ["prepare", "meshes", "--root", ".", "--class", "chair", "--workers", "0", "--data", "file"]
    (data / "report").write_text("not a folder", "utf-8")
    for command, place in (
        (prepare, "file"),
        (["pack", "--data", "data", "--output", "file/shards"], "file/shards"),
        (["inspect", "data"], "data/report"),
    ):
        result = harness.von(*command)
        assert result.exit_code == 1
        assert f"Error: {place} cannot be written (" in result.output
        assert "run the same command again" in result.output


@pytest.mark.parametrize(
    "verb", ["inspect", "pack --into x", "prepare meshes --root . --class chair", "train --class chair"]
)
def test_an_invalid_path_is_reported(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    for data, what in (
        ("loop", "symbolic links"),
        ("a" * 300, "too long"),
        ("b/" * 3000, "too long"),
        ("a\0b", "null"),
    ):
        result = harness.von(*verb.split(), "--data", data)
        assert (result.exit_code, len(result.output) < 400) == (2, True), result.output
        assert "is not a valid path: " in result.output
        assert what in result.output
