import json

import pytest

from vonmodel.evaluation import inception as weights
from vonmodel.evaluation.inception import WeightsError
from vonmodel.evaluation.score import open_checkpoint, open_extractors
from vonmodel.evaluation.score import score as score_checkpoint
from vonmodel.evaluation.settings import ScoreSettings
from vonmodel.run_folder import RunFolder


def settings(**changes):
    few = {
        "kid": False,
        "precision_recall": False,
        "features": "random",
        "batch_size": 8,
        "shape_samples": 3,
        "points": 256,
    }
    return ScoreSettings(**few | changes)


def score(run, data, settings, *, checkpoint=None):
    extractors = open_extractors(settings)
    return score_checkpoint(open_checkpoint(run, data, settings, checkpoint), extractors, settings)


def recorded(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_every_line_says_where_its_number_comes_from(tiny_run, tiny_data):
    lines = score(RunFolder(tiny_run), tiny_data, settings(samples=10, seed=4))
    assert recorded(tiny_run) == lines
    fid, shapes, points = lines
    for line in lines:
        assert line["class"] == "chair"
        assert line["checkpoint"]["name"] == "joint-00000020"
        assert len(line["checkpoint"]["sha256"]) == 64
        assert line["seed"] == 4
        assert set(line["versions"]) == {"von", "torch", "numpy", "scipy"}
        assert len(line["dataset_sha256"]) == 64
    assert (fid["generated"], fid["real"], fid["split"]) == (10, 24, "train")
    assert (fid["resize"], fid["comparable"]) == ("antialiased", False)
    assert len(fid["features_sha256"]) == 64
    assert (shapes["features"], points["features"]) == ("voxels", "surface points")
    assert fid["value"] > 0
    assert len(shapes["nearest_iou"]) == 3
    assert len(shapes["largest_piece"]) == 3
    assert all(0.0 <= share <= 1.0 for share in shapes["largest_piece"])
    assert shapes["training"] == 8
    assert (points["generated"], points["real"], points["points"], points["distance"]) == (3, 3, 256, "chamfer")


def test_one_metric_at_a_time_and_one_checkpoint_at_will(tiny_run, tiny_data):
    run = RunFolder(tiny_run)
    lines = score(run, tiny_data, settings(fid=False), checkpoint="joint-00000010")
    assert [(line["metric"], line["checkpoint"]["step"]) for line in lines] == [("shapes", 10), ("shape_points", 10)]
    (line,) = score(run, tiny_data, settings(shapes=False, samples=4))
    assert line["metric"] == "fid"
    assert len(recorded(tiny_run)) == 3


@pytest.mark.parametrize(
    ("samples", "maximum", "expected"), [(None, None, (24, 24)), (None, 9, (9, 9)), (30, 9, (9, 9)), (5, 9, (5, 9))]
)
def test_max_images_limits_both_sides(tiny_run, tiny_data, samples, maximum, expected):
    (line,) = score(
        RunFolder(tiny_run), tiny_data, settings(shapes=False, samples=samples, max_images=maximum, untrained=False)
    )
    assert (line["generated"], line["real"]) == expected


def test_missing_weights_are_found_before_any_work(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    with pytest.raises(WeightsError, match="compare models by a random network"):
        score(RunFolder(tiny_run), tmp_path / "nowhere", settings(features="inception"))
    assert not (tiny_run / "metrics.jsonl").exists()


def test_scores_with_inception_say_that_they_compare(tiny_run, tiny_data, tmp_path, monkeypatch):
    from vonmodel.evaluation import features
    from vonmodel.evaluation.features import fill_uniform
    from vonmodel.evaluation.inception import Inception

    network = Inception().eval().requires_grad_(False)
    fill_uniform(network, seed=1)
    (tmp_path / "weights.pth").touch()
    monkeypatch.setattr(features, "load_inception", lambda path: network)
    (line,) = score(
        RunFolder(tiny_run),
        tiny_data,
        settings(features="inception", weights=tmp_path / "weights.pth", shapes=False, max_images=3),
    )
    assert (line["features"], line["resize"], line["comparable"]) == ("inception-2015-12-05", "tensorflow", True)
    assert line["features_sha256"] == weights.file_sha256(tmp_path / "weights.pth")
    assert line["untrained"] is None
    assert line["value"] > 0
