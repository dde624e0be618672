"""The pages in a real browser: nothing sticks out, rows are full, both themes can be read, pictures open large."""

import pytest
from PIL import Image

from vonmodel.reports.html import Page, linked_picture

FIGURE = '<div class="figure"><div class="value">1.9 <small>lower is better</small></div><p>{}</p></div>'
WIDTHS = (1200, 820, 390)


def page_with(tmp_path, figures):
    for name in ("one.png", "two.png"):
        Image.new("RGB", (8, 8), "red").save(tmp_path / name)
    cells = "".join(f"<td>{linked_picture(name, name, 8)}</td>" for name in ("one.png", "two.png"))
    content = f"""<section class="figures">{"".join(FIGURE.format("words " * 9) for _ in range(figures))}</section>
<table class="views"><tr>{cells}</tr></table>"""
    return Page(
        "Generated chairs", "Two pictures.", content, variables={"--table-width": "8rem"}, enlarges=True
    ).write(tmp_path / "index.html")


@pytest.fixture
def show(browser, tmp_path):
    contexts, wrong = [], []

    def show(figures, width, scheme="light"):
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme))
        tab = contexts[-1].new_page()
        tab.set_default_timeout(60_000)
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
    assert tab.locator("dialog img").get_attribute("alt") == "one.png"
    tab.keyboard.press("ArrowRight")
    assert tab.locator("dialog img").get_attribute("alt") == "two.png"
    tab.keyboard.press("ArrowRight")
    assert tab.locator("dialog img").get_attribute("alt") == "one.png"
    tab.keyboard.press("Escape")
    assert not tab.locator("dialog").is_visible()
