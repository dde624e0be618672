"""Scores of folders of any files: files read and left out, and scores against their formulas."""

import json
import tracemalloc

import numpy as np
import pytest
import scipy.linalg
import torch
import trimesh
from PIL import Image

from vondata.shapes.binvox import export_binvox
from vonmodel.evaluation.folders import (
    FolderError,
    ReadRecord,
    ShapeReading,
    image_pixels,
    open_folder,
    read_images,
    read_shapes,
)
from vonmodel.evaluation.score_folders import FolderSettings, common_kind, score_folders
from vonmodel.evaluation.score_page import write_scores


def write_pictures(folder, count, seed, size=12, low=0):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        blocks = rng.integers(low, 256, (4, 4, 3), dtype=np.uint8).repeat(size // 4, axis=0).repeat(size // 4, axis=1)
        Image.fromarray(blocks).save(folder / f"{index:04d}.png")
    return folder


@pytest.fixture
def pictures(tmp_path):
    return write_pictures(tmp_path / "generated", 30, 1, low=60), write_pictures(tmp_path / "photos", 40, 2)


def features_of(folder, network):
    entries = folder.entries["images"]
    return np.concatenate([network([image_pixels(each)]) for each in entries]).astype(np.float64)


def published_fid(x, y):
    """Heusel et al. 2017, as torch-fidelity and pytorch-fid write it: scipy's root of the product of covariances."""
    difference = x.mean(0) - y.mean(0)
    first, second = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    return difference @ difference + np.trace(first + second - 2 * scipy.linalg.sqrtm(first @ second).real)


def published_kid(x, y):
    """Bińkowski et al. 2018, as torch-fidelity's `polynomial_mmd` writes it, on the whole sets."""
    size = x.shape[1]
    xx, yy, xy = ((a @ b.T / size + 1.0) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    n, m = len(x), len(y)
    within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return within - 2 * xy.sum() / (n * m)


def published_precision(manifold, samples, neighbours=3):
    """Kynkäänniemi et al. 2019, as torch-fidelity's `calculate_precision_recall_part` has it."""
    within = torch.cdist(torch.from_numpy(manifold), torch.from_numpy(manifold))
    radius = within.kthvalue(neighbours + 1).values
    across = torch.cdist(torch.from_numpy(samples), torch.from_numpy(manifold))
    return float((across <= radius).any(dim=1).double().mean())


def test_scores_of_images_equal_the_published_arithmetic(pictures, network):
    generated, photos = (open_folder(each) for each in pictures)
    scores = score_folders([generated], photos, FolderSettings(resamples=20), network)
    (row,) = scores.rows
    x, y = features_of(generated, network), features_of(photos, network)
    assert row.values["fid"].value == pytest.approx(published_fid(x, y), rel=1e-6)
    assert row.values["precision"].value == published_precision(y, x)
    assert row.values["recall"].value == published_precision(x, y)
    # KID is the mean over random halves of an estimate whose expectation is that of the whole sets.
    interval = row.values["kid"]
    assert interval.low < published_kid(x, y) < interval.high
    nearest = np.sqrt(np.square(x[:, None] - y[None]).sum(-1))
    own = np.sqrt(np.square(y[:, None] - y[None]).sum(-1)) + np.diag(np.full(len(y), np.inf))
    ratio = nearest.min(1) / own.min(1)[nearest.argmin(1)]
    assert row.values["authenticity"].value == np.mean(ratio > 1)
    assert [pair.ratio for pair in row.nearest] == pytest.approx(np.sort(ratio)[:8], rel=1e-6)
    assert all(each.low <= each.value <= each.high for each in row.values.values())
    shares = ("precision", "recall", "coverage", "authenticity")
    assert all(row.values[name].low >= 0.0 and row.values[name].high <= 1.0 for name in shares)
    (alike,) = score_folders([photos], photos, FolderSettings(scores=("fid",), resamples=20), network).rows
    assert alike.values["fid"].low == pytest.approx(0.0, abs=1e-6)  # no distance is below 0


def test_the_distances_equal_torchmetrics_on_the_same_features(pictures, network):
    from torchmetrics.image.fid import _compute_fid
    from torchmetrics.image.kid import poly_mmd

    from vonmodel.evaluation.image_metrics import frechet_distance, squared_discrepancy, statistics_of

    x, y = (torch.from_numpy(features_of(open_folder(each), network)) for each in pictures)
    theirs = _compute_fid(x.mean(0), torch.cov(x.T), y.mean(0), torch.cov(y.T))
    ours = frechet_distance(statistics_of(x.numpy()), statistics_of(y.numpy()))
    assert ours == pytest.approx(float(theirs), rel=1e-6)
    kernels = [(a @ b.T / x.shape[1] + 1.0) ** 3 for a, b in ((x, x[:30]), (x, y[:30]), (y[:30], y[:30]))]
    theirs = float(poly_mmd(x, y[:30]))  # it takes equally many
    assert kernels[0].shape == kernels[1].shape
    assert squared_discrepancy(x.numpy(), y[:30].numpy()) == pytest.approx(theirs, rel=1e-6)


def test_copies_are_found_and_bad_files_are_rows_with_reasons(pictures, network):
    generated, photos = pictures
    (generated / "copy.png").write_bytes((photos / "0007.png").read_bytes())
    (generated / "cut.png").write_bytes((photos / "0007.png").read_bytes()[:60])
    (generated / "text.jpg").write_text("no picture")
    (generated / "notes.txt").write_text("not looked at")
    scores = score_folders([open_folder(generated)], open_folder(photos), FolderSettings(resamples=0), network)
    (row,) = scores.rows
    assert (row.nearest[0].generated, row.nearest[0].reference, row.nearest[0].ratio) == ("copy.png", "0007.png", 0.0)
    assert row.values["authenticity"].value <= 30 / 31
    assert {each.file: each.folder for each in scores.refused} == {"cut.png": "generated", "text.jpg": "generated"}
    assert all("(" in each.reason for each in scores.refused)
    assert row.protocol["generated"] == 31
    assert row.values["fid"].low == row.values["fid"].high == row.values["fid"].value


def test_images_of_any_size_and_transparency(tmp_path, network):
    folder = write_pictures(tmp_path / "mixed", 3, 0, size=8)
    write_pictures(tmp_path / "mixed" / "below", 2, 1, size=16)
    glass = np.zeros((8, 8, 4), dtype=np.uint8)
    glass[:, 4:, 3] = 255
    Image.fromarray(glass).save(folder / "glass.png")
    reading = ReadRecord()
    batches = list(read_images(open_folder(folder), reading, batch_size=4))
    assert [len(batch) for batch in batches] == [4, 2]
    assert reading.sizes == {"8x8": 4, "16x16": 2}
    found = dict(zip(reading.names, [image for batch in batches for image in batch], strict=True))
    assert found["glass.png"][:, :, :4].min() == 255
    assert found["glass.png"][:, :, 4:].max() == 0
    features = np.concatenate([network(batch) for batch in batches])
    alone = np.concatenate([network(image[None]) for batch in batches for image in batch])
    np.testing.assert_allclose(features, alone, rtol=1e-6)
    small = ReadRecord()
    assert {
        image.shape for batch in read_images(open_folder(folder), small, batch_size=4, size=8) for image in batch
    } == {(3, 8, 8)}


def test_images_are_streamed(tmp_path, network):
    """Ten times the images take no more memory than their names and the small features that are kept."""
    peaks = {}
    for count in (150, 1500):
        folder = open_folder(write_pictures(tmp_path / str(count), count, count, size=64))
        settings = FolderSettings(resamples=0, scores=("fid",), batch_size=16)
        tracemalloc.start()
        score_folders([folder], folder, settings, network)
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    decoded = 1350 * 64 * 64 * 3
    assert peaks[1500] - peaks[150] < 0.15 * decoded


def test_the_protocol_says_whether_numbers_compare(pictures, tmp_path, network):
    generated, photos = (open_folder(each) for each in pictures)
    settings = FolderSettings(resamples=0, scores=("fid",))
    (row,) = score_folders([generated], photos, settings, network).rows
    again = score_folders([generated], photos, FolderSettings(resamples=0, scores=("kid",), batch_size=7), network)
    assert again.rows[0].protocol_line == row.protocol_line  # neither which scores nor the batch decides
    assert row.protocol_line.endswith(f"#{row.protocol_hash}")
    assert "generated=30 reference=40" in row.protocol_line
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for index, file in enumerate(sorted(pictures[1].iterdir())):
        (renamed / f"z{40 - index}.png").write_bytes(file.read_bytes())
    assert (
        score_folders([generated], open_folder(renamed), settings, network).rows[0].protocol_hash == row.protocol_hash
    )
    other = [
        FolderSettings(resamples=0, scores=("fid",), seed=1),
        FolderSettings(resamples=0, scores=("fid",), image_size=8),
        FolderSettings(resamples=0, scores=("fid",), maximum=20),
    ]
    hashes = {score_folders([generated], photos, each, network).rows[0].protocol_hash for each in other}
    assert len(hashes | {row.protocol_hash}) == 4


def write_boxes(folder, sizes, form="obj"):
    folder.mkdir(parents=True, exist_ok=True)
    for index, size in enumerate(sizes):
        trimesh.creation.box(size).export(folder / f"box{index}.{form}")
    return folder


def test_shapes_of_every_format_are_the_same_shape(tmp_path):
    folder = tmp_path / "box"
    box = trimesh.creation.box((1.0, 0.5, 0.25))
    folder.mkdir()
    for form in ("obj", "ply", "stl", "off", "glb"):
        box.export(folder / f"a.{form}")
    cloud = trimesh.sample.sample_surface(box, 5000, seed=0)[0]
    np.save(folder / "cloud.npy", cloud)
    np.savez(folder / "cloud.npz", points=cloud.astype(np.float32), other=np.zeros(2))
    np.savez(folder / "mesh.npz", vertices=box.vertices, faces=box.faces)
    np.save(folder / "clouds.npy", np.stack([cloud, cloud]))
    trimesh.PointCloud(cloud).export(folder / "cloud.ply")
    axis = np.linspace(-0.6, 0.6, 49)
    inside = np.abs(np.stack(np.meshgrid(axis, axis, axis, indexing="ij")))
    solid = (inside[0] <= 0.5) & (inside[1] <= 0.25) & (inside[2] <= 0.125)
    np.save(folder / "voxels.npy", solid)
    export_binvox(folder / "grid.binvox", solid)
    reading = ReadRecord()
    shapes = {
        entry.name: shape for entry, shape in read_shapes(open_folder(folder), reading, ShapeReading(points=512))
    }
    assert reading.refused == []
    assert len(shapes) == 13
    from vondata.shapes.point_distance import chamfer_matrix

    distance = chamfer_matrix([shapes["a.obj"].points, *(each.points for each in shapes.values())])[0]
    # Sampling alone gives 0.003; another box of these sides, 0.04.
    assert distance.max() < 0.008
    assert all(shape.points.shape == (512, 3) for shape in shapes.values())


def test_axes_and_places_of_files(tmp_path):
    lying = write_boxes(tmp_path / "z-up", [(1.0, 0.5, 0.25)])
    (placed,) = read_shapes(
        open_folder(lying), ReadRecord(), ShapeReading(points=64, up="z", front="y", frame="none")
    )
    assert np.ptp(placed[1].mesh.vertices, axis=0) == pytest.approx([1.0, 0.5, 0.25])
    (upright,) = read_shapes(open_folder(lying), ReadRecord(), ShapeReading(points=64, frame="none"))
    assert np.ptp(upright[1].mesh.vertices, axis=0) == pytest.approx([1.0, 0.25, 0.5])
    (unit,) = read_shapes(open_folder(lying), ReadRecord(), ShapeReading(points=64))
    assert np.linalg.norm(unit[1].mesh.vertices, axis=1) == pytest.approx(1.0)


def test_shapes_that_cannot_be_used_have_reasons(tmp_path):
    folder = write_boxes(tmp_path / "bad", [(1, 1, 1)])
    (folder / "broken.ply").write_bytes(b"ply\nformat ascii 1.0\nend_header")
    (folder / "text.obj").write_text("nothing")
    np.save(folder / "few.npy", np.zeros((5, 3)))
    np.save(folder / "flat.npy", np.zeros((5, 4)))
    np.save(folder / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(folder / "names.npz", a=np.zeros((9, 3)), b=np.zeros(2))
    np.savez(folder / "faces.npz", vertices=np.zeros((3, 3)), faces=np.array([[0, 1, 7]]))
    np.save(folder / "nan.npy", np.full((100, 3), np.nan))
    (folder / "zip.npz").write_bytes(b"PK\x03\x04 no archive")
    reading = ReadRecord()
    read = [entry.name for entry, _ in read_shapes(open_folder(folder), reading, ShapeReading(points=64))]
    assert read == ["box0.obj"]
    reasons = {each.file: each.reason for each in reading.refused}
    assert sorted(reasons) == sorted(
        [
            "broken.ply",
            "text.obj",
            "few.npy",
            "flat.npy",
            "objects.npy",
            "names.npz",
            "faces.npz",
            "nan.npy",
            "zip.npz",
        ]
    )
    assert "64 are asked for" in reasons["few.npy"]
    assert "shape (5, 4)" in reasons["flat.npy"]
    assert "not_finite" in reasons["nan.npy"]


def test_scores_of_shapes_equal_their_definitions(tmp_path):
    rng = np.random.default_rng(0)
    generated = open_folder(write_boxes(tmp_path / "a", rng.uniform(0.3, 1, (5, 3))))
    boxes = rng.uniform(0.3, 1, (6, 3))
    reference = open_folder(write_boxes(tmp_path / "b", boxes))
    settings = FolderSettings(
        scores=("chamfer", "emd", "nearest"), shapes=ShapeReading(64), reference_shapes=ShapeReading(64), resamples=20
    )
    (row,) = score_folders([generated], reference, settings, None).rows
    sides = [
        [shape.points for _, shape in read_shapes(folder, ReadRecord(), ShapeReading(64), maximum=5)]
        for folder in (generated, reference)
    ]
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    def chamfer(x, y):
        squared = cdist(x, y, "sqeuclidean")
        return squared.min(0).mean() + squared.min(1).mean()

    def earth_mover(x, y):
        costs = cdist(x, y)
        return costs[linear_sum_assignment(costs)].mean()

    for name, distance in (("cd", chamfer), ("emd", earth_mover)):
        across = np.array([[distance(x, y) for y in sides[1]] for x in sides[0]])
        assert row.values[f"{name}_mmd"].value == pytest.approx(across.min(0).mean(), rel=1e-5)
        assert row.values[f"{name}_cov"].value == len(set(across.argmin(1))) / 5
        everyone = sides[0] + sides[1]
        right = 0
        for at, shape in enumerate(everyone):
            others = [(distance(shape, each), to < 5) for to, each in enumerate(everyone) if to != at]
            right += min(others)[1] == (at < 5)
        assert row.values[f"{name}_nna"].value == right / 10
    assert row.protocol["generated"] == row.protocol["reference"] == 5


def test_shading_fid_is_the_mean_over_views(tmp_path, network):
    rng = np.random.default_rng(0)
    first, second = (open_folder(write_boxes(tmp_path / name, rng.uniform(0.3, 1, (3, 3)))) for name in "ab")
    settings = FolderSettings(scores=("shading_fid",), views=3, view_size=24, resamples=0)
    (row,) = score_folders([first], second, settings, network).rows
    assert 0.0 < row.values["shading_fid"].value < 255.0**2
    (same,) = score_folders([first], first, settings, network).rows
    assert same.values["shading_fid"].value == pytest.approx(0.0, abs=1e-6)
    assert row.protocol["views"] == "3x24px"


def test_prepared_data_and_generated_results(tiny_data, tmp_path, network):
    whole, chairs = open_folder(tiny_data), open_folder(tiny_data / "chair")
    assert whole.entries == chairs.entries
    assert (len(whole.entries["images"]), len(whole.entries["shapes"])) == (24, 8)
    assert whole.kinds == ("images", "shapes")
    reading = ReadRecord()
    shapes = [shape for _, shape in read_shapes(whole, reading, ShapeReading(points=64))]
    assert (len(shapes), reading.refused) == (8, [])
    result = write_pictures(tmp_path / "result" / "shape-01", 2, 0)
    trimesh.creation.box((1, 2, 3)).export(result / "mesh.glb")
    view = {"images": ["shape-01/0000.png"], "silhouette": "shape-01/0001.png", "depth": "shape-01/0001.png"}
    text = json.dumps({"shapes": [{"mesh": "shape-01/mesh.glb", "views": [view]}]})
    (result.parent / "generated.json").write_text(text)
    made = open_folder(result.parent)
    assert [entry.name for entry in made.entries["images"]] == ["shape-01/0000.png"]
    (shape,) = read_shapes(made, ReadRecord(), ShapeReading(points=64, frame="none"))
    # y up and z to the front become z up and y to the front.
    assert np.ptp(shape[1].mesh.vertices, axis=0) == pytest.approx([1, 3, 2])
    assert common_kind([made, whole]) == "images"


def test_folders_that_do_not_compare(tmp_path, pictures, tiny_data):
    boxes = open_folder(write_boxes(tmp_path / "boxes", [(1, 1, 1), (1, 2, 1)]))
    photos = open_folder(pictures[0])
    with pytest.raises(FolderError, match="in common"):
        common_kind([photos, boxes])
    with pytest.raises(FolderError, match="no such folder"):
        open_folder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FolderError, match="no image and no shape"):
        open_folder(tmp_path / "empty")
    with pytest.raises(FolderError, match="is not one of their scores"):
        FolderSettings(scores=("fid",)).chosen("shapes")
    assert len(open_folder(pictures[0], patterns=("000*.png",)).entries["images"]) == 10


def test_a_linked_folder_is_not_left_out_without_a_word(pictures):
    generated, photos = pictures
    (generated / "again").symlink_to(generated)
    assert len(open_folder(generated).entries["images"]) == 30
    (generated / "more").symlink_to(photos)
    with pytest.raises(FolderError, match="more cannot be read with the others: it leads to"):
        open_folder(generated)


def test_the_page_shows_everything(pictures, tmp_path, network):
    (pictures[0] / "<b>bad.png").write_text("no picture")
    generated, photos = (open_folder(each) for each in pictures)
    other = open_folder(write_pictures(tmp_path / "other", 20, 5))
    settings = FolderSettings(resamples=20)
    scores = score_folders([generated, other], photos, settings, network)
    page = write_scores(tmp_path / "out", scores, [generated, other], settings).read_text("utf-8")
    for row in scores.rows:
        assert row.protocol_line in page
        assert f'<th scope="row" title="{row.path}">{row.title}</th>' in page
    assert "&lt;b&gt;bad.png" in page
    assert "<b>bad" not in page
    record = json.loads((tmp_path / "out" / "score.json").read_text("utf-8"))
    assert [row["protocol_hash"] for row in record["rows"]] == [row.protocol_hash for row in scores.rows]
    assert record["rows"][0]["values"]["fid"]["value"] == scores.rows[0].values["fid"].value
    assert len(list((tmp_path / "out" / "pairs").iterdir())) == 2 * 2 * 8


def test_an_empty_prepared_shape_has_its_reason(tmp_path):
    from vondata.dataset.shape_file import PreparedShape, save_shape

    nothing = np.zeros((16, 16, 16), dtype=bool)
    far = np.ones((16, 16, 16), dtype=np.float32)
    save_shape(tmp_path / "empty.npz", PreparedShape(nothing, nothing, far, 1.0, (0.0,) * 3, np.eye(3)))
    reading = ReadRecord()
    assert list(read_shapes(open_folder(tmp_path), reading, ShapeReading(points=64))) == []
    assert [each.reason for each in reading.refused] == ["the prepared shape is empty (empty_mesh)"]
