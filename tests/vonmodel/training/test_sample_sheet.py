"""Sample sheets: layout, lighting, and the same codes at every step."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vonmodel.config import ModelConfig
from vonmodel.model import VonModel, build_model
from vonmodel.training.log import GAP_PX, TILE_PX, draw_sheet, save_sheet, shaded, sheet_codes

STEP = TILE_PX + GAP_PX
CONFIG = ModelConfig(
    resolution=32,
    image_size=32,
    shape_code_size=4,
    shape_base_channels=2,
    texture_base_channels=4,
    depth_range="item",
    resampled=False,
)


def sampler(count: int, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0, 0.5, (count, 2))


def ball_model() -> VonModel:
    """A model whose every shape is a ball."""
    model = build_model(CONFIG, 0).eval()
    axis = torch.linspace(-1, 1, 32).square()
    ball = (axis[:, None, None] + axis[:, None] + axis < 0.4).float()
    model.shape_generator.register_forward_hook(lambda _, codes, __: ball.expand(len(codes[0]), 1, 32, 32, 32))
    return model


def tile(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    top, left = GAP_PX + row * STEP, GAP_PX + column * STEP
    return sheet[top : top + TILE_PX, left : left + TILE_PX].astype(int)


def test_the_rows_of_a_sheet(tmp_path: Path) -> None:
    model = ball_model()
    sheet = draw_sheet(model, sheet_codes(model, sampler, seed=0, count=3), images=True)
    assert sheet.shape == (4 * STEP + GAP_PX, 3 * STEP + GAP_PX, 3)
    shape, silhouette, depth, image = (tile(sheet, row, 1) for row in range(4))
    middle, corner = (TILE_PX // 2, TILE_PX // 2), (2, 2)
    for picture in (shape, silhouette, depth, image):
        assert (picture[corner] == 255).all()  # white paper
    assert (silhouette[middle] == 0).all()
    # Near is bright, and the ball's rim is farther.
    rim = (TILE_PX // 2, 10)
    assert 150 < depth[rim][0] < depth[middle][0] < 250
    assert 30 < shape[middle][0] < 240
    save_sheet(sheet, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as saved:
        assert np.array_equal(np.asarray(saved), sheet)


def test_before_the_texture_stage_there_is_no_image() -> None:
    model = ball_model()
    assert draw_sheet(model, sheet_codes(model, sampler, seed=0, count=2), images=False).shape[0] == 3 * STEP + GAP_PX


def test_light_comes_from_above() -> None:
    axis = torch.linspace(-1, 1, 32).square()
    ball = (axis[:, None, None] + axis[:, None] + axis < 0.4).float()[None, None]
    picture = shaded(ball)[0, 0]
    rows = torch.nonzero(picture.amin(1) < 0.99).flatten()
    top, bottom = (int(rows[0] + share * (rows[-1] - rows[0])) for share in (0.15, 0.85))
    assert picture[top, TILE_PX // 2] > picture[bottom, TILE_PX // 2] + 0.2


def test_the_codes_of_a_run_stay() -> None:
    model = build_model(CONFIG, 0)
    one, two, other = (sheet_codes(model, sampler, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.shape, two.shape)
    assert torch.equal(one.viewpoints, two.viewpoints)
    assert not torch.equal(one.shape, other.shape)


def test_an_empty_shape_is_white_paper() -> None:
    model = build_model(CONFIG, 0).eval()
    model.shape_generator.register_forward_hook(lambda _, codes, __: torch.zeros(len(codes[0]), 1, 32, 32, 32))
    assert (draw_sheet(model, sheet_codes(model, sampler, seed=0, count=1), images=True) == 255).all()
