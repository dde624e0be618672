import re

import pytest
from markupsafe import Markup

from vonmodel.reports.gallery import origin_facts
from vonmodel.reports.html import Page
from vonmodel.reports.provenance import Provenance

NASTY = '"><script>alert(1)</script>&'
ESCAPED = "&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;"
PLATE = {"title": "one", "facts": "", "mesh": None, "films": (), "strips": (), "downloads": ()}


def album(origin, **changes):
    plates = [PLATE | changes]
    return Page("album.html", {"title": "a", "lead": "b", "plates": plates, "origin": origin, "file": "r.json"})


def test_a_page_says_its_title_and_loads_nothing(tmp_path):
    context = {"title": "Chairs & <cars>", "lead": "Some <lead>.", "content": Markup("<p>here</p>")}
    path = Page("page.html", context).write(tmp_path / "a.html")
    html = path.read_text("utf-8")
    assert html.count("Chairs &amp; &lt;cars&gt;") == 2
    assert "Some &lt;lead&gt;." in html
    assert "<main>\n<p>here</p></main>" in html
    assert not re.search(r"https?:|//[a-z]|@import|url\(", html)
    assert "light-dark(" in html


def test_text_is_not_taken_for_html():
    assert "<b>" not in Page("page.html", {"title": "a", "lead": "b", "content": "<b>bold</b>"}).render()


@pytest.mark.parametrize("field", ["title", "facts", "mesh"])
def test_names_from_outside_cannot_break_out(field):
    pictures = ({"file": NASTY, "caption": NASTY},)
    strip = {"label": NASTY, "framed": True, "pictures": pictures}
    shown = {"strips": (strip,), "downloads": ((NASTY, NASTY),), "films": pictures, field: NASTY}
    html = album({NASTY: NASTY}, **shown).render()
    assert "<script>alert" not in html
    assert html.count(ESCAPED) >= 8


def test_what_a_template_wants_must_be_there():
    with pytest.raises(Exception, match="title"):
        Page("page.html", {"lead": "", "content": ""}).render()


def test_the_origin_leaves_out_what_is_not_there():
    about = {"name": "joint-5", "stage": "joint", "step": 5, "sha256": "ab"}
    provenance = Provenance("chair", "run", about, 32, 64, {"von": "1"})
    with_seed = album(origin_facts(provenance, seed=0, level=0.5)).render()
    without = album(origin_facts(provenance)).render()
    assert "<dt>Seed</dt><dd><code>0</code></dd>" in with_seed
    assert "32³, surface at 0.5" in with_seed
    assert "<dt>Seed" not in without
    assert 'href="r.json"' in without
