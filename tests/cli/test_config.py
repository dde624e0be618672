"""`von config`, `von list` and what von.toml may hold."""

import json
from pathlib import Path

import pytest

from tests.harness import von, von_json


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VON_DATA", raising=False)


def settings(said: dict) -> dict[str, tuple[object, str]]:
    return {f"{row['verb']} {row['setting']}".strip(): (row["value"], row["source"]) for row in said["settings"]}


def test_what_is_in_force_and_from_where() -> None:
    Path("von.toml").write_text('[paths]\ndata = "~/prepared"\n[train]\npreset = "demo"\n[prepare]\nworkers = 2\n')
    said = von_json("config", VON_GENERATE_COUNT="3", VON_RUNS="elsewhere", VON_DTA="typo")
    found = settings(said)
    assert found["data"] == ("~/prepared", "von.toml [paths]")
    assert found["runs"] == ("elsewhere", "VON_RUNS")
    assert found["shapenet"] == (None, "default")
    assert found["train --preset"] == ("demo", "von.toml [train]")
    assert found["prepare images --workers"] == (2, "von.toml [prepare.images]")
    assert found["generate --count"] == ("3", "VON_GENERATE_COUNT")
    assert said["unknown_variables"] == ["VON_DTA"]
    assert "VON_DTA is set, but nothing reads it" in von("config", VON_DTA="typo").stderr


def test_a_byte_order_mark_is_read(shared: Path) -> None:
    Path("von.toml").write_bytes((shared / "cases/config/bom_von.toml").read_bytes())
    assert settings(von_json("config"))["photos"] == ("crawl", "von.toml [paths]")


def test_a_tilde_is_the_home_folder(tmp_path: Path) -> None:
    Path("von.toml").write_text('[paths]\nruns = "~/runs"\n')
    home = tmp_path / "home"
    (home / "runs").mkdir(parents=True)
    assert "No runs in " + str(home / "runs") in von("list", HOME=str(home)).stdout
    assert str(home / "other") in von("list", HOME=str(home), VON_RUNS="~/other").stdout
    assert str(home / "third") in von("list", "--runs=~/third", HOME=str(home)).stdout
    assert not Path("~").exists()
    unknown = von("list", "--runs=~nobody-of-this-name/runs")
    assert (unknown.exit_code, "no such user" in unknown.stderr) == (2, True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[paths]\nphotos = "C:\\Users\\me"\n', 'in "C:\\Users\\me" a backslash begins an escape: use / or single'),
        ('[paths]\nphotos = "C:\\temp\\boxes"\n', "with a control character"),
        ("[paths]\nphotos = 3\n", 'photos is 3; write the folder as "..."'),
    ],
)
def test_invalid_settings_files_are_refused(content: str, said: str) -> None:
    Path("von.toml").write_text(content)
    result = von("config")
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


def test_single_quotes_keep_backslashes() -> None:
    Path("von.toml").write_text("[paths]\nphotos = 'C:\\temp\\boxes'\n")
    assert settings(von_json("config"))["photos"][0] == "C:\\temp\\boxes"


def test_a_file_of_bytes_or_a_folder_is_one_sentence() -> None:
    Path("von.toml").write_bytes(b"[paths]\nphotos = '\xff\xfe'\n")
    assert "von.toml is not UTF-8 text (byte 18 is 0xff): save it as UTF-8" in " ".join(von("config").stderr.split())
    Path("von.toml").unlink()
    Path("von.toml").mkdir()
    assert "von.toml is not a regular file: remove it, or replace it with one" in von("config").stderr


def test_runs_and_datasets_are_listed(tiny_run: Path, tiny_data: Path) -> None:
    checkpoint = json.loads((tiny_run / "checkpoints" / "joint-00000020" / "checkpoint.json").read_text())
    line = {"metric": "fid", "value": 12.5, "checkpoint": checkpoint, "features": "random-1"}
    (tiny_run / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    said = von_json("list", "--runs", tiny_run.parent, "--data", tiny_data)
    (run,) = said["runs"]
    assert (run["class"], run["resolution"], run["problem"]) == ("chair", 32, None)
    assert [each["name"] for each in run["checkpoints"]] == ["joint-00000010", "joint-00000020"]
    assert [each["scores"] for each in run["checkpoints"]] == [{}, {"fid": 12.5}]
    text = von("list", "--runs", tiny_run.parent, "--checkpoints").stdout
    assert "joint-00000010 (unfinished)" in text
    assert "fid 12.5" in text
    assert "No prepared dataset in data" in text


def test_a_damaged_run_is_a_row(tiny_run: Path) -> None:
    (tiny_run / "config.json").write_text("{")
    (run,) = von_json("list", "--runs", tiny_run.parent)["runs"]
    assert "is not valid JSON" in run["problem"]
