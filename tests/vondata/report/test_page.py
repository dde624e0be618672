"""The page of a dataset: complete, thumbnails drawn once, any text escaped."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.harness import TIMEOUT_S
from vondata.dataset.manifest import histogram, output_path, split_of, viewpoint_histogram, write_manifest
from vondata.dataset.schema import plain_row
from vondata.dataset.shape_file import PreparedShape, save_shape
from vondata.report.page import TILE_PX, NoDatasetError, Thumbnail, draw_thumbnail, shape_views, write_report
from vondata.types import Kind

EVIL = "</script><img src=x onerror=\"document.title='broken'\"> & 'quotes' \u2028"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A dataset of two shapes and a rejected one, a photo and two rejected ones."""
    for id, half in (("a", 0.3), ("b", 0.6)):
        save_shape(output_path(tmp_path, "chair", "shapes", id), box(half))
    picture = output_path(tmp_path, "chair", "images", "p")
    picture.parent.mkdir(parents=True)
    Image.new("RGBA", (32, 32), "red").save(picture)
    Image.new("RGB", (900, 600), "blue").save(tmp_path / "photo.jpg")
    rows = [
        row("shapes", "a", faces=10, seconds=0.1),
        row("shapes", "b", faces=2000, seconds=0.2),
        row("shapes", "c", status="rejected", reason="empty_mesh", detail=EVIL),
    ]
    write_manifest(tmp_path, "chair", "shapes", rows)
    rejected = {"status": "rejected", "sha256": "0", "source": str(tmp_path / "photo.jpg")}
    rows = [
        row("images", "p", azimuth_deg=30.0, elevation_deg=10.0),
        row("images", "q", **rejected, reason="mask_in_pieces", detail="7 pieces"),
        row("images", "r", **rejected, reason="outside_root", detail="elsewhere"),
    ]
    write_manifest(tmp_path, "chair", "images", rows)
    return tmp_path


def box(half: float, resolution: int = 32) -> PreparedShape:
    axis = np.linspace(-1, 1, resolution)
    inside = np.abs(axis) <= half
    occupancy = inside[:, None, None] & inside[None, :, None] & inside[None, None, :]
    distance = np.zeros(occupancy.shape, dtype=np.float32)
    return PreparedShape(occupancy, occupancy, distance, 1.0, (0.0, 0.0, 0.0), np.eye(3))


def row(kind: Kind, id: str, **values: object) -> dict[str, Any]:
    basis = {"id": id, "class": "chair", "source": f"/x/{id}", "status": "prepared", "split": split_of(id)}
    return plain_row(kind, {**basis, **values})


def written(page: Path) -> dict[str, Any]:
    text = (page.parent / "data.js").read_text("utf-8")
    document: dict[str, Any] = json.loads(text.removeprefix("window.VON_DATASET = ").removesuffix(";\n"))
    return document


def listed(part: dict[str, Any]) -> dict[str, dict[str, Any]]:
    names = [column["name"] for column in part["columns"]]
    rows = [dict(zip(names, values, strict=True)) for values in part["rows"]]
    return {each["id"]: each for each in rows}


def test_the_page_holds_every_item_with_its_picture(data: Path) -> None:
    page = write_report(data)
    document = written(page)
    shapes, images = document["parts"]
    assert (shapes["class"], shapes["kind"], shapes["total"], shapes["prepared"]) == ("chair", "shapes", 3, 2)
    assert shapes["reasons"] == {"empty_mesh": 1}
    assert document["reasons"]["empty_mesh"]
    rows = listed(shapes)
    assert list(rows) == ["a", "b", "c"]
    assert rows["c"]["detail"] == EVIL
    assert rows["c"]["picture"] is None
    photos = listed(images)
    assert photos["p"]["picture"] == "../chair/images/p.png"
    assert photos["q"]["picture"] == "thumbnails/chair-images/q.webp"
    assert photos["r"]["picture"] is None  # what lies outside of the folders is not opened
    for each in (*rows.values(), *photos.values()):
        assert each["picture"] is None or (page.parent / each["picture"]).is_file()
    assert images["viewpoints"]["counts"][14][4] == 1
    faces = next(each for each in shapes["histograms"] if each["column"] == "faces")
    assert sum(faces["counts"]) == 2


def test_pictures_are_drawn_once_and_again_when_outdated(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = write_report(data)
    drawn: list[str] = []
    monkeypatch.setattr("vondata.report.page.draw_thumbnail", lambda each: drawn.append(each.target.stem))
    write_report(data)
    assert drawn == []
    later = (page.parent / "thumbnails" / "chair-shapes" / "a.webp").stat().st_mtime_ns + 10**9
    os.utime(output_path(data, "chair", "shapes", "a"), ns=(later, later))
    write_report(data)
    assert drawn == ["a"]


def test_pictures_of_items_that_are_gone_are_removed(data: Path) -> None:
    page = write_report(data)
    write_manifest(data, "chair", "shapes", [row("shapes", "b", faces=1)])
    write_report(data)
    assert sorted(path.stem for path in page.parent.glob("thumbnails/chair-shapes/*")) == ["b"]


def test_a_damaged_output_costs_its_picture_only(data: Path) -> None:
    output_path(data, "chair", "shapes", "a").write_bytes(b"damaged")
    (data / "photo.jpg").write_bytes(b"\xff\xd8\xff damaged")
    shapes, images = written(write_report(data))["parts"]
    assert {id: bool(each["picture"]) for id, each in listed(shapes).items()} == {"a": False, "b": True, "c": False}
    assert listed(images)["q"]["picture"] is None


def test_of_very_many_rows_an_even_choice_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vondata.report.page.MAX_LISTED", 100)
    rows = [row("shapes", f"m{number:04}") for number in range(900)]
    bad = [row("shapes", f"x{number:04}", status="rejected", reason="no_mesh") for number in range(70)]
    write_manifest(tmp_path, "chair", "shapes", [*rows, *bad])
    (part,) = written(write_report(tmp_path))["parts"]
    assert part["total"] == 970
    shown = list(listed(part))
    assert len(shown) <= 100
    assert shown == sorted(shown)
    assert 35 <= sum(id.startswith("x") for id in shown) <= 50
    assert sum(id.startswith("m") for id in shown) >= 50


def test_a_folder_without_dataset(tmp_path: Path) -> None:
    with pytest.raises(NoDatasetError, match="no prepared dataset"):
        write_report(tmp_path)


def test_views_show_the_object_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a cube edge is half a tile; what lies at the object's left (+x) is on the left, seen from the front."""
    monkeypatch.setattr("vondata.report.page.VIEWS_DEG", ((0.0, 0.0), (90.0, 0.0), (0.0, 90.0 - 1e-6)))
    resolution = 64
    occupancy = np.zeros((resolution,) * 3, dtype=bool)
    occupancy[48:56, 24:48, 8:16] = True
    front, left, above = shape_views(occupancy)
    extent = np.array([voxel * 2 / (resolution - 1) - 1 for voxel in (48, 55, 24, 47, 8, 15)])
    x, y, z = extent[:2], extent[2:4], extent[4:]
    _assert_covers(front, columns=-x, rows=-z)
    _assert_covers(
        left, columns=-y, rows=-z
    )  # from azimuth 90 the camera is at -x and has the front (+y) on its left
    _assert_covers(above, columns=-x, rows=y)  # the front is below


def _assert_covers(tile: np.ndarray, *, columns: np.ndarray, rows: np.ndarray) -> None:
    assert tile.shape == (TILE_PX, TILE_PX, 4)
    covered = tile[..., 3] > 127
    for axis, expected in ((0, columns), (1, rows)):
        found = np.flatnonzero(covered.any(axis=axis))[[0, -1]] / TILE_PX * 2 - 1
        np.testing.assert_allclose(found, np.sort(expected), atol=0.06)


def test_an_empty_volume_is_an_empty_picture() -> None:
    assert all(not view[..., 3].any() for view in shape_views(np.zeros((32, 32, 32), dtype=bool)))


def test_pictures_of_pictures(tmp_path: Path) -> None:
    source, target = tmp_path / "wide.png", tmp_path / "small" / "wide.webp"
    Image.new("L", (1000, 500), 7).save(source)
    assert draw_thumbnail(Thumbnail("images", source, target))
    with Image.open(target) as picture:
        assert picture.size == (256, 128)
    assert not draw_thumbnail(Thumbnail("images", tmp_path / "missing.png", target))


def test_histograms_count_every_known_value() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(size=500), [np.nan, np.inf]])
    spread = histogram(values)
    assert spread is not None
    assert spread.counts.sum() == 500
    np.testing.assert_allclose(np.diff(spread.edges), np.diff(spread.edges)[0])
    wide = histogram(np.geomspace(1, 1e5, 100))
    assert wide is not None
    assert wide.counts.sum() == 100
    np.testing.assert_allclose(wide.edges[1:] / wide.edges[:-1], wide.edges[1] / wide.edges[0])
    same = histogram(np.full(5, 3.0))
    assert same is not None
    assert same.counts.tolist() == [5]
    assert histogram(np.array([np.nan])) is None


def test_viewpoints_are_counted_in_their_cell() -> None:
    spread = viewpoint_histogram(np.array([-180.0, 180.0, 29.9, 30.0, np.nan]), np.array([0.0, 0.0, 5.0, 5.0, 5.0]))
    assert spread is not None
    assert spread.counts.sum() == 4
    assert spread.counts[0, 3] == 2  # -180 and 180 are the same
    assert spread.counts[13, 3] == spread.counts[14, 3] == 1
    assert viewpoint_histogram(np.array([np.nan]), np.array([1.0])) is None


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_the_page_comes_alive_in_a_browser(data: Path, tmp_path: Path) -> None:
    page = write_report(data)
    command = [
        "chromium",
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    done = subprocess.run(
        [*command, "--virtual-time-budget=3000", "--dump-dom", f"{page.as_uri()}#part=chair/shapes"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    assert done.stdout.count('class="tile"') == 3
    assert "2 of 3 prepared" in done.stdout.replace("<small>", "").replace("</small>", "")
    assert "<title>broken</title>" not in done.stdout


def test_text_on_the_page_is_escaped(tmp_path: Path) -> None:
    data = tmp_path / "<img src=x onerror=alert(1)> & \udcff"
    write_manifest(data, "chair", "shapes", [])
    html = write_report(data).read_text("utf-8")
    assert "<img" not in html
    assert "&lt;img src=x onerror=alert(1)&gt; &amp; " in html
    assert "<title>chair · VON dataset</title>" in html


def test_without_a_script_the_page_has_the_counts(tmp_path: Path) -> None:
    rows = [row("shapes", "a", faces=1), row("shapes", "b", status="rejected", reason="empty_mesh")]
    write_manifest(tmp_path, "chair", "shapes", rows)
    html = write_report(tmp_path).read_text("utf-8")
    table = html[html.index("<noscript>") : html.index("</noscript>")]
    cells = re.findall(r"<td>(.*?)</td>", table)
    assert cells == ["chair", "shapes", "2", "1", "empty_mesh 1"]
