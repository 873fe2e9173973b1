"""A way on which packets are lost, doubled, and overtake each other: the same ones each time, by its seed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable

LATE_S = 0.03  # at most; what comes at once overtakes what is late


class LossyWay:
    """Between a phone and its socket, both ways. Shares of all packets, each decided for itself."""

    def __init__(self, seed: int, *, lost: float = 0.3, doubled: float = 0.1, late: float = 0.3) -> None:
        self._dice = random.Random(seed)
        self._lost = lost
        self._doubled = doubled
        self._late = late
        self.fates: Counter[str] = Counter()

    def take(self, deliver: Callable[[], None]) -> None:
        """One packet: `deliver` is called once, twice, later, or never."""
        copies = 2 if self._dice.random() < self._doubled else 1
        self.fates["doubled"] += copies - 1
        for _ in range(copies):
            if self._dice.random() < self._lost:
                self.fates["lost"] += 1
            elif self._dice.random() < self._late:
                self.fates["late"] += 1
                asyncio.get_running_loop().call_later(self._dice.uniform(0, LATE_S), deliver)
            else:
                self.fates["at once"] += 1
                deliver()
