"""The examples of docs/python.md, README.md and examples/ run as they are written, in a folder with small data."""

import ast
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from vonmodel.model import VonModel

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[str]:
    return BLOCK.findall((ROOT / page).read_text("utf-8"))


def a_box(model: VonModel, codes: torch.Tensor) -> torch.Tensor:
    """A box whose height follows the code: untrained weights would generate fog, which has no surface."""
    axis = torch.linspace(-1, 1, model.config.resolution)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    height = 0.5 + 0.2 * torch.tanh(codes[:, 0])[:, None, None, None]
    margins = [0.4 - x.abs(), 0.6 - y.abs(), height - z.abs()]
    return torch.stack([torch.sigmoid(40 * margin.expand(len(codes), -1, -1, -1)) for margin in margins]).prod(0)[
        :, None
    ]


@pytest.fixture
def workplace(tiny_run: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run, its data, meshes and a photo, named as the pages name them."""
    assert tiny_run == tmp_path / "runs" / "chair"
    shutil.copytree(tiny_data, tmp_path / "data")
    shutil.copytree(tiny_run, tmp_path / "demo" / "runs" / "chair")
    photo = np.full((64, 64, 4), 255, np.uint8)
    photo[..., 3] = 0
    photo[12:52, 20:44] = (160, 60, 40, 255)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    models = tmp_path / "ShapeNetCore.v2" / "03001627" / "a-chair" / "models"
    models.mkdir(parents=True)
    trimesh.creation.box((0.4, 0.6, 0.5)).export(models / "model_normalized.obj")
    monkeypatch.setattr(VonModel, "generate_shapes", a_box)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_are_examples() -> None:
    assert len(blocks("docs/python.md")) == 6
    assert len(blocks("README.md")) >= 1


@pytest.mark.parametrize("number", range(1, 6))
def test_the_examples_of_the_page(number: int, workplace: Path) -> None:
    code = blocks("docs/python.md")[number].replace("photo.jpg", "photo.png")
    quick = "ReconstructSettings(4, 4, ((2, 2),), carve_steps=0, texture_steps=2, start='search')"
    code = code.replace('reconstruct("photo.png")', f'reconstruct("photo.png", {quick})')
    exec(
        compile("from vonmodel.reconstruction.reconstruct import ReconstructSettings\n" + code, "python.md", "exec"),
        {},
    )
    assert number != 4 or (workplace / "chair.glb").is_file()


def test_a_dataset_is_prepared(workplace: Path) -> None:
    code = blocks("docs/python.md")[0].splitlines()
    shutil.rmtree(workplace / "data")
    namespace: dict[str, Any] = {}
    exec("\n".join(line for line in code if "photos" not in line), namespace)
    assert namespace["shapes"].classes["chair"].prepared == 1
    assert (workplace / "data" / "chair" / "shapes.parquet").is_file()


def test_the_readme(workplace: Path) -> None:
    for code in blocks("README.md"):
        exec(compile(code, "README.md", "exec"), {})


def test_the_session_of_the_page_on_editing(workplace: Path) -> None:
    (code,) = blocks("docs/editing.md")
    exec(compile(code, "editing.md", "exec"), {})
    assert (workplace / "chair.glb").read_bytes().startswith(b"glTF")


PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))]


@pytest.mark.parametrize("page", PAGES)
def test_what_pages_import_is_there(page: str) -> None:
    for code in blocks(page):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in ("vondata", "vonmodel"):
                exec(compile(ast.Module([node], []), page, "exec"), {})


def test_the_notebook(workplace: Path) -> None:
    cells = json.loads((ROOT / "examples" / "first_look.ipynb").read_text("utf-8"))["cells"]
    namespace: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), "first_look.ipynb", "exec"), namespace)
    assert (workplace / "chair.glb").is_file()


def test_signs_and_occupancy_points_are_read(workplace: Path) -> None:
    from vondata.api import prepare_shapes
    from vondata.shapes.prepare import ShapeSettings

    shutil.rmtree(workplace / "data")
    settings = ShapeSettings(resolution=32, signed=True, watertight=True, occupancy_points=3000)
    prepare_shapes("ShapeNetCore.v2", class_names=["chair"], settings=settings)
    wanted = [code for code in blocks("docs/shapes.md") if "load_occupancy_points" in code]
    code = "\n".join(wanted).replace("0124e52bc16be83579afe9d36115b62f", "a-chair")
    namespace: dict[str, Any] = {}
    exec(code.replace('(Path("data"), "chair")', '(Path("data"), "chair", split=None)'), namespace)
    assert len(wanted) == 2
    assert (namespace["signed"] < 0).any()
    assert namespace["points"].shape == (1, 2048, 3)
    assert 0 < namespace["occupancies"].mean() < 1
    # The box is 0.4 x 0.6 x 0.5.
    in_box = (np.abs(namespace["in_source"]) < [0.2, 0.3, 0.25]).all(axis=1)
    assert (namespace["drawn"].occupancies == in_box).mean() > 0.98
