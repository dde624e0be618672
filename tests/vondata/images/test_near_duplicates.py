"""Near-duplicates are recognised across formats and sizes, other photos are not; of duplicates the best is kept."""

import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vondata.images.near_duplicates import (
    BITS,
    MAX_BITS,
    REASON,
    SORTED,
    WORDS,
    differing_bits,
    find_near_duplicates,
    parse_hashes,
    perceptual_hash,
    review_of,
)
from vondata.images.prepare import prepare_image
from vondata.images.settings import ImageSettings

SETTINGS = ImageSettings(size=64)
DIGITS = BITS // 4


@pytest.fixture
def hash_of(photo_item, tmp_path):
    """The perceptual hash of a photo, saved and prepared."""

    def computed(photo, name="photo.jpg", **options):
        item = photo_item(photo if isinstance(photo, Image.Image) else Image.fromarray(photo), name, **options)
        return prepare_image(item, SETTINGS, tmp_path / "prepared.png")["phash"]

    return computed


def differ(first, second):
    words, _ = parse_hashes([first, second])
    return int(differing_bits(words[:1], words[1:])[0])


def row(id, phash, **values):
    known = {"status": "prepared", "reason": None, "viewpoint_origin": "none", "sha256": id}
    return {"id": id, "phash": phash, "box_width_px": 100, "box_height_px": 100, **known, **values}


def random_hash(rng, colour="808080"):
    return f"{rng.getrandbits(BITS):0{DIGITS}x}-{colour}"


def near(phash, rng, bits):
    """A hash of which this many bits differ; of the lowest frequencies half as many, as in real copies."""
    number, low = int(phash[:DIGITS], 16), round(bits * SORTED / BITS / 2)
    for place in rng.sample(range(BITS - SORTED), bits - low) + rng.sample(range(BITS - SORTED, BITS), low):
        number ^= 1 << place
    return f"{number:0{DIGITS}x}{phash[DIGITS:]}"


def test_copies_have_nearly_the_same_hash(hash_of, chair, paint):
    photo = Image.fromarray(paint(chair))
    width, height = photo.size
    original = hash_of(photo, quality=95)
    copies = {
        "small": hash_of(photo.resize((width // 2, height // 2), Image.Resampling.LANCZOS), quality=85),
        "coarse": hash_of(photo, quality=40),
        "cropped": hash_of(photo.crop((15, 10, width - 22, height - 8)), quality=90),
        "large": hash_of(photo.resize((2 * width, 2 * height), Image.Resampling.BICUBIC), quality=85),
        "png": hash_of(photo, "photo.png"),
    }
    assert {name: differ(original, copy) <= MAX_BITS for name, copy in copies.items()} == dict.fromkeys(copies, True)
    rows = [row(name, copy) for name, copy in copies.items()] + [
        row("original", original, box_width_px=300, box_height_px=300)
    ]
    assert {id: verdict[0] for id, verdict in find_near_duplicates(rows).items()} == dict.fromkeys(copies, REASON)


def test_another_object_and_another_colour_are_other_photos(hash_of, chair, paint):
    original = hash_of(paint(chair))
    mirrored_and_bent = np.ascontiguousarray(paint(chair)[:, ::-1])
    mirrored_and_bent[60:120, 120:220] = 255
    rows = [
        row("original", original),
        row("other", hash_of(mirrored_and_bent)),
        row("blue", hash_of(paint(chair, (40, 60, 150)))),
    ]
    assert find_near_duplicates(rows) == {}


def test_real_photos_of_different_chairs_stay(realdata, tmp_path):
    """Every fifth catalogue photo: no two of them are from nearly the same viewpoint of the same chair."""
    from vondata.types import Item, Rejected

    rows = []
    for path in sorted((realdata / "photos" / "chair").iterdir())[::5]:
        try:
            made = prepare_image(Item(path.stem, "chair", str(path), (str(path),)), SETTINGS, tmp_path / "one.png")
        except Rejected:
            continue
        rows.append(row(path.stem, made["phash"]))
    assert len(rows) > 20
    assert find_near_duplicates(rows) == {}


def test_the_annotated_one_stays_then_the_larger_then_the_first(chair, paint, hash_of):
    same = hash_of(paint(chair))
    rows = [
        row("c", same),
        row("b", same, box_width_px=200),
        row("a", same),
    ]
    assert set(find_near_duplicates(rows)) == {"a", "c"}
    assert find_near_duplicates(rows)["a"][1].startswith("looks like b, which is kept")
    assert set(find_near_duplicates([*rows, row("z", same, viewpoint_origin="annotated")])) == {"a", "b", "c"}
    assert set(find_near_duplicates(rows[::2])) == {"c"}
    annotated = [row(id, same, viewpoint_origin="annotated", sha256=sha) for id, sha in ("rx", "sy", "tx")]
    assert set(find_near_duplicates(annotated)) == {"t"}  # the same file twice
    twins = [row("a", same, sha256="x"), row("b", same, sha256="x")]
    assert find_near_duplicates(twins)["b"] == (REASON, "the same file as a, which is kept")


def test_rejected_photos_take_no_part_and_found_ones_take_part_again(chair, paint, hash_of):
    same = hash_of(paint(chair))
    lost = row("a", None, status="rejected", reason="mask_empty")
    found = row("b", same, status="rejected", reason=REASON)
    assert find_near_duplicates([lost, found]) == {}  # the one it duplicated has gone
    assert set(find_near_duplicates([lost, found, row("a2", same)])) == {"b"}
    assert review_of(ImageSettings(keep_duplicates=True)).find([found, row("a2", same)]) == {}


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32), groups=st.integers(1, 30), bits=st.integers(0, MAX_BITS))
def test_all_duplicates_are_found_in_any_order(seed, groups, bits):
    rng = random.Random(seed)
    rows = []
    for group in range(groups):
        original = random_hash(rng)
        rows.append(row(f"{group:02}", original))
        rows += [row(f"{group:02}-{copy}", near(original, rng, bits)) for copy in range(rng.randrange(3))]
    copies = {each["id"] for each in rows if "-" in each["id"]}
    found = find_near_duplicates(rows)
    assert set(found) == copies
    rng.shuffle(rows)
    assert find_near_duplicates(rows) == found
    for id, (_, detail) in found.items():
        assert f" {id[:2]}" in detail


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32), bits=st.integers(MAX_BITS + 1, BITS - SORTED))
def test_what_differs_more_stays(seed, bits):
    rng = random.Random(seed)
    original = random_hash(rng)
    assert find_near_duplicates([row("a", original), row("b", near(original, rng, bits))]) == {}


def test_one_that_stays_is_named_not_one_in_between():
    rng = random.Random(0)
    first = random_hash(rng)
    number = int(first[:DIGITS], 16)
    chain = [f"{number ^ ((1 << step) - 1):0{DIGITS}x}{first[DIGITS:]}" for step in range(0, 4 * MAX_BITS, MAX_BITS)]
    found = find_near_duplicates([row(f"{index}", phash) for index, phash in enumerate(chain)])
    assert found.keys() == {"1", "3"}  # 2 is far enough from 0, which stays
    assert "looks like 2" in found["3"][1]


def test_time_grows_with_the_number_and_crowds_hide_no_copy():
    """20,000 photos, half of them clustered around few hashes, like catalogue photos."""
    rng = random.Random(1)
    crowds = [random_hash(rng) for _ in range(20)]
    originals = [random_hash(rng) for _ in range(9000)]
    originals += [near(rng.choice(crowds), rng, rng.randrange(100, 200)) for _ in range(9000)]
    rows = [row(f"{index:05}", phash) for index, phash in enumerate(originals)]
    copies = rng.sample(range(len(originals)), 2000)
    rows += [row(f"copy-{index:05}", near(originals[index], rng, rng.randrange(60))) for index in copies]
    started = time.process_time()
    found = find_near_duplicates(rows)
    assert time.process_time() - started < 20.0  # comparing all pairs takes minutes
    assert sum(id.startswith("copy") for id in found) / len(copies) > 0.999


def test_a_text_that_is_no_hash_is_refused():
    with pytest.raises(ValueError, match="is not a perceptual hash"):
        parse_hashes(["12"])
    words, colours = parse_hashes([])
    assert words.shape == (0, WORDS)
    assert colours.shape == (0, 3)


def test_a_hash_of_another_version_takes_no_part():
    """As a merged dataset may have; its photos are prepared anew when their collection is."""
    old = f"{'0' * 30}-808080"
    assert find_near_duplicates([row("a", old), row("b", old)]) == {}
    assert ImageSettings().phash_bits == BITS


def test_the_hash_of_nothing_but_white():
    blank = np.full((64, 64, 4), 255, dtype=np.uint8)
    blank[..., 3] = 0
    assert perceptual_hash(blank).endswith("-000000")
