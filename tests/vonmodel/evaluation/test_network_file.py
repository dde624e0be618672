import warnings

import numpy as np
import pytest
import torch
from torch import nn

from vonmodel.evaluation.features import file_features
from vonmodel.evaluation.inception import file_sha256
from vonmodel.evaluation.network_file import NetworkFileError, load_network


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
def test_a_network_of_ones_own_gives_its_features(tmp_path, traced):
    torch.manual_seed(0)
    module = Features().eval()
    path = save(module, tmp_path / "mine.pt", traced=traced)
    network = file_features(path, input_size=16, scale="unit")
    assert network.name == f"mine-{file_sha256(path)[:8]}"
    assert (network.size, network.resize, network.comparable) == (5, "clean", False)
    pixels = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    expected = module(pixels.float() / 255).detach().numpy()
    np.testing.assert_allclose(network(pixels), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(network.on("cpu")(pixels[:1]), expected[:1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Writes(), "uses save, which a feature network has no need of"),
        (Maps(), r"gives shape \(2, 5, 7, 7\)"),
        (WantsGrey(), "but fails"),
        (Weightless(), "without weights"),
    ],
)
def test_what_does_not_serve_is_refused_in_words(tmp_path, monkeypatch, module, message):
    monkeypatch.chdir(tmp_path)
    path = save(module.eval(), tmp_path / "network.pt")
    with pytest.raises(NetworkFileError, match=message):
        file_features(path, input_size=16, scale="unit")
    assert not (tmp_path / "stolen.bin").exists()


@pytest.mark.parametrize("change", ["ops.evil.run(images)", "images.save('x')", "getattr(images, 'save')('x')"])
def test_the_code_is_looked_through_however_it_is_written(tmp_path, change):
    import zipfile

    path = save(Features().eval(), tmp_path / "network.pt")
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            changed = content + f"\n  def more(self, images):\n    return {change}\n".encode()
            archive.writestr(name, changed if name.endswith(".py") else content)
    with pytest.raises(NetworkFileError, match=r"evil\.run|save"):
        load_network(path)


def test_files_of_another_kind_are_refused(tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "state.pth")
    (tmp_path / "text.pt").write_text("nothing")
    for name, message in (("state.pth", "torch.jit.save"), ("text.pt", "no TorchScript file")):
        with pytest.raises(NetworkFileError, match=message):
            load_network(tmp_path / name)
    path = save(Features().eval(), tmp_path / "cut.pt")
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(NetworkFileError, match="no TorchScript file"):
        load_network(path)
