"""Benchmark of the dataset report of a large dataset in a browser: page size, load time, response times.

`python -m benchmarks.page --items 10000 --chromium /usr/bin/chromium`. The dataset is synthetic: as many shapes and
photos as requested, every seventh rejected, each with its own picture file.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from vondata.dataset.manifest import SUFFIX, output_path, split_of, write_manifest
from vondata.dataset.schema import known_columns, known_reasons
from vondata.report.page import TILE_PX, write_report
from vondata.types import Kind

from .measure import Table

ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    "--enable-precise-memory-info",
)
REJECTED_EVERY = 7
SCROLL_STEPS = 40
FIRST_PICTURES = """() => {
  const seen = [...document.querySelectorAll(".tile img")].slice(0, 12);
  return seen.length === 12 && seen.every(picture => picture.complete); }"""
# Runs in the page: changes what is shown, and returns the milliseconds until the new state has been painted.
PAINTED = "const painted = () => new Promise(done => requestAnimationFrame(() => setTimeout(done)));"
FILTER = f"""async ([name, value]) => {{ {PAINTED}
  const begin = performance.now(); setFilter(name, value); await painted(); return performance.now() - begin; }}"""
SCROLL = f"""async () => {{ {PAINTED}
  const steps = []; let begin = performance.now();
  while (view.shown < view.rows.length && steps.length < {SCROLL_STEPS}) {{
    scrollTo(0, document.body.scrollHeight); await painted();
    const now = performance.now(); steps.push(now - begin); begin = now; }}
  return steps; }}"""


def make_dataset(data: Path, count: int) -> None:
    """Shapes and photos of chairs with plausible rows and pictures."""
    from PIL import Image

    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (8, 24, 4), np.uint8)).resize((3 * TILE_PX, TILE_PX))
    data.mkdir(parents=True, exist_ok=True)
    for name, size in (("wide.webp", None), ("square.png", (128, 128))):
        (picture if size is None else picture.resize(size)).save(data / name)
    for kind in SUFFIX:
        rows = [_row(kind, number, rng) for number in range(count)]
        write_manifest(data, "chair", kind, rows)
        for row in rows:
            _place_pictures(data, kind, row)


def measure(page: Path, chromium: Path, part: str) -> dict[str, float]:
    """Loads and uses the page; times in milliseconds, and JavaScript memory in megabytes."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        tab = browser.new_page(viewport={"width": 1440, "height": 900})
        begin = time.perf_counter()
        tab.goto(f"{page.as_uri()}#part={part}")
        tab.wait_for_function(FIRST_PICTURES)
        found: dict[str, Any] = {"first pictures ms": 1000 * (time.perf_counter() - begin)}
        for label, name, value in (
            ("search ms", "q", "00042"),
            ("reason ms", "reason", "file_corrupt"),
            ("all again ms", "reason", ""),
            ("sort ms", "order", "-seconds"),
        ):
            found[label] = tab.evaluate(FILTER, [name, value])
            if name == "q":
                tab.evaluate(FILTER, ["q", ""])
        steps = tab.evaluate(SCROLL)
        found |= {"scroll step, median ms": float(np.median(steps)), "worst ms": float(max(steps))}
        found["memory MB"] = tab.evaluate("performance.memory.usedJSHeapSize") / 2**20
        browser.close()
    return found


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=10_000, help="shapes, and as many photos")
    parser.add_argument("--chromium", type=Path, default=shutil.which("chromium"))
    parser.add_argument("--output", type=Path, help="also save the table as JSON")
    arguments = parser.parse_args()
    if arguments.chromium is None:
        parser.error("--chromium: no chromium was found; give its path")
    table = Table(
        f"The page of {arguments.items:,} shapes and {arguments.items:,} photos",
        f"python -m benchmarks.page --items {arguments.items}",
    )
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        make_dataset(data, arguments.items)
        begin = time.perf_counter()
        page = write_report(data)
        written = time.perf_counter() - begin
        size = sum(path.stat().st_size for path in page.parent.iterdir() if path.is_file()) / 2**20
        for part in ("chair/shapes", "chair/images"):
            row = {"part": part, "page MB": size, "written s": written}
            table.add(**row, **measure(page, arguments.chromium, part))
    table.notes.append(
        "Page: size without the pictures; written: with all pictures rendered already. Times in the browser include "
        "painting. A scroll step goes to the end of the page and adds the next tiles."
    )
    table.finish(arguments.output)


def _row(kind: Kind, number: int, rng: np.random.Generator) -> dict[str, Any]:
    id = f"{number:06d}-{rng.integers(2**32):08x}"
    reasons = [reason.name for reason in known_reasons() if kind in reason.kinds]
    reason = reasons[int(rng.integers(len(reasons)))] if number % REJECTED_EVERY == 0 else None
    row: dict[str, Any] = {
        "id": id,
        "class": "chair",
        "source": f"/collection/chair/{id}/models/model_normalized.obj",
        "sha256": f"{rng.integers(2**62):064x}",
        "status": "prepared" if reason is None else "rejected",
        "reason": reason,
        "detail": None if reason is None else "the object could not be told from the background",
        "split": split_of(id),
        "collection": "made up",
        "settings": "0" * 16,
    }
    for column in known_columns(kind):
        if column.name not in row and reason is None:
            value = float(rng.gamma(2.0, 20.0))
            row[column.name] = {"float": round(value, 4), "int": int(value), "bool": value > 30, "string": "made up"}[
                column.dtype
            ]
    return row


def _place_pictures(data: Path, kind: Kind, row: dict[str, Any]) -> None:
    thumbnail = data / "report" / "thumbnails" / f"chair-{kind}" / f"{row['id']}.webp"
    places = []
    if kind == "shapes" and row["reason"] is None:
        places.append((data / "wide.webp", thumbnail))
    if row["reason"] is None:
        places.append((data / "square.png", output_path(data, "chair", kind, row["id"])))
    for source, target in places:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, target)
        os.utime(target)


if __name__ == "__main__":
    main()
