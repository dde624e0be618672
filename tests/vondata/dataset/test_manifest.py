"""Manifests: stable types, both formats alike, columns and reasons described."""

import json
import math
import random
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from vondata.dataset.manifest import (
    SPLIT_SHARES,
    ManifestMissingError,
    dataset_classes,
    manifest_path,
    output_path,
    prepared,
    read_manifest,
    read_viewpoints,
    split_of,
    write_manifest,
)
from vondata.dataset.metadata import DatasetFormatError, PartRecord, read_dataset, record_part
from vondata.dataset.schema import (
    ColumnTypeError,
    UnknownColumnError,
    UnknownReasonError,
    known_columns,
    known_reasons,
    load_reason,
    manifest_schema,
    plain_row,
)
from vondata.pipeline.journal import Journal
from vondata.types import Kind

ALWAYS = ["id", "class", "source", "sha256", "status", "reason", "detail", "split", "seconds"]
KINDS = get_args(Kind)


def row(id: str, **values: object) -> dict[str, object]:
    basis = {"id": id, "class": "chair", "source": f"/x/{id}", "status": "prepared", "split": split_of(id)}
    return plain_row("shapes", {**basis, **values})


@pytest.mark.parametrize("kind", KINDS)
def test_columns_are_described(kind: Kind) -> None:
    columns = known_columns(kind)
    assert [column.name for column in columns[: len(ALWAYS)]] == ALWAYS
    assert len({column.name for column in columns}) == len(columns)
    for column in columns:
        assert column.dtype in ("string", "int", "float", "bool")
        assert column.meaning.endswith(".")
        assert bool(column.unit) or not column.name.endswith(("_deg", "_px", "_s"))


def test_types_do_not_depend_on_the_values(tmp_path: Path) -> None:
    write_manifest(tmp_path, "chair", "shapes", [row("a"), row("b")])
    write_manifest(
        tmp_path, "car", "shapes", [row("a", faces=3, seconds=0.5) | {"class": "car"}, row("b") | {"class": "car"}]
    )
    empty, filled = (read_manifest(tmp_path, name, "shapes") for name in ("chair", "car"))
    assert empty.dtypes.to_dict() == filled.dtypes.to_dict()
    assert filled["faces"].tolist() == [3, pd.NA]
    assert filled["seconds"].dtype == np.float64
    assert math.isnan(filled["seconds"][1])
    write_manifest(tmp_path, "bed", "shapes", [])
    assert read_manifest(tmp_path, "bed", "shapes").columns.tolist() == manifest_schema("shapes").names


def test_both_formats_hold_the_same(tmp_path: Path) -> None:
    rows = [row("a", faces=3), row("b", status="rejected", reason="no_mesh", detail='a "quoted", text\nof two lines')]
    write_manifest(tmp_path, "chair", "shapes", rows)
    table = pd.read_csv(manifest_path(tmp_path, "chair", "shapes").with_suffix(".csv"))
    frame = read_manifest(tmp_path, "chair", "shapes")
    assert table.columns.tolist() == frame.columns.tolist()
    assert json.loads(table.to_json(orient="records")) == json.loads(frame.to_json(orient="records"))


def test_rows_of_many_batches_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vondata.dataset.manifest.BATCH_ROWS", 7)
    write_manifest(tmp_path, "chair", "shapes", (row(f"m{number:03}") for number in range(50)))
    assert read_manifest(tmp_path, "chair", "shapes")["id"].tolist() == [f"m{number:03}" for number in range(50)]


def test_a_manifest_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_manifest(tmp_path, "chair", "shapes", [row("a")])

    def failing() -> object:
        yield row("b")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_manifest(tmp_path, "chair", "shapes", failing())  # type: ignore[arg-type]  # a generator of rows
    assert read_manifest(tmp_path, "chair", "shapes")["id"].tolist() == ["a"]
    assert sorted(path.name for path in (tmp_path / "chair").iterdir()) == ["shapes.csv", "shapes.parquet"]


def test_prepared_rows_of_a_split() -> None:
    frame = pd.DataFrame(
        {"status": ["prepared", "rejected", "prepared"], "split": ["train", "train", "val"], "id": ["a", "b", "c"]}
    )
    assert prepared(frame)["id"].tolist() == ["a", "c"]
    assert prepared(frame, "val")["id"].tolist() == ["c"]


def test_splits_have_their_shares_and_never_move() -> None:
    names = [f"model-{number}" for number in range(20_000)]
    found = {name: split_of(name) for name in names}
    for split, share in SPLIT_SHARES.items():
        assert np.mean([each == split for each in found.values()]) == pytest.approx(share, abs=0.01)
    random.Random(0).shuffle(names)
    assert {name: split_of(name) for name in names} == found
    # Recorded values: another hash or another order of shares would move every item of every dataset.
    recorded = [split_of(f"m{number}") for number in range(60)]
    assert (recorded.index("val"), recorded.index("test")) == (13, 46)


def test_plain_rows_hold_plain_values_of_their_type() -> None:
    values = {"id": "a", "faces": np.int64(3), "seconds": np.float32(0.5), "source": "caf\udce9"}
    made = plain_row("shapes", values)
    assert list(made) == [column.name for column in known_columns("shapes")]
    assert (made["faces"], made["seconds"], made["source"]) == (3, 0.5, "caf\\xe9")
    assert type(made["faces"]) is int
    assert made["status"] is None
    assert plain_row("shapes", {"seconds": float("nan")})["seconds"] is None
    assert plain_row("shapes", {"seconds": 3})["seconds"] == 3.0
    for wrong in ({"faces": 1.5}, {"faces": True}, {"id": 3}, {"seconds": "1"}):
        with pytest.raises(ColumnTypeError):
            plain_row("shapes", wrong)
    with pytest.raises(UnknownColumnError, match="no column hue, tint of shapes"):
        plain_row("shapes", {"tint": 1, "hue": 2})


def test_reasons_are_a_closed_list_with_advice() -> None:
    names = [reason.name for reason in known_reasons()]
    assert len(set(names)) == len(names)
    for reason in known_reasons():
        assert set(reason.kinds) <= set(KINDS)
        assert reason.explain.endswith(".")
        assert reason.remedy.endswith(".")
    assert load_reason("no_mesh").kinds == ("shapes", "renders")
    with pytest.raises(UnknownReasonError, match="did you mean 'truncated'"):
        load_reason("trunkated")


def test_the_page_about_the_format_is_current() -> None:
    script = Path(__file__).resolve().parents[3] / "scripts" / "document_columns.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_where_files_lie(tmp_path: Path) -> None:
    assert output_path(tmp_path, "chair", "shapes", "a") == tmp_path / "chair" / "shapes" / "a.npz"
    assert output_path(tmp_path, "chair", "images", "a") == tmp_path / "chair" / "images" / "a.png"
    assert dataset_classes(tmp_path) == []
    write_manifest(tmp_path, "chair", "shapes", [])
    write_manifest(tmp_path, "car", "images", [])
    assert dataset_classes(tmp_path) == ["car", "chair"]
    assert dataset_classes(tmp_path, "images") == ["car"]


def test_a_missing_manifest_is_answered_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(ManifestMissingError, match="has no images of class 'car'") as raised:
        read_manifest(tmp_path, "car", "images")
    assert (raised.value.class_name, raised.value.kind) == ("car", "images")


def test_the_record_of_a_dataset(tmp_path: Path) -> None:
    assert read_dataset(tmp_path) == {}
    shapes, images = PartRecord({"resolution": 64}, "ab", 3, 1), PartRecord({"size": 128}, "cd", 5, 0)
    record_part(tmp_path, "chair", "shapes", shapes)
    record_part(tmp_path, "chair", "images", images)
    assert read_dataset(tmp_path) == {"chair": {"shapes": shapes, "images": images}}
    (tmp_path / "von-dataset.json").write_text("[]", "utf-8")
    with pytest.raises(DatasetFormatError, match="damaged"):
        read_dataset(tmp_path)


def photo(id: str, azimuth: float | None, **values: object) -> dict[str, object]:
    basis = {"id": id, "class": "chair", "source": f"/x/{id}", "status": "prepared", "split": split_of(id)}
    return plain_row("images", {**basis, "azimuth_deg": azimuth, "elevation_deg": azimuth and 12.0, **values})


def test_the_manifest_of_photos_holds_how_their_viewpoints_are_spread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vondata.dataset.manifest.BATCH_ROWS", 2)
    rows = [
        photo("a", 31.0),
        photo("b", 34.0),
        photo("c", -180.0, viewpoint_confidence=0.9),
        photo("d", 100.0, viewpoint_confidence=0.3),
        photo("e", None),
        photo("f", 50.0, status="rejected", reason="duplicate"),
    ]
    write_manifest(tmp_path, "chair", "images", rows)
    spread = read_viewpoints(tmp_path, "chair")
    assert spread is not None
    assert spread.counts.sum() == 3
    drawn = spread.sample(3000, np.random.default_rng(0))
    assert (drawn[:, 1] >= 10.0).all()
    assert (drawn[:, 1] <= 12.5).all()
    assert ((drawn[:, 0] >= 30.0) & (drawn[:, 0] <= 35.0)).mean() == pytest.approx(2 / 3, abs=0.04)
    assert ((drawn[:, 0] >= -180.0) & (drawn[:, 0] <= -175.0)).mean() == pytest.approx(1 / 3, abs=0.04)
    pd.read_parquet(manifest_path(tmp_path, "chair", "images")).to_parquet(  # by another program
        manifest_path(tmp_path, "chair", "images"), index=False
    )
    again = read_viewpoints(tmp_path, "chair")
    assert again is not None
    assert again.to_json() == spread.to_json()


def test_no_known_viewpoint_is_no_spread(tmp_path: Path) -> None:
    with pytest.raises(ManifestMissingError):
        read_viewpoints(tmp_path, "chair")
    write_manifest(tmp_path, "chair", "images", [photo("a", None)])
    assert read_viewpoints(tmp_path, "chair") is None
    write_manifest(tmp_path, "chair", "images", [])
    assert read_viewpoints(tmp_path, "chair") is None


def test_columns_of_older_datasets_are_read_under_their_new_names(tmp_path: Path) -> None:
    """0.1.0 called the perceptual hash `look`."""
    values = {"id": "a", "class": "chair", "status": "prepared", "split": "train", "collection": "c", "source": "/x"}
    new = plain_row("images", values | {"phash": "00-ff"})
    write_manifest(tmp_path, "chair", "images", [new])
    path = manifest_path(tmp_path, "chair", "images")
    pd.read_parquet(path).rename(columns={"phash": "look"}).to_parquet(path)
    assert read_manifest(tmp_path, "chair", "images")["phash"].tolist() == ["00-ff"]
    with Journal(tmp_path, "chair", "images") as journal:
        old = {("look" if name == "phash" else name): value for name, value in new.items()}
        journal.record("a", stamp=1, content=None, settings="s", input="/x", row=old)
    with Journal(tmp_path, "chair", "images") as journal:
        assert list(journal.rows()) == [new | {"settings": "s"}]
