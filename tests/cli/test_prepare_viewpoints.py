"""`von prepare images` matches viewpoints with the prepared shapes, reports it, and does not repeat it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from tests import harness
from vondata.dataset.manifest import read_manifest
from vondata.dataset.shape_file import load_distance
from vondata.matching.sketching import sketch_volume

CORNERS = [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
FACES = ((1, 2, 4, 3), (5, 7, 8, 6), (1, 5, 6, 2), (3, 4, 8, 7), (1, 3, 7, 5), (2, 6, 8, 4))
# Seat, back (at +z, since the front faces -z) and legs of a chair in ShapeNet's frame: y up.
BOXES = [((-0.3, -0.02, -0.3), (0.3, 0.06, 0.3)), ((-0.3, 0.06, 0.22), (0.3, 0.65, 0.3))] + [
    ((x, -0.5, z), (x + 0.1, -0.02, z + 0.1)) for x in (-0.3, 0.2) for z in (-0.3, 0.2)
]

Von = Callable[..., Result]


@pytest.fixture
def von(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Von:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VON_DATA", raising=False)
    return lambda *arguments: harness.von(*arguments, "--workers", 0, "--no-report")


def write_chair(root: Path) -> None:
    lines = []
    for number, (low, high) in enumerate(BOXES):
        lines += ["v " + " ".join(str((low, high)[c][axis]) for axis, c in enumerate(corner)) for corner in CORNERS]
        lines += ["f " + " ".join(str(8 * number + index) for index in face) for face in FACES]
    path = root / "03001627" / "box" / "models" / "model_normalized.obj"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(lines), "utf-8")


def write_photo(name: str, azimuth_deg: float, elevation_deg: float) -> None:
    """The prepared shape in a lamp's light on white, with room around it."""
    volume = sketch_volume(load_distance(next(Path("data/chair/shapes").glob("*.npz"))))
    sketch = volume.draw(np.radians([azimuth_deg]), np.radians([elevation_deg]), 3.5, 192)[0]
    light = 255 * np.clip(0.3 + 0.4 * np.tensordot([0.45, 0.75, 0.4], sketch[1:], 1), 0.0, 0.8)
    photo = np.full((256, 256, 3), 255, dtype=np.uint8)
    photo[32:224, 32:224] = np.where(sketch[0] > 0, light, 255)[..., None]
    Path("photos/chair").mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo).save(Path("photos/chair") / f"{name}.png")


def prepare_shapes(von: Von) -> None:
    write_chair(Path("shapenet"))
    assert von("prepare", "shapenet", "--root", "shapenet", "--resolution", "64").exit_code == 0


def test_viewpoints_are_matched_where_there_are_shapes(von: Von) -> None:
    prepare_shapes(von)
    write_photo("a", 35.0, 20.0)
    result = von("prepare", "images", "--photos", "photos")
    assert result.exit_code == 0, result.output
    assert "chair: 1 viewpoints matched against shapes, 1 of them in this run." in result.stdout
    row = read_manifest(Path("data"), "chair", "images").iloc[0]
    assert row["viewpoint_origin"] == "matched"
    assert row["azimuth_deg"] == pytest.approx(35.0, abs=6.0)
    assert row["elevation_deg"] == pytest.approx(20.0, abs=6.0)
    assert row["viewpoint_shape"] == "box"

    write_photo("b", -50.0, 10.0)
    again = json.loads(von("prepare", "images", "--photos", "photos", "--json").stdout)
    assert again["classes"]["chair"]["worked"] == 1
    assert again["viewpoints"] == {"chair": {"matched": 2, "worked": 1, "unreadable": 0}}
    first, second = (each for _, each in read_manifest(Path("data"), "chair", "images").iterrows())
    assert first["azimuth_deg"] == row["azimuth_deg"]
    assert second["azimuth_deg"] == pytest.approx(-50.0, abs=6.0)


@pytest.mark.parametrize("how", ["option", "file"])
def test_matching_can_be_turned_off(von: Von, how: str) -> None:
    prepare_shapes(von)
    write_photo("a", 35.0, 20.0)
    if how == "file":
        Path("von.toml").write_text("[prepare.images]\nmatch_viewpoints = false\n", "utf-8")
    off = ["--no-match-viewpoints"] if how == "option" else []
    result = von("prepare", "images", "--photos", "photos", "--json", *off)
    assert json.loads(result.stdout)["viewpoints"] == {}
    assert read_manifest(Path("data"), "chair", "images")["viewpoint_origin"].tolist() == ["none"]


def test_without_shapes_photos_stay_without_viewpoint_unless_asked(von: Von, tmp_path: Path) -> None:
    prepare_shapes(von)
    write_photo("a", 35.0, 20.0)
    Path("data").rename("elsewhere")
    result = von("prepare", "images", "--photos", "photos")
    assert result.exit_code == 0
    assert "matched" not in result.stdout
    asked = von("prepare", "images", "--photos", "photos", "--match-viewpoints")
    assert asked.exit_code == 1
    assert "--match-viewpoints: data has no shapes of class 'chair'; prepare them first" in asked.output


def test_a_damaged_shape_is_named(von: Von) -> None:
    prepare_shapes(von)
    write_photo("a", 35.0, 20.0)
    Path("data/chair/shapes/box.npz").write_bytes(b"nothing")
    result = von("prepare", "images", "--photos", "photos")
    assert result.exit_code == 1
    assert "box.npz" in result.output
    assert "--no-match-viewpoints" in result.output
    assert read_manifest(Path("data"), "chair", "images")["status"].tolist() == ["prepared"]
