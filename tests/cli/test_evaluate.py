import json

import pytest
from click.testing import CliRunner
from voncli.main import main


@pytest.fixture
def von(tiny_run, tiny_data, tmp_path, monkeypatch):
    """Runs the command in a folder with the tiny run and the tiny dataset, and an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VON_DATA", str(tiny_data))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("VON_INCEPTION_WEIGHTS", raising=False)

    def run(*arguments):
        return CliRunner().invoke(main, ["evaluate", *arguments])

    return run


def test_fid_is_printed_and_recorded(von, tmp_path):
    result = von("--fid", "--features", "random", "--samples", "6", "--seed", "3")
    assert result.exit_code == 0, result.output
    assert "Class chair, checkpoint joint-00000020, seed 3" in result.stdout
    assert "6 generated images, 24 photos of split train" in result.stdout
    assert "for the untrained model" in result.stdout
    assert "not comparable with published values" in result.stdout
    assert "Shapes" not in result.stdout
    assert result.stdout.splitlines()[-1] == "recorded in runs/chair/metrics.jsonl"
    (line,) = (tmp_path / "runs" / "chair" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["metric"] == "fid"


def test_without_a_choice_everything_is_measured(von):
    small = ("--features", "random", "--samples", "6", "--shape-samples", "2", "--no-untrained")
    said = json.loads(von(*small, "--json").stdout)
    assert [line["metric"] for line in said["results"]] == [
        "fid",
        "kid",
        "precision_recall",
        "shapes",
        "shape_points",
    ]
    words = von(*small).stdout
    assert all(
        start in words for start in ("Fréchet distance: ", "KID: ", "Images: precision ", "Shapes: ", "Points: ")
    )
    assert said["results"][0]["untrained"] is None
    assert said["metrics"] == "runs/chair/metrics.jsonl"


def test_shapes_need_no_features(von):
    result = von("--shapes", "--shape-samples", "3")
    assert result.exit_code == 0, result.output
    assert "of 3 overlap a training shape with IoU over 0.5" in result.stdout
    assert "8 training shapes" in result.stdout


def test_missing_weights_are_explained(von):
    result = von("--fid")
    assert result.exit_code == 1
    for hint in ("--download", "--inception-weights", "VON_INCEPTION_WEIGHTS", "--features random", "6726825d"):
        assert hint in result.stderr
    result = von("--fid", "--inception-weights", "nowhere.pth")
    assert (result.exit_code, "there is no file nowhere.pth" in result.stderr) == (1, True)


def test_wrong_weights_are_refused(von, tmp_path):
    (tmp_path / "other.pth").write_bytes(b"weights of something else")
    result = von("--fid", "--inception-weights", "other.pth")
    assert result.exit_code == 1
    assert "SHA-256" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--data", "nowhere"), 1, "nowhere has no images of class 'chair'"),
        (("--split", "test"), 1, "in the test part"),
        (("--run", "nowhere"), 1, "nowhere is no run"),
        (("--samples", "1"), 2, "--samples"),
        (("--features", "vgg"), 2, "--features"),
    ],
)
def test_mistakes_are_named(von, arguments, code, message):
    result = von("--fid", "--features", "random", *arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr


def test_a_single_photo_is_too_few(von, tiny_data, tmp_path):
    import pandas as pd

    frame = pd.read_parquet(tiny_data / "chair" / "images.parquet")
    (tmp_path / "few" / "chair").mkdir(parents=True)
    frame[:1].to_parquet(tmp_path / "few" / "chair" / "images.parquet")
    (tmp_path / "few" / "chair" / "images").symlink_to(tiny_data / "chair" / "images")
    result = von("--fid", "--features", "random", "--data", "few")
    assert result.exit_code == 1
    assert "2 images or more" in result.stderr


def test_features_come_from_the_settings_file(von, tmp_path):
    (tmp_path / "von.toml").write_text('[evaluate]\nfeatures = "random"\nsamples = 4\n')
    said = json.loads(von("--fid", "--json").stdout)
    assert said["results"][0]["features"].startswith("random-")
    assert said["results"][0]["generated"] == 4
