import os
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.vondata.images import onnx_file
from vonmodel.evaluation.features import CodeNotTrustedError, NetworkFileError, file_features, load_network
from vonmodel.evaluation.inception import Inception, file_sha256


class Features(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 5, 3, stride=2)

    def forward(self, images):
        return torch.relu(self.convolution(images)).mean((2, 3))


class Writes(Features):
    def forward(self, images):
        torch.save(images, "stolen.bin")
        return images.mean((2, 3))


class Maps(Features):
    def forward(self, images):
        return self.convolution(images)


class Weightless(nn.Module):
    def forward(self, images):
        return images.mean((2, 3))


class WantsGrey(Features):
    def forward(self, images):
        return self.convolution(images[:, :1]).mean((2, 3))


def save(module, path, *, traced=False):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        script = torch.jit.trace(module, torch.zeros(2, 3, 16, 16)) if traced else torch.jit.script(module)
        torch.jit.save(script, path)
    return path


@pytest.mark.parametrize("traced", [False, True])
def test_a_trusted_user_network_gives_its_features(tmp_path, traced):
    torch.manual_seed(0)
    module = Features().eval()
    path = save(module, tmp_path / "mine.pt", traced=traced)
    network = file_features(path, input_size=16, scale="unit", trust_code=True)
    assert network.name == f"mine-{file_sha256(path)[:8]}"
    assert (network.size, network.resize, network.comparable) == (5, "clean", False)
    pixels = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    expected = module(pixels.float() / 255).detach().numpy()
    np.testing.assert_allclose(network(pixels), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(network.on("cpu")(pixels[:1]), expected[:1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Maps(), r"gives shape \(2, 5, 7, 7\)"),
        (WantsGrey(), "but fails"),
        (Weightless(), "without weights"),
    ],
)
def test_what_does_not_serve_is_refused_in_words(tmp_path, module, message):
    path = save(module.eval(), tmp_path / "network.pt")
    with pytest.raises(NetworkFileError, match=message):
        file_features(path, input_size=16, scale="unit", trust_code=True)


def test_no_code_runs_that_is_not_trusted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = save(Writes().eval(), tmp_path / "network.pt")
    path.rename(tmp_path / "network.onnx")  # whatever it is called
    with pytest.raises(CodeNotTrustedError, match="is a program, which can read, write and remove every file"):
        file_features(tmp_path / "network.onnx", input_size=16, scale="unit")
    assert not (tmp_path / "stolen.bin").exists()
    file_features(tmp_path / "network.onnx", input_size=16, scale="unit", trust_code=True)
    assert (tmp_path / "stolen.bin").exists()  # trusted code can do this


def mean_colours(weights, bias):
    """An ONNX network (n, 3, s, s) -> (n, 1): the mean over the picture of a weighted sum of its colours."""
    kernel = onnx_file.ints("kernel_shape", [1, 1])
    nodes = [
        onnx_file.node("Conv", ["picture", "weights", "bias"], "map", [kernel]),
        onnx_file.node("GlobalAveragePool", ["map"], "mean"),
        onnx_file.node("Flatten", ["mean"], "features"),
    ]
    graph = b"".join(onnx_file.block(1, each) for each in nodes) + onnx_file.block(2, "means")
    graph += onnx_file.block(5, onnx_file.tensor("weights", [1, 3, 1, 1], weights))
    graph += onnx_file.block(5, onnx_file.tensor("bias", [1], [bias]))
    dims = b"".join(onnx_file.block(1, each) for each in (onnx_file.block(2, "n"), *[onnx_file.number(1, 3)]))
    sides = b"".join(onnx_file.block(1, onnx_file.block(2, side)) for side in ("h", "w"))
    shape = onnx_file.block(2, onnx_file.block(1, onnx_file.number(1, 1) + onnx_file.block(2, dims + sides)))
    graph += onnx_file.block(11, onnx_file.block(1, "picture") + shape)
    graph += onnx_file.block(12, onnx_file.block(1, "features"))
    opset = onnx_file.block(1, "") + onnx_file.number(2, 13)
    return onnx_file.number(1, 8) + onnx_file.block(7, graph) + onnx_file.block(8, opset)


def test_an_onnx_network_gives_its_features(tmp_path):
    pytest.importorskip("onnxruntime")
    path = tmp_path / "colours.pt"  # the content decides
    path.write_bytes(mean_colours([1.0, 2.0, -0.5], 0.25))
    network = file_features(path, input_size=16, scale="unit")
    pixels = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    mean = (pixels.double() / 255).mean((2, 3))
    expected = mean[:, :1] + 2 * mean[:, 1:2] - 0.5 * mean[:, 2:] + 0.25
    for each in (network, network.on("cpu")):
        np.testing.assert_allclose(each(pixels), expected, rtol=1e-5, atol=1e-6)
    assert network.size == 1


def test_inception_is_known_as_safetensors(tmp_path):
    expected = Inception().eval()
    save_file(expected.state_dict(), tmp_path / "inception.safetensors")
    images = torch.rand(1, 3, 299, 299)
    with torch.inference_mode():
        assert torch.equal(load_network(tmp_path / "inception.safetensors")(images), expected(images))
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(NetworkFileError, match="no known architecture"):
        load_network(tmp_path / "other.safetensors")


def test_files_of_another_kind_are_refused(tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "state.pth")
    (tmp_path / "text.pt").write_text("nothing")
    (tmp_path / "empty.pt").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.pt")
    messages = {"state.pth": "cannot be read as", "text.pt": "no network", "empty.pt": "no network"}
    for name, message in {**messages, "pipe.pt": "not a regular file"}.items():
        with pytest.raises(NetworkFileError, match=message):
            load_network(tmp_path / name, trust_code=True)
    path = save(Features().eval(), tmp_path / "cut.pt")
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(NetworkFileError, match="cannot be read as TorchScript"):
        load_network(path, trust_code=True)


def test_a_sparse_file_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "sparse.onnx").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(NetworkFileError, match="at most"):
        load_network(tmp_path / "sparse.onnx")
