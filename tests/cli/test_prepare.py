"""`von prepare` through its command line: counts, resume, reasons, exit codes, messages."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from PIL import Image

from tests import harness
from vondata.dataset.manifest import output_path, read_manifest
from vondata.dataset.schema import known_reasons

CHAIR, CAR = "03001627", "02958343"
Von = Callable[..., Result]

CUBE = "".join(f"v {x} {y} {z}\n" for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)) + (
    "f 1 2 4 3\nf 5 7 8 6\nf 1 5 6 2\nf 3 4 8 7\nf 1 3 7 5\nf 2 6 8 4\n"
)


@pytest.fixture
def von(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Von:
    """Runs the command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VON_DATA", raising=False)
    return harness.von


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A ShapeNet tree: two good chairs, an empty one, a folder without mesh, a car."""
    root = tmp_path / "ShapeNetCore.v2"
    for synset, name, text in (
        (CHAIR, "good1", CUBE),
        (CHAIR, "good2", CUBE.replace("1", "2", 3)),
        (CHAIR, "empty", "v 0 0 0\n"),
        (CAR, "car1", CUBE),
    ):
        path = root / synset / name / "models" / "model_normalized.obj"
        path.parent.mkdir(parents=True)
        path.write_text(text, "utf-8")
    (root / CHAIR / "bare" / "models").mkdir(parents=True)
    return root


def in_this_process(*arguments: object) -> list[str]:
    return [*map(str, arguments), "--workers", "0", "--resolution", "32"]


def test_prepare_says_what_became_of_every_model(von: Von, tree: Path) -> None:
    result = von("prepare", "shapenet", *in_this_process("--root", tree))
    assert result.exit_code == 0, result.output
    words = result.stdout.split()
    assert words[words.index("car") :][:5] == ["car", "1", "1", "1", "0"]
    assert words[words.index("chair") :][:5] == ["chair", "4", "4", "2", "2"]
    assert "no_mesh" in words
    assert "data/report/index.html" in result.stdout
    assert Path("data/report/index.html").is_file()
    rows = read_manifest(Path("data"), "chair", "shapes").set_index("id")
    assert rows["reason"].fillna("").to_dict() == {"bare": "no_mesh", "empty": "empty_mesh", "good1": "", "good2": ""}


def test_the_same_command_again_works_on_nothing(von: Von, tree: Path) -> None:
    arguments = ["prepare", "shapenet", *in_this_process("--root", tree, "--json", "--no-report")]
    first, second = json.loads(von(*arguments).stdout), json.loads(von(*arguments).stdout)
    assert first["classes"]["chair"]["worked"] == 4
    assert second["classes"]["chair"]["worked"] == 0
    assert second["classes"]["chair"]["prepared"] == 2
    assert second["classes"]["chair"]["reasons"] == {"no_mesh": 1, "empty_mesh": 1}
    assert not Path("data/report").exists()


def test_folders_and_options_come_from_the_file(von: Von, tree: Path) -> None:
    Path("von.toml").write_text(
        f'[paths]\nshapenet = "{tree}"\ndata = "elsewhere"\n[prepare]\nworkers = 0\nlimit = 1\n'
        "[prepare.shapenet]\nresolution = 32\n",
        "utf-8",
    )
    result = von("prepare", "shapenet", "--json")
    assert json.loads(result.stdout)["data"] == "elsewhere"
    assert {name: each["found"] for name, each in json.loads(result.stdout)["classes"].items()} == {
        "car": 1,
        "chair": 1,
    }
    assert not read_manifest(Path("elsewhere"), "chair", "shapes")["resolution"].dropna().ne(32).any()


def test_a_class_is_chosen_and_others_stay(von: Von, tree: Path) -> None:
    von("prepare", "shapenet", *in_this_process("--root", tree, "--class", "chair"))
    assert not Path("data/car").exists()
    von("prepare", "shapenet", *in_this_process("--root", tree, "--class", "car"))
    assert len(read_manifest(Path("data"), "chair", "shapes")) == 4
    assert len(read_manifest(Path("data"), "car", "shapes")) == 1


def test_meshes_of_any_folder(von: Von, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a.obj").write_text(CUBE, "utf-8")
    (folder / "broken.ply").write_bytes(b"ply\nnonsense")
    result = von(
        "prepare", "meshes", *in_this_process("--root", folder, "--class", "chair", "--up", "z", "--front", "y")
    )
    assert result.exit_code == 0, result.output
    rows = read_manifest(Path("data"), "chair", "shapes")
    assert sorted(rows["status"]) == ["prepared", "rejected"]


def test_the_same_model_in_two_files(von: Von, tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "m"
    folder.mkdir(parents=True)
    (folder / "normalized_model.obj").write_text(CUBE, "utf-8")
    for number in range(20):
        (folder / f"raw_model_{number}.obj").write_text(CUBE.replace("v 1", f"v 1.00000{number}"), "utf-8")
    command = ("prepare", "meshes", *in_this_process("--root", folder, "--class", "chair", "--json", "--no-report"))
    for again in range(2):
        assert json.loads(von(*command).stdout)["classes"]["chair"]["reasons"] == {}, again
        rows = read_manifest(Path("data"), "chair", "shapes")
        (original,) = rows[rows["duplicate_of"].isna()]["id"]
        assert set(rows["duplicate_of"].dropna()) == {original}
        assert len(set(rows["split"])) == 1
    dropped = json.loads(von(*command, "--drop-duplicates").stdout)["classes"]["chair"]
    assert (dropped["prepared"], dropped["reasons"]) == (1, {"duplicate_shape": 20})
    von(*command, "--pattern", "normalized*.obj")
    assert len(read_manifest(Path("data"), "chair", "shapes")) == 1


def test_fronts_of_shapenet(von: Von, tree: Path, tmp_path: Path) -> None:
    old = tmp_path / "v1" / CHAIR / "old" / "model.obj"
    old.parent.mkdir(parents=True)
    old.write_text(CUBE, "utf-8")
    von("prepare", "shapenet", *in_this_process("--root", tree, "--class", "chair", "--no-report"))
    von("prepare", "shapenet", *in_this_process("--root", tmp_path / "v1", "--no-report"))
    rows = read_manifest(Path("data"), "chair", "shapes").set_index("id")
    assert rows["front"].dropna().to_dict() == {"good1": "-z", "good2": "-z", "old": "x"}
    von("prepare", "shapenet", *in_this_process("--root", tree, "--up", "z", "--front", "y", "--no-report"))
    rows = read_manifest(Path("data"), "chair", "shapes").set_index("id")
    assert (rows.loc["good1", "up"], rows.loc["good1", "front"]) == ("z", "y")
    result = von("prepare", "shapenet", *in_this_process("--root", tree, "--up", "z"))
    assert result.exit_code == 2
    assert "name the axis of the front too" in result.output


@pytest.mark.parametrize(("most", "code"), [("2", 0), ("1", 3), ("40%", 0), ("39%", 3)])
def test_too_many_rejects_have_an_exit_code(von: Von, tree: Path, most: str, code: int) -> None:
    result = von("prepare", "shapenet", *in_this_process("--root", tree, "--max-rejected", most, "--no-report"))
    assert result.exit_code == code
    assert ("2 of 5 items were rejected" in result.stderr) == (code == 3)


def test_a_bug_is_exit_code_1_with_its_traceback_in_the_log(
    von: Von, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> dict[str, Any]:
        raise ZeroDivisionError("no luck")

    monkeypatch.setattr("vondata.shapes.prepare.prepare_shape", broken)
    result = von("prepare", "shapenet", *in_this_process("--root", tree))
    assert result.exit_code == 1
    assert "internal error" in result.stderr
    assert "Traceback" not in result.stderr
    assert "ZeroDivisionError" in Path("data/journal/prepare.log").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shapenet"], "--shapenet is missing"),
        (["shapenet", "--shapenet", "nowhere"], "--shapenet: nowhere is not there"),
        (["shapenet", "--shapenet=nowhere"], "--shapenet: nowhere is not there"),
        (["shapenet", "tree"], "'tree' belongs to no option: did you mean --shapenet tree?"),
        (["shapenet", "--limit", "few"], "'few' is not a valid integer."),
        (["shapenet", "--item-timeout", "long"], "'long' is not a valid number."),
        (["images", "--pix3d", "tree/notes.txt"], "--pix3d: tree/notes.txt is not a folder; name the folder"),
        (["shapenet", "--root", "nowhere"], "--root: nowhere is not there"),
        (["shapenet", "--root", "tree", "--class", "chiar"], "did you mean 'chair'?"),
        (["shapenet", "--root", "tree", "--max-rejected", "few"], "neither a number such as 20 nor a share"),
        (["shapenet", "--root", "tree", "--max-rejected", "101%"], "neither a number such as 20 nor a share"),
        (["shapenet", "--root", "tree", "--memory-limit", "lots"], "--memory-limit"),
        (["shapenet", "--root", "tree", "--resolution", "8"], "--resolution"),
        (["shapenet", "--root", "tree"], "It holds: 04379243x/, notes.txt"),
        (["shapenet", "--root", "tree"], "--root: "),
        (["meshes", "--root", "tree"], "--class: name the one class"),
        (["meshes", "--root", "tree", "--class", "chair", "--up", "y", "--front", "-y"], "lie on the same axis"),
        (["meshes", "--root", "tree", "--class", "chair"], "holds no file ending in"),
        (["images"], "no photos given"),
        (["images", "--photos", "nowhere"], "--photos: nowhere is not there"),
        (["images", "--pix3d", "tree"], "pix3d.json"),
        (["images", "--photos", "tree"], "It holds: 04379243x/, notes.txt"),
    ],
)
def test_wrong_usage_is_explained(von: Von, arguments: list[str], message: str) -> None:
    Path("tree/04379243x").mkdir(parents=True)
    Path("tree/notes.txt").write_text("", "utf-8")
    result = von("prepare", *arguments)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.stderr.split())
    assert not Path("data/von-dataset.json").exists()


def test_a_folder_that_is_not_there_is_named_as_it_was_given(von: Von) -> None:
    Path("von.toml").write_text('[paths]\nshapenet = "away"\n', "utf-8")
    assert "shapenet in von.toml: away is not there" in von("prepare", "shapenet").stderr
    assert "VON_SHAPENET: gone is not there" in von("prepare", "shapenet", VON_SHAPENET="gone").stderr
    assert "--root: nowhere is not there" in von("prepare", "shapenet", "--root", "nowhere").stderr


def test_photos_become_cut_outs(von: Von) -> None:
    Path("photos/car").mkdir(parents=True)
    Image.new("RGB", (64, 64), "white").save("photos/car/empty.png")
    photo = Image.new("RGB", (300, 200), "white")
    photo.paste("navy", (80, 60, 220, 130))
    photo.save("photos/car/block.png")
    result = von("prepare", "images", "--photos", "photos", "--size", "64", "--workers", "0")
    assert result.exit_code == 0, result.output
    rows = read_manifest(Path("data"), "car", "images").set_index("status")
    assert rows.loc["rejected", "reason"] == "mask_empty"
    with Image.open(output_path(Path("data"), "car", "images", rows.loc["prepared", "id"])) as picture:
        assert (picture.size, picture.mode) == ((64, 64), "RGBA")


def test_a_folder_without_the_class_asked_for_is_skipped_beside_one_with_it(von: Von) -> None:
    Path("photos/car").mkdir(parents=True)
    Image.new("RGB", (64, 64), "white").save("photos/car/empty.png")
    Path("pix3d").mkdir()
    Path("pix3d/pix3d.json").write_text('[{"category": "sofa"}]', "utf-8")
    options = ["--pix3d", "pix3d", "--photos", "photos", "--workers", "0", "--no-report", "--json"]
    sofas = von("prepare", "images", *options, "--class", "sofa", "--class", "bed")
    assert sofas.exit_code == 0
    assert json.loads(sofas.stdout)["classes"]["sofa"]["reasons"] == {"annotation_invalid": 1}
    assert "holds none of the folders" in sofas.stderr
    assert "Nothing was found of class bed." in sofas.stderr
    both = von("prepare", "images", *options)
    assert set(json.loads(both.stdout)["classes"]) == {"car", "sofa"}
    Path("empty").mkdir()
    none = von("prepare", "images", "--photos", "empty")
    assert none.exit_code == 2
    assert "or of 50 other classes; if all of its photos are of one class, name that class" in none.stderr
    nothing = von("prepare", "images", "--pix3d", "pix3d", "--class", "chair")
    assert nothing.exit_code == 2
    assert "nothing was found of the classes chair" in nothing.stderr


def test_reasons_are_explained(von: Von) -> None:
    one = von("prepare", "--explain", "truncated")
    assert one.exit_code == 0
    assert "--keep-truncated keeps such photos." in one.stdout
    every = von("prepare", "--explain")
    told = " ".join(every.stdout.split())
    for reason in known_reasons():
        assert f"{reason.name} ({', '.join(reason.kinds)}) {reason.explain} {reason.remedy}" in told
    wrong = von("prepare", "--explain", "trunkated")
    assert wrong.exit_code == 2
    assert "did you mean 'truncated'" in wrong.stderr
    wrong = von("prepare", "--explain", "zzz")
    assert "without a name all are listed" in wrong.stderr
    assert len(wrong.stderr) < 300


def test_a_dataset_of_a_newer_version_is_refused(von: Von, tree: Path) -> None:
    Path("data").mkdir()
    Path("data/von-dataset.json").write_text('{"format_version": 99, "classes": {}}', "utf-8")
    result = von("prepare", "shapenet", *in_this_process("--root", tree))
    assert result.exit_code == 1
    assert "use a newer VON" in result.stderr


def test_ctrl_c_stops_at_once_and_the_same_command_goes_on(tree: Path, tmp_path: Path) -> None:
    """With the real executable and real processes, which Ctrl-C at a terminal reaches too."""
    chairs = tree / CHAIR
    for number in range(100):
        path = chairs / f"more{number:03}" / "models" / "model_normalized.obj"
        path.parent.mkdir(parents=True)
        path.write_text(CUBE.replace("-1", f"-1.{number:03}", 1), "utf-8")
    executable = Path(sys.executable).with_name("von")
    options = ["--class", "chair", "--resolution", "96", "--workers", "2", "--json", "--no-report"]
    command = [str(executable), "prepare", "shapenet", "--root", str(tree), *options]
    journal = tmp_path / "data" / "journal" / "chair-shapes.jsonl"
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True, **pipes) as running:
        harness.wait_until(
            lambda: running.poll() is not None or (journal.exists() and journal.read_bytes().count(b"\n") > 5)
        )
        os.killpg(running.pid, signal.SIGINT)
        _, words = running.communicate(timeout=harness.TIMEOUT_S)
    assert running.returncode == 130
    assert "the same command resumes from here" in words
    assert "Traceback" not in words
    done = journal.read_bytes().count(b"\n")
    assert 5 < done < 104
    assert len(read_manifest(tmp_path / "data", "chair", "shapes")) == done
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    count = json.loads(again.stdout)["classes"]["chair"]
    assert (count["found"], count["worked"]) == (104, 104 - done)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--item-timeout=nan", "'nan' is not a finite number"),
        ("--item-timeout=inf", "'inf' is not a finite number"),
        ("--memory-limit=10", "--memory-limit: 10 is too little for a process to start in; write it as 4GB"),
        ("--memory-limit=-4GB", "--memory-limit: -4GB is too little"),
        ("--data=", "'--data': the path is empty; . is the current folder"),
    ],
)
def test_invalid_limits_are_refused(von: Von, tree: Path, option: str, message: str) -> None:
    result = von("prepare", "shapenet", "--root", str(tree), option)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not Path("data").exists()


def test_an_address_without_port_is_refused_at_once(von: Von, tree: Path) -> None:
    result = von("prepare", "shapenet", "--root", str(tree), "--scheduler", "localhost")
    assert result.exit_code == 1
    assert "Dask scheduler localhost: no Dask scheduler answers there (missing port number" in result.output
