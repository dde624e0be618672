"""How people name a code: a seed, and a number where it is not the first code drawn with that seed."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor

from vonmodel.inference.draw import draw_codes

LARGEST_SEED = 2**32 - 1
LARGEST_NUMBER = 10_000
_SPELT = re.compile(r"(\d{1,12})(?::(\d{1,6}))?")


class SeedError(ValueError):
    """A seed that is no whole number or out of range."""


class Seed(NamedTuple):
    """The number-th code drawn with a seed; `7:3` is the third, `von generate --seed 7` shows it as shape-03.

    Attributes:
        seed: 0 to 2**32 - 1.
        number: from 1.
    """

    seed: int
    number: int = 1

    def __str__(self) -> str:
        return str(self.seed) if self.number == 1 else f"{self.seed}:{self.number}"

    def checked(self) -> Seed:
        """The same seed, if it is in range.

        Raises:
            SeedError: it is not.
        """
        if not 0 <= self.seed <= LARGEST_SEED or not 1 <= self.number <= LARGEST_NUMBER:
            raise SeedError(
                f"seed {self} is out of range: seeds are 0 to {LARGEST_SEED}, numbers behind the colon 1 to "
                f"{LARGEST_NUMBER}"
            )
        return self

    def after(self, steps: int) -> Seed:
        """The seed this many further, beginning again at 0 after the largest."""
        return Seed((self.seed + steps) % (LARGEST_SEED + 1), self.number)

    def code(self, size: int, purpose: Literal["shape", "texture"]) -> Float[Tensor, " size"]:
        """The code itself.

        Raises:
            SeedError: the seed is out of range.
        """
        seed, number = self.checked()
        return draw_codes(number, size, seed=seed, purpose=purpose)[-1]


def parse_seed(text: str) -> Seed:
    """Reads `7` or `7:3`.

    Raises:
        SeedError: it is neither, or out of range.
    """
    found = _SPELT.fullmatch(text.strip())
    if found is None:
        raise SeedError(f"{text!r} is no seed: write a whole number such as 7, or 7:3 for the third code of seed 7")
    return Seed(int(found[1]), int(found[2] or 1)).checked()
