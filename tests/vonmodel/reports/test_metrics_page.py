import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vonmodel.reports.metrics_page import charts_of, draw, metrics_page, ticks, timeline_of, write_metrics_page


def line(step, value, **others):
    checkpoint = {"name": f"joint-{step}", "stage": "joint", "step": step, "sha256": f"{step:064}", "steps": 20}
    about = {"generated": 5, "real": 6, "split": "train", "seed": 3, "features": "random-1", "resize": "antialiased"}
    about |= {"dataset_sha256": "d" * 64, "features_sha256": "f" * 64, "versions": {"von": "1.2", "torch": "3.4"}}
    return {"metric": "fid", "value": value, "checkpoint": checkpoint, "time": f"2026-01-{step:02}"} | about | others


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_and_hold_all_values(low, span):
    found = ticks(low, low + span)
    assert found[0] <= low + 1e-6 * span
    assert found[-1] >= low + span - 1e-6 * span
    assert 2 <= len(found) <= 7


def test_equal_values_still_have_ticks():
    assert ticks(2.0, 2.0)[0] < ticks(2.0, 2.0)[-1]
    assert len(ticks(0.0, 0.0)) >= 2


def test_curves_lie_where_their_values_are():
    lines = [line(5, 10.0), line(20, 2.0), line(20, 0.5, metric="kid", spread=0.2)]
    (fid, kid) = charts_of(lines, {"DCGAN": [line(1, 4.0)]})
    drawing = ElementTree.fromstring(draw(fid, timeline_of(lines)))
    circles = [(float(each.get("cx")), float(each.get("cy"))) for each in drawing.iter("circle")]
    (early, late) = circles
    assert early[0] < late[0]
    assert early[1] < late[1]  # higher on the page is more
    titles = [each.text for each in drawing.iter("title")]
    assert titles == ["DCGAN: 4", "joint-5: 10", "joint-20: 2"]
    assert 'class="spread"' in draw(kid, timeline_of(lines))
    assert "lower is better" in drawing.get("aria-label")


def test_labels_do_not_cover_each_other():
    lines = [line(5, 10.0), line(20, 0.0)]
    stages = {"shape": 100, "texture": 4}
    lines += [line(1, 1.0, checkpoint={"name": n, "stage": n, "step": s, "sha256": n}) for n, s in stages.items()]
    (chart,) = charts_of(lines, {"DCGAN": [line(1, 4.0)], "LSGAN": [line(1, 4.1)], "WGAN-GP": [line(1, 9.0)]})
    drawing = ElementTree.fromstring(draw(chart, timeline_of(lines)))
    texts = [each.text for each in drawing.iter("text")]
    assert "DCGAN, LSGAN" in texts
    assert "WGAN-GP" in texts
    # Where stages end, but where the next number would be too near.
    assert {"104", "124"} <= set(texts)
    assert "100" not in texts


def test_the_page_holds_every_measurement_and_loads_nothing():
    page = metrics_page("my <run>", [line(5, 10.0), line(20, 2.0)], {"DCGAN": [line(1, 4.0, model="dcgan")]})
    html = page.render()
    assert "Scores of my &lt;run&gt;" in html
    assert html.count("<tr>") == 4
    assert "2 measurements of 2 checkpoints" in html
    for said in (
        "checkpoint 000000000000",
        "data dddddddddddd",
        "features ffffffffffff",
        "von 1.2, torch 3.4",
        "dcgan",
    ):
        assert said in html
    for outside in ("http:", "https:", "@import"):
        assert outside not in html
    assert re.findall(r'(?:src|href)="([^"]*)"', html) == ["data:,", "data:,"]
    assert "light-dark(" in html


def test_a_run_without_scores_has_a_page_too(tmp_path):
    page = write_metrics_page(tmp_path)
    assert page == tmp_path / "metrics.html"
    assert "Nothing has been measured yet" in page.read_text()


@pytest.mark.parametrize("value", [0.0, 1e-9, 1e9, -3.0])
def test_single_points_are_drawn(value):
    lines = [line(5, value)]
    (chart,) = charts_of(lines, {})
    drawing = ElementTree.fromstring(draw(chart, timeline_of(lines)))
    (circle,) = drawing.iter("circle")
    assert 0 < float(circle.get("cy")) < 250
