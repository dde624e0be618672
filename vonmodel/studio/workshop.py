"""What all of a studio's answers share."""

from __future__ import annotations

from dataclasses import dataclass, field

from vonmodel.studio.desk import Desk
from vonmodel.studio.photos import PhotoTray, Uploads
from vonmodel.studio.run_monitor import Chronicle
from vonmodel.studio.security import Guard
from vonmodel.studio.shelf import ModelShelf
from vonmodel.studio.tasks import TaskBoard


@dataclass(frozen=True, eq=False)
class Workshop:
    """The state of one studio.

    Attributes:
        guard: whom it answers.
        shelf: the models of its run.
        chronicle: what the run tells of its training.
        desk: where everything is computed.
        tray: the photos brought.
        uploads: those on their way.
        tasks: long work that pages wait for.
    """

    guard: Guard
    shelf: ModelShelf
    chronicle: Chronicle
    desk: Desk = field(default_factory=Desk)
    tray: PhotoTray = field(default_factory=PhotoTray)
    uploads: Uploads = field(default_factory=Uploads)
    tasks: TaskBoard = field(default_factory=TaskBoard)

    def close(self) -> None:
        """Stops what is being computed."""
        self.tasks.cancel_all()
        self.desk.close()
