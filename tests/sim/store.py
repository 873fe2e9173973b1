"""The store of the simulation: one keyspace for all nodes, and the way of each node to it, in virtual time.

Built of what tests of the service run on: `Keyspace` is the twin of the Redis scripts, `MemoryStore` a connection to it.
Here are the things that befall them, and what becomes of a dead process's writes.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from bridge.engine.inputs import Input
from bridge.store.keyspace import Keyspace
from bridge.store.memory import MemoryStore
from tests.sim.clock import VirtualClock

HISTORY_S = 5.0  # how far it can fall back
QUICK_S = 0.0015
RETENTION_S = 86_400.0

T = TypeVar("T")


class Link(MemoryStore):
    """One process's way to the store."""

    cuts = 0  # for how many reasons nothing passes

    @property
    def connection(self) -> int:
        """Which one it is: what was asked on an earlier one is not answered."""
        return self._link

    def cut(self) -> None:
        """Nothing passes, until `mend` has been said as often."""
        self.cuts += 1
        if self.cuts == 1:
            self.go_away()

    def mend(self) -> None:
        self.cuts -= 1
        if not self.cuts:
            self.come_back()

    def die(self, applied: int) -> None:
        """The process is killed: that many of its writes had left, and nobody hears of them."""
        for _ in range(min(applied, len(self._queue))):
            if self._linked:
                self._apply(self._queue.popleft())
        self._queue.clear()
        self._link += 1
        self._linked = False


class Server:
    """The store, and what befalls it."""

    def __init__(self, clock: VirtualClock) -> None:
        self.keyspace = Keyspace(clock, history_s=HISTORY_S)
        self.forgot_at: float | None = None  # when it lost data last
        self._clock = clock
        self._links: list[Link] = []
        self._latency_s = QUICK_S
        self._away = 0

    def connect(self, give: Callable[[Input], None]) -> Link:
        """A new process's way."""
        link = Link(
            give=give, clock=self._clock, keyspace=self.keyspace, later=self._clock.later, retention_s=RETENTION_S
        )
        link.latency_s = self._latency_s
        self._links.append(link)
        for _ in range(self._away):
            link.cut()
        return link

    def forget(self, link: Link) -> None:
        """Its process is dead."""
        self._links.remove(link)

    def slow(self, latency_s: float = QUICK_S) -> None:
        """Every write takes so long from now on."""
        self._latency_s = latency_s
        for link in self._links:
            link.latency_s = latency_s

    def go_away(self) -> None:
        """Nobody answers, until `come_back` has been said as often."""
        self._away += 1
        for link in self._links:
            link.cut()

    def come_back(self) -> None:
        self._away -= 1
        for link in self._links:
            link.mend()

    def lose_replies(self, count: int) -> None:
        """The next writes of each node are applied, and their answers lost."""
        for link in self._links:
            link.lose_replies(count)

    def empty(self) -> None:
        """It has restarted without its data. Only while it is away."""
        self.forgot_at = self._clock.now()
        self.keyspace.empty()

    def roll_back(self, seconds: float) -> None:
        """It has failed over to a replica that was so far behind. Only while it is away."""
        self.forgot_at = self._clock.now()
        self.keyspace.roll_back(seconds)


def at_once(asked: Coroutine[Any, Any, T]) -> T:
    """What a coroutine of the memory store returns: none of them ever suspends."""
    try:
        asked.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    raise AssertionError("the memory store has waited for something")
