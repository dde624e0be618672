"""A pool of past fakes, which keeps a critic from forgetting what generators used to do."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class ImagePool:
    """Hands a critic past fakes in place of half of the new ones (Shrivastava et al. 2017, section 2.3).

    Attributes:
        capacity: how many fakes it holds; 0 passes new ones through.
        images: (k, c, h, w) the fakes it holds now; None before the first.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.images: Tensor | None = None

    def exchange(self, fakes: Float[Tensor, "n c h w"], generator: torch.Generator) -> Float[Tensor, "n c h w"]:
        """Stores new fakes and returns as many for the critic.

        While the pool fills, a fake is stored and returned. Then, with even odds, it is returned as it is or swapped
        with one from the pool. Which is decided on the CPU by `generator`, so no device is waited for.

        Args:
            fakes: new fakes; no gradient flows through the pool.
            generator: decides who is swapped.
        """
        fakes = fakes.detach()
        if self.capacity == 0:
            return fakes
        shown = []
        for fake in torch.split(fakes, 1):
            swap, place = self._decide(generator)
            if self.images is None or len(self.images) < self.capacity:
                self.images = fake.clone() if self.images is None else torch.cat([self.images, fake])
                shown.append(fake)
            elif swap:
                shown.append(self.images[place : place + 1].clone())
                self.images[place] = fake[0]
            else:
                shown.append(fake)
        return torch.cat(shown)

    def _decide(self, generator: torch.Generator) -> tuple[bool, int]:
        swap = torch.rand((), generator=generator).item() < 0.5
        return swap, int(torch.randint(self.capacity, (), generator=generator).item())
