"""The page of a dataset in a real browser, without a server: search, filters, details, also on a phone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.harness import TIMEOUT_S
from vondata.dataset.manifest import output_path, split_of, write_manifest
from vondata.dataset.schema import load_reason
from vondata.dataset.shape_file import PreparedShape, save_shape
from vondata.report.page import write_report

PHOTOS = 200


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two shapes and 200 photos, every tenth of them truncated."""
    data = tmp_path_factory.mktemp("page") / "data"
    solid = np.zeros((16, 16, 16), dtype=bool)
    solid[4:12, 4:12, 4:12] = True
    shape = PreparedShape(solid, solid, np.zeros((16, 16, 16), np.float32), 1.0, (0.0,) * 3, np.eye(3))
    rows: list[dict[str, Any]] = []
    for number, id in enumerate(("cube", "box")):
        save_shape(output_path(data, "chair", "shapes", id), shape)
        rows.append(row(id, faces=12 + number, fill=0.1, leak=id == "cube", outlier=False))
    write_manifest(data, "chair", "shapes", rows)
    rows = []
    for number in range(PHOTOS):
        id, source = f"photo{number:03d}", data.parent / f"photo{number:03d}.png"
        if number % 10 == 0:
            Image.new("RGB", (20, 20), (200, 0, 0)).save(source)
            verdict = {"status": "rejected", "reason": "truncated", "detail": "the annotation says so"}
            rows.append(row(id, source=str(source), sha256="0", **verdict))
        else:
            path = output_path(data, "chair", "images", id)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGBA", (16, 16), (0, 0, number, 255)).save(path)
            rows.append(row(id, azimuth_deg=float(number - 100), elevation_deg=20.0))
    write_manifest(data, "chair", "images", rows)
    return write_report(data)


def row(id: str, **values: Any) -> dict[str, Any]:
    return {"id": id, "class": "chair", "source": id, "status": "prepared", "split": split_of(id), **values}


@pytest.fixture
def tab(browser: Any, page_file: Path) -> Iterator[Any]:
    """The page with all photos; fails at the end if it reported an error."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    tab.set_default_timeout(1000 * TIMEOUT_S)
    wrong: list[str] = []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    tab.goto(f"{page_file.as_uri()}#part=chair/images")
    tab.wait_for_selector(".tile")
    yield tab
    context.close()
    assert not wrong


def counted(tab: Any, text: str) -> None:
    tab.wait_for_function("text => document.getElementById('count').textContent === text", arg=text)


def test_every_rejected_item_has_its_reason_and_picture(tab: Any) -> None:
    counted(tab, "200 of 200")
    tab.select_option("#status", "rejected")
    counted(tab, "20 of 200")
    assert tab.locator(".tile").count() == 20
    assert tab.locator(".tile .reason").all_inner_texts() == ["truncated"] * 20
    pictures = "[...document.querySelectorAll('.tile img')].slice(0, 3)"
    tab.wait_for_function(f"{pictures}.every(picture => picture.complete && picture.naturalWidth > 0)")
    tab.locator(".tile").first.click()
    told = " ".join(tab.locator("#detail-facts").inner_text().split())
    reason = load_reason("truncated")
    assert f"{reason.explain} {reason.remedy}" in told
    assert "the annotation says so" in told
    tab.keyboard.press("ArrowRight")
    assert tab.locator("#detail-title").inner_text() == "photo010"
    tab.keyboard.press("Escape")
    assert not tab.locator("#detail").is_visible()


def test_searching_and_choosing_a_bar_filter_and_the_address_remembers(tab: Any) -> None:
    tab.fill("#search", "photo12")
    counted(tab, "10 of 200")
    tab.fill("#search", "no such thing")
    counted(tab, "0 of 200")
    tab.click("#clear")
    counted(tab, "200 of 200")
    tab.locator(".bars").first.locator("button").first.click()
    tab.wait_for_function("!document.querySelector('#count').textContent.startsWith('200 ')")
    tab.wait_for_url("**range=azimuth_deg**")
    few = tab.locator("#count").inner_text()
    assert int(few.split()[0]) < 20
    tab.reload()
    tab.wait_for_selector(".tile")
    counted(tab, few)
    tab.select_option("#order", "-azimuth_deg")
    tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    first = tab.locator(".tile b").first.inner_text()
    tab.select_option("#order", "azimuth_deg")
    tab.wait_for_function("first => document.querySelector('.tile b').textContent < first", arg=first)


def test_flagged_shapes_are_marked_and_come_first(browser: Any, page_file: Path) -> None:
    tab = browser.new_page()
    tab.set_default_timeout(1000 * TIMEOUT_S)
    tab.goto(f"{page_file.as_uri()}#part=chair/shapes")
    tab.wait_for_selector(".tile")
    tab.select_option("#order", "-leak")
    assert tab.locator(".tile b").all_inner_texts() == ["cube", "box"]
    first, second = tab.locator(".tile small").all_inner_texts()
    assert first.startswith("leak")
    assert "leak" not in second
    assert "-outlier" not in tab.eval_on_selector_all("#order option", "options => options.map(each => each.value)")
    tab.close()


def test_scrolling_brings_all_tiles(tab: Any) -> None:
    assert tab.locator(".tile").count() < PHOTOS
    scrolled = "scrollTo(0, document.body.scrollHeight)"
    tab.wait_for_function(
        f"count => {{ {scrolled}; return document.querySelectorAll('.tile').length >= count; }}", arg=PHOTOS
    )
    assert tab.locator(".tile").count() == PHOTOS


def test_shapes_are_seen_from_three_sides_also_on_a_phone_in_the_dark(browser: Any, page_file: Path) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    tab = context.new_page()
    tab.set_default_timeout(1000 * TIMEOUT_S)
    tab.goto(f"{page_file.as_uri()}#part=chair/shapes")
    tab.wait_for_function("[...document.querySelectorAll('.tile img')].filter(each => each.complete).length === 2")
    size = tab.evaluate(
        "(({naturalWidth, naturalHeight}) => [naturalWidth, naturalHeight])(document.querySelector('.tile img'))"
    )
    assert size[0] == 3 * size[1]
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390  # nothing sticks out
    red, green, blue = tab.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert max(red, green, blue) < 60
    context.close()
