import json
import os

import pytest

from vonmodel.studio.state import MAX_CURVE_POINTS, JsonLinesTail, RunMonitor, to_json


def report(stage, step, **losses):
    return {"stage": stage, "step": step, "steps": 100, "losses": losses, "images_per_s": 5.0, "seconds_left": 1.0}


def write(path, *lines, mode="w"):
    with path.open(mode) as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))


def test_only_whole_lines_are_read_and_each_once(tmp_path):
    path = tmp_path / "stats.jsonl"
    growing = JsonLinesTail(tmp_path, "stats.jsonl")
    assert growing.lines() == []
    path.write_text('{"a": 1}\n{"a": ')
    assert growing.lines() == [{"a": 1}]
    with path.open("a") as file:
        file.write('2}\nno json\n[1]\n{"a": 3}\n')
    assert growing.lines() == [{"a": 1}, {"a": 2}, {"a": 3}]


def test_a_file_written_anew_is_read_anew(tmp_path):
    path = tmp_path / "stats.jsonl"
    growing = JsonLinesTail(tmp_path, "stats.jsonl")
    write(path, {"a": 1}, {"a": 2})
    assert len(growing.lines()) == 2
    write(tmp_path / "new", {"a": 1}, {"a": 7}, {"a": 8})
    os.replace(tmp_path / "new", path)
    assert growing.lines() == [{"a": 1}, {"a": 7}, {"a": 8}]
    write(path, {"a": 9})
    assert growing.lines() == [{"a": 9}]
    path.unlink()
    assert growing.lines() == []


def test_a_folder_without_anything_tells_nothing(tmp_path):
    told = RunMonitor(tmp_path / "nowhere").snapshot()
    assert told == {
        "stages": {}, "latest": None, "scores": [], "sheets": [], "nonfinite": False, "reported": None,
    }  # fmt: skip


def test_curves_are_thinned_and_keep_their_newest_point(tmp_path):
    steps = range(1, 3 * MAX_CURVE_POINTS)
    write(tmp_path / "stats.jsonl", *(report("shape", step, critic=float(step)) for step in steps))
    curves = RunMonitor(tmp_path).snapshot()["stages"]["shape"]
    assert len(curves["steps"]) <= MAX_CURVE_POINTS
    assert curves["steps"][-1] == steps[-1]
    assert curves["losses"]["critic"] == [float(step) for step in curves["steps"]]


def test_stages_and_terms_come_and_go(tmp_path):
    lines = [report("shape", 1, a=1.0), report("shape", 2, b=2.0), report("texture", 1, c=float("nan")), {"odd": 1}]
    write(tmp_path / "stats.jsonl", *lines)
    told = RunMonitor(tmp_path).snapshot()
    assert told["stages"]["shape"] == {"steps": [1, 2], "losses": {"a": [1.0, None], "b": [None, 2.0]}}
    assert told["latest"]["stage"] == "texture"
    assert json.loads(to_json(told))["stages"]["texture"]["losses"] == {"c": [None]}


def test_sheets_come_in_the_order_of_the_training(tmp_path):
    (tmp_path / "samples").mkdir()
    for name in ("joint-00000010.png", "texture-00000002.png", "shape-00000005.png", "shape-00000001.png"):
        (tmp_path / "samples" / name).write_bytes(name.encode())
    (tmp_path / "samples" / "other.png").write_bytes(b"")
    monitor = RunMonitor(tmp_path)
    assert monitor.sheets() == [
        "shape-00000001.png",
        "shape-00000005.png",
        "texture-00000002.png",
        "joint-00000010.png",
    ]
    assert monitor.sheet("joint-00000010.png") == b"joint-00000010.png"
    assert monitor.sheet("joint-00000011.png") is None
    (tmp_path / "secret-1.png").write_bytes(b"secret")
    assert monitor.sheet("../secret-1.png") is None


@pytest.mark.parametrize("damage", [{}, {"metric": "fid"}, {"metric": "shapes", "nearest_iou": []}])
def test_scores_of_another_version_are_left_out(tmp_path, damage):
    measured = {"generated": 9, "real": 9, "seed": 0, "features": "f", "resize": "legacy", "comparable": False}
    good = {"metric": "kid", "value": 0.1, "spread": 0.01, "subsets": 3, "subset_size": 9, **measured}
    good["checkpoint"] = {"name": "joint-1"}
    write(tmp_path / "metrics.jsonl", {**damage, "checkpoint": {"name": "joint-0"}}, good, {"metric": "kid"})
    scores = {each["checkpoint"]: each["figures"] for each in RunMonitor(tmp_path).snapshot()["scores"]}
    assert scores["joint-1"][0]["value"] == "0.1"
    assert not scores.get("joint-0")
