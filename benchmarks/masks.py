"""Benchmark of segmentation against ground-truth masks: VON, a bare threshold and plain GrabCut.

python -m benchmarks.masks                 all collections of the reference data
python -m benchmarks.masks --only photos   only the catalogue photos
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.measure import REALDATA, Table
from vondata.images.decoding import decode_mask, decode_photo
from vondata.images.masks import bounding_box, cut_out, frame_of_box
from vondata.images.prepare import LocatedObject, locate_object
from vondata.images.settings import ImageSettings
from vondata.types import Rejected

Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

MAX_PIXELS = 100_000_000
THRESHOLD = 16  # below white; the best bare threshold on the chairs
SYNTHETIC_EVERY = 2  # of Pix3D's objects, to paste on other backgrounds
COLLECTIONS = ("photos", "pasted", "rooms", "street")


@dataclass(frozen=True)
class Case:
    """A photo and the true mask of its object, both as files."""

    photo: Path
    truth: Path

    def true_mask(self) -> Bools:
        """(h, w); the alpha channel if the file has one."""
        decoded = decode_photo(self.truth, max_pixels=MAX_PIXELS, upright=False)
        return decode_mask(self.truth, max_pixels=MAX_PIXELS) if decoded.alpha is None else decoded.alpha >= 128


@dataclass(frozen=True)
class Outcome:
    """A method's result on a case: its score, or the reason of the rejection."""

    case: Case
    iou: float
    framed_iou: float
    reason: str
    seconds: float


def main() -> None:
    """Prints a table of scores and one of rejections."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--realdata", type=Path, default=REALDATA, help="folder of the reference data")
    parser.add_argument("--only", choices=COLLECTIONS, action="append", help="this collection only; repeat for more")
    parser.add_argument("--json", action="store_true", help="print the tables as JSON")
    parser.add_argument("--output", type=Path, help="JSON file for the first table")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    command = f"python -m benchmarks.masks {' '.join(sys.argv[1:])}".strip()
    table = Table("Masks against the truth", command, notes=[_LEGEND])
    reasons = Table("Rejected", command)
    with TemporaryDirectory() as folder:
        for name, cases in _collections(arguments.realdata, Path(folder), arguments.only or list(COLLECTIONS)):
            _measure(name, cases, table, reasons)
    if arguments.json:
        print(json.dumps({each.title: each.rows for each in (table, reasons)}, indent=2, default=str))
    else:
        table.finish(arguments.output)
        reasons.finish(None)


_LEGEND = (
    "IoU of accepted photos, at the photo's size; `prepared` compares at the prepared size, inside the square "
    "that is cut out. ms: processor time a photo, reading the file included."
)


def _collections(realdata: Path, scratch: Path, chosen: list[str]) -> Iterator[tuple[str, list[Case]]]:
    rooms = _rooms(realdata / "pix3d")
    if "photos" in chosen:
        for truth in sorted(path for path in (realdata / "photo_truth").iterdir() if path.is_dir()):
            photos = sorted((realdata / "photos" / truth.name).iterdir())
            yield f"photos/{truth.name}", [Case(photo, truth / f"{photo.stem}.png") for photo in photos]
    if "pasted" in chosen:
        for name, scene in SCENES.items():
            yield f"pix3d pasted {name}", [_pasted(case, scene, scratch / name) for case in rooms[::SYNTHETIC_EVERY]]
    if "rooms" in chosen:
        yield "pix3d without annotation", rooms
    if "street" in chosen:
        photos = sorted((realdata / "real_photos").glob("*.jpg"))
        yield "real_photos", [Case(photo, photo.with_name(f"{photo.stem}_matte.png")) for photo in photos]


def _rooms(root: Path) -> list[Case]:
    entries = json.loads((root / "pix3d.json").read_bytes())
    whole = [entry for entry in entries if not entry["truncated"] and not entry["occluded"]]
    return [Case(root / entry["img"], root / entry["mask"]) for entry in whole]


def _measure(name: str, cases: list[Case], table: Table, reasons: Table) -> None:
    for method, find in METHODS.items():
        outcomes = [_try(case, find) for case in cases]
        accepted = [outcome for outcome in outcomes if not outcome.reason]
        scores = np.array([outcome.iou for outcome in accepted])
        framed = np.array([outcome.framed_iou for outcome in accepted])
        table.add(
            collection=name,
            method=method,
            photos=len(cases),
            accepted=len(accepted) / len(cases),
            mean=_rounded(scores.mean()) if len(scores) else None,
            median=_rounded(np.median(scores)) if len(scores) else None,
            **{"over 0.9": _rounded((scores > 0.9).mean()) if len(scores) else None},
            **{"prepared mean": _rounded(framed.mean()) if len(framed) else None},
            ms=1000 * float(np.mean([outcome.seconds for outcome in outcomes])),
        )
        for reason, count in Counter(outcome.reason for outcome in outcomes if outcome.reason).most_common():
            names = [outcome.case.photo.stem for outcome in outcomes if outcome.reason == reason]
            reasons.add(collection=name, reason=reason, photos=count, which=" ".join(names[:24]))


def _try(case: Case, find: Callable[[Path], Bools]) -> Outcome:
    started = time.process_time()
    try:
        mask, reason = find(case.photo), ""
    except Rejected as verdict:
        return Outcome(case, np.nan, np.nan, verdict.reason, time.process_time() - started)
    seconds = time.process_time() - started
    truth = case.true_mask()
    return Outcome(case, _iou(mask, truth), _framed_iou(mask, truth), reason, seconds)


def _von(path: Path) -> Bools:
    found: LocatedObject = locate_object(path, ImageSettings())
    return found.mask_in_photo()


def _bare_threshold(path: Path) -> Bools:
    photo = decode_photo(path, max_pixels=MAX_PIXELS)
    return photo.rgb.min(axis=2) < 255 - THRESHOLD if photo.alpha is None else photo.alpha >= 128


def _plain_grabcut(path: Path) -> Bools:
    photo = decode_photo(path, max_pixels=MAX_PIXELS)
    if photo.alpha is not None:
        return np.asarray(photo.alpha >= 128)
    scale = min(1.0, 512 / max(photo.rgb.shape[:2]))
    size = (round(scale * photo.rgb.shape[1]), round(scale * photo.rgb.shape[0]))
    small = cv2.resize(photo.rgb, size, interpolation=cv2.INTER_AREA)
    cv2.setRNGSeed(0)
    # All but the two outermost pixels may be object; the border's median colour starts as background.
    labels = np.where(_bare_mode(small), cv2.GC_PR_BGD, cv2.GC_PR_FGD).astype(np.uint8)
    labels[:2], labels[-2:], labels[:, :2], labels[:, -2:] = (cv2.GC_BGD,) * 4
    if np.count_nonzero(labels == cv2.GC_PR_FGD) >= 8:
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(small[..., ::-1].copy(), labels, None, *models, 5, cv2.GC_INIT_WITH_MASK)
    mask = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8) * 255
    return np.asarray(cv2.resize(mask, photo.rgb.shape[1::-1], interpolation=cv2.INTER_LINEAR) > 127)


def _bare_mode(rgb: Bytes) -> Bools:
    border = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])
    difference = np.abs(rgb.astype(int) - np.median(border, axis=0))
    return np.asarray(difference.max(axis=2) < THRESHOLD)


METHODS: dict[str, Callable[[Path], Bools]] = {
    "VON": _von,
    "bare threshold": _bare_threshold,
    "plain GrabCut": _plain_grabcut,
}


def _iou(mask: Bools, truth: Bools) -> float:
    union = int((mask | truth).sum())
    return float((mask & truth).sum() / union) if union else 1.0


def _framed_iou(mask: Bools, truth: Bools) -> float:
    """IoU at the prepared size, inside the square framed by the mask."""
    if not mask.any():
        return 0.0
    settings = ImageSettings()
    left, top, side = frame_of_box(bounding_box(mask), settings.margin)
    to_square = np.array([[1.0, 0.0, -left], [0.0, 1.0, -top]])
    framed = [
        cv2.resize(
            cv2.warpAffine(each.astype(np.float32), to_square, (side, side)),
            (settings.size, settings.size),
            interpolation=cv2.INTER_AREA,
        )
        > 0.5
        for each in (mask, truth)
    ]
    return _iou(framed[0], framed[1])


def _pasted(case: Case, scene: Callable[[Bytes, Bools, np.random.Generator], Bytes], folder: Path) -> Case:
    """The object of a case on another background, as a new JPEG file."""
    rng = np.random.default_rng(abs(int.from_bytes(case.photo.stem.encode()[:8], "big")))
    photo = decode_photo(case.photo, max_pixels=MAX_PIXELS).rgb
    path = folder / f"{case.photo.stem}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene(photo, case.true_mask(), rng)).save(path, quality=int(rng.integers(80, 96)))
    return Case(path, case.truth)


def _on(background: npt.NDArray[np.floating], photo: Bytes, truth: Bools) -> Bytes:
    cut = cut_out(photo, truth)
    alpha = cut.alpha[..., None]
    return np.asarray(np.clip(cut.rgb * alpha + background * (1.0 - alpha) + 0.5, 0, 255), dtype=np.uint8)


def _white(photo: Bytes, truth: Bools, rng: np.random.Generator) -> Bytes:
    return _on(np.full(photo.shape, 255.0), photo, truth)


def _shadowed(photo: Bytes, truth: Bools, rng: np.random.Generator) -> Bytes:
    """On white, with a soft contact shadow at the foot."""
    left, top, right, bottom = bounding_box(truth)
    shadow = np.zeros(truth.shape, dtype=np.float32)
    centre = (
        round((left + right) / 2 + rng.uniform(-0.1, 0.1) * (right - left)),
        round(bottom - 0.06 * (bottom - top)),
    )
    axes = (round(0.5 * (right - left)), max(3, round(0.08 * (bottom - top))))
    cv2.ellipse(shadow, centre, axes, 0, 0, 360, 1.0, -1)
    shadow = cv2.GaussianBlur(shadow, (0, 0), float(rng.uniform(5, 10))) * np.float32(rng.uniform(0.15, 0.4))
    return _on(255.0 * (1.0 - shadow[..., None]) * np.ones(3), photo, truth)


def _studio(photo: Bytes, truth: Bools, rng: np.random.Generator) -> Bytes:
    """On a coloured background that falls off towards the corners, with grain."""
    height, width = truth.shape
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    colour = rng.uniform(90, 230, 3)
    fall_off = 1.0 - rng.uniform(0.05, 0.25) * (0.5 * x**2 + 0.5 * y**2 + 0.3 * y)
    return _on(fall_off[..., None] * colour + rng.normal(0.0, 1.5, photo.shape), photo, truth)


SCENES: dict[str, Callable[[Bytes, Bools, np.random.Generator], Bytes]] = {
    "on white": _white,
    "on white with shadow": _shadowed,
    "in a studio": _studio,
}


def _rounded(value: float) -> float:
    return round(float(value), 4)


if __name__ == "__main__":
    main()
