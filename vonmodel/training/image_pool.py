"""A pool of past generated samples, shown to a critic again so that it does not forget them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vonmodel.distributed import WHOLE, Part, joined_everywhere, process_count, rank


class ImagePool:
    """Hands a critic past fakes in place of half of the new ones (Shrivastava et al. 2017, section 2.3).

    Attributes:
        capacity: how many fakes it holds; 0 passes new ones through.
        images: (k, c, h, w) the fakes it holds now; None before the first.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.images: Tensor | None = None

    def exchange(
        self, fakes: Float[Tensor, "n c h w"], generator: torch.Generator, part: Part = WHOLE
    ) -> Float[Tensor, "n c h w"]:
        """Stores new fakes and returns as many for the critic.

        While the pool fills, a fake is stored and returned. Then, with even odds, it is returned as it is or swapped
        with one from the pool. `generator` decides on the CPU, so no device is synchronised. All processes of a
        training hold the same pool of the fakes of all of them.

        Args:
            fakes: new fakes; no gradient flows through the pool.
            generator: decides which fakes are swapped; draws for the whole batch.
            part: which part of the batch the fakes are.
        """
        fakes = fakes.detach()
        if self.capacity == 0:
            return fakes
        decisions = [self._decide(generator) for _ in range(len(fakes) * part.of)]
        # From every process the part with the same index among its own parts.
        pieces, everyone = part.of // process_count(), joined_everywhere(fakes)
        parts = [Part(process * pieces + part.index % pieces, part.of) for process in range(process_count())]
        rows = [row for each in parts for row in each.rows(len(decisions))]
        shown = []
        for fake, row in zip(torch.split(everyone, 1), rows, strict=True):
            swap, place = decisions[row]
            if self.images is None or len(self.images) < self.capacity:
                self.images = fake.clone() if self.images is None else torch.cat([self.images, fake])
                shown.append(fake)
            elif swap:
                shown.append(self.images[place : place + 1].clone())
                self.images[place] = fake[0]
            else:
                shown.append(fake)
        return torch.cat(shown[rank() * len(fakes) : (rank() + 1) * len(fakes)])

    def _decide(self, generator: torch.Generator) -> tuple[bool, int]:
        swap = torch.rand((), generator=generator).item() < 0.5
        return swap, int(torch.randint(self.capacity, (), generator=generator).item())
