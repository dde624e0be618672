"""Collections and datasets at URLs, on a real S3 server of this machine: the same rows and files as on disk."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from PIL import Image
from voncli import output as copying

from tests import harness
from vondata.dataset.manifest import output_path, read_manifest
from vondata.io import fs as remote
from vondata.io.fs import DataFolder, MirrorTooLargeError, RemoteError, fetched, file_system, mirror
from vondata.io.listing import TOP, open_tree
from vondata.pipeline import store
from vondata.pipeline.plan import PrepareOptions
from vondata.pipeline.run import DataFolderError, prepare
from vondata.types import Item, Rejected

CHAIR = "03001627"
CUBE = "".join(f"v {x} {y} {z}\n" for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)) + (
    "f 1 2 4 3\nf 5 7 8 6\nf 1 5 6 2\nf 3 4 8 7\nf 1 3 7 5\nf 2 6 8 4\n"
)
SAME_ANYWHERE = ["id", "class", "sha256", "status", "reason", "split", "settings"]


def upload(folder: Path, url: str) -> None:
    system, path = file_system(url)
    system.put(str(folder), path, recursive=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A ShapeNet tree: two good chairs, an empty one, a folder without a mesh."""
    root = tmp_path / "local" / "ShapeNetCore.v2"
    for name, text in (("good1", CUBE), ("good2", CUBE.replace("1", "2", 3)), ("empty", "v 0 0 0\n")):
        path = root / CHAIR / name / "models" / "model_normalized.obj"
        path.parent.mkdir(parents=True)
        path.write_text(text, "utf-8")
    (root / CHAIR / "bare" / "models").mkdir(parents=True)
    (root / CHAIR / "bare" / "models" / "readme.txt").write_text("nothing", "utf-8")
    return root


def von(*arguments: object) -> Result:
    return harness.von(*arguments)


def shapes(root: object, data: object, *options: object, workers: int = 0) -> Result:
    return von(
        *("prepare", "shapenet", "--root", root, "--data", data, "--class", "chair"),
        *("--resolution", 32, "--workers", workers, *options),
    )


def test_from_and_to_s3_comes_out_what_comes_out_on_disk(bucket: str, tree: Path, tmp_path: Path) -> None:
    upload(tree, f"{bucket}/ShapeNetCore.v2")
    assert shapes(tree, tmp_path / "data").exit_code == 0
    result = shapes(f"{bucket}/ShapeNetCore.v2", f"{bucket}/data", workers=2)
    assert result.exit_code == 0, result.output
    assert "report/index.html  is the page to open." in result.output

    copy = mirror(DataFolder.at(f"{bucket}/data"))
    here, there = (read_manifest(data, "chair", "shapes") for data in (tmp_path / "data", copy))
    assert here[SAME_ANYWHERE].equals(there[SAME_ANYWHERE])
    assert list(there["status"]).count("prepared") == 2
    assert there["source"].str.startswith(f"{bucket}/ShapeNetCore.v2/{CHAIR}/").all()
    assert set(there["collection"]) == {f"shapenet {bucket}/ShapeNetCore.v2"}
    assert not there["detail"].str.contains("/von-").any()  # no mention of the scratch copy
    for id in ("good1", "good2"):
        there_file, here_file = (output_path(data, "chair", "shapes", id) for data in (copy, tmp_path / "data"))
        assert there_file.read_bytes() == here_file.read_bytes()
    names = [name.removeprefix(f"{file_system(bucket)[1]}/") for name in objects(bucket)]
    assert "data/journal/chair-shapes.jsonl" in names
    assert not [name for name in names if name.endswith(tuple("0123456789"))]  # pieces of the journal are gone


def objects(url: str) -> list[str]:
    system, path = file_system(url)
    return list(system.find(path))


def test_a_resume_does_nothing_again_and_changes_nothing(
    bucket: str, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(tree, f"{bucket}/tree")
    assert shapes(f"{bucket}/tree", f"{bucket}/data").exit_code == 0
    system, path = file_system(f"{bucket}/data")
    before = system.find(path, detail=True)
    monkeypatch.setattr(remote, "fetch_input", refuse)  # no input is even opened
    result = shapes(f"{bucket}/tree", f"{bucket}/data", "--json")
    counts = result_of(result)["classes"]["chair"]
    assert (counts["found"], counts["worked"], counts["prepared"]) == (4, 0, 2)
    assert system.find(path, detail=True) == before


def result_of(result: Result) -> Any:
    import json

    return json.loads(result.stdout)


def refuse(*_: object) -> None:
    raise AssertionError("an input was opened")


def test_only_what_changed_is_done_again(bucket: str, tree: Path) -> None:
    upload(tree, f"{bucket}/tree")
    shapes(f"{bucket}/tree", f"{bucket}/data")
    changed = f"{bucket}/tree/{CHAIR}/good1/models/model_normalized.obj"
    system, path = file_system(changed)
    system.pipe_file(path, CUBE.replace("1", "3", 2).encode())
    system.rm(file_system(f"{bucket}/data/chair/shapes/good2.npz")[1])
    counts = result_of(shapes(f"{bucket}/tree", f"{bucket}/data", "--json"))["classes"]["chair"]
    assert counts["worked"] == 2
    assert counts["prepared"] == 2
    system.pipe_file(path, b"v 0 0 0\n")
    counts = result_of(shapes(f"{bucket}/tree", f"{bucket}/data", "--json"))["classes"]["chair"]
    assert counts["worked"] == 1
    assert not system.exists(file_system(f"{bucket}/data/chair/shapes/good1.npz")[1])


def test_photos_and_annotation_from_s3(bucket: str, tmp_path: Path, realdata: Path) -> None:
    photos = tmp_path / "photos" / "chair"
    photos.mkdir(parents=True)
    picture = Image.new("RGBA", (64, 64))
    picture.paste((200, 30, 30, 255), (16, 16, 48, 48))
    picture.save(photos / "red.png")
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    upload(tmp_path / "photos", f"{bucket}/photos")
    upload(realdata / "pix3d", f"{bucket}/pix3d")
    common = ("prepare", "images", "--size", 32, "--workers", 0, "--no-match-viewpoints", "--json", "--no-report")
    there = von(
        *common,
        "--photos",
        f"{bucket}/photos",
        "--pix3d",
        f"{bucket}/pix3d",
        "--data",
        f"{bucket}/data",
        "--limit",
        4,
    )
    here = von(
        *common, "--photos", tmp_path / "photos", "--pix3d", realdata / "pix3d", "--data", tmp_path / "data",
        *("--limit", 4),
    )  # fmt: skip
    assert there.exit_code == here.exit_code == 0
    assert counted(there) == counted(here)
    tables = [
        read_manifest(data, "chair", "images")
        for data in (tmp_path / "data", mirror(DataFolder.at(f"{bucket}/data")))
    ]
    assert tables[0][SAME_ANYWHERE].equals(tables[1][SAME_ANYWHERE])


def counted(result: Result) -> dict[str, Any]:
    return {
        name: (each["found"], each["prepared"], each["reasons"])
        for name, each in result_of(result)["classes"].items()
    }


@pytest.fixture
def memory() -> Iterator[str]:
    """A folder in fsspec's memory, for what needs no server."""
    system, _ = file_system("memory://top")
    system.store.clear()
    yield "memory://top"
    system.store.clear()


def copy_text(item: Item, settings: Any, output: Path) -> dict[str, Any]:
    text = Path(item.inputs[0]).read_text("utf-8")
    if text == "stop":
        raise KeyboardInterrupt
    if text == "bad":
        raise Rejected("file_corrupt", f"{item.inputs[0]} is bad")
    output.write_text(text, "utf-8")
    return {"faces": len(text)}


def put_texts(url: str, *texts: str) -> list[Item]:
    system, _ = file_system(url)
    for number, text in enumerate(texts):
        system.pipe_file(file_system(f"{url}/{number}.obj")[1], text.encode())
    return [
        Item(f"i{number}", "chair", f"{url}/{number}.obj", (f"{url}/{number}.obj",), collection=f"meshes {url}")
        for number in range(len(texts))
    ]


def run(items: list[Item], url: str, settings: Any) -> Any:
    return prepare("shapes", items, copy_text, settings, DataFolder.at(f"{url}/data"), PrepareOptions())


def test_a_run_that_breaks_off_loses_only_what_was_not_sent(
    memory: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SEND_EVERY_S", 0.0)
    monkeypatch.setattr(store.RemoteStore, "close_part", refuse)  # the machine is gone before the end
    items = put_texts(f"{memory}/in", "one", "two", "bad", "four")
    with pytest.raises(AssertionError, match="opened"):
        run(items, memory, settings)
    pieces = [name for name in objects(f"{memory}/data/journal") if name[-1].isdigit()]
    assert len(pieces) == 4
    monkeypatch.undo()
    count = run(items, memory, settings).classes["chair"]
    assert (count.worked, count.prepared, count.rejected) == (0, 3, 1)
    assert objects(f"{memory}/data/journal") == ["/top/data/journal/chair-shapes.jsonl"]
    assert "/top/data/chair/shapes.parquet" in objects(memory)


def test_ctrl_c_leaves_a_dataset(memory: str, settings: Any) -> None:
    items = put_texts(f"{memory}/in", "one", "stop", "three")
    with pytest.raises(KeyboardInterrupt):
        run(items, memory, settings)
    assert "/top/data/chair/shapes.csv" in objects(memory)
    items = put_texts(f"{memory}/in", "one", "2", "three")
    assert run(items, memory, settings).classes["chair"].worked == 2


def test_a_row_speaks_of_the_url(memory: str, settings: Any, tmp_path: Path) -> None:
    items = put_texts(f"{memory}/in", "bad")
    missing = Item("gone", "chair", "x", (f"{memory}/in/gone.obj",))
    run([*items, missing], memory, settings)
    remote.fetch(f"{memory}/data/chair/shapes.parquet", tmp_path / "chair" / "shapes.parquet")
    rows = read_manifest(tmp_path, "chair", "shapes").set_index("id")
    assert rows.loc["i0", "detail"] == "memory://top/in/0.obj is bad"
    assert rows.loc["gone", "reason"] == "source_missing"
    assert rows.loc["gone", "detail"] == "memory://top/in/gone.obj is not there"


def test_a_url_that_takes_no_file_stops_the_run(memory: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    items = put_texts(f"{memory}/in", "one")
    system, _ = file_system(memory)
    monkeypatch.setattr(system, "put_file", no_permission)
    with pytest.raises(DataFolderError, match=r"data/chair/shapes/i0\.npz cannot be written: not yours"):
        run(items, memory, settings)


def no_permission(*_: object) -> None:
    raise PermissionError("not yours")


def test_what_is_far_too_large_is_not_fetched(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_INPUT_BYTES", 3)
    (item,) = put_texts(f"{memory}/in", "four")
    with pytest.raises(Rejected, match="too_large"), fetched(item):
        pass


def test_a_listing_is_a_tree_of_the_same_names(memory: str, tmp_path: Path) -> None:
    system, _ = file_system(memory)
    names = ("a/one.obj", "a/b/two.obj", "a/.hidden.obj", "b.obj/three.obj")
    for name in (*names, "odd//name.obj", "up/../../out.obj"):
        system.store[f"/top/in/{name}"] = _memory_file(system, name)
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name, "utf-8")
    there, here = open_tree(f"{memory}/in"), open_tree(tmp_path)
    walked = [list(tree.walk(TOP, (".obj",), [])) for tree in (there, here)]
    assert walked[0] == walked[1]
    assert [str(file) for file in walked[0]] == ["a/one.obj", "a/b/two.obj", "b.obj/three.obj"]
    assert there.entries() == here.entries() == {"a": True, "b.obj": True}
    assert there.entries(TOP / "a") == here.entries(TOP / "a") == {".hidden.obj": False, "b": True, "one.obj": False}
    for name in ("a/one.obj", "a", "none"):
        verdicts = [tree.why_not_usable(TOP / name) for tree in (there, here)]
        assert (verdicts[0] and verdicts[0][0]) == (verdicts[1] and verdicts[1][0])
        assert there.is_folder(TOP / name) == here.is_folder(TOP / name)
    one = TOP / "a" / "one.obj"
    assert there.place(one) == "memory://top/in/a/one.obj"
    assert there.size(one) == here.size(one) == len("a/one.obj")
    assert there.read(one) == here.read(one) == b"a/one.obj"
    assert there.name == "in"


def test_a_version_changes_with_the_content(memory: str) -> None:
    put_texts(f"{memory}/in", "one")
    file = TOP / "0.obj"
    first = open_tree(f"{memory}/in").versions(file)
    assert first == open_tree(f"{memory}/in").versions(file)
    put_texts(f"{memory}/in", "two")
    assert open_tree(f"{memory}/in").versions(file) != first


def _memory_file(system: Any, name: str) -> Any:
    system.pipe_file("/scratch", name.encode())
    return system.store.pop("/scratch")


def test_a_mirror_fetches_only_what_changed(memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    system, _ = file_system(memory)
    for name in ("a.txt", "chair/b.txt", "journal/c.txt"):
        system.pipe_file(f"/top/data/{name}", name.encode())
    told: list[tuple[int, int]] = []
    copy = mirror(DataFolder.at(f"{memory}/data"), lambda *amounts: told.append(amounts))
    assert sorted(path.name for path in copy.rglob("*.txt")) == ["a.txt", "b.txt"]
    assert told == [(16, 16)]
    told.clear()
    mirror(DataFolder.at(f"{memory}/data"), lambda *amounts: told.append(amounts))
    assert told == []
    system.pipe_file("/top/data/a.txt", b"A.TXT")
    system.rm_file("/top/data/chair/b.txt")
    mirror(DataFolder.at(f"{memory}/data"))
    assert (copy / "a.txt").read_text("utf-8") == "A.TXT"
    assert not (copy / "chair" / "b.txt").exists()


def test_a_mirror_fetches_no_more_than_allowed(memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    system, _ = file_system(memory)
    system.pipe_file("/top/data/a.txt", b"twelve bytes")
    with pytest.raises(MirrorTooLargeError, match=r"memory://top/data: 0\.0 GB would have to be fetched"):
        mirror(DataFolder.at(f"{memory}/data"), max_bytes=11)
    assert not list(tmp_path.rglob("*.txt"))
    copy = mirror(DataFolder.at(f"{memory}/data"), max_bytes=12)
    assert mirror(DataFolder.at(f"{memory}/data"), max_bytes=0) == copy  # what is here already costs nothing


def test_the_command_says_that_much_is_not_copied_unasked(
    memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "empty.obj").write_text("v 0 0 0\n", "utf-8")
    command = ("prepare", "meshes", "--root", tmp_path, "--class", "chair", "--data", f"{memory}/data")
    monkeypatch.setattr(copying, "MAX_UNASKED_COPY_BYTES", 0)
    result = von(*command, "--workers", 0)
    assert (
        "No page is written; --report writes it: memory://top/data: 0.0 GB would have to be fetched." in result.output
    )
    assert f"von inspect {memory}/data  downloads it and writes the page to open." in result.output
    result = von(*command, "--workers", 0, "--report")
    assert "report/index.html  is the page to open." in result.output


def test_urls_that_cannot_be_used_are_named(tmp_path: Path, memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert DataFolder.at(f"file://{tmp_path}").path == tmp_path
    with pytest.raises(RemoteError, match="memory://nowhere is a URL; only a path"):
        _ = DataFolder.at("memory://nowhere/").path
    with pytest.raises(RemoteError, match="unknown scheme carrier-pigeon://"):
        open_tree("carrier-pigeon://coop/chairs")
    with pytest.raises(RemoteError, match="is empty or not there"):
        open_tree("memory://nowhere")
    result = von("prepare", "shapenet", "--root", "memory://nowhere", "--class", "chair")
    assert result.exit_code == 2
    assert "--root: memory://nowhere is empty or not there" in result.output
    result = von("inspect", "memory://nowhere")
    assert result.exit_code == 2
    assert "memory://nowhere holds no dataset" in result.output
    monkeypatch.setattr("fsspec.filesystem", lack)
    remote.file_system_of.cache_clear()
    result = von("inspect", "s3://bucket/data")
    assert "reading s3:// needs one more package: pip install 'visual-object-networks[s3]'" in result.output


def lack(*_: object, **__: object) -> None:
    raise ImportError("no module s3fs")


def test_folders_that_must_be_here_refuse_urls(tmp_path: Path) -> None:
    result = von("train", "--runs", "s3://bucket/runs", "--class", "chair")
    assert result.exit_code == 2
    assert "s3://bucket/runs is a URL; a local path is needed here" in result.output


@pytest.fixture
def settings() -> Any:
    from vondata.images.settings import ImageSettings

    return ImageSettings()
