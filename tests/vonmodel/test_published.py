"""State dicts of the 2018 release: every key is mapped, and anything else is refused."""

import json
import pickle
import random
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vonmodel.networks import (
    PatchCritic,
    ShapeCritic,
    ShapeGenerator,
    SketchEncoder,
    TextureEncoder,
    TextureGenerator,
)
from vonmodel.published import (
    PUBLISHED_NAMES,
    PublishedWeightsError,
    convert_state_dict,
    load_published,
    network_of,
    published_state_dict,
    read_state_dict,
)

BUILDERS = {
    "net_G_3D": (partial(ShapeGenerator, code_size=5), (16, 32, 64, 128, 256)),
    "net_D_3D": (ShapeCritic, (16, 32, 64, 128)),
    "net_G_AB": (partial(TextureGenerator, code_size=3), (32, 64, 128, 256)),
    "net_G_BA": (SketchEncoder, (32, 64, 128, 256)),
    "net_E": (partial(TextureEncoder, code_size=3), (64, 128, 256)),
    "net_D_A": (partial(PatchCritic, 3), (32, 64, 128, 256)),
    "net_D_B": (partial(PatchCritic, 1), (32, 64, 128, 256)),
}
CASES = [(name, size) for name, (_, sizes) in BUILDERS.items() for size in sizes]
PARAMETERS = {
    "net_G_3D": 17_831_936,
    "net_D_3D": 11_309_056,
    "net_G_AB": 8_924_083,
    "net_G_BA": 8_773_889,
    "net_E": 1_718_160,
    "net_D_A": 830_626,
    "net_D_B": 827_554,
}


def built(name: str, size: int) -> nn.Module:
    return BUILDERS[name][0](size, base_channels=2)


def small(name: str) -> dict[str, Tensor]:
    return published_state_dict(built(name, BUILDERS[name][1][0]))


@pytest.mark.parametrize(("name", "size"), CASES)
def test_converting_undoes_publishing(name: str, size: int) -> None:
    network = built(name, size)
    published = published_state_dict(network)
    restored = convert_state_dict(name, published)
    assert restored.keys() == network.state_dict().keys()
    assert published.keys() != restored.keys()
    for key, value in network.state_dict().items():
        assert restored[key] is published_entry(published, value)
    built_again = network_of(name, published)
    for attribute in ("image_size", "resolution", "code_size", "base_channels", "in_channels"):
        assert getattr(built_again, attribute, None) == getattr(network, attribute, None)


def published_entry(published: dict[str, Tensor], value: Tensor) -> Tensor:
    return next(each for each in published.values() if each.data_ptr() == value.data_ptr())


@pytest.mark.parametrize("name", PUBLISHED_NAMES)
def test_full_size_networks_have_the_published_keys_shapes_and_counts(name: str, golden: Path) -> None:
    layout = json.loads((golden / "published_state_dicts.json").read_text("utf-8"))[name]
    with torch.device("meta"):
        state_dict = {key: torch.empty(shape) for key, shape in layout.items()}
    network = network_of(name, state_dict)
    assert {key: list(value.shape) for key, value in published_state_dict(network).items()} == layout
    assert convert_state_dict(name, state_dict).keys() == network.state_dict().keys()
    sizes = {getattr(network, each, 128) for each in ("image_size", "resolution")}
    assert sizes == {128}
    assert network.base_channels == 64
    assert getattr(network, "code_size", None) == {"net_G_3D": 200, "net_G_AB": 8, "net_E": 8}.get(name)


@pytest.mark.parametrize("name", PUBLISHED_NAMES)
def test_default_networks_have_the_published_number_of_parameters(name: str) -> None:
    build = {"net_G_3D": ShapeGenerator, "net_G_AB": TextureGenerator, "net_E": TextureEncoder}
    with torch.device("meta"):
        network = build.get(name, BUILDERS[name][0])(128)
    assert sum(each.numel() for each in network.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", PUBLISHED_NAMES)
def test_missing_and_unknown_keys_are_named(name: str) -> None:
    complete = small(name)
    for lost in complete:
        if lost.endswith("num_batches_tracked"):
            continue  # torch 0.4.0 had none
        rest = {key: value for key, value in complete.items() if key != lost}
        with pytest.raises(PublishedWeightsError, match=name) as error:
            convert_state_dict(name, rest)
        assert lost in str(error.value) or lost.split(".")[0].rstrip("0123456789") in str(error.value)
    with pytest.raises(PublishedWeightsError, match=rf"{name}: unknown keys dec.surprise, optimizer$"):
        convert_state_dict(name, {**complete, "optimizer": torch.zeros(1), "dec.surprise": torch.zeros(1)})


@pytest.mark.parametrize("name", PUBLISHED_NAMES)
def test_a_wrong_shape_is_named(name: str) -> None:
    state_dict = small(name)
    last = list(state_dict)[-1]
    state_dict[last] = torch.zeros(*state_dict[last].shape, 2)
    with pytest.raises(PublishedWeightsError, match=name) as error:
        convert_state_dict(name, state_dict)
    assert last in str(error.value)


def test_the_state_dict_of_another_network_is_refused() -> None:
    with pytest.raises(PublishedWeightsError, match=r"net_G_BA: missing keys .*; unknown keys dec\.block_0"):
        convert_state_dict("net_G_BA", small("net_G_AB"))
    with pytest.raises(PublishedWeightsError, match=r"net_D_3D: missing key block_4\.weight"):
        convert_state_dict("net_D_3D", small("net_G_3D"))
    with pytest.raises(PublishedWeightsError, match="unknown network 'net_G'; the release holds net_G_3D"):
        convert_state_dict("net_G", {})


def test_sizes_the_networks_do_not_have_are_refused() -> None:
    state_dict = small("net_G_3D")
    renamed = {key.replace("toRGB_16", "toRGB_48"): value for key, value in state_dict.items()}
    with pytest.raises(PublishedWeightsError, match="resolution is 48"):
        convert_state_dict("net_G_3D", renamed)
    huge = {key.replace("toRGB_16", "toRGB_99999999"): value for key, value in state_dict.items()}
    with pytest.raises(PublishedWeightsError, match="no key starts with toRGB_<number>"):
        convert_state_dict("net_G_3D", huge)


def test_only_the_seven_networks_are_published() -> None:
    with pytest.raises(TypeError, match="Linear is not one of"):
        published_state_dict(nn.Linear(1, 1))


@pytest.mark.parametrize("kind", ["pth", "pth of 2018", "safetensors"])
def test_files_are_read(tmp_path: Path, kind: str) -> None:
    network = built("net_E", 64)
    state_dict = published_state_dict(network)
    path = tmp_path / f"latest_net_E.{kind.partition(' ')[0]}"
    if kind == "safetensors":
        save_file({key: value.contiguous() for key, value in state_dict.items()}, path)
    else:
        torch.save(state_dict, path, _use_new_zipfile_serialization=kind == "pth")
    loaded = load_published("net_E", path)
    assert not loaded.training
    image = torch.rand(1, 3, 64, 64)
    for ours, theirs in zip(loaded(image), network(image), strict=True):
        torch.testing.assert_close(ours, theirs)


class Payload:
    """What a malicious file would run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('ran')",)


@pytest.mark.parametrize("legacy", [False, True])
def test_files_with_code_are_refused_unread(tmp_path: Path, legacy: bool) -> None:
    torch.save({"a": Payload()}, tmp_path / "evil.pth", _use_new_zipfile_serialization=not legacy)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"a": Payload()}, protocol=2))
    for file in ("evil.pth", "plain.pth"):
        with pytest.raises(PublishedWeightsError, match=f"{file} cannot be read as a state dict"):
            read_state_dict(tmp_path / file)


def test_files_that_hold_no_state_dict_are_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    torch.save({"a": "b"}, tmp_path / "words.pth")
    for file in ("list.pth", "words.pth"):
        with pytest.raises(PublishedWeightsError, match="does not hold a state dict"):
            read_state_dict(tmp_path / file)
    for file in ("empty.pth", "noise.pth", "noise.safetensors"):
        (tmp_path / file).write_bytes(b"" if "empty" in file else b"\x80\x02not weights at all" * 9)
        with pytest.raises(PublishedWeightsError, match="cannot be read"):
            read_state_dict(tmp_path / file)
    with pytest.raises(FileNotFoundError):
        read_state_dict(tmp_path / "absent.pth")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", ["pth", "pth of 2018", "safetensors"])
def test_damaged_files_are_read_or_refused_in_words(tmp_path: Path, kind: str) -> None:
    rng, state_dict = random.Random(0), {"conv.weight": torch.zeros(4, 3), "conv.bias": torch.ones(4)}
    path = tmp_path / f"weights.{kind.partition(' ')[0]}"
    if kind == "safetensors":
        save_file(state_dict, path)
    else:
        torch.save(state_dict, path, _use_new_zipfile_serialization=kind == "pth")
    whole, answers = path.read_bytes(), []
    for _ in range(150):
        damaged = bytearray(whole[: rng.choice([len(whole), rng.randrange(1, len(whole))])])
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(min(len(damaged), 900))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            read_state_dict(path)
        except PublishedWeightsError as error:
            answers.append(str(error))
    assert len(answers) > 50
    assert all(path.name in answer for answer in answers)
