"""What a training run says while it runs: losses to the log, to stats.jsonl and to TensorBoard; sample sheets."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
from torch import Tensor

from .config import StageName
from .loss_record import LossRecord, NonFiniteLossError
from .run_folder import RunFolder
from .sheets import save_sheet
from .stages import Stage, Step

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


@dataclass(frozen=True)
class Progress:
    """Where a stage stands.

    Attributes:
        stage: the stage.
        step: steps done.
        steps: steps in all.
        losses: weighted terms, means over the steps since the last report, by `phase/term`.
        images_per_s: items trained on in a second, since the last report.
        learning_rate_share: share of the full learning rate.
        seconds_left: at this speed.
    """

    stage: StageName
    step: int
    steps: int
    losses: dict[str, float]
    images_per_s: float
    learning_rate_share: float
    seconds_left: float

    def line(self) -> str:
        """One line for people."""
        losses = "  ".join(f"{name.rpartition('/')[2]} {value:.4g}" for name, value in self.losses.items())
        minutes, seconds = divmod(round(self.seconds_left), 60)
        return (
            f"{self.stage} {self.step}/{self.steps}  {losses}  {self.images_per_s:.1f} images/s  "
            f"{minutes}:{seconds:02d} left"
        )


class Monitor:
    """Reports the progress of a stage; a context manager that closes its files."""

    def __init__(self, run: RunFolder, stage: Stage, start: int, on_progress: Callable[[Progress], None]) -> None:
        """Opens the reports.

        Args:
            run: where they go.
            stage: the stage.
            start: the step it goes on from; what was reported of later ones is forgotten.
            on_progress: told of every report.
        """
        self._run, self._stage, self._on_progress = run, stage, on_progress
        self._record = LossRecord(stage.name)
        self._step, self._time = start, time.perf_counter()
        self._start = start
        self._writer: SummaryWriter | None = None
        run.rewind_stats(stage.name, start)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def add(self, step: Step, losses: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Takes in the losses of a step, by phase and term."""
        self._record.add(step.number, step.batch.ids, losses)

    def report(self, step: int, steps: int, learning_rate_share: float) -> None:
        """Reports the losses since the last report, after `step` steps.

        Raises:
            NonFiniteLossError: one of them is not finite; what is known of it is saved as nonfinite.json.
        """
        try:
            losses = self._record.read()
        except NonFiniteLossError as error:
            (self._run.path / "nonfinite.json").write_text(json.dumps(error.where, indent=2) + "\n", "utf-8")
            self._run.append_log(str(error))
            raise
        now = time.perf_counter()
        seconds_a_step = (now - self._time) / (step - self._step)
        progress = Progress(
            stage=self._stage.name,
            step=step,
            steps=steps,
            losses=losses,
            images_per_s=self._stage.config.batch_size / seconds_a_step,
            learning_rate_share=learning_rate_share,
            seconds_left=(steps - step) * seconds_a_step,
        )
        self._step, self._time = step, now
        self._run.log_stats(asdict(progress))
        self._run.append_log(progress.line())
        for name, value in {**losses, "images_per_s": progress.images_per_s}.items():
            self._board.add_scalar(name, value, step)
        self._on_progress(progress)

    def sheet(self, step: int, sheet: npt.NDArray[np.uint8]) -> None:
        """Saves a sample sheet."""
        save_sheet(sheet, self._run.samples / f"{self._stage.name}-{step:08d}.png")
        self._board.add_image("samples", sheet, step, dataformats="HWC")

    @property
    def _board(self) -> SummaryWriter:
        """TensorBoard's files, a run of their own for each stage, so that steps count from 0 in each."""
        if self._writer is None:
            # Imported late: it takes a second that only training has to spare.
            from torch.utils.tensorboard import SummaryWriter

            folder = self._run.path / "tensorboard" / self._stage.name
            self._writer = SummaryWriter(str(folder), purge_step=self._start + 1)
        return self._writer
