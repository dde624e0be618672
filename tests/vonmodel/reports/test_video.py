import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from vonmodel.reports import video as films
from vonmodel.reports.video import FilmError, film_frames, grid_of, write_film


def coloured_frames(size=48):
    """Red, green, blue, white, black."""
    frames = np.zeros((5, size, size, 3), dtype=np.uint8)
    for channel in range(3):
        frames[channel, ..., channel] = 255
    frames[3] = 255
    return frames


def read_back(path):
    if path.suffix == ".mp4":
        film = cv2.VideoCapture(str(path))
        found = []
        while (answer := film.read())[0]:
            found.append(answer[1][..., ::-1])
        return np.stack(found)
    with Image.open(path) as film:
        return np.stack([_frame(film, index) for index in range(film.n_frames)])


def _frame(film, index):
    film.seek(index)
    return np.asarray(film.convert("RGB"))


@pytest.mark.parametrize("suffix", ["webp", "gif", "mp4"])
def test_a_film_shows_its_frames_in_order_and_in_their_colours(tmp_path, suffix):
    frames = coloured_frames()
    write_film(tmp_path / f"film.{suffix}", frames)
    found = read_back(tmp_path / f"film.{suffix}")
    assert found.shape == frames.shape
    assert np.abs(found[:, 10:38, 10:38].astype(int) - frames[:, 10:38, 10:38]).mean(axis=(1, 2, 3)).max() < 20
    assert [path.name for path in tmp_path.iterdir()] == [f"film.{suffix}"]


@pytest.mark.parametrize("suffix", ["webp", "gif"])
def test_films_repeat(tmp_path, suffix):
    write_film(tmp_path / f"film.{suffix}", coloured_frames())
    with Image.open(tmp_path / f"film.{suffix}") as film:
        assert film.info["loop"] == 0
        film.seek(1)
        film.load()
        assert film.info["duration"] in (60, 67, 70)


def test_the_ground_of_a_gif_is_white(tmp_path):
    y, x = np.mgrid[:48, :48]
    inside = np.exp(-((x - 24) ** 2 + (y - 24) ** 2) / 60.0)[..., None]
    frames = np.stack([255 - inside * np.array([40 * n + 90, 200, 120 + n]) for n in range(4)]).astype(np.uint8)
    frames[:, :8] = 255
    write_film(tmp_path / "film.gif", frames)
    assert (read_back(tmp_path / "film.gif")[:, :6] == 255).all()


def test_odd_sizes_lose_a_pixel_in_mp4(tmp_path):
    write_film(tmp_path / "film.mp4", coloured_frames(49))
    assert read_back(tmp_path / "film.mp4").shape == (5, 48, 48, 3)


def test_a_machine_without_codecs_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(films, "CODECS", ())
    with pytest.raises(FilmError, match="choose webp or gif"):
        write_film(tmp_path / "film.mp4", coloured_frames())
    assert list(tmp_path.iterdir()) == []


def test_frames_are_enlarged_without_changing_what_they_show():
    image = torch.linspace(-1, 1, 8).view(1, 1, 1, 8).expand(1, 3, 8, 8)
    assert film_frames(image, 8).shape == (1, 8, 8, 3)
    large = film_frames(image, 32)
    assert large.shape == (1, 32, 32, 3)
    assert (np.diff(large[0, 16, :, 0].astype(int)) >= 0).all()


def test_a_grid_puts_rows_below_each_other():
    rows = [torch.full((3, 3, 4, 4), value) for value in (-1.0, 0.0)]
    grid = grid_of(rows, 4)
    assert grid.shape == (12, 20, 3)
    assert (grid[0, 0] == 0).all()
    assert (grid[8, 0] == 128).all()
    assert (grid[:, 4:8] == 255).all()
