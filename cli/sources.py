"""Where `von prepare` takes its items from, folders or URLs, and what to say when nothing is there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from voncli.running import Running

    from vondata.io.fs import RemoteFolder
    from vondata.types import Item

SHOWN_ENTRIES = 8


@dataclass(frozen=True)
class SourceFolder:
    """A folder with raw meshes or photos.

    Attributes:
        root: the folder, or the tree that stands for a remote one; absolute, so that ids and resumes do not depend on
            where the command is run.
        remote: the remote folder.
    """

    root: Path
    remote: RemoteFolder | None = None

    def own(self, items: Iterator[Item]) -> Iterator[Item]:
        """Items found under root, as items of the folder itself."""
        from vondata.io.listing_part import remote_items

        return items if self.remote is None else remote_items(items, self.root, self.remote)

    def words(self, text: object) -> str:
        """A text that speaks of root, speaking of the folder."""
        return str(text) if self.remote is None else str(text).replace(str(self.root), self.remote.url)


def source_folder(
    folder: Path | RemoteFolder | None, name: str, flag: str, contents: Sequence[str] = ()
) -> SourceFolder:
    """The folder given with an option; a remote one is listed.

    Args:
        folder: the option's value.
        name: its name in von.toml, "" where it has none.
        flag: how it is spelt.
        contents: files of the folder that planning reads.
    """
    if folder is None:
        raise click.UsageError(
            f'{flag}: which folder? Name it, set VON_{name.upper()} or write {name} = "..." under [paths] in von.toml'
        )
    if isinstance(folder, Path):
        if not folder.is_dir():
            raise click.UsageError(f"{flag}: {folder} is not {'a folder' if folder.exists() else 'there'}")
        return SourceFolder(Path(os.path.abspath(folder)))
    from vondata.io.fs import RemoteError
    from vondata.io.listing_part import lay_out

    # Named as the folder is, for a folder's name may say the class.
    scratch = click.get_current_context().with_resource(tempfile.TemporaryDirectory(prefix="von-listing-"))
    root = Path(os.path.realpath(scratch)) / (folder.url.rpartition("/")[2] or "root")
    root.mkdir()
    try:
        count = lay_out(folder, root, contents)
    except RemoteError as error:
        raise click.UsageError(f"{flag}: {error}") from error
    click.echo(f"{folder}: {count:,} files", err=True)
    return SourceFolder(root, folder)


def found_items(sources: Sequence[tuple[SourceFolder, Iterator[Item]]], running: Running) -> Iterator[Item]:
    """The items of all sources, each with its folder, or an error that says what is in a folder instead.

    A folder without any of the classes asked for with --class is passed over where another one has some.
    """
    from vondata.io.folders import CollectionMissingError

    missing: list[str] = []
    found = False
    for folder, items in sources:
        try:
            for item in folder.own(items):
                found = True
                yield item
        except CollectionMissingError as error:
            missing.append(folder.words(f"{error}. {_what_is_in(folder.root)}"))
    if missing and not (found and running.class_names):
        raise click.UsageError(" ".join(missing))
    if not found:
        names = ", ".join(each.name for each in running.classes())
        inside = " ".join(each.words(f"{each.root}: {_what_is_in(each.root)}") for each, _ in sources)
        raise click.UsageError(f"nothing was found of the classes {names}. {inside}")
    for words in missing:
        click.echo(f"Passed over: {words}", err=True)


def _what_is_in(folder: Path) -> str:
    from vondata.types import printable

    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    if not entries:
        return f"{folder} is empty."
    names = [printable(entry.name) + ("/" if entry.is_dir() else "") for entry in entries[:SHOWN_ENTRIES]]
    more = f" and {len(entries) - SHOWN_ENTRIES:,} more" if len(entries) > SHOWN_ENTRIES else ""
    return f"It holds: {', '.join(names)}{more}."
