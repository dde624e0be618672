"""What `von prepare images` does about viewpoints once the photos are prepared."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vondata.item import Event
    from vondata.matching import MatchCount
    from vondata.remote import RemoteFolder


match_option = click.option(
    "--match-viewpoints/--no-match-viewpoints",
    default=None,
    help="Find the viewpoints of photos without annotation by the prepared shapes of their class. "
    "[default: where there are shapes]",
)


def match_classes(
    data: Path | RemoteFolder,
    class_names: Iterable[str],
    wanted: bool | None,
    workers: int,
    tell: Callable[[Event], None],
) -> dict[str, MatchCount]:
    """Matches the photos of these classes; by class, what became of them.

    Args:
        data: folder of the dataset; one behind a URL is passed over unless `wanted` says it must be matched.
        class_names: the classes; one without class file, such as that of stray annotations, is passed over.
        wanted: None matches the classes that have prepared shapes.
        workers: threads that sketch shapes.
        tell: told of the progress.

    Raises:
        click.ClickException: a class has no shapes and `wanted` says it must, or a shape is damaged.
    """
    if wanted is False or (wanted is None and not isinstance(data, Path)):
        return {}
    if not isinstance(data, Path):
        raise click.ClickException(f"--match-viewpoints works on a --data folder of this machine, not on {data}")
    from vondata.classes import known_classes
    from vondata.manifest import ManifestMissingError
    from vondata.matching import EmptyShapeError, NoShapesError, match_photos
    from vondata.storage import ShapeFileError

    known = {each.name for each in known_classes()}
    counts: dict[str, MatchCount] = {}
    for name in sorted(known.intersection(class_names)):
        try:
            counts[name] = match_photos(data, name, workers=workers, on_event=tell)
        except (ManifestMissingError, NoShapesError) as error:
            if wanted:
                raise click.ClickException(f"--match-viewpoints: {error}") from error
        except (ShapeFileError, EmptyShapeError) as error:
            raise click.ClickException(
                f"viewpoints cannot be matched against the shapes of class {name}: {error}; prepare the shapes again "
                "with --force, or leave viewpoints unknown with --no-match-viewpoints"
            ) from error
    return counts


def print_matches(counts: dict[str, MatchCount]) -> None:
    """Tells, for each class with photos that asked for a viewpoint, how many got one."""
    for name, count in counts.items():
        if count.matched or count.unreadable:
            words = (
                f"{name}: {count.matched:,} viewpoints matched against shapes, {count.worked:,} of them in this run"
            )
            lost = f"; {count.unreadable:,} pictures could not be read" if count.unreadable else ""
            click.echo(f"{words}{lost}.")
