"""What `von prepare images` does about viewpoints once the photos are prepared."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from voncli.copying import local_copy

if TYPE_CHECKING:
    from vondata.io.fs import RemoteFolder
    from vondata.matching import MatchCount
    from vondata.types import Event


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
        data: folder of the dataset, or its URL: then a copy is matched, and the result sent back.
        class_names: the classes; one without class file, such as that of stray annotations, is passed over.
        wanted: None matches the classes that have prepared shapes.
        workers: threads that sketch shapes.
        tell: told of the progress.

    Raises:
        click.ClickException: a class has no shapes and `wanted` says it must, or a shape is damaged.
        RemoteError, DeliveryError, DatasetBusyError: the URL cannot be read or written.
    """
    if wanted is False:
        return {}
    from vondata.classes import known_classes
    from vondata.dataset.manifest import ManifestMissingError
    from vondata.dataset.shape_file import ShapeFileError
    from vondata.matching import EmptyShapeError, NoShapesError, match_photos, match_remote_photos

    known = {each.name for each in known_classes()}
    names = [name for name in sorted(known.intersection(class_names)) if wanted or _has_shapes(data, name)]
    why = "Viewpoints are left unknown; --match-viewpoints finds them"
    if not names or (copy := local_copy(data, asked=wanted is True, why=why)) is None:
        return {}
    counts: dict[str, MatchCount] = {}
    for name in names:
        try:
            if isinstance(data, Path):
                counts[name] = match_photos(data, name, workers=workers, on_event=tell)
            else:
                counts[name] = match_remote_photos(data, copy, name, workers=workers, on_event=tell)
        except (ManifestMissingError, NoShapesError) as error:
            if wanted:
                raise click.ClickException(f"--match-viewpoints: {error}") from error
        except (ShapeFileError, EmptyShapeError) as error:
            raise click.ClickException(
                f"viewpoints cannot be matched against the shapes of class {name}: {error}; prepare the shapes again "
                "with --force, or leave viewpoints unknown with --no-match-viewpoints"
            ) from error
    return counts


def _has_shapes(data: Path | RemoteFolder, class_name: str) -> bool:
    from vondata.dataset.manifest import manifest_path
    from vondata.io.fs import exists

    if isinstance(data, Path):
        return manifest_path(data, class_name, "shapes").is_file()
    return exists((data / class_name / manifest_path(Path(), class_name, "shapes").name).url)


def print_matches(counts: dict[str, MatchCount]) -> None:
    """Tells, for each class with photos that asked for a viewpoint, how many got one."""
    for name, count in counts.items():
        if count.matched or count.unreadable:
            words = (
                f"{name}: {count.matched:,} viewpoints matched against shapes, {count.worked:,} of them in this run"
            )
            lost = f"; {count.unreadable:,} pictures could not be read" if count.unreadable else ""
            click.echo(f"{words}{lost}.")
