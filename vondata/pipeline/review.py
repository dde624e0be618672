"""A look at all rows of a class together, once its items are done: what no single item can know of itself.

Verdicts are recorded as later lines of the journal. The outputs of the rows they reject stay, so that a row comes
back when what spoke against it has gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vondata.pipeline.journal import Journal

Verdict = tuple[str, str]  # reason and detail


@dataclass(frozen=True)
class Review:
    """What to look for.

    Attributes:
        reason: of all its verdicts; no work function gives it.
        find: from the rows of a class to the verdicts by id.
    """

    reason: str
    find: Callable[[Iterable[Mapping[str, Any]]], Mapping[str, Verdict]]


def apply_review(review: Review, journal: Journal) -> tuple[list[str], list[str]]:
    """Records what has changed since the last review: ids that are rejected now, and ids that are no longer."""
    verdicts = review.find(journal.rows())
    rejected = [id for id in sorted(verdicts) if _judge(journal, id, verdicts[id])]
    judged = [id for id, entry in journal.entries.items() if entry.present and entry.reason == review.reason]
    restored = [id for id in sorted(judged) if id not in verdicts]
    for id in restored:
        _judge(journal, id, None)
    return rejected, restored


def _judge(journal: Journal, id: str, verdict: Verdict | None) -> bool:
    """Records a verdict unless it stands already; returns whether it turned a prepared row into a rejected one."""
    line = journal.line(id)
    reason, detail = verdict or (None, None)
    if (line["row"]["reason"], line["row"]["detail"]) == (reason, detail):
        return False
    status = "prepared" if verdict is None else "rejected"
    journal.record(
        id,
        stamp=line["stamp"],
        content=line["content"],
        settings=line["settings"],
        input=line["input"],
        row={**line["row"], "status": status, "reason": reason, "detail": detail},
    )
    return verdict is not None and line["row"]["status"] == "prepared"
