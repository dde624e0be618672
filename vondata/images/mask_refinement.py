"""Mask refinement on plain backgrounds: a small convolutional network classifies the regions found by contrast.

The mask found by contrast has sharp edges, but includes other things that stand out (shadows, reflections, swatches,
text, frames), and misses surfaces as bright as the background. The network is run on a small copy. Where the two
disagree over more than a pixel of that copy the network decides, and the border of the region is moved to the
strongest edge nearby. Remaining disagreement makes the mask doubtful.

The network learns what contrast alone cannot tell: that a white seat between its legs belongs to the object, and that
a shadow, a reflection in the floor, a swatch or text does not. The copy has 96 pixels a side. The input is the
difference to the fitted background on a logarithmic scale, which makes one level below white visible.
`scripts/train_mask_network.py` trains the network on procedural objects in a good half hour on one processor core.
Inference runs in NumPy and takes about 10 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from vondata.images.masks import SQUARE, bounding_box, disk, grow, regions, shrink

Floats = npt.NDArray[np.float32]

FILE = Path(__file__).with_name("mask_network.safetensors")
INPUT_PX = 96
CHANNELS = 4  # differences of Y, Cr and Cb on a logarithmic scale, and of Y on a linear one
# Name, input and output channels, stride; all with 3 x 3 weights.
LAYERS = (
    ("half_a", CHANNELS, 16, 2),
    ("half_b", 16, 16, 1),
    ("quarter_a", 16, 32, 2),
    ("quarter_b", 32, 32, 1),
    ("eighth_a", 32, 64, 2),
    ("eighth_b", 64, 64, 1),
    ("sixteenth_a", 64, 96, 2),
    ("sixteenth_b", 96, 96, 1),
    ("sixteenth_c", 96, 96, 1),
    ("eighth_up", 96 + 64, 64, 1),
    ("quarter_up", 64 + 32, 32, 1),
    ("half_up", 32 + 16, 16, 1),
    ("out", 16, 1, 1),
)


def object_likelihood(difference: Floats) -> Floats:
    """(h, w) probability in [0, 1] that each pixel is object.

    Args:
        difference: (h, w, 3) of Y, Cr and Cb to the background, in the window of the photo around everything that
            stands out.
    """
    height, width = difference.shape[:2]
    first = _likelihood(difference)
    second = _likelihood(difference[:, ::-1])[:, ::-1]  # test-time augmentation: the flipped input errs elsewhere
    return np.asarray(cv2.resize((first + second) / 2, (width, height), interpolation=cv2.INTER_LINEAR))


def _likelihood(difference: Floats) -> Floats:
    shown, (rows, columns) = network_input(np.ascontiguousarray(difference))
    likely = cv2.resize(_run(shown), (INPUT_PX, INPUT_PX), interpolation=cv2.INTER_LINEAR)
    return np.asarray(likely[:rows, :columns])


def network_input(difference: Floats) -> tuple[Floats, tuple[int, int]]:
    """(INPUT_PX, INPUT_PX, CHANNELS) input of the network, and how many rows and columns of it show the photo."""
    small, size = placed(difference)
    bent = np.sign(small) * np.log1p(2.0 * np.abs(small)) / np.float32(np.log(511.0))
    return np.dstack([bent, small[..., :1] / np.float32(255)]).astype(np.float32), size


def placed(values: Floats) -> tuple[Floats, tuple[int, int]]:
    """(INPUT_PX, INPUT_PX, ...) values scaled into the upper left, zero-padded; and the rows and columns used."""
    height, width = values.shape[:2]
    scale = INPUT_PX / max(height, width)
    rows, columns = max(1, round(scale * height)), max(1, round(scale * width))
    method = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
    result = np.zeros((INPUT_PX, INPUT_PX, *values.shape[2:]), dtype=np.float32)
    result[:rows, :columns] = cv2.resize(values, (columns, rows), interpolation=method)
    return result, (rows, columns)


def _run(shown: Floats) -> Floats:
    """(INPUT_PX / 2, INPUT_PX / 2) likelihood for an input from `network_input`."""
    stride = {name: stride for name, _, _, stride in LAYERS}

    def step(name: str, x: Floats) -> Floats:
        return np.maximum(_convolved(x, name, stride[name]), np.float32(0))

    def joined(low: Floats, high: Floats) -> Floats:
        return np.concatenate([low.repeat(2, axis=0).repeat(2, axis=1), high], axis=2)

    a = step("half_b", step("half_a", shown))
    b = step("quarter_b", step("quarter_a", a))
    c = step("eighth_b", step("eighth_a", b))
    d = step("sixteenth_c", step("sixteenth_b", step("sixteenth_a", c)))
    c = step("eighth_up", joined(d, c))
    b = step("quarter_up", joined(c, b))
    a = step("half_up", joined(b, a))
    logits = _convolved(a, "out", 1)[..., 0]
    return np.asarray(np.float32(1) / (np.float32(1) + np.exp(-np.clip(logits, -30, 30))))


def _convolved(x: Floats, name: str, stride: int) -> Floats:
    """3 x 3 cross-correlation of (h, w, i) with zero padding: (h / stride, w / stride, o)."""
    weight, bias = _weights()[name]
    height, width, _ = x.shape
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    shifted = [
        padded[row : row + height : stride, column : column + width : stride]
        for row in range(3)
        for column in range(3)
    ]
    return np.asarray(np.concatenate(shifted, axis=2) @ weight + bias)


@cache
def _weights() -> dict[str, tuple[Floats, Floats]]:
    """(9 i, o) weights and (o,) biases of each layer."""
    stored = load_file(FILE)
    return {
        name: (
            np.ascontiguousarray(
                stored[f"{name}.weight"].astype(np.float32).transpose(2, 3, 1, 0).reshape(9 * inputs, outputs)
            ),
            stored[f"{name}.bias"].astype(np.float32),
        )
        for name, inputs, outputs, _ in LAYERS
    }


Bools = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]

MARGIN = 0.08  # around the box of everything that stands out, relative to its longer side
REMOVED, ADDED = 0.1, 0.88  # mean likelihood below which a region is removed, and above which one is added
# Probability that a disputed region is wrong in the mask, by its mean likelihood, measured on 230 rendered photos.
WRONGLY_TAKEN = ((0.15, 0.25, 0.35), (0.7, 0.22, 0.04))
MISSED_COLOURLESS = ((0.75, 0.85, 0.95), (0.1, 0.25, 0.6))
MISSED_TINTED = 0.5
TINT = 0.04  # of 255: minimum mean chroma of a white surface; holes have less
UNLIKELY_PIECE = 0.25  # mean likelihood of a piece
REGION = 0.002  # of the object: smaller disagreements are left to contrast
REACH = 3  # pixels of the network that a border may move to an edge
MIN_LETTER_PX, MAX_LETTER, MAX_LETTERS = 6, 0.25, 200  # height; height relative to the object's; letters examined
INK = 24.0  # of 255: maximum difference between the letters of a line
WRITTEN_ON = 0.5  # factor of the agreement if a line of text runs across the object
DARKEST = 165.0  # of 255: a shadow is at most this much darker than the background
MIN_MIRROR_SHARE = 0.05  # of the height of object and reflection
MIRROR_PX = 128  # longest side of the copy that is searched for a reflection
MIRROR_ALIKE = 0.8  # intersection over union of the parts above and below, mirrored
MIRROR_COLOUR = 0.9  # cosine similarity of their differences to the background
MIRROR_STRENGTH = 0.75  # maximum contrast of a reflection, relative to the object's
MIRROR_TOP = 0.5  # of the mask's height: a reflection begins below this


def refine(mask: Bools, difference: Floats, standing_out: Bools) -> tuple[Bools, float]:
    """Removes and adds regions of a mask.

    Args:
        mask: (h, w) the object by contrast.
        difference: (h, w, 3) of Y, Cr and Cb to the background.
        standing_out: (h, w) everything that stands out from the background.

    Returns:
        (h, w) the object; and the expected intersection over union with the true mask.
    """
    if not standing_out.any():
        return mask, 1.0
    window = _window(standing_out | mask)
    likely = np.zeros(mask.shape, dtype=np.float32)
    likely[window] = object_likelihood(difference[window])
    step = max(1, round(max(likely[window].shape) / INPUT_PX))  # pixels of the photo per pixel of the network
    pieces = _without_unlikely_pieces(mask, likely)
    mirrored = _mirror_image(pieces, difference, likely)
    likely[mirrored] = 0.0
    refined = _settled(pieces & ~mirrored, likely, difference, step)
    agreement = _expected_agreement(refined, likely, difference, step)
    return refined, WRITTEN_ON * agreement if _is_written_on(refined, difference, standing_out) else agreement


def _is_written_on(mask: Bools, difference: Floats, standing_out: Bools) -> bool:
    """Whether a line of text beside the object continues across it, where its letters look like a part of it."""
    if not mask.any():
        return False
    pieces = regions(standing_out & ~grow(mask, SQUARE), connectivity=8)
    _, top, _, bottom = bounding_box(mask)
    width, height, middle = pieces.boxes[:, 2], pieces.boxes[:, 3], pieces.boxes[:, 1] + pieces.boxes[:, 3] / 2
    is_letter = (pieces.areas > 0) & (height >= MIN_LETTER_PX) & (width <= 3 * height)
    is_letter &= height <= MAX_LETTER * (bottom - top)
    for number in np.flatnonzero(is_letter)[:MAX_LETTERS]:
        line = is_letter & (np.abs(middle - middle[number]) < 0.35 * height[number])
        line &= np.abs(np.log(np.maximum(1, height) / height[number])) < 0.5
        even = line & (np.abs(middle - middle[number]) <= 1) & (np.abs(height - height[number]) <= 2)
        if np.count_nonzero(line) < 3 and np.count_nonzero(even) < 2:
            continue
        written = pieces.select(line)
        rows = slice(int(pieces.boxes[line, 1].min()), int((pieces.boxes[line, 1] + height[line]).max()))
        ink = np.median(difference[written], axis=0)
        alike = mask[rows] & (np.abs(difference[rows] - ink) < INK).all(axis=2)
        if alike.sum() > 0.25 * written.sum():
            return True
    return False


def _expected_agreement(mask: Bools, likely: Floats, difference: Floats, step: int) -> float:
    """The expected intersection over union, from how often the network was right about such regions."""
    area = int(mask.sum())
    if not area:
        return 0.0
    disputed = _cores(mask ^ (likely > 0.5), step, REGION * area)
    chroma = np.hypot(difference[..., 1], difference[..., 2])
    found = regions(disputed, connectivity=8)
    is_object = np.nan_to_num(found.mean(mask, disputed)) > 0.5
    mean = np.nan_to_num(found.mean(likely, disputed))
    is_tinted = np.nan_to_num(found.mean(chroma, disputed)) > _least_tint(chroma, ~mask & (likely < 0.05))
    too_much = np.interp(mean, *WRONGLY_TAKEN)
    too_little = np.where(is_tinted, MISSED_TINTED, np.interp(mean, *MISSED_COLOURLESS))
    lost = float((too_much * found.areas)[is_object].sum())
    gained = float((too_little * found.areas)[~is_object].sum())
    return (area - lost) / (area + gained)


def _mirror_image(mask: Bools, difference: Floats, likely: Floats) -> Bools:
    """(h, w) everything below the floor line of an object on a glossy floor, seen from its own height.

    Below some row such a mask repeats what is above it, upside down and fainter. Of such rows the floor line is the
    one where contrast drops most. The network has to agree, the more clearly the less exact the repetition is.
    """
    below = np.zeros_like(mask)
    if not mask.any():
        return below
    left, top, right, bottom = bounding_box(mask)
    scale = max(1.0, max(right - left, bottom - top) / MIRROR_PX)
    size = max(1, round((right - left) / scale)), max(1, round((bottom - top) / scale))
    small = cv2.resize(mask[top:bottom, left:right].astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5
    seen = cv2.resize(np.ascontiguousarray(difference[top:bottom, left:right]), size, interpolation=cv2.INTER_AREA)
    found = _floor_row(small, seen)
    if found is None:
        return below
    floor, alike = found
    contrast = np.where(mask, np.linalg.norm(difference, axis=2), 0.0)[top:bottom]
    rows = contrast.sum(axis=1) / np.maximum(1, mask[top:bottom].sum(axis=1))
    near = range(max(1, round((floor - 2) * scale)), min(len(rows) - 1, round((floor + 2) * scale)) + 1)
    cut = max(near, key=lambda row: rows[max(0, row - 3) : row].mean() - rows[row : row + 3].mean())
    below[top + cut :] = True
    doubt = likely[mask & below].mean() / max(1e-6, float(likely[mask & ~below].mean()))
    is_large = (mask & below).sum() > 0.25 * mask.sum()
    return below if (doubt < 0.5 and is_large) or (doubt < 0.7 and alike > 0.92) else np.zeros_like(mask)


def _floor_row(mask: Bools, difference: Floats) -> tuple[int, float] | None:
    """The first row of a reflection and its overlap with the part above; None without one."""
    height = len(mask)
    best: tuple[float, int, float] | None = None
    for row in range(round(0.45 * height), round(0.96 * height)):
        count = min(height - row, row)
        above, below = mask[row - count : row][::-1], mask[row : row + count]
        both = above & below
        if height - row > row or both.sum() < MIRROR_ALIKE * (above | below).sum():
            continue
        first, second = difference[row - count : row][::-1][both], difference[row:][:count][both]
        strong, faint = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
        alike = float((first * second).sum() / max(1e-6, (strong * faint).sum()))
        share = float(faint.sum() / max(1e-6, strong.sum()))
        as_strong = float((faint > 0.9 * strong).mean())  # not so in a reflection
        if alike < MIRROR_COLOUR or not share < MIRROR_STRENGTH or as_strong > 0.15:
            continue
        if count < MIN_MIRROR_SHARE * height:
            continue
        drop = float(strong[: max(1, len(strong) // 4)].mean() - faint[: max(1, len(faint) // 4)].mean())
        if best is None or drop > best[0]:
            best = drop, row, float(both.sum() / (above | below).sum())
    return None if best is None else best[1:]


def _window(standing_out: Bools) -> tuple[slice, slice]:
    left, top, right, bottom = bounding_box(standing_out)
    margin = 2 + round(MARGIN * max(right - left, bottom - top))
    return slice(max(0, top - margin), bottom + margin), slice(max(0, left - margin), right + margin)


def _edges(difference: Floats) -> npt.NDArray[np.uint8]:
    """(h, w, 3) the difference on a logarithmic scale, which keeps faint edges visible."""
    bent = np.sign(difference) * np.log1p(2.0 * np.abs(difference))
    return np.asarray(np.clip(128.0 + 20.0 * bent, 0, 255), dtype=np.uint8)


def _without_unlikely_pieces(mask: Bools, likely: Floats) -> Bools:
    """Drops pieces that the network does not classify as object; the likeliest piece stays."""
    pieces = regions(mask, connectivity=8)
    share = np.nan_to_num(pieces.mean(likely, mask), nan=0.0)
    keep = share > UNLIKELY_PIECE
    keep[int((share * pieces.areas).argmax())] = True
    return pieces.select(keep)


def _cores(disagreement: Bools, step: int, min_area: float) -> Bools:
    """The regions of disagreement that are wider than a pixel of the network and large enough."""
    inner = shrink(disagreement, disk(step)) if disagreement.any() else disagreement
    found = regions(inner, connectivity=8)
    inner = found.select(found.areas > 0)
    whole = grow(inner, disk(step)) & disagreement
    found = regions(whole, connectivity=8)
    return found.select(found.areas >= max(4.0, min_area))


def _settled(mask: Bools, likely: Floats, difference: Floats, step: int) -> Bools:
    """Applies the network's decision to the regions that it is sure of, with borders at edges."""
    area = REGION * max(1, int(mask.sum()))
    wrong = _cores(mask & (likely < 0.35) & _may_be_shade(mask, difference), step, area)
    missing = _cores(~mask & (likely > 0.6), step, area)
    wrong = _without_panels(_select(wrong, likely, lambda mean: mean < REMOVED), difference)
    missing = _select(missing, likely, lambda mean: mean > ADDED)
    missing = _tinted(missing, difference, ~mask & (likely < 0.05))
    if not wrong.any() and not missing.any():
        return mask
    markers = np.where(mask, 1, 2).astype(np.int32)
    zone = grow(wrong | missing, disk(REACH * step))
    unsure = zone & (likely > 0.1) & (likely < 0.88) & ~_thin(mask, step)
    markers[unsure | grow(wrong, SQUARE) | grow(missing, SQUARE)] = 0
    markers[shrink(wrong, disk(step)) | (wrong & (likely < 0.1))] = 2
    markers[shrink(missing, disk(step)) | (missing & (likely > 0.88))] = 1
    cv2.watershed(_edges(difference), markers)
    settled = markers == 1
    # Watershed lines belong to neither side: they are assigned to the side that surrounds them.
    settled |= (markers == -1) & (cv2.blur(settled.astype(np.float32), (3, 3)) > 0.4)
    # Nothing changes far from those regions, nor against the network.
    kept = mask & (settled | (likely > 0.55) | ~grow(wrong, disk(REACH * step)))
    added = ~mask & settled & (likely > 0.45) & grow(missing, disk(REACH * step))
    return np.asarray(kept | added)


def _without_panels(candidates: Bools, difference: Floats) -> Bools:
    """Drops uniform regions that darker parts enclose: those are panels and cushions rather than shadows."""
    found = regions(candidates, connectivity=8)
    contrast = np.linalg.norm(difference, axis=2)
    is_panel = np.zeros(len(found.areas), dtype=bool)
    for number in np.flatnonzero(found.areas > 0):
        left, top, width, height = found.boxes[number]
        around = np.s_[max(0, top - 4) : top + height + 4, max(0, left - 4) : left + width + 4]
        region, seen = found.labels[around] == number, contrast[around]
        usual = float(np.median(seen[region]))
        even = region & (np.abs(seen - usual) < max(2.0, 0.15 * usual))
        rim = grow(even, disk(4)) & ~grow(even, disk(2))
        if even.sum() > 0.6 * region.sum() and rim.any():
            is_panel[number] = (seen[rim] > 3.0 * usual).mean() > 0.95
    return found.select(~is_panel)


def _select(candidates: Bools, likely: Floats, is_chosen: Callable[[Doubles], Bools]) -> Bools:
    """Selects regions by their mean likelihood."""
    found = regions(candidates, connectivity=8)
    return found.select(is_chosen(np.nan_to_num(found.mean(likely, candidates), nan=0.5)))


def _tinted(candidates: Bools, difference: Floats, background: Bools) -> Bools:
    """The regions with more chroma than the background; a hole shows the background itself."""
    found = regions(candidates, connectivity=8)
    chroma = np.hypot(difference[..., 1], difference[..., 2])
    return found.select(np.nan_to_num(found.mean(chroma, candidates)) > _least_tint(chroma, background))


def _least_tint(chroma: Floats, background: Bools) -> float:
    return TINT + (2.0 * float(chroma[background].mean()) if background.any() else 0.0)


def _may_be_shade(mask: Bools, difference: Floats) -> Bools:
    """(h, w) where a shadow or reflection is possible: the background's colour, but darker; or low in the picture."""
    darker = -difference[..., 0]
    same_colour = np.hypot(difference[..., 1], difference[..., 2]) < 4.0 + 0.15 * np.abs(darker)
    _, top, _, bottom = bounding_box(mask)
    depth = (np.arange(len(mask))[:, None] - top) / max(1, bottom - top)
    return np.asarray((same_colour & (darker < DARKEST) & (depth > 0.3)) | (depth > MIRROR_TOP))


def _thin(mask: Bools, step: int) -> Bools:
    """The parts of a mask that are too thin for the network: bars and slats."""
    return mask & ~grow(shrink(mask, disk(step)), disk(step))
