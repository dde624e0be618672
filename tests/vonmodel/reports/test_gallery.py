import dataclasses
import re
from html.parser import HTMLParser

import pytest

from vonmodel.reports.gallery import Gallery, GeneratedShape, ViewFiles, gallery_page, write_page
from vonmodel.reports.metrics_log import figures_of, read_metrics

CHECKPOINT = {"name": "joint-00000020", "stage": "joint", "step": 20, "sha256": "ab" * 32}
FID = {
    "metric": "fid",
    "value": 12.5,
    "untrained": 250.0,
    "checkpoint": CHECKPOINT,
    "seed": 0,
    "generated": 160,
    "real": 150,
    "features": "random-21f4aace",
    "resize": "antialiased",
    "comparable": False,
}
SHAPES = {
    "metric": "shapes",
    "checkpoint": CHECKPOINT,
    "seed": 0,
    "nearest_iou": [0.61, 0.42, 0.73],
    "over_half": 2,
    "pairwise_iou_max": 0.66,
    "training": 72,
    "largest_piece": [1.0, 0.95, 0.875],
}
VOID = {"meta", "link", "img", "br"}


class Reader(HTMLParser):
    """Collects the references and the text of a page, and checks that its tags nest."""

    def __init__(self):
        super().__init__()
        self.open, self.references, self.text, self.alternatives = [], [], [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.references += [values[name] for name in ("src", "href") if name in values]
        if tag == "img":
            self.alternatives.append(values["alt"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def rendered(gallery, metrics):
    return gallery_page(gallery, metrics).render()


def gallery(shapes=2, views=3, textures=2, **changes):
    made = [
        GeneratedShape(
            name=f"shape-{index + 1:02d}",
            code=(0.5, -1.0),
            mesh=f"shape-{index + 1:02d}/mesh.glb",
            faces=1234,
            largest_piece=1.0,
            score=0.0,
            views=tuple(
                ViewFiles(
                    f"shape-{index + 1:02d}/view-{view}-silhouette.png",
                    f"shape-{index + 1:02d}/view-{view}-depth.png",
                    tuple(f"shape-{index + 1:02d}/view-{view}-texture-{texture}.png" for texture in range(textures)),
                )
                for view in range(views)
            ),
        )
        for index in range(shapes)
    ]
    values = {
        "class_name": "chair",
        "run": "runs/chair",
        "checkpoint": CHECKPOINT,
        "seed": 0,
        "image_size": 64,
        "resolution": 32,
        "level": 0.5,
        "sampling": {"pieces": "largest", "truncation": 0.7},
        "viewpoints_deg": tuple((30.0 * view, 10.0) for view in range(views)),
        "texture_codes": tuple((float(texture),) for texture in range(textures)),
        "shapes": tuple(made),
        "versions": {"von": "0.1"},
    }
    return Gallery(**values | changes)


def test_every_file_is_shown_and_nothing_comes_from_elsewhere(tmp_path):
    made = gallery()
    page = write_page(tmp_path, made, [])
    references = [each for each in read(page.read_text("utf-8")).references if not each.startswith("data:")]
    expected = {"generated.json"}
    for shape in made.shapes:
        expected.add(shape.mesh)
        for view in shape.views:
            expected |= {view.silhouette, view.depth, *view.images}
    assert set(references) == expected
    html = page.read_text("utf-8")
    assert not re.search(r"https?:|//[a-z]|@import|url\(", html)


def test_every_picture_says_what_it_shows():
    alternatives = read(rendered(gallery(), [])).alternatives
    assert "Shape 02, texture 2, 60°, 10° up" in alternatives
    assert len([each for each in alternatives if each]) == len(set(alternatives) - {""}) == 2 * 3 * 4


def test_names_from_outside_cannot_break_the_page():
    nasty = '<script>alert("1")</script>&'
    html = rendered(gallery(class_name=nasty, run=nasty), [FID | {"features": nasty}])
    assert "<script>alert" not in html
    text = "".join(read(html).text)
    assert text.count(nasty) >= 3


def test_unmeasured_checkpoints_say_so():
    text = "".join(read(rendered(gallery(), [])).text)
    assert "Nothing has been measured on this checkpoint yet" in text


def test_figures_are_shown_with_how_they_were_measured():
    text = "".join(read(rendered(gallery(), [FID, SHAPES])).text)
    for part in ("12.5", "5% of the untrained model's 250", "160 generated images against 150 photos, seed 0"):
        assert part in text
    assert "not comparable with published values" in text
    assert "2 of 3" in text
    assert "0.66" in text
    assert "IoU 0.61 with its nearest training shape" in text


def test_published_features_need_no_warning():
    (figure,) = figures_of([FID | {"comparable": True, "untrained": None}])
    assert "not comparable" not in figure.note
    assert figure.share is None


def test_every_image_score_has_its_figure():
    origin = {key: FID[key] for key in FID if key not in ("metric", "value", "untrained")}
    kid = {"metric": "kid", "value": 0.0123, "spread": 0.004, "subsets": 100, "subset_size": 150} | origin
    manifold = {
        "metric": "precision_recall",
        "precision": 0.7,
        "recall": 0.4,
        "density": 0.9,
        "coverage": 0.6,
    } | origin
    figures = figures_of([FID, kid, manifold, SHAPES])
    assert [each.value for each in figures] == ["12.5", "0.0123", "0.70", "2", "0.61", "0.66", "95.0%"]
    assert figures[1].unit == "± 0.004"
    assert figures[2].unit == "and 0.40"


def test_the_newest_line_of_a_metric_counts():
    (figure,) = figures_of([FID, FID | {"value": 9.0}])
    assert figure.value == "9"


def test_overlaps_of_another_seed_are_not_put_beside_the_shapes():
    html = rendered(gallery(seed=7), [SHAPES])
    assert "with its nearest training shape" not in html


def test_metrics_of_other_checkpoints_are_left_out(tmp_path):
    import json

    other = FID | {"checkpoint": CHECKPOINT | {"sha256": "cd" * 32}}
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (FID, other, SHAPES)))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('\n[1]\n{"metric": "other", "checkpoint": "by name"}\n{"metric": "fid", "che')
    assert read_metrics(tmp_path, CHECKPOINT["sha256"]) == [FID, SHAPES]
    assert read_metrics(tmp_path / "nowhere", CHECKPOINT["sha256"]) == []


def test_untrained_textures_are_called_so():
    assert "untrained networks" not in rendered(gallery(), [])
    assert "untrained networks" in rendered(gallery(checkpoint=CHECKPOINT | {"stage": "shape"}), [])


@pytest.mark.parametrize("shapes", [1, 12])
def test_the_page_counts_in_words(shapes):
    text = "".join(read(rendered(gallery(shapes=shapes, views=1, textures=1), [])).text)
    assert f"{shapes} shape{'s' if shapes > 1 else ''} × 1 viewpoint × 1 texture" in text


def test_the_page_begins_with_what_hangs_together_and_looks_real(tmp_path):
    made = gallery(shapes=3)
    loose, strange, real = made.shapes
    shapes = (
        dataclasses.replace(loose, largest_piece=0.7, score=9.0),
        dataclasses.replace(strange, score=-3.0),
        dataclasses.replace(real, score=2.0),
    )
    made = dataclasses.replace(made, shapes=shapes)
    assert [each.name for each in made.best_first] == ["shape-03", "shape-02", "shape-01"]
    html = write_page(tmp_path, made, []).read_text("utf-8")
    assert html.index('id="shape-03"') < html.index('id="shape-02"') < html.index('id="shape-01"')
    assert "best first: shapes in one piece, by the score of the shape critic" in html
