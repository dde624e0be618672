"""Common fixtures: reference data beside the repository (skipped if absent), tiny datasets and runs, servers."""

import logging
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

# Shapes in annotations are checked at every call of these modules, which must not be imported before.
install_import_hook(
    [
        "vonmodel.data",
        "vonmodel.evaluation",
        "vonmodel.geometry",
        "vonmodel.inference",
        "vonmodel.mesh",
        "vonmodel.model",
        "vonmodel.networks",
        "vonmodel.projection.dispatch",
        "vonmodel.projection.framing",
        "vonmodel.projection.reference",
        "vonmodel.projection.sketch",
        "vonmodel.reconstruction",
        "vonmodel.reports",
        "vonmodel.precision",
        "vonmodel.seeding",
        "vonmodel.training.joint_stage",
        "vonmodel.training.losses",
        "vonmodel.training.log",
        "vonmodel.training.shape_stage",
        "vonmodel.training.stage",
        "vonmodel.training.texture_stage",
    ],
    "beartype.beartype",
)

# Machines differ and are shared, so examples have no time limit. The suite has the same examples in each run, so that
# it fails only for changes; --hypothesis-profile=explore draws others each time.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("suite", settings.get_profile("explore"), derandomize=True, database=None)
settings.load_profile("suite")

# A shell's background job ignores Ctrl-C, and so would the commands that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _folder(path: Path) -> Path:
    if not path.is_dir():
        pytest.skip(f"{path.name} is not there: this check needs the reference data beside the repository")
    return path


@pytest.fixture(autouse=True)
def _no_test_depends_on_others() -> Iterator[None]:
    """Seeds, environment, logs and the number of threads are the same whichever tests ran before."""
    import numpy as np

    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  # what libraries draw from
    torch = sys.modules.get("torch")
    threads = None if torch is None else torch.get_num_threads()
    if torch is not None:
        torch.manual_seed(0)
    environment = dict(os.environ)
    loggers = [logging.getLogger(name) for name in ("vondata", "vonmodel")]
    logs = [(each.level, each.handlers[:]) for each in loggers]
    yield
    for logger, (level, handlers) in zip(loggers, logs, strict=True):  # as --verbose leaves them
        logger.setLevel(level)
        logger.handlers[:] = handlers
    if torch is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    for name in os.environ.keys() - environment.keys():  # as starting Dask's processes leaves them
        del os.environ[name]
    os.environ.update(environment)


@pytest.fixture(scope="session")
def shared() -> Path:
    return _folder(SHARED)


@pytest.fixture(scope="session")
def golden() -> Path:
    return _folder(SHARED / "golden")


@pytest.fixture(scope="session")
def realdata() -> Path:
    return _folder(SHARED / "realdata")


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """A prepared dataset of chairs, written as it would be prepared: 8 shapes of 32^3 and 24 photos of 32 pixels."""
    import numpy as np
    import pandas as pd
    from PIL import Image
    from scipy.ndimage import distance_transform_edt

    from vondata.dataset.manifest import manifest_path, output_path
    from vondata.dataset.shape_file import PreparedShape, save_shape

    data = tmp_path_factory.mktemp("tiny") / "data"
    rng = np.random.default_rng(0)
    shapes, images = [f"shape{index}" for index in range(8)], [f"photo{index}" for index in range(24)]
    for id in shapes:
        solid = np.zeros((32, 32, 32), dtype=bool)
        low, high = rng.integers(4, 12, 3), rng.integers(18, 28, 3)
        solid[low[0] : high[0], low[1] : high[1], low[2] : high[2]] = True
        distance = np.where(solid, distance_transform_edt(solid), distance_transform_edt(~solid)) / 31
        shape = PreparedShape(
            solid, solid & (distance < 1.5 / 31), distance.astype(np.float32), 1.0, (0.0,) * 3, np.eye(3)
        )
        save_shape(output_path(data, "chair", "shapes", id), shape)
    for id in images:
        rgba = np.full((32, 32, 4), 255, dtype=np.uint8)
        rgba[..., 3] = 0
        top, left = rng.integers(2, 10, 2)
        rgba[top : 32 - top, left : 32 - left] = [*rng.integers(0, 200, 3), 255]
        path = output_path(data, "chair", "images", id)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rgba).save(path)
    same = {"class": "chair", "status": "prepared", "split": "train"}
    pd.DataFrame({"id": shapes, **same}).to_parquet(manifest_path(data, "chair", "shapes"))
    azimuths = np.where(np.arange(24) % 2, np.nan, np.linspace(-90, 90, 24))
    frame = pd.DataFrame({"id": images, **same, "azimuth_deg": azimuths, "elevation_deg": azimuths * 0 + 20})
    frame.to_parquet(manifest_path(data, "chair", "images"))
    return data


@pytest.fixture(scope="session")
def tiny_config():
    """A configuration of the smallest model there is."""
    from vonmodel.config import ModelConfig, TrainConfig

    return TrainConfig(
        seed=3,
        model=ModelConfig(
            resolution=32, image_size=32, shape_code_size=8, shape_base_channels=2, texture_base_channels=4
        ),
    )


@pytest.fixture
def tiny_run(tmp_path, tiny_config) -> Path:
    """A run folder of the class chair with two checkpoints, weights as they were drawn."""
    from vonmodel.checkpoint import CheckpointInfo, CheckpointState, checkpoint_name, save_checkpoint
    from vonmodel.model import build_model
    from vonmodel.run_folder import RunFolder

    run = RunFolder(tmp_path / "runs" / "chair")
    run.start(tiny_config)
    for step, seed in ((10, 1), (20, 2)):
        info = CheckpointInfo(checkpoint_name("joint", step), "joint", step, 20, 8 * step, "")
        state = CheckpointState(build_model(tiny_config.model, seed).state_dict(), {}, {})
        save_checkpoint(run.path, info, state)
    return run.path


# WebGL in software, and no background activity of the browser.
BROWSER_ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    *("--disable-gpu-watchdog", "--ignore-gpu-blocklist"),
    *("--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, without a window, driven by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("chromium is not there to show the page (make system-browser)")
    from tests.harness import TIMEOUT_S

    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=BROWSER_ARGUMENTS, timeout=1000 * TIMEOUT_S)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server in a process of its own."""
    pytest.importorskip("moto", reason="moto is not installed: pip install 'visual-object-networks[dev]'")
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'visual-object-networks[s3]'")
    from tests.harness import free_port, wait_until

    port = free_port()

    def answers() -> bool:
        assert running.poll() is None
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(answers)
        yield f"http://127.0.0.1:{port}"
    finally:
        running.kill()
        running.wait()


@pytest.fixture
def bucket(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty bucket that this process and its children reach."""
    from vondata.io import fs as remote

    for name in [name for name in os.environ if name.startswith(("VON_", "AWS_"))]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "thing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    remote.file_system_of.cache_clear()
    url = f"s3://bucket-{tmp_path.name.replace('_', '-')}"[:60]
    system, path = remote.file_system(url)
    system.mkdir(path)
    yield url
    remote.file_system_of.cache_clear()
