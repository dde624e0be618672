"""What version 0.1.0 wrote is read: a dataset, its journal, a run with its scores, and links of the studio.

`from_0_1_0/` was written by that version: `von demo --chairs 4 --cars 1 --photos-per-object 3`, prepared at 32^3 and
32 px, trained for three steps a stage; of its checkpoints the last one is kept.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from voncli.main import main

import vonmodel
from vondata.dataset.manifest import prepared, read_manifest
from vondata.dataset.metadata import read_dataset
from vondata.pipeline.journal import damaged_lines, journal_path
from vonmodel.data.datasets import ImageDataset, ShapeDataset
from vonmodel.reports.metrics_log import read_lines
from vonmodel.run_folder import RunFolder
from vonmodel.studio.view_request import parse_view_request

OLD = Path(__file__).parent / "from_0_1_0"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy that may be written to."""
    return shutil.copytree(OLD, tmp_path / "old")


def test_manifests_are_read_under_their_new_columns() -> None:
    rows = read_manifest(OLD / "data", "chair", "images")
    assert "look" not in rows.columns
    assert rows.loc[rows["status"] == "prepared", "phash"].str.len().min() > 100
    assert len(prepared(rows)) == 10
    assert len(prepared(read_manifest(OLD / "data", "chair", "shapes"))) == 4
    assert set(read_dataset(OLD / "data")) == {"chair"}


def test_journals_are_whole() -> None:
    for kind in ("shapes", "images"):
        assert damaged_lines(journal_path(OLD / "data", "chair", kind)) == []


def test_shapes_and_photos_are_trained_on() -> None:
    shapes = ShapeDataset(OLD / "data", "chair", resolution=32, representation="occupancy", split=None)
    photos = ImageDataset(OLD / "data", "chair", size=32, split=None)
    assert len(shapes) == 4
    assert len(photos) == 10
    assert 0.01 < float(shapes[0].mean()) < 0.6
    assert photos[0].image.shape == (3, 32, 32)


def test_a_run_generates_and_its_scores_are_read() -> None:
    run = RunFolder(OLD / "runs" / "chair")
    assert run.config().model.representation == "occupancy"
    assert run.latest_checkpoint().name == "joint-00000003"
    model = vonmodel.load_run(run.path, data=OLD / "data")
    seen = model.render(model.view(1, 2, 30.0, 20.0))
    assert seen.image.shape == (32, 32, 3)
    assert np.isfinite(seen.depth).all()
    lines = read_lines(run.path)
    assert [line["metric"] for line in lines] == 2 * ["fid", "shapes", "shape_points"]  # scored twice
    assert lines[0]["value"] == pytest.approx(55.86084952394535)


def test_verbs_take_them(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(old)
    for arguments in (
        ["inspect", "data", "--no-page", "--json"],
        ["generate", "--run", "runs/chair", "--shapes", "1", "--views", "1", "--textures", "1"],
        ["export", "--run", "runs/chair", "--shape", "13e0e8794c3d22bfd0974dd414f817c4", "--format", "ply"],
    ):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, (arguments, result.output)


def test_links_of_the_studio_open() -> None:
    link = {"shape": "7", "shape-to": "9", "shape-mix": "0.3", "texture": "3", "azimuth": "40", "elevation": "20"}
    request = parse_view_request(link)
    assert request.azimuth_deg == 40.0
