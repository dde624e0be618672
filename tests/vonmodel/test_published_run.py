"""The release's folders imported as runs: found, read, checked, with the images of its networks."""

import json
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vonmodel.checkpoint import list_checkpoints, load_model
from vonmodel.config import ModelConfig, load_config
from vonmodel.geometry import viewpoint_rotation
from vonmodel.model import build_model
from vonmodel.projection import frame_sketch, project
from vonmodel.projection.framing import MIN_MARGIN_PX
from vonmodel.published import (
    NEEDED,
    PLACES,
    PUBLISHED_NAMES,
    PublishedWeightsError,
    find_weights,
    import_weights,
    published_state_dict,
)
from vonmodel.representation import opaque_above
from vonmodel.run_folder import RunError

sys.path.append(str(Path(__file__).parents[1] / "golden_small"))
import published_reference

SIZES = ModelConfig(
    resolution=16,
    image_size=32,
    shape_code_size=5,
    texture_code_size=3,
    shape_base_channels=2,
    texture_base_channels=2,
)


def state_dicts(seed: int = 1) -> dict[str, dict[str, Tensor]]:
    """The seven networks of a small model under the release's names, with batch statistics and clear shapes."""
    model, generator = build_model(SIZES, seed), torch.Generator().manual_seed(seed)
    found = {name: published_state_dict(getattr(model, place)) for name, place in PLACES.items()}
    for key, value in found["net_G_3D"].items():
        if key.endswith(("running_mean", "running_var", "1.bias")):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.3)
        if key.startswith("toRGB"):
            value.mul_(20.0)
    return found


def write_release(
    root: Path, variant: str = "df", class_name: str = "car", seed: int = 1
) -> dict[str, dict[str, Tensor]]:
    """The archive's own layout, with what torch 0.4.0 and several GPUs do to files."""
    published = state_dicts(seed)
    flat, deep = root / "models_3D", root / "models_2D" / f"{class_name}_{variant}"
    flat.mkdir(parents=True, exist_ok=True)
    deep.mkdir(parents=True)
    for name, state_dict in published.items():
        content = OrderedDict((key, value) for key, value in state_dict.items() if "num_batches" not in key)
        if name in ("net_G_AB", "net_D_3D"):
            content = OrderedDict((f"module.{key}", value) for key, value in content.items())
        if name == "net_E":
            content = {"epoch": 200, "optimizer": {"lr": 2e-4}, "state_dict": content}
        three = name.endswith("3D")
        path = flat / f"{class_name}_{variant}_{name[4:]}.pth" if three else deep / f"latest_{name}.pth"
        torch.save(content, path, _use_new_zipfile_serialization=False)
    return published


@pytest.mark.parametrize(("variant", "representation"), [("df", "distance"), ("voxel", "occupancy")])
def test_a_release_becomes_a_run_of_the_published_configuration(
    tmp_path: Path, variant: str, representation: str
) -> None:
    published = write_release(tmp_path / "final_models", variant)
    found = find_weights(tmp_path, "car")
    assert found is not None
    assert found.representation == representation
    assert found.missing == ()
    config = import_weights(found, tmp_path / "run", "car", seed=4)
    assert config == load_config(tmp_path / "run" / "config.json")
    assert config.class_name == "car"
    assert (config.model.resampled, config.model.depth_range) == (True, "batch")
    assert (config.model.resolution, config.model.image_size) == (16, 32)
    assert (config.model.shape_code_size, config.model.texture_code_size) == (5, 3)
    model, info = load_model(tmp_path / "run")
    assert (info.name, info.finished) == ("joint-00000000", False)
    for name, place in PLACES.items():
        ours = published_state_dict(getattr(model, place))
        assert ours.keys() == published[name].keys()
        for key, value in published[name].items():
            assert torch.equal(ours[key], value), (name, key)
    record = json.loads((tmp_path / "run" / "published.json").read_text())
    assert set(record["files"]) == set(PUBLISHED_NAMES)
    assert record["drawn_at_random"] == []


@pytest.mark.parametrize(("variant", "representation"), [("df", "distance"), ("voxel", "occupancy")])
def test_the_run_paints_what_the_published_networks_paint(tmp_path: Path, variant: str, representation: str) -> None:
    """Against the float64 networks in numpy that share no code with ours."""
    published = write_release(tmp_path, variant)
    found = find_weights(tmp_path, "car")
    assert found is not None
    import_weights(found, tmp_path / "run", "car")
    model, _ = load_model(tmp_path / "run")
    rng = np.random.default_rng(3)
    codes, textures = rng.standard_normal((2, 5)), rng.standard_normal((2, 3))
    rotations = viewpoint_rotation(torch.tensor([0.4, -0.8]).double(), torch.tensor([0.1, 0.5]).double())

    numpy_weights = {
        name: {key: value.double().numpy() for key, value in each.items()} for name, each in published.items()
    }
    (volumes,) = published_reference.forward("net_G_3D", numpy_weights["net_G_3D"], codes)
    seen = torch.from_numpy(volumes)
    if representation == "distance":
        # Under 0.9 at the release's 128 voxels; a coarser grid needs a thicker shell.
        seen = torch.where(seen < opaque_above(16), 0.0, seen)
    # At the release's 128 pixels its margin of 3 % is wider than ours at least is.
    sketch = project(seen, rotations, image_size=32, resampled=True)
    framed = frame_sketch(sketch, depth_range="batch", min_margin_px=MIN_MARGIN_PX)
    assert framed.silhouette.mean() > 0.2
    (colours,) = published_reference.forward(
        "net_G_AB", numpy_weights["net_G_AB"], framed.normalized_depth.numpy(), textures
    )
    golden = framed.silhouette.numpy() * colours + 1.0 - framed.silhouette.numpy()

    with torch.no_grad():
        made = model.generate_shapes(torch.from_numpy(codes).float())
        image = model.paint(model.sketch(made, rotations.float()), torch.from_numpy(textures).float())
    np.testing.assert_allclose(made.numpy(), volumes, atol=2e-5)
    np.testing.assert_allclose(image.numpy(), golden, atol=5e-3)
    assert golden.std() > 0.05


def test_distances_come_before_voxels_and_each_can_be_asked_for(tmp_path: Path) -> None:
    write_release(tmp_path, "df")
    write_release(tmp_path, "voxel")
    for wanted, representation in ((None, "distance"), ("distance", "distance"), ("occupancy", "occupancy")):
        found = find_weights(tmp_path, "car", wanted)
        assert found is not None
        assert found.representation == representation
        assert all(("df" if representation == "distance" else "voxel") in str(each) for each in found.files.values())
    assert find_weights(tmp_path, "chair") is None


def test_a_training_of_the_release_is_found_by_its_last_epoch(tmp_path: Path) -> None:
    folder = tmp_path / "car_df"
    folder.mkdir()
    for epoch, seed in (("20", 1), ("100", 2)):
        for name, state_dict in state_dicts(seed).items():
            torch.save(state_dict, folder / f"{epoch}_{name}.pth")
    found = find_weights(folder, "car")
    assert found is not None
    assert found.representation == "distance"
    assert {each.name for each in found.files.values()} == {f"100_{name}.pth" for name in PUBLISHED_NAMES}
    (folder / "latest_net_G_3D.pth").write_bytes(b"")
    with pytest.raises(PublishedWeightsError, match="has no file of net_G_AB, net_G_BA, net_E"):
        find_weights(folder, "car")
    other = tmp_path / "experiment"
    folder.rename(other)
    with pytest.raises(PublishedWeightsError, match="does not say whether"):
        find_weights(other, "car")
    assert find_weights(tmp_path / "absent", "car") is None


def test_critics_may_be_missing_and_are_drawn_at_random(tmp_path: Path) -> None:
    write_release(tmp_path)
    for name in ("net_D_A", "net_D_B"):
        (tmp_path / "models_2D" / "car_df" / f"latest_{name}.pth").unlink()
    found = find_weights(tmp_path, "car")
    assert found is not None
    assert found.missing == ("net_D_A", "net_D_B")
    import_weights(found, tmp_path / "run", "car", seed=7)
    model, _ = load_model(tmp_path / "run")
    drawn = build_model(load_config(tmp_path / "run" / "config.json").model, 7)
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.image_critic.parameters(), drawn.image_critic.parameters(), strict=True)
    )
    assert json.loads((tmp_path / "run" / "published.json").read_text())["drawn_at_random"] == ["net_D_A", "net_D_B"]


@pytest.mark.parametrize("name", NEEDED)
def test_what_no_model_can_do_without_is_named(tmp_path: Path, name: str) -> None:
    write_release(tmp_path)
    place = "models_3D/car_df_G_3D.pth" if name == "net_G_3D" else f"models_2D/car_df/latest_{name}.pth"
    (tmp_path / place).unlink()
    with pytest.raises(PublishedWeightsError, match=f"has no file of {name}"):
        find_weights(tmp_path, "car")


def test_networks_of_two_models_are_no_run(tmp_path: Path) -> None:
    write_release(tmp_path)
    other = published_state_dict(build_model(ModelConfig(resolution=32, shape_base_channels=2), 0).shape_critic)
    torch.save(other, tmp_path / "models_3D" / "car_df_D_3D.pth")
    found = find_weights(tmp_path, "car")
    assert found is not None
    with pytest.raises(PublishedWeightsError, match=r"car_df_D_3D.pth is not of the same model .*16\^3"):
        import_weights(found, tmp_path / "run", "car")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_not_empty_is_not_changed(tmp_path: Path) -> None:
    write_release(tmp_path)
    found = find_weights(tmp_path, "car")
    assert found is not None
    import_weights(found, tmp_path / "run", "car")
    (info,) = list_checkpoints(tmp_path / "run")
    with pytest.raises(PublishedWeightsError, match="has checkpoints; name a new folder"):
        import_weights(found, tmp_path / "run", "car", seed=3)
    assert list_checkpoints(tmp_path / "run") == [info]
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match="holds other things"):
        import_weights(found, tmp_path / "taken", "car")
