import re

import pytest

from vonmodel.reports.html import Origin, Page, linked_picture

NASTY = '"><script>alert(1)</script>&'


def test_a_page_says_its_title_and_loads_nothing(tmp_path):
    path = Page("Chairs & <cars>", "Some <lead>.", "<main>here</main>", styles=("album.css",)).write(
        tmp_path / "a.html"
    )
    html = path.read_text("utf-8")
    assert html.count("Chairs &amp; &lt;cars&gt;") == 2
    assert "Some &lt;lead&gt;." in html
    assert "<main>here</main>" in html
    assert not re.search(r"https?:|//[a-z]|@import|url\(", html)
    assert "prefers-color-scheme: dark" in html
    assert ".plate {" in html


@pytest.mark.parametrize("enlarges", [True, False])
def test_pictures_open_large_only_where_there_are_some(enlarges):
    html = Page("a", "b", "c", enlarges=enlarges).render()
    assert ("<dialog" in html) == ("<script>" in html) == enlarges


def test_variables_reach_the_style_sheets():
    assert (
        '<body style="--wide: 3rem; --high: 2rem">'
        in Page("a", "b", "c", variables={"wide": "3rem", "high": "2rem"}).render()
    )


def test_names_from_outside_cannot_break_out():
    about = {"name": NASTY, "stage": "joint", "step": 3, "sha256": "ab"}
    origin = Origin(NASTY, about, 0, NASTY, 32, {"von": NASTY}, NASTY).render()
    page = Page(NASTY, NASTY, "", variables={"a": NASTY}).render()
    for html in (origin, linked_picture(NASTY, NASTY), page):
        assert "<script>alert" not in html
        assert "&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;" in html


def test_the_origin_leaves_out_what_is_not_there():
    about = {"name": "joint-5", "stage": "joint", "step": 5, "sha256": "ab"}
    with_seed = Origin("run", about, 0, "32³", 32, {"von": "1"}, "result.json").render()
    without = Origin("run", about, None, "32³", 32, {"von": "1"}, "result.json").render()
    assert "<dt>Seed</dt><dd><code>0</code></dd>" in with_seed
    assert "Seed" not in without
    assert 'href="result.json"' in without
