"""The story of a run: one line for each message, webhook, command and fault, with the virtual time down its side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.sim.clock import VirtualClock


class Rung(NamedTuple):
    """One thing that happened."""

    at: float  # seconds since the run began
    who: str
    whom: str  # empty: it concerns nobody else
    what: str


class Ladder:
    """Kept only where somebody will read it: ten thousand runs are not told."""

    def __init__(self, clock: VirtualClock, *, kept: bool) -> None:
        self._clock = clock
        self._began = clock.now()
        self.kept = kept
        self.rungs: list[Rung] = []

    @property
    def at(self) -> float:
        """Seconds since the run began."""
        return self._clock.now() - self._began

    def tell(self, who: str, whom: str, what: str) -> None:
        """`who` has sent `whom` something, or done something."""
        if self.kept:
            self.rungs.append(Rung(self.at, who, whom, what))

    def lines(self) -> Iterator[str]:
        """As it is printed."""
        for rung in self.rungs:
            where = f"{rung.who} -> {rung.whom}" if rung.whom else rung.who
            yield f"{rung.at:9.3f}  {where:<22} {rung.what}"
