"""The studio's page in a real browser."""

import io
import json
import os
import re
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.harness import TIMEOUT_S
from vonmodel.studio.server import StudioSettings


@pytest.fixture
def open_page(browser):
    """Opens an address in a separate browser; fails at the end if the page reported an error."""
    contexts, wrong = [], []

    def open_page(address, **options):
        contexts.append(browser.new_context(viewport={"width": 480, "height": 600}, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(1000 * TIMEOUT_S)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    # A refused photo is reported on the page, and logged by the browser as well.
    assert not [said for said in wrong if "status of 422" not in said]


def settled(page):
    """Waits until the requested view is shown, and returns the page."""
    page.locator("html[data-views][data-surfaces][data-asking='0']").wait_for(state="attached")
    return page


def explored(open_page, studio, **options):
    """The page at the view of seed 0, once it is shown."""
    return settled(open_page(f"{studio.address}#shape=0", **options))


def seen(page):
    """The pixels of the four pictures, once the last request is drawn."""
    for _ in range(2):  # a click may send its request a frame later
        settled(page)
        page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    names = ("surface", "image", "silhouette", "depth")
    return {name: page.evaluate(f"document.getElementById('{name}').toDataURL()") for name in names}


def changed(before, after):
    return {name for name, picture in after.items() if picture != before[name]}


def press(page, control, key):
    page.locator(control).focus()
    page.keyboard.press(key)


def test_exploring_a_model(studio, open_page):
    page = explored(open_page, studio)
    page.locator("#look").select_option("clay")
    first = seen(page)
    assert page.title() == "chair · studio"

    press(page, "#azimuth", "PageUp")
    turned = seen(page)
    assert changed(first, turned) == {"image", "silhouette", "depth", "surface"}
    page.wait_for_url(lambda url: "azimuth=66" in url)

    press(page, "#code-texture [data-role=seed-slider]", "ArrowRight")
    assert changed(turned, painted := seen(page)) == {"image"}
    page.wait_for_url(lambda url: "texture=1" in url)

    page.locator("#code-shape [data-role=seed]").fill("7")
    page.keyboard.press("Enter")
    reshaped = seen(page)
    assert changed(painted, reshaped) >= {"image", "surface"}  # an untrained shape fills the whole silhouette
    press(page, "#code-shape [data-role=mix]", "End")
    page.wait_for_url(lambda url: "shape-to=8" in url)
    blended = seen(page)
    assert "surface" in changed(reshaped, blended)

    page.keyboard.press("Control+z")
    assert changed(reshaped, seen(page)) == set()
    page.locator("#undo").click()
    assert changed(painted, seen(page)) == set()
    page.locator("#redo").click()
    page.locator("#redo").click()
    assert changed(blended, seen(page)) == set()
    assert page.locator("#redo").is_disabled()

    page.locator("#surface").scroll_into_view_if_needed()
    box = page.locator("#surface").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 180, box["y"] + 60, steps=4)
    page.mouse.up()
    dragged = seen(page)
    assert changed(blended, dragged) >= {"image", "depth", "surface"}

    page.locator("#look").select_option("painted")
    page.locator("#surface[data-painted=true]").wait_for()
    assert changed(dragged, seen(page)) == {"surface"}
    page.locator("#look").select_option("clay")
    page.locator("#surface[data-painted=false]").wait_for()
    assert changed(dragged, seen(page)) == set()

    link = page.url
    again = open_page(link)
    again.locator("#look").select_option("clay")
    again.locator("#surface[data-painted=false]").wait_for()
    assert changed(dragged, seen(again)) == set()


def test_photos_downloads_and_saved_views(studio, open_page, tmp_path):
    page = explored(open_page, studio)
    page.locator("#look").select_option("clay")
    plain = seen(page)
    photo = np.full((120, 160, 4), 255, dtype=np.uint8)
    photo[..., 3] = 0
    photo[30:95, 50:110] = (180, 40, 30, 255)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    drop = """async (bytes) => {
        const files = new DataTransfer();
        files.items.add(new File([new Uint8Array(bytes)], "photo.png", { type: "image/png" }));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true }));
    }"""
    page.evaluate(drop, list((tmp_path / "photo.png").read_bytes()))
    page.locator("#brought").wait_for()
    assert changed(plain, seen(page)) == {"image"}
    page.wait_for_url(lambda url: "texture=~" in url)

    (tmp_path / "text.png").write_text("no photo")
    page.locator("#photo").set_input_files(tmp_path / "text.png")
    page.get_by_text("text.png: this photo cannot be used").wait_for()
    assert page.locator("#brought").is_hidden()

    def downloaded(button):
        with page.expect_download() as download:
            page.locator(button).click()
        return download.value.suggested_filename, download.value.path().read_bytes()

    name, picture = downloaded("#png")
    assert re.fullmatch(r"chair-shape-0-texture-from-a-photo\.png", name)
    assert Image.open(io.BytesIO(picture)).size == (32, 32)
    name, surface = downloaded("#glb")
    assert name == "chair-shape-0-texture-from-a-photo.glb"
    assert struct.unpack("<4sII", surface[:12]) == (b"glTF", 2, len(surface))
    assert downloaded("#obj")[1].startswith(b"o shape\n")
    assert downloaded("#ply")[1].startswith(b"ply")
    name, package = downloaded("#usdz")
    assert name == "chair-shape-0-texture-from-a-photo.usdz"
    with zipfile.ZipFile(io.BytesIO(package)) as parts:
        assert parts.namelist() == ["shape.usda", "textures/base_colour.jpg"]
    assert len(downloaded("#stl")[1]) == 84 + 50 * int.from_bytes(downloaded("#stl")[1][80:84], "little")

    page.locator("#save").click()
    saved = seen(page)
    link = page.url
    page.locator("#surprise").click()
    assert "image" in changed(saved, seen(page))
    page.locator("#saved a").click()
    page.wait_for_url(lambda url: url == link)
    assert changed(saved, seen(page)) == set()
    page.reload()
    page.locator("#look").select_option("clay")  # an opened page textures its surface after a moment
    page.locator("#surface[data-painted=false]").wait_for()
    assert changed(saved, seen(page)) == set()
    assert page.locator("#saved a").count() == 1


def test_invalid_arguments_of_a_link_are_reported(studio, open_page):
    page = settled(open_page(f"{studio.address}#azimuth=NaN&shape=4294967296&checkpoint=joint-00000099"))
    said = page.locator("#notice").inner_text()
    assert "azimuth=NaN" in said
    assert "shape=4294967296" in said
    assert "joint-00000099, which this run no longer has; this is joint-00000020" in said
    page.wait_for_url(lambda url: "checkpoint=joint-00000020" in url)


def test_a_phone_scrolls_in_one_direction_only(studio, open_page):
    page = explored(open_page, studio, color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 800})
    for tab in ("#tab-explore", "#tab-gallery", "#tab-training"):
        page.locator(tab).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("width", [333, 390, 480])
def test_on_a_phone_the_downloads_are_one_row(studio, open_page, width):
    page = open_page(f"{studio.address}#shape=0")
    page.set_viewport_size({"width": width, "height": 800})
    boxes = [each.bounding_box() for each in page.locator(".downloads > *").all()]
    assert len(boxes) == 7
    assert len({round(box["y"]) for box in boxes}) == 1
    assert boxes[-1]["x"] + boxes[-1]["width"] <= width


def test_a_training_shows_itself_and_then_its_model(open_studio, open_page, tiny_run, tiny_data):
    hidden = tiny_run / "hidden"
    (tiny_run / "checkpoints").rename(hidden)
    report = {"stage": "shape", "step": 5, "steps": 9, "losses": {"critic/shape_critic": 0.5}}
    report |= {"images_per_s": 3.0, "seconds_left": 61.0}
    (tiny_run / "samples").mkdir(exist_ok=True)
    Image.new("RGB", (64, 32), "red").save(tiny_run / "samples" / "shape-00000005.png")
    with open_studio(StudioSettings(run=tiny_run, data=tiny_data, port=0)) as studio:
        page = open_page(studio.address)
        page.get_by_text("This run has not reported").wait_for(state="hidden")
        page.locator("#sheet[src='api/sheets/shape-00000005.png']").wait_for()
        (tiny_run / "stats.jsonl").write_text(json.dumps(report) + "\n")
        page.get_by_text("of 9 steps").wait_for()
        page.locator(".curve", has_text="shape critic").wait_for()
        hidden.rename(tiny_run / "checkpoints")
        page.locator("#tab-explore").click()
        seen(page)
        newer = tiny_run / "checkpoints" / "joint-00000030"
        shutil.copytree(tiny_run / "checkpoints" / "joint-00000020", hidden)
        said = json.loads((hidden / "checkpoint.json").read_text())
        del said["checksum"]
        (hidden / "checkpoint.json").write_text(json.dumps(said | {"name": newer.name, "step": 30}))
        hidden.rename(newer)  # whole at once, as a training saves one
        page.evaluate("dispatchEvent(new Event('focus'))")
        page.get_by_text("There is a newer checkpoint, joint 30").wait_for()
        page.locator("#checkpoint").select_option("joint-00000030")
        page.wait_for_url(lambda url: "checkpoint=joint-00000030" in url)
        seen(page)
        # The page polls as long as it is open: it is closed before its server.
        page.context.close()


def test_the_gallery_shows_shapes_and_a_click_opens_one(studio, open_page):
    page = open_page(studio.address)
    page.locator("#shapes li:nth-child(3)").wait_for()
    assert page.locator("#explore").is_hidden()
    pixels = "document.querySelectorAll('#shapes canvas')[1].getContext('2d').getImageData(0, 0, 999, 999).data"
    page.locator("#shapes canvas[data-drawn]").nth(1).wait_for()
    assert page.evaluate(f"{pixels}.some(Boolean)")
    page.locator("#shapes a").nth(1).click()
    settled(page)
    assert page.locator("#gallery").is_hidden()
    assert re.search(r"shape=(\d+)&texture=\1&", page.url)
    page.go_back()
    page.locator("#gallery").wait_for()
    page.wait_for_url(studio.address)


def test_back_is_undo_and_surprises_stay_within_the_sliders(studio, open_page):
    page = explored(open_page, studio)
    states = [page.url]
    for _ in range(3):
        page.keyboard.press("r")
        page.wait_for_url(lambda url: url != states[-1])
        states.append(page.url)
        seed = int(page.locator("#code-shape [data-role=seed]").input_value())
        assert str(seed) == page.locator("#code-shape [data-role=seed-slider]").input_value()
    page.go_back()
    page.go_back()
    page.wait_for_url(states[1])
    assert f"shape={page.locator('#code-shape [data-role=seed]').input_value()}" in states[1]
    page.go_forward()
    page.wait_for_url(states[2])
    page.locator("#undo").click()
    page.wait_for_url(states[1])
    assert page.locator("#redo").is_enabled()


def test_two_views_side_by_side(studio, open_page):
    page = explored(open_page, studio)
    kept = seen(page)["image"]
    page.locator("#compare").click()
    page.locator("html[data-second]").wait_for(state="attached")
    settled(page)
    second = "document.getElementById('second-image').toDataURL()"
    assert page.evaluate(second) == kept
    press(page, "#code-texture [data-role=seed-slider]", "ArrowRight")
    other = seen(page)["image"]
    assert other != kept
    assert page.evaluate(second) == kept
    page.locator("#swap").click()
    assert seen(page)["image"] == kept
    assert page.evaluate(second) == other
    page.locator("#close-second").click()
    assert page.locator("#second").is_hidden()


def test_a_refused_photo_is_shown_and_a_box_helps(studio, open_page, tmp_path):
    rng = np.random.default_rng(0)
    photo = rng.integers(90, 110, (120, 160, 3)).astype(np.uint8)
    photo[30:95, 50:110] = (200, 40, 30)
    photo[:, 130:] = (30, 60, 200)  # something else that touches the border
    Image.fromarray(np.where(np.arange(160)[None, :, None] > 130, photo, 255).astype(np.uint8)).save(
        tmp_path / "void.png"
    )
    page = explored(open_page, studio)
    page.locator("#photo").set_input_files(tmp_path / "void.png")
    page.get_by_text("void.png: this photo cannot be used").wait_for()
    given = page.locator("#given-photo")
    given.wait_for()
    assert page.evaluate("document.getElementById('given-photo').naturalWidth") == 160
    assert page.locator("#given-pieces").is_hidden()  # nothing was found
    two = np.full((120, 160, 3), 250, dtype=np.uint8)
    two[20:60, 20:60], two[70:115, 95:150] = (180, 40, 30), (40, 60, 150)
    Image.fromarray(two).save(tmp_path / "pieces.png")
    page.locator("#photo").set_input_files(tmp_path / "pieces.png")
    page.get_by_text("pieces.png: this photo cannot be used").wait_for()
    page.locator("#given-pieces").wait_for()
    page.wait_for_function("document.getElementById('given-pieces').naturalWidth === 160")
    shown = page.evaluate("['given-photo', 'given-pieces'].map(id => document.getElementById(id).clientWidth)")
    assert shown[0] == shown[1] > 0
    Image.fromarray(photo).save(tmp_path / "two things.png")
    page.locator("#photo").set_input_files(tmp_path / "two things.png")
    page.locator("#brought:visible, #given:visible").first.wait_for()
    if page.locator("#brought").is_visible():
        page.locator("#other-mask").click()
    settled(page)
    given.scroll_into_view_if_needed()
    box = given.bounding_box()
    at = lambda x, y: (box["x"] + x / 160 * box["width"], box["y"] + y / 120 * box["height"])  # noqa: E731
    page.mouse.move(*at(40, 20))
    page.mouse.down()
    page.mouse.move(*at(120, 105), steps=3)
    with page.expect_request("**/api/photos?*box=*") as asked:
        page.mouse.up()
    assert "box=0.2" in asked.value.url
    page.locator("#brought").wait_for()
    assert page.locator("#given-pieces").is_hidden()


def test_looks_statistics_and_the_turntable(studio, open_page):
    page = explored(open_page, studio)
    page.locator("#surface[data-painted=true]").wait_for()
    looks = {}
    for look in ("clay", "normals", "wireframe"):
        page.locator("#look").select_option(look)
        looks[look] = seen(page)["surface"]
    assert len(set(looks.values())) == 3
    assert "Faces" in page.locator("#statistics").inner_text()
    before = page.url
    page.locator("#turntable").click()
    page.locator("#turntable[aria-pressed=true]").click()
    page.locator("#turntable[aria-pressed=false]").wait_for()
    page.wait_for_url(lambda url: "azimuth" in url)
    assert before.split("azimuth")[0] == page.url.split("azimuth")[0]


AXE_FILES = (Path("node_modules/axe-core/axe.min.js"), Path(os.environ.get("VON_AXE", "none")))
AXE = next((file for file in AXE_FILES if file.is_file()), None)


@pytest.mark.skipif(AXE is None, reason="axe-core is not there: npm install --no-save axe-core")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_keeps_people_out(studio, open_page, scheme):
    page = open_page(studio.address, color_scheme=scheme, bypass_csp=True)
    page.locator("#shapes li:nth-child(2)").wait_for()
    page.evaluate(AXE.read_text("utf-8"))
    for tab in ("gallery", "training", "explore"):
        page.locator(f"#tab-{tab}").click()
        found = page.evaluate("axe.run()")["violations"]
        assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == []
