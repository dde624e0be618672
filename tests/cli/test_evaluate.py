import json

import pytest

from tests import harness
from vondata.io.fs import file_system


@pytest.fixture
def von(tiny_run, tiny_data, tmp_path, monkeypatch):
    """Runs the command in a folder with the tiny run and the tiny dataset, and an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VON_DATA", str(tiny_data))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("VON_INCEPTION_WEIGHTS", raising=False)

    def run(*arguments):
        return harness.von("evaluate", *arguments)

    return run


def test_fid_is_printed_and_recorded(von, tmp_path):
    result = von("--fid", "--features", "random", "--count", "6", "--seed", "3")
    assert result.exit_code == 0, result.output
    assert "Class chair, checkpoint joint-00000020, seed 3" in result.stdout
    assert "6 generated images, 24 photos of split train" in result.stdout
    assert "for the untrained model" in result.stdout
    assert "not comparable with published values" in result.stdout
    assert "Shapes" not in result.stdout
    last = "recorded in runs/chair/metrics.jsonl, curves in runs/chair/metrics.html"
    assert result.stdout.splitlines()[-1] == last
    (line,) = (tmp_path / "runs" / "chair" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["metric"] == "fid"


def test_without_a_choice_everything_is_measured(von):
    small = ("--features", "random", "--count", "6", "--shape-count", "2", "--no-untrained")
    said = json.loads(von(*small, "--json").stdout)
    assert [line["metric"] for line in said["results"]] == [
        "fid",
        "kid",
        "precision_recall",
        "consistency",
        "shapes",
        "shape_points",
    ]
    words = von(*small).stdout
    assert all(
        start in words
        for start in (
            "Distance under random features: ",
            "KID: ",
            "Images: precision ",
            "View consistency: ",
            "Shapes: ",
        )
    )
    assert "Points: " in words
    assert said["results"][0]["untrained"] is None
    assert said["metrics"] == "runs/chair/metrics.jsonl"


def test_shapes_need_no_features(von):
    result = von("--shapes", "--shape-count", "3")
    assert result.exit_code == 0, result.output
    assert "of 3 overlap a training shape with IoU over 0.5" in result.stdout
    assert "8 training shapes" in result.stdout


def test_a_run_behind_a_url_is_scored_and_left_as_it_is(von, tiny_run, tmp_path):
    system, _ = file_system("memory://")
    try:
        system.put(f"{tiny_run}/", "/shared/chair/", recursive=True)
        stored = system.find("/shared", detail=False)
        url = "memory://shared/chair"
        asked = ("--run", url, "--shapes", "--shape-count", "3", "--seed", "1")
        result = von(*asked)
        assert result.exit_code == 0, result.output
        assert "of 3 overlap a training shape with IoU over 0.5" in result.stdout
        assert result.stdout.splitlines()[-1].endswith(f"to keep scores: von pull {url}")
        assert system.find("/shared", detail=False) == stored
        here = json.loads(von("--run", tiny_run, *asked[2:], "--json").stdout)["results"][0]
        there = json.loads(von(*asked, "--json").stdout)["results"][0]
        assert there["metric"] == "shapes"
        assert there["nearest_iou"] == here["nearest_iou"]
    finally:
        system.store.clear()
        system.pseudo_dirs[:] = [""]


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
        (("--split", "test"), 1, "the test part of"),
        (("--run", "nowhere"), 1, "nowhere is not a run"),
        (("--count", "1"), 2, "--count"),
        (("--features", "random"), 2, "--features is given 2 times"),
    ],
)
def test_mistakes_are_named(von, arguments, code, message):
    result = von("--fid", "--features", "random", *arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr


def test_features_that_are_no_file_are_named(von):
    result = von("--fid", "--features", "vgg")
    assert (result.exit_code, "--features vgg: no such file" in result.stderr) == (2, True), result.output


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


def test_named_weights_ask_for_inception_whatever_the_settings_file_says(von, tmp_path):
    (tmp_path / "von.toml").write_text('[evaluate]\nfeatures = "random"\n', "utf-8")
    (tmp_path / "some.pth").write_bytes(b"no weights")
    result = von("--fid", "--inception-weights", "some.pth")
    assert result.exit_code == 1
    assert "some.pth is not pt_inception-2015-12-05-6726825d.pth" in result.output
    result = von("--fid", "--inception-weights", "some.pth", "--features", "random")
    assert result.exit_code == 2
    assert "--inception-weights has no effect with --features random" in result.output


def test_every_checkpoint_is_scored_and_drawn(von, tmp_path):
    said = json.loads(von("--fid", "--features", "random", "--count", "4", "--all-checkpoints", "--json").stdout)
    assert [line["checkpoint"]["name"] for line in said["results"]] == ["joint-00000010", "joint-00000020"]
    page = (tmp_path / said["page"]).read_text()
    assert page.count("<circle") == 2
    assert "table" not in said
    both = von("--fid", "--features", "random", "--all-checkpoints", "--checkpoint", "joint-00000010")
    assert (both.exit_code, "give one of them" in both.stderr) == (2, True)


def test_the_table_has_what_was_trained_beside_and_what_the_paper_reports(von, tiny_run, tiny_config):
    from vonmodel.baselines.models import build_baseline
    from vonmodel.baselines.training import baseline_folder
    from vonmodel.checkpoint import CheckpointInfo, CheckpointState, save_checkpoint

    folder = baseline_folder(tiny_run, "lsgan")
    folder.start(tiny_config)
    state = CheckpointState(build_baseline("lsgan", tiny_config.model, 0).state_dict(), {}, {})
    save_checkpoint(folder.path, CheckpointInfo("texture-00000005", "texture", 5, 5, 20, ""), state)
    result = von("--fid", "--features", "random", "--count", "4", "--no-untrained", "--table")
    assert result.exit_code == 0, result.output
    assert "baseline lsgan, checkpoint texture-00000005" in result.stdout
    assert "Images of 32 pixels, 4 generated images, 24 photos of split train" in result.stdout
    assert "not comparable with reported figures:" in result.stdout
    table = result.stdout[result.stdout.index("FID ↓") :].splitlines()
    assert [line.split()[0] for line in table[1:3]] == ["VON", "LSGAN"]
    assert table[3].startswith("As reported by Zhu et al. 2018")
    assert table[4].split() == ["DCGAN", "225"]


@pytest.fixture
def network(tmp_path):
    """A TorchScript file of a network that gives the colours of four quarters."""
    import warnings

    import torch

    class Quarters(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = torch.nn.Parameter(torch.ones(1))

        def forward(self, images):
            return self.gain * torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(Quarters()), tmp_path / "quarters.pt")
    return tmp_path / "quarters.pt"


def test_scores_with_a_user_network_name_its_file(von, network):
    result = von("--fid", "--features", str(network), "--network-size", "16", "--count", "5")
    assert result.exit_code == 1
    assert "is a program" in result.stderr
    assert "--trust-code" in result.stderr
    result = von("--fid", "--features", str(network), "--network-size", "16", "--count", "5", "--trust-code")
    assert result.exit_code == 0, result.output
    assert "Fréchet distance: " in result.stdout
    assert "features quarters-" in result.stdout
    assert "clean resizing" in result.stdout
    assert "compares with scores of the same network file alone" in result.stdout
    again = von(
        "--fid",
        "--features",
        str(network),
        "--network-size",
        "16",
        "--count",
        "5",
        "--resize",
        "legacy",
        "--trust-code",
    )
    assert "tensorflow resizing" in again.stdout


def test_other_files_are_no_networks(von, tmp_path):
    (tmp_path / "photo.pt").write_bytes(b"no network")
    result = von("--fid", "--features", "photo.pt")
    assert (result.exit_code, "holds no network" in result.stderr) == (1, True)
    result = von("--fid", "--features", "random", "--resize", "clean")
    assert (result.exit_code, "--resize" in result.stderr) == (2, True)


def test_devices_are_named_one_by_one(von):
    few = ("--fid", "--features", "random", "--count", "5", "--no-untrained", "--json")
    alone, both = (json.loads(von(*few, "--device", name).stdout)["results"][0] for name in ("cpu", "cpu,cpu"))
    assert both["value"] == pytest.approx(alone["value"], rel=1e-5)
    assert von("--fid", "--device", "cpu,tpu").exit_code == 2


def test_a_run_that_cannot_be_written_is_still_scored(von, tiny_run):
    """Simulates a read-only folder, also for root: nothing can be appended to its files."""
    for name in ("metrics.jsonl", "metrics.html"):
        (tiny_run / name).unlink(missing_ok=True)
        (tiny_run / name).mkdir()
    result = von("--fid", "--features", "random", "--count", "5")
    assert result.exit_code == 0, result.output
    assert "Distance under random features: " in result.stdout
    assert "not recorded" in result.stderr
    said = json.loads(von("--fid", "--features", "random", "--count", "5", "--json").stdout)
    assert (said["recorded"], said["page"]) == (False, None)
    assert said["results"][0]["metric"] == "fid"
