"""Sharing runs: round trips, checked hashes, and only the files of a run."""

import hashlib
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import von, von_json
from vondata.io.fs import RemoteError, file_system
from vonmodel.checkpoint import CheckpointDamagedError, load_model
from vonmodel.sharing import MANIFEST, SharingError, TargetTakenError, pull_run, push_run


@pytest.fixture
def memory() -> Iterator[str]:
    system, _ = file_system("memory://")
    yield "memory://models/chair"
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()
    }


@pytest.mark.parametrize("where", ["folder", "memory"])
def test_there_and_back(where: str, tiny_run: Path, tmp_path: Path, memory: str) -> None:
    place = memory if where == "memory" else str(tmp_path / "shared")
    line = {"metric": "kid", "value": 1.5}
    (tiny_run / "metrics.jsonl").write_text(json.dumps(line | {"checkpoint": {"sha256": "0" * 64}}) + "\n")
    (tiny_run / "secret.pkl").write_bytes(b"not for travelling")
    sent = push_run(tiny_run, place)
    assert (sent.place, sent.class_name, sent.checkpoint) == (place, "chair", "joint-00000020")
    seen: list[tuple[int, int]] = []
    fetched = pull_run(place, tmp_path / "back" / "chair", on_file=lambda _, done, total: seen.append((done, total)))
    back, ours = contents(tmp_path / "back" / "chair"), contents(tiny_run)
    newest = {name for name in ours if "joint-00000020" in name}
    assert set(back) == {"README.md", MANIFEST, "config.json", "environment.json", "metrics.jsonl"} | newest
    assert all(back[name] == ours[name] for name in back if name not in {"README.md", MANIFEST})
    assert seen[-1] == (len(back) - 1, len(back) - 1)
    assert fetched.bytes == sent.bytes == sum(len(back[name]) for name in back if name != MANIFEST)
    assert load_model(tmp_path / "back" / "chair")[1].name == "joint-00000020"
    card = back["README.md"].decode()
    for part in ("# Visual Object Network: chair", "32³", f'load_run("{place}")', "library_name:", "20 of 20 steps"):
        assert part in card
    assert [name for name in Path(tmp_path / "back").iterdir() if name.name.startswith(".")] == []


def test_a_checkpoint_is_chosen_and_a_damaged_one_is_not_sent(tiny_run: Path, tmp_path: Path) -> None:
    assert push_run(tiny_run, str(tmp_path / "a"), checkpoint="joint-00000010").checkpoint == "joint-00000010"
    weights = tiny_run / "checkpoints" / "joint-00000020" / "networks.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\1\2\3")
    with pytest.raises(CheckpointDamagedError, match=r"networks\.safetensors is damaged"):
        push_run(tiny_run, str(tmp_path / "b"))
    assert not (tmp_path / "b").exists()


def test_nothing_is_overwritten_unasked(tiny_run: Path, tmp_path: Path, memory: str) -> None:
    push_run(tiny_run, memory)
    with pytest.raises(TargetTakenError, match="holds a run already"):
        push_run(tiny_run, memory)
    push_run(tiny_run, memory, overwrite=True)
    pull_run(memory, tmp_path / "chair")
    with pytest.raises(TargetTakenError, match="is not empty"):
        pull_run(memory, tmp_path / "chair")
    pull_run(memory, tmp_path / "chair", overwrite=True)
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "thesis.tex").write_text("ten years of work")
    with pytest.raises(TargetTakenError):
        pull_run(memory, other, overwrite=True)
    assert (other / "thesis.tex").read_text() == "ten years of work"


def tampered(place: Path, change: Any) -> None:
    manifest = json.loads((place / MANIFEST).read_text())
    change(manifest, manifest["files"])
    (place / MANIFEST).write_text(json.dumps(manifest))


def entry(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda about, files: files.update({"../evil.json": entry(b"{}")}),
            "names '../evil.json', which is not a file",
        ),
        (lambda about, files: files.update({"/etc/passwd": entry(b"")}), "which is not a file of a run"),
        (lambda about, files: files.update({"model.pkl": entry(b"")}), "which is not a file of a run"),
        (
            lambda about, files: files.update({"checkpoints/joint-1/run.py": entry(b"")}),
            "which is not a file of a run",
        ),
        (
            lambda about, files: files["config.json"].update(sha256="0" * 64),
            "config.json does not match von-run.json",
        ),
        (lambda about, files: files["config.json"].update(bytes=3), "config.json does not match von-run.json"),
        (lambda about, files: files["config.json"].update(bytes=1 << 60), "impossible sizes or hashes"),
        (lambda about, files: files["config.json"].update(sha256="x"), "impossible sizes or hashes"),
        (lambda about, files: about.update(format=9), "has format 9"),
        (lambda about, files: about.pop("files"), "is damaged"),
        (lambda about, files: about.update(files=[1]), "is damaged"),
    ],
)
def test_a_list_that_was_changed_is_refused(change: Any, said: str, tiny_run: Path, tmp_path: Path) -> None:
    place = tmp_path / "shared"
    push_run(tiny_run, str(place))
    tampered(place, change)
    with pytest.raises(SharingError, match=said):
        pull_run(str(place), tmp_path / "chair")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["runs", "shared"]


def test_what_is_missing_is_named(tiny_run: Path, tmp_path: Path, memory: str) -> None:
    with pytest.raises(SharingError, match="holds no shared run"):
        pull_run(memory, tmp_path / "chair")
    with pytest.raises(SharingError, match="holds no shared run"):
        pull_run(str(tmp_path / "nowhere"), tmp_path / "chair")
    push_run(tiny_run, str(tmp_path / "shared"))
    (tmp_path / "shared" / "config.json").unlink()
    with pytest.raises(SharingError, match=r"lacks config\.json"):
        pull_run(str(tmp_path / "shared"), tmp_path / "chair")


def test_the_hub_gets_one_commit(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[str, Any] = {}

    class HfApi:
        def create_repo(self, repository: str, *, exist_ok: bool) -> None:
            assert exist_ok
            sent["repository"] = repository

        def create_commit(self, repository: str, *, operations: list[Any], commit_message: str) -> None:
            sent["files"] = {each.path_in_repo: Path(each.path_or_fileobj).read_bytes() for each in operations}

    class Operation(types.SimpleNamespace):
        pass

    hub, errors = types.ModuleType("huggingface_hub"), types.ModuleType("huggingface_hub.errors")
    hub.HfApi, hub.CommitOperationAdd = HfApi, Operation  # type: ignore[attr-defined]
    errors.HfHubHTTPError = type("HfHubHTTPError", (OSError,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    monkeypatch.setattr("vonmodel.sharing.file_system", lambda url: (None, url))
    monkeypatch.setattr("vonmodel.sharing.exists", lambda url: False)
    push_run(tiny_run, "hf://somebody/chairs")
    assert sent["repository"] == "somebody/chairs"
    listed = json.loads(sent["files"][MANIFEST])["files"]
    assert set(listed) | {MANIFEST} == set(sent["files"])
    assert all(entry(sent["files"][name]) == listed[name] for name in listed)


def test_without_the_package_the_extra_is_named(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(RemoteError, match=r"visual-object-networks\[hub\]"):
        push_run(tiny_run, "hf://somebody/chairs")


def test_the_verbs(tiny_run: Path, tmp_path: Path, memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert von_json("push", tiny_run, memory, "--checkpoint", "10")["checkpoint"] == "joint-00000010"
    again = von("push", tiny_run, memory)
    assert (again.exit_code, "(--overwrite" in again.stderr) == (1, True)
    pulled = von("pull", memory, "--runs", "elsewhere")
    assert pulled.exit_code == 0, pulled.output
    assert pulled.stdout.splitlines()[-1] == "elsewhere/chair"
    said = von_json("generate", "--run", memory, "--count", 1, "--view-count", 1, "--texture-count", 1)
    assert said["checkpoint"]["name"] == "joint-00000010"
    assert said["folder"].startswith("generated/joint-00000010")  # beside the user, not in the cache
    assert von("pull", "user/name").exit_code == 1
