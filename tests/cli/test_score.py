"""`von score`: choice of the reference, printed and written results, refused arguments."""

import json

import numpy as np
import pytest
import trimesh
from PIL import Image

from tests.harness import von, von_json

RANDOM = ("--features", "random")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("score")
    rng = np.random.default_rng(0)
    for name, count in (("a", 10), ("b", 9), ("real", 12)):
        (root / name).mkdir()
        for index in range(count):
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(root / name / f"{index}.png")
    (root / "a" / "bad.png").write_text("no picture")
    for name in ("boxes", "blocks"):
        (root / name).mkdir()
        for index in range(3):
            trimesh.creation.box(rng.uniform(0.3, 1, 3)).export(root / name / f"{index}.obj")
    return root


def test_two_folders_of_images(folders):
    result = von("score", folders / "a", folders / "real", *RANDOM, "--resample-count", 20)
    assert result.exit_code == 0, result.output
    assert "FD ↓" in result.stdout  # random features give no FID
    assert "authenticity" in result.stdout
    assert "Left out: a/bad.png" in result.stderr
    assert result.stdout.splitlines()[-1].startswith("von-score/1 images generated=10 reference=12 ")


def test_several_folders_against_one_reference_and_their_page(folders, tmp_path):
    chosen = (*RANDOM, "--fid", "--resample-count", 0)
    output = tmp_path / "page"
    found = von_json("score", folders / "a", folders / "b", "--reference", folders / "real", *chosen, "-o", output)
    assert [row["title"] for row in found["rows"]] == ["a", "b"]
    assert list(found["rows"][0]["values"]) == ["fid"]
    assert found["page"] == str(output / "index.html")
    assert json.loads((output / "score.json").read_text("utf-8"))["rows"] == found["rows"]
    alone = von_json("score", folders / "b", folders / "real", *chosen)
    assert alone["rows"][0] == found["rows"][1]
    again = von("score", folders / "a", folders / "real", *chosen, "-o", output)
    assert (again.exit_code, "--overwrite" in again.stderr) == (2, True)
    assert von("score", folders / "a", folders / "real", *chosen, "-o", output, "--overwrite").exit_code == 0


def test_shapes_need_no_network(folders):
    found = von_json("score", folders / "boxes", folders / "blocks", "--point-count", 64, "--resample-count", 0)
    assert found["kind"] == "shapes"
    assert set(found["rows"][0]["values"]) == {"cd_mmd", "cd_cov", "cd_nna", "authenticity"}
    same = von_json(
        "score", folders / "boxes", folders / "boxes", "--point-count", 64, "--emd", "--resample-count", 0
    )
    assert same["rows"][0]["values"]["emd_mmd"]["value"] == 0.0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("a",), 2, "--reference"),
        (("a", "b", "real"), 2, "--reference"),
        (("a", "boxes", *RANDOM), 1, "in common"),
        (("a", "nowhere", *RANDOM), 1, "no such folder"),
        (("a", "a/bad.png", *RANDOM), 1, "a/bad.png is neither a folder nor a file of a shape"),
        (("a", "real", "--chamfer"), 1, "is not one of their scores"),
        (("a", "real", *RANDOM, "--resize", "clean"), 2, "--resize"),
        (("boxes", "blocks", "--up", "z", "--front", "-z"), 2, "same axis"),
    ],
)
def test_what_is_refused(folders, monkeypatch, arguments, code, said):
    monkeypatch.chdir(folders)
    result = von("score", *arguments)
    assert result.exit_code == code, result.output
    assert said in result.stderr
