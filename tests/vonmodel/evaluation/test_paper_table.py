from vonmodel.reports.metrics_page import build_table, used_columns


def line(metric, model="von", **values):
    return {"metric": metric, "model": model, "checkpoint": {"name": "joint-1"}} | values


def test_measured_rows_come_before_reported_ones():
    about = {"features": "f", "resize": "clean", "comparable": True, "generated": 5, "real": 6}
    about |= {"split": "train", "image_size": 32}
    ours = [
        line("fid", value=3.0, **about),
        line("precision_recall", precision=0.1, recall=0.2, density=1, coverage=1),
    ]
    points = {"coverage": 0.4, "minimum_matching_distance": None, "nearest_neighbour_accuracy": 0.9}
    theirs = [line("shape_points", "3dgan", **points), line("shape_fid", "3dgan", value=7.0)]
    rows = build_table([ours, theirs, []], "chair")
    assert [row.title for row in rows] == [
        *("VON", "3D-GAN"),
        *("DCGAN", "LSGAN", "WGAN-GP", "VON, voxels", "VON, distance functions"),
    ]
    assert [row.reported for row in rows] == [False] * 2 + [True] * 5
    assert rows[0].values == {"fid": 3.0, "precision": 0.1, "recall": 0.2}
    assert rows[1].values == {"shape_coverage": 0.4, "nearest_neighbour_accuracy": 0.9, "shape_fid": 7.0}
    assert (rows[0].images, rows[1].images) == (about, None)
    assert rows[2].values == {"fid": 225.0}
    assert used_columns(rows) == [
        *("fid", "precision", "recall", "shape_fid", "shape_coverage", "nearest_neighbour_accuracy")
    ]


def test_the_paper_reports_only_chairs_and_cars():
    assert build_table([[line("fid", value=1.0)]], "sofa")[-1].title == "VON"
    assert build_table([], "car")[-1].values == {"fid": 83.3}
