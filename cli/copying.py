"""This machine's copy of a remote dataset, for what reads many of its files: viewpoint matching and the page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vondata.io.fs import RemoteFolder

MOST_BYTES_UNASKED = 1_000_000_000


def local_copy(data: Path | RemoteFolder, *, asked: bool, why: str) -> Path | None:
    """The dataset itself, or a copy that is brought up to date; None where that would be much and nobody asked.

    Args:
        data: folder of the dataset or its URL.
        asked: fetch whatever is missing; otherwise at most a gigabyte.
        why: begins the line that says that nothing is copied, and how to insist.

    Raises:
        RemoteError: the URL cannot be read.
    """
    if isinstance(data, Path):
        return data
    from vondata.io.mirror import MirrorTooLargeError, mirror

    def tell(here: int, total: int) -> None:
        click.echo(f"{data}: {here / 1e6:,.1f} of {total / 1e6:,.1f} MB are here", err=True)

    try:
        return mirror(data, tell, most_bytes=None if asked else MOST_BYTES_UNASKED)
    except MirrorTooLargeError as error:
        click.echo(f"{why}: {error}.", err=True)
        return None
