import json

from vonmodel.reports.metrics_log import read_lines
from vonmodel.reports.metrics_page import charts_of, timeline_of


def line(stage="texture", step=10, value=1.0, *, metric="fid", steps=20, **others):
    checkpoint = {"name": f"{stage}-{step}", "stage": stage, "step": step, "sha256": f"{stage}{step}", "steps": steps}
    about = {"generated": 5, "real": 6, "split": "train", "seed": 0, "features": "random-1", "resize": "antialiased"}
    return {"metric": metric, "value": value, "checkpoint": checkpoint} | about | others


def test_stages_follow_each_other():
    timeline = timeline_of([line("joint", 5, steps=5), line("texture", 10, steps=20)])
    assert timeline.stages == (("texture", 0, 20), ("joint", 20, 25))
    assert timeline.end == 25
    assert timeline.position({"stage": "joint", "step": 3}) == 23


def test_lines_of_older_versions_have_no_length():
    old = line("texture", 7)
    del old["checkpoint"]["steps"]
    assert timeline_of([old]).stages == (("texture", 0, 7),)


def test_what_was_measured_alike_makes_one_curve():
    lines = [
        line(step=20, value=2.0),
        line(step=10, value=3.0),
        line(step=20, value=1.0),
        line(value=9.0, features="x"),
    ]
    (chart,) = charts_of(lines, {})
    first, second = chart.curves
    assert [(point.position, point.value) for point in first.points] == [(10, 3.0), (20, 1.0)]
    assert [point.value for point in second.points] == [9.0]
    assert first.label == "5 generated, 6 of split train, random-1, antialiased resizing, seed 0"


def test_every_number_of_a_line_has_its_chart():
    lines = [
        line(metric="kid", spread=0.1),
        line(metric="precision_recall", precision=0.1, recall=0.2, density=0.3, coverage=0.4),
        line(metric="shape_points", minimum_matching_distance=None, coverage=0.5, nearest_neighbour_accuracy=0.6),
        line(metric="shapes", nearest_iou=[0.1, 0.5, 0.9], pairwise_iou_max=0.7, largest_piece=[0.8, 0.9, 1.0]),
    ]
    values = [chart.curves[0].points[0].value for chart in charts_of(lines, {})]
    assert values == [1.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.5, 0.7, 0.9]
    assert charts_of(lines, {})[0].curves[0].points[0].spread == 0.1


def test_baselines_are_shown_where_they_were_measured_alike():
    others = {"DCGAN": [line(value=5.0), line(value=4.0)], "LSGAN": [line(value=6.0, generated=99)]}
    (chart,) = charts_of([line()], others)
    assert chart.references == (("DCGAN", 4.0),)


def test_damaged_lines_are_left_out(tmp_path):
    good = json.dumps(line())
    (tmp_path / "metrics.jsonl").write_text(f'{good}\n{good[:40]}\n{{"metric": "fid"}}\n[1]\n{good}\n')
    assert len(read_lines(tmp_path)) == 2
    assert read_lines(tmp_path / "nowhere") == []
