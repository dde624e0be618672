import dataclasses

import pytest
import torch

from vonmodel.baselines.models import build_baseline
from vonmodel.baselines.training import baseline_folder
from vonmodel.checkpoint import CheckpointInfo, CheckpointState, checkpoint_name, save_checkpoint
from vonmodel.evaluation.samples import BaselineGenerator, Generator, batches
from vonmodel.evaluation.score import open_baselines, open_extractors, score
from vonmodel.evaluation.settings import ScoreSettings
from vonmodel.run_folder import RunFolder

SETTINGS = ScoreSettings(
    kid=False, precision_recall=False, features="random", samples=6, shape_samples=3, points=64, untrained=False
)


@pytest.fixture
def run(tiny_run, tiny_config):
    """A run with two baselines beside it, weights as they were drawn."""
    for name, stage in (("dcgan", "texture"), ("3dgan", "shape")):
        folder = baseline_folder(tiny_run, name)
        folder.start(tiny_config)
        info = CheckpointInfo(checkpoint_name(stage, 5), stage, 5, 5, 20, "")
        state = CheckpointState(build_baseline(name, tiny_config.model, 1).state_dict(), {}, {})
        save_checkpoint(folder.path, info, state)
    return RunFolder(tiny_run)


def generator(name, config, data):
    return BaselineGenerator(name, build_baseline(name, config.model, 1).eval(), config, data)


def test_images_do_not_depend_on_the_batch(tiny_config, tiny_data):
    dcgan = generator("dcgan", tiny_config, tiny_data)
    assert isinstance(dcgan, Generator)
    images = dcgan.images(7, 5)
    whole = torch.cat(list(batches(images, 7)))
    assert whole.shape == (7, 3, 32, 32)
    pieces = torch.cat(list(batches(images, 2)))
    assert (pieces.int() - whole.int()).abs().max() <= 1
    assert not torch.equal(torch.cat(list(batches(dcgan.images(7, 6), 7))), whole)
    assert dcgan.shapes(7, 5) is None


def test_shapes_do_not_depend_on_the_batch(tiny_config, tiny_data):
    gan = generator("3dgan", tiny_config, tiny_data)
    shapes = gan.shapes(4, 5)
    torch.testing.assert_close(torch.cat([shapes.part(0, 1), shapes.part(1, 4)]), shapes.part(0, 4))
    assert gan.images(4, 5) is None
    assert torch.equal(gan.untrained().shapes(2, 0).part(0, 2), gan.untrained().on("cpu").shapes(2, 0).part(0, 2))


def test_baselines_are_scored_as_the_model_is(run, tiny_data):
    extractors = open_extractors(SETTINGS)
    found = {scored.model: score(scored, extractors, SETTINGS) for scored in open_baselines(run, tiny_data, SETTINGS)}
    assert {name: [line["metric"] for line in lines] for name, lines in found.items()} == {
        "dcgan": ["fid"],
        "3dgan": ["shapes", "shape_points"],
    }
    for name, lines in found.items():
        assert all(line["model"] == name and len(line["checkpoint"]["sha256"]) == 64 for line in lines)
        assert (baseline_folder(run.path, name).path / "metrics.jsonl").is_file()
    assert not (run.path / "metrics.jsonl").exists()


def test_a_run_without_baselines_has_none(tiny_run, tiny_data):
    assert list(open_baselines(RunFolder(tiny_run), tiny_data, dataclasses.replace(SETTINGS))) == []
