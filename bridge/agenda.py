"""Deadlines: one per key, replaced by arming again.

State machines say *when* as data; whoever owns several of them keeps an `Agenda` and reports only its earliest
deadline upward, so a whole node needs a single timer of its event loop. Knows nothing of clocks.
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Agenda(Generic[K]):
    """A heap of deadlines in which a replaced or dropped one is skipped when its turn comes.

    `arm` and `disarm` are O(log n) and O(1). Stale entries never outnumber the live ones by more than their count
    plus a constant, so a key armed over and over does not leak.
    """

    __slots__ = ("_at", "_heap", "_turn")

    def __init__(self) -> None:
        self._at: dict[K, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._turn = 0  # breaks ties, so keys are never compared and equal deadlines fire in the order armed

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, key: K) -> bool:
        return key in self._at

    def arm(self, key: K, at: float) -> None:
        """Set the one deadline of `key` to `at` (seconds UTC), whatever it was before."""
        self._turn = turn = self._turn + 1
        self._at[key] = (at, turn)
        heappush(self._heap, (at, turn, key))
        if len(self._heap) > 2 * len(self._at) + 64:
            self._heap = [(at, turn, key) for key, (at, turn) in self._at.items()]
            heapify(self._heap)

    def disarm(self, key: K) -> None:
        """Forget the deadline of `key`; nothing happens when it has none."""
        self._at.pop(key, None)

    def deadline(self) -> float | None:
        """The earliest deadline, or None when nothing is armed."""
        heap = self._heap
        while heap:
            at, turn, key = heap[0]
            if self._at.get(key) == (at, turn):
                return at
            heappop(heap)
        return None

    def pop_due(self, now: float) -> K | None:
        """Take one key whose deadline has passed, earliest first; None when none has."""
        at = self.deadline()
        if at is None or at > now:
            return None
        key = heappop(self._heap)[2]
        del self._at[key]
        return key
