import functools
import threading
from collections import OrderedDict
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from vonmodel.evaluation import inception as weights
from vonmodel.evaluation.features import fill_uniform
from vonmodel.evaluation.inception import (
    Inception,
    WeightsError,
    WeightsMissingError,
    download_weights,
    file_sha256,
    find_weights,
    load_inception,
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    return tmp_path / "cache" / "von"


@pytest.fixture(scope="module")
def state():
    network = Inception()
    fill_uniform(network, seed=1)
    return network.state_dict()


@pytest.fixture
def server(tmp_path):
    """A web server on this machine, its folder, and its address."""
    folder = tmp_path / "web"
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_missing_weights_say_where_they_belong_and_what_to_do(cache):
    with pytest.raises(WeightsMissingError) as error:
        find_weights()
    assert error.value.message.endswith(f"there is no {cache / weights.FILE_NAME}")
    for hint in ("download", weights.VARIABLE, "random network"):
        assert hint in (error.value.hint or "")


def test_option_beats_variable_beats_cache(cache, tmp_path, monkeypatch):
    cache.mkdir(parents=True)
    (cache / weights.FILE_NAME).write_bytes(b"cached")
    assert find_weights() == cache / weights.FILE_NAME
    (tmp_path / "named").write_bytes(b"by variable")
    monkeypatch.setenv(weights.VARIABLE, str(tmp_path / "named"))
    assert find_weights() == tmp_path / "named"
    (tmp_path / "given").write_bytes(b"by option")
    assert find_weights(tmp_path / "given") == tmp_path / "given"
    with pytest.raises(WeightsError, match="Inception weights: there is no file"):
        find_weights(tmp_path / "nowhere")
    monkeypatch.setenv(weights.VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(WeightsError, match=weights.VARIABLE):
        find_weights()


def test_a_state_dict_loads_with_and_without_batch_counters(tmp_path, state):
    for name, content in {
        "with": state,
        "without": {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")},
    }.items():
        path = tmp_path / f"{name}.pth"
        torch.save(content, path)
        network = load_inception(path, known={file_sha256(path): weights.read_state_dict})
        assert not network.training
        assert torch.equal(network.fc.weight, state["fc.weight"])
        assert torch.equal(network.state_dict()["Mixed_5b.branch1x1.bn.bias"], state["Mixed_5b.branch1x1.bn.bias"])


class Scaleless(torch.nn.Module):
    """A convolution as TensorFlow's graph has it: batch norm shifts, and does not scale."""

    def __init__(self, weight, beta, mean, var):
        super().__init__()
        self.weight, self.beta, self.mean, self.var = (torch.nn.Parameter(each) for each in (weight, beta, mean, var))

    def forward(self, x):
        """Not needed to hold weights."""
        return x


@pytest.mark.filterwarnings("ignore:.torch.jit.script.:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit.save.:DeprecationWarning")
def test_a_torchscript_with_tensorflows_names_gives_the_same_features(tmp_path, state):
    names = [name.removesuffix("conv.weight") for name in state if name.endswith(".conv.weight")]
    rows = {}
    for number, name in enumerate(names):
        shifts = (state[f"{name}bn.{each}"][None, :, None, None] for each in ("bias", "running_mean", "running_var"))
        rows[f"layer_{number}"] = Scaleless(state[f"{name}conv.weight"], *shifts)
    path = tmp_path / "script.pt"
    torch.jit.save(torch.jit.script(torch.nn.Sequential(OrderedDict(rows))), path)
    found = load_inception(path, known={file_sha256(path): weights.read_torchscript})
    wanted = Inception().eval()
    scales = {name: torch.ones_like(value) for name, value in state.items() if name.endswith("bn.weight")}
    wanted.load_state_dict(state | scales)
    images = torch.rand(2, 3, 299, 299, generator=torch.Generator().manual_seed(0))
    assert torch.equal(found(images), wanted(images))


def test_a_state_dict_of_another_network_is_refused(tmp_path, state):
    path = tmp_path / "other.pth"
    torch.save({key: value for key, value in state.items() if key != "fc.bias"} | {"extra": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=r"missing \['fc.bias'\], unknown \['extra'\]"):
        load_inception(path, known={file_sha256(path): weights.read_state_dict})


def test_a_file_with_another_hash_is_never_opened(tmp_path):
    path = tmp_path / weights.FILE_NAME
    path.write_bytes(b"not a model")
    with pytest.raises(WeightsError, match=r"SHA-256 begins with [0-9a-f]{8}, not with 6726825d"):
        load_inception(path)


def test_the_published_hash_begins_as_the_file_name_ends():
    assert weights.SHA256[:8] == weights.FILE_NAME.removesuffix(".pth")[-8:]


def test_download_lands_in_the_cache_with_progress(cache, server):
    folder, address = server
    content = bytes(range(256)) * 10_000
    (folder / "weights.pth").write_bytes(content)
    seen = []
    sha256 = file_sha256(folder / "weights.pth")
    path = download_weights(
        lambda done, total: seen.append((done, total)), url=f"{address}/weights.pth", sha256=sha256
    )
    assert path == find_weights() == cache / weights.FILE_NAME
    assert path.read_bytes() == content
    assert seen[-1] == (len(content), len(content))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_wrong_download_leaves_nothing_behind(cache, server):
    folder, address = server
    (folder / "weights.pth").write_bytes(b"tampered")
    with pytest.raises(WeightsError, match="SHA-256"):
        download_weights(url=f"{address}/weights.pth")
    assert list(cache.iterdir()) == []


def test_a_failed_download_names_the_address_and_the_place(cache, server):
    _, address = server
    with pytest.raises(WeightsError, match=rf"cannot fetch {address}/absent.pth.*put it at"):
        download_weights(url=f"{address}/absent.pth")
