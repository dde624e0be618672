"""`von render`: rows and files of a collection, poses that agree with the photos prepared from them, bad meshes."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest
import trimesh

from tests import harness


@pytest.fixture
def collection(tmp_path):
    """Two boxes and a file that is no mesh, as a folder of meshes."""
    folder = tmp_path / "meshes"
    folder.mkdir()
    for number, size in enumerate(((0.4, 0.6, 0.3), (0.3, 0.3, 0.9))):
        mesh = trimesh.creation.box(size)
        mesh.visual.vertex_colors = np.tile([[180, 60, 40, 255]], (8, 1))
        mesh.export(folder / f"box{number}.ply")
    (folder / "broken.obj").write_text("v 0 0 0\nf 1 2 3\n")
    return folder


def run(*arguments):
    return harness.von(*arguments)


def render(collection, output, *more):
    common = ("--layout", "meshes", "--class", "chair", "--views", 3, "--size", 48, "--workers", 0)
    return run("render", collection, "-o", output, *common, *more)


def test_a_row_and_files_for_every_mesh(collection, tmp_path) -> None:
    out = tmp_path / "renders"
    result = render(collection, out)
    assert result.exit_code == 0, result.output
    assert f"von prepare images --renders {out}  reads them as photos." in result.stdout
    rows = pd.read_parquet(out / "chair" / "renders.parquet").set_index("source", drop=False)
    assert sorted(rows["status"]) == ["prepared", "prepared", "rejected"]
    assert rows["reason"].dropna().tolist() == ["file_corrupt"]
    for id in rows[rows["status"] == "prepared"]["id"]:
        described = json.loads((out / "chair" / "renders" / f"{id}.json").read_text())
        assert len(described["frames"]) == 3
        frame = described["frames"][2]
        folder = out / "chair" / "renders"
        image, mask = (
            cv2.imread(str(folder / frame[key]), cv2.IMREAD_UNCHANGED) for key in ("file_path", "mask_path")
        )
        depth = cv2.imread(str(folder / frame["depth_file_path"]), cv2.IMREAD_UNCHANGED)
        assert image.shape == (48, 48, 3)
        assert depth.dtype == np.uint16
        np.testing.assert_array_equal(depth[mask == 255] > 0, True)
        distance = np.linalg.norm(np.array(frame["transform_matrix"])[:3, 3])
        near = depth[depth > 0] * described["depth_unit_scale_factor"]
        assert distance - 0.51 < near.min() < near.max() < distance + 0.51
        red = image[mask == 255].mean(axis=0)
        assert red[2] > red[1] + 30  # BGR: the box is red
    assert len(json.loads((out / "pix3d.json").read_text())) == 6


def test_the_same_command_resumes_and_other_settings_render_again(collection, tmp_path) -> None:
    out = tmp_path / "renders"
    render(collection, out)
    again = json.loads(render(collection, out, "--json").stdout)
    assert again["classes"]["chair"]["worked"] == 0
    other = json.loads(render(collection, out, "--json", "--seed", 1).stdout)
    assert other["classes"]["chair"]["worked"] == 3


def test_a_changed_material_is_rendered_again(tmp_path) -> None:
    folder, out = tmp_path / "meshes", tmp_path / "renders"
    (folder / "maps").mkdir(parents=True)
    faces = "vt 0 0\nvt 1 0\nvt 0 1\nf 1/1 2/2 3/3\nf 1/1 2/2 4/3\n"
    (folder / "a.obj").write_text(f"mtllib my a.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nusemtl x\n{faces}")
    (folder / "my a.mtl").write_text("newmtl x\nKd 1 1 1\nmap_Kd -s 1 1 1 maps/a.png\n")

    def worked() -> int:
        return json.loads(render(folder, out, "--json").stdout)["classes"]["chair"]["worked"]

    assert (worked(), worked()) == (1, 0)
    for number in range(2):
        cv2.imwrite(str(folder / "maps" / "a.png"), np.full((4, 4, 3), 100 * number, np.uint8))
        assert (worked(), worked()) == (1, 0)
    (folder / "my a.mtl").write_text("newmtl x\nKd 1 0 0\n")
    assert worked() == 1


def test_the_photos_prepared_from_renders_have_their_viewpoints(collection, tmp_path) -> None:
    out, data = tmp_path / "renders", tmp_path / "data"
    render(collection, out)
    common = ("--data", data, "--class", "chair", "--workers", 0, "--size", 32, "--no-report")
    result = run("prepare", "images", "--renders", out, *common)
    assert result.exit_code == 0, result.output
    rows = pd.read_parquet(data / "chair" / "images.parquet")
    assert (rows["status"] == "prepared").all()
    assert len(rows) == 6
    asked = sorted(
        (round(frame["azimuth_deg"], 3), round(frame["elevation_deg"], 3))
        for path in (out / "chair" / "renders").glob("*.json")
        for frame in json.loads(path.read_text())["frames"]
    )
    assert sorted(zip(rows["azimuth_deg"].round(3), rows["elevation_deg"].round(3), strict=True)) == asked


def test_images_only(collection, tmp_path) -> None:
    out = tmp_path / "renders"
    assert render(collection, out, "--maps", "none", "--background", "transparent").exit_code == 0
    (image, *_) = (out / "chair" / "renders").rglob("*.png")
    assert cv2.imread(str(image), cv2.IMREAD_UNCHANGED).shape == (48, 48, 4)
    assert {path.parent.name for path in (out / "chair" / "renders").rglob("*.png")} == {"rgb"}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--maps", "mask,depht"), "'depht' is none of mask, depth"),
        (("--front", "y"), "lie on the same axis"),
        (("--fov", "nan"), "nan"),
        (("--distance", "0.2"), "0.2"),
    ],
)
def test_wrong_options_say_what_is_wrong(collection, tmp_path, more, words) -> None:
    result = render(collection, tmp_path / "renders", *more)
    assert result.exit_code == 2
    assert words in result.output


def test_a_folder_that_is_not_there(tmp_path) -> None:
    result = render(tmp_path / "nothing", tmp_path / "renders")
    assert result.exit_code == 2
    assert "nothing" in result.output
