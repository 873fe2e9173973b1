"""Virtual time: a heap of what is to happen, and a loop that lets it happen. Nothing in it waits."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush


class Planned:
    """Something that will happen, unless it is called off."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class VirtualClock:
    """`bridge.ambient.Clock`, and `later` as `bridge.store.memory` wants it. What is due at one time happens in the order
    in which it was planned."""

    def __init__(self, at: float) -> None:
        self._at = at
        self._heap: list[tuple[float, int, Planned]] = []
        self._turn = 0

    def now(self) -> float:
        return self._at

    def later(self, delay_s: float, call: Callable[[], None]) -> Planned:
        """Plan it for `delay_s` seconds from now."""
        return self.at(self._at + max(0.0, delay_s), call)

    def at(self, when: float, call: Callable[[], None]) -> Planned:
        """Plan it for then; what is past happens at once."""
        self._turn += 1
        planned = Planned(call)
        heappush(self._heap, (max(when, self._at), self._turn, planned))
        return planned

    def run(self, until: float) -> None:
        """Let everything happen up to then, that moment included."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self._at, _, planned = heappop(heap)
            if planned.call is not None:
                planned.call()
        self._at = until
