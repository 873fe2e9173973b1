"""Keeps a log readable while everything fails at once: the first lines of a kind pass, the rest of the second is counted."""

from __future__ import annotations

LINES_PER_SECOND = 20


class Flood:
    """Counts lines of one kind. Knows no clock: the time is an argument."""

    __slots__ = ("_limit", "_passed", "_second", "_withheld")

    def __init__(self, *, limit: int = LINES_PER_SECOND) -> None:
        self._limit = limit
        self._second = 0
        self._passed = 0
        self._withheld = 0

    def admit(self, now: float) -> int | None:
        """None: keep this line to yourself. Else write it, and say that so many were withheld before it."""
        if int(now) != self._second:
            self._second, self._passed = int(now), 0
        if self._passed >= self._limit:
            self._withheld += 1
            return None
        self._passed += 1
        withheld, self._withheld = self._withheld, 0
        return withheld
