"""The page in a real browser: what people see and do."""

import io
import json
import re
import shutil
import struct

import numpy as np
import pytest
from PIL import Image

from vonmodel.studio.server import StudioSettings

# Far more than it takes: a machine that does much else at once shows WebGL in software slowly.
PATIENCE_MS = 180_000


@pytest.fixture
def open_page(browser):
    """Opens an address in a browser of its own; in the end nothing may have gone wrong there."""
    contexts, wrong = [], []

    def open_page(address, **options):
        contexts.append(browser.new_context(viewport={"width": 480, "height": 600}, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    # A refused photo is told on the page, and the browser notes it as well.
    assert not [said for said in wrong if "status of 422" not in said]


def settled(page):
    """Waits until what was asked is seen, and returns the page."""
    page.locator("html[data-views][data-surfaces][data-asking='0']").wait_for(state="attached")
    return page


def seen(page):
    """The pixels of the four pictures, once what was asked last is drawn."""
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
    page = open_page(studio.address)
    first = seen(page)
    assert page.title() == "chair · studio"

    press(page, "#azimuth", "PageUp")
    turned = seen(page)
    assert changed(first, turned) == {"image", "silhouette", "depth", "surface"}
    assert "azimuth=66" in page.url

    press(page, "#code-texture [data-role=seed-slider]", "ArrowRight")
    assert changed(turned, painted := seen(page)) == {"image"}
    assert "texture=1" in page.url

    page.locator("#code-shape [data-role=seed]").fill("7")
    page.keyboard.press("Enter")
    reshaped = seen(page)
    assert changed(painted, reshaped) >= {"image", "surface"}  # an untrained shape fills the whole silhouette
    press(page, "#code-shape [data-role=mix]", "End")
    assert "shape-to=8" in page.url
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

    page.locator("#paint").check()
    page.locator("#surface[data-painted=true]").wait_for()
    assert changed(dragged, seen(page)) == {"surface"}
    page.locator("#paint").uncheck()
    page.locator("#surface[data-painted=false]").wait_for()
    assert changed(dragged, seen(page)) == set()

    link = page.url
    again = seen(open_page(link))
    assert changed(dragged, again) == set()


def test_photos_downloads_and_saved_views(studio, open_page, tmp_path):
    page = settled(open_page(studio.address))
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
    assert "texture=~" in page.url

    (tmp_path / "text.png").write_text("no photo")
    page.locator("#photo").set_input_files(tmp_path / "text.png")
    page.get_by_text("This photo is of no use").wait_for()

    def downloaded(button):
        with page.expect_download() as download:
            page.locator(button).click()
        return download.value.suggested_filename, download.value.path().read_bytes()

    name, picture = downloaded("#png")
    assert re.fullmatch(r"chair-shape-0-texture-of-a-photo\.png", name)
    assert Image.open(io.BytesIO(picture)).size == (32, 32)
    name, surface = downloaded("#glb")
    assert name == "chair-shape-0-texture-of-a-photo.glb"
    assert struct.unpack("<4sII", surface[:12]) == (b"glTF", 2, len(surface))

    page.locator("#save").click()
    saved = seen(page)
    link = page.url
    page.locator("#surprise").click()
    assert "image" in changed(saved, seen(page))
    page.locator("#saved a").click()
    assert changed(saved, seen(page)) == set()
    assert page.url == link
    page.reload()
    assert changed(saved, seen(page)) == set()
    assert page.locator("#saved a").count() == 1


def test_a_link_that_makes_no_sense_is_said_to(studio, open_page):
    page = settled(open_page(f"{studio.address}#azimuth=NaN&shape=4294967296&checkpoint=joint-00000099"))
    said = page.locator("#notice").inner_text()
    assert "azimuth=NaN" in said
    assert "shape=4294967296" in said
    assert "joint-00000099, which this run no longer has; this is joint-00000020" in said
    assert "checkpoint=joint-00000020" in page.url


def test_a_phone_scrolls_in_one_direction_only(studio, open_page):
    page = settled(open_page(studio.address, color_scheme="dark"))
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


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
        shutil.copytree(tiny_run / "checkpoints" / "joint-00000020", newer)
        said = json.loads((newer / "checkpoint.json").read_text())
        (newer / "checkpoint.json").write_text(json.dumps(said | {"name": newer.name, "step": 30}))
        page.evaluate("dispatchEvent(new Event('focus'))")
        page.get_by_text("There is a newer checkpoint, joint 30").wait_for()
        page.locator("#checkpoint").select_option("joint-00000030")
        assert "checkpoint=joint-00000030" in page.url
        seen(page)
