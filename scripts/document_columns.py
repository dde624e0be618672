"""Writes the tables of docs/data-format.md from manifests/; `--check` only checks that they are current."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import get_args

from vondata.dataset.schema import known_columns, known_reasons
from vondata.types import Kind

PAGE = Path(__file__).resolve().parents[1] / "docs" / "data-format.md"


def tables() -> dict[str, str]:
    """The generated parts of the page, by the name in their markers."""
    found = {f"columns of {kind}": _columns(kind) for kind in get_args(Kind)}
    return found | {"reasons": _reasons()}


def fill(page: str) -> str:
    """The page with current tables."""
    for name, table in tables().items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, _, rest = page.partition(begin)
        _, marker, after = rest.partition(end)
        if not marker:
            raise SystemExit(f"{PAGE} lacks the markers {begin} ... {end}")
        page = f"{before}{begin}\n{table}{end}{after}"
    return page


def _columns(kind: Kind) -> str:
    lines = ["| column | type | unit | meaning |", "|---|---|---|---|"]
    lines += [f"| `{each.name}` | {each.dtype} | {each.unit} | {each.meaning} |" for each in known_columns(kind)]
    return "\n".join(lines) + "\n"


def _reasons() -> str:
    lines = ["| reason | of | meaning | remedy |", "|---|---|---|---|"]
    lines += [
        f"| `{each.name}` | {', '.join(each.kinds)} | {each.explain} | {each.remedy} |" for each in known_reasons()
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Rewrites or checks the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    page = PAGE.read_text("utf-8")
    current = fill(page)
    if arguments.check:
        sys.exit(None if page == current else f"{PAGE} is out of date: run python scripts/document_columns.py")
    PAGE.write_text(current, "utf-8")


if __name__ == "__main__":
    main()
