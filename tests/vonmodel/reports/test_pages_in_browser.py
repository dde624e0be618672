"""The pages in a real browser: no overflow, full rows, both themes readable, pictures open large."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.harness import TIMEOUT_S
from vonmodel.mesh import surface_mesh
from vonmodel.reports.album import Album, Picture, Plate, Strip, album_page
from vonmodel.reports.gallery import Gallery, GeneratedShape, ViewFiles, gallery_page
from vonmodel.reports.html import Page, viewer_mesh
from vonmodel.reports.metrics_log import Figure
from vonmodel.reports.provenance import Provenance

WIDTHS = (1200, 820, 390)
CHECKPOINT = {"name": "joint-00000020", "stage": "joint", "step": 20, "sha256": "ab" * 32}


def page_with(tmp_path, figures):
    """The page of a generation: one shape with a mesh to turn, two pictures, and so many figures."""
    for name in ("one.png", "two.png"):
        Image.new("RGBA", (48, 48), (200, 40, 30, 128)).save(tmp_path / name)
    view = ViewFiles("one.png", "two.png", ("one.png", "two.png"))
    gallery = Gallery(
        class_name="chair",
        run="runs/chair",
        checkpoint=CHECKPOINT,
        seed=0,
        image_size=48,
        resolution=32,
        level=0.5,
        sampling={},
        viewpoints_deg=((30.0, 10.0),),
        texture_codes=((0.0,), (1.0,)),
        shapes=(GeneratedShape("shape-01", (0.5,), "mesh.glb", 12, 1.0, 0.2, (view,)),),
        versions={"von": "0.1"},
    )
    volume = np.zeros((16, 16, 16))
    volume[4:12, 2:14, 3:11] = 1.0
    box = surface_mesh(volume, 0.5)
    box = replace(box, colours=np.tile(np.uint8([200, 60, 40]), (len(box.vertices), 1)))
    page = gallery_page(gallery, [], {"shape-01": viewer_mesh(box)})
    words = Figure("1.9", "lower is better", "words " * 9, "how it was measured")
    return Page(page.template, {**page.context, "figures": [words] * figures}).write(tmp_path / "index.html")


@pytest.fixture
def show(browser, tmp_path):
    contexts, wrong = [], []

    def show(figures, width, scheme="light"):
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme))
        tab = contexts[-1].new_page()
        tab.set_default_timeout(1000 * TIMEOUT_S)
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.goto(page_with(tmp_path, figures).as_uri())
        return tab

    yield show
    for context in contexts:
        context.close()
    assert not wrong


@pytest.mark.parametrize("figures", range(1, 11))
def test_figures_stand_in_full_rows(show, figures):
    tab = show(figures, WIDTHS[0])
    for width in WIDTHS:
        tab.set_viewport_size({"width": width, "height": 800})
        boxes = tab.evaluate(
            "[...document.querySelectorAll('.figure')].map(each => each.getBoundingClientRect())"
            ".map(({left, right, top}) => [left, right, top])"
        )
        left, right = tab.evaluate(
            "(({left, right}) => [left, right])(document.querySelector('.figures').getBoundingClientRect())"
        )
        rows = {}
        for box in boxes:
            rows.setdefault(box[2], []).append(box)
        for row in rows.values():
            assert row[0][0] == pytest.approx(left, abs=1)
            assert row[-1][1] == pytest.approx(right, abs=1)
        if width == WIDTHS[0] and figures > 1:
            assert min(len(row) for row in rows.values()) > 1
        assert tab.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_the_paper(show, scheme):
    tab = show(1, 390, scheme)
    colours = (
        "['color', 'backgroundColor'].map(name => getComputedStyle(document.body)[name].match(/[0-9]+/g).map(Number))"
    )
    ink, paper = (sum(each) / 3 for each in tab.evaluate(colours))
    assert (ink < 60 and paper > 200) if scheme == "light" else (ink > 200 and paper < 60)


def test_pictures_open_large_by_click_and_go_on_by_keys(show):
    tab = show(1, 820)
    tab.locator(".views a").first.click()
    assert tab.locator("dialog img").get_attribute("alt") == "Shape 01, texture 1, 30°, 10° up"
    tab.keyboard.press("ArrowRight")
    assert tab.locator("dialog img").get_attribute("alt") == "Shape 01, texture 2, 30°, 10° up"
    tab.keyboard.press("ArrowLeft")
    assert tab.locator("dialog img").get_attribute("alt") == "Shape 01, texture 1, 30°, 10° up"
    tab.keyboard.press("Escape")
    assert not tab.locator("dialog").is_visible()


def test_captions_are_shown_whole_and_do_not_widen_their_picture(browser, tmp_path):
    Image.new("RGB", (96, 96)).save(tmp_path / "one.png")
    captions = ("photo", "second-best viewpoint: -142° (31%)", "a_file_name_of_" + 40 * "x" + ".jpg")
    strip = Strip("photo and reconstruction", tuple(Picture("one.png", each) for each in captions), framed=True)
    provenance = Provenance("chair", "runs/chair", CHECKPOINT, 32, 96)
    page = album_page(Album("Chairs", "lead", (Plate("photo", "facts", (strip,)),)), provenance)
    with browser.new_context() as context:
        tab = context.new_page()
        tab.goto(page.write(tmp_path / "index.html").as_uri())
        for width in (1440, 820, 390):
            tab.set_viewport_size({"width": width, "height": 800})
            shown = tab.locator(".strip figure").evaluate_all(
                "all => all.map(each => [each.clientWidth, each.lastChild.scrollWidth, each.lastChild.clientHeight, "
                "each.lastChild.scrollHeight, each.lastChild.innerText])"
            )
            assert [each[-1] for each in shown] == list(captions)
            for frame, needed, height, text, _ in shown:
                assert needed <= frame == pytest.approx(98, abs=1)
                assert text <= height


MIDDLE = """(() => {
  const canvas = document.querySelector("canvas");
  const { width, height } = canvas;
  const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  let covered = 0;
  for (let index = 3; index < pixels.length; index += 4) covered += pixels[index] > 0;
  const at = 4 * (width * (height >> 1) + (width >> 1));
  const sum = pixels.reduce((a, b) => a + b);
  return { pixel: [...pixels.slice(at, at + 4)], share: covered / (width * height), sum };
})()"""


def test_a_mesh_is_seen_in_its_colours_and_turns_by_keys(show):
    tab = show(1, 820)
    tab.emulate_media(reduced_motion="reduce")
    tab.locator("canvas[data-drawn]").wait_for()
    seen = tab.evaluate(MIDDLE)
    red, green, blue, alpha = seen["pixel"]
    assert alpha == 255
    assert red > green + 50
    assert red > blue + 50
    assert 0.15 < seen["share"] < 0.75
    tab.locator("canvas").focus()
    tab.keyboard.press("ArrowRight")
    turned = tab.evaluate(MIDDLE)
    assert turned["sum"] != seen["sum"]
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("-")
    assert tab.evaluate(MIDDLE)["share"] < seen["share"]


def test_the_theme_can_be_switched(show):
    tab = show(1, 820, "light")
    paper = "getComputedStyle(document.body).backgroundColor"
    light = tab.evaluate(paper)
    tab.get_by_role("button", name="Show the page dark").click()
    assert tab.evaluate(paper) != light
    tab.get_by_role("button", name="Show the page light").click()
    assert tab.evaluate(paper) == light
