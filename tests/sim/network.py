"""The virtual network: datagrams between hosts, some of them lost, doubled, late or out of order, some not let through.

Knows nothing of SIP: what it carries is bytes, and `read` says in a few words what they are, for the ladder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TypeAlias

from tests.sim.clock import VirtualClock
from tests.sim.ladder import Ladder

Address: TypeAlias = tuple[str, int]
Receiver: TypeAlias = Callable[[bytes, Address], None]


@dataclass
class Weather:
    """What becomes of a datagram. Changed by faults."""

    loss: float = 0.0  # the part of all that never arrives
    doubling: float = 0.0  # the part that arrives twice
    stray: float = 0.0  # the part that takes `detour_s` longer, at most, and is overtaken by others
    detour_s: float = 2.0
    quick_s: float = 0.002
    slow_s: float = 0.03


class Network:
    """Who can be reached at which address, and by whom."""

    def __init__(self, clock: VirtualClock, chance: Random, ladder: Ladder, read: Callable[[bytes], str]) -> None:
        self._clock = clock
        self._chance = chance
        self._ladder = ladder
        self._read = read
        self._receivers: dict[Address, Receiver] = {}
        self._cuts: dict[frozenset[str], int] = {}  # pairs of hosts that do not reach each other, and how often cut
        self._ways: Counter[tuple[str, str]] = Counter()  # cut in this direction alone, and how often
        self.names: dict[str, str] = {}  # of hosts, for the ladder
        self.weather = Weather()
        self.carried = 0

    def listen(self, address: Address, receive: Receiver) -> None:
        self._receivers[address] = receive

    def close(self, address: Address) -> None:
        self._receivers.pop(address, None)

    def cut(self, one: str, other: str) -> None:
        """These two hosts do not reach each other until it is mended as often as it was cut."""
        pair = frozenset((one, other))
        self._cuts[pair] = self._cuts.get(pair, 0) + 1

    def mend(self, one: str, other: str) -> None:
        pair = frozenset((one, other))
        self._cuts[pair] -= 1
        if not self._cuts[pair]:
            del self._cuts[pair]

    def reaches(self, one: str, other: str) -> bool:
        return frozenset((one, other)) not in self._cuts and not self._ways[one, other]

    def cut_way(self, source: str, destination: str) -> None:
        """Nothing gets from here to there until it is mended as often as it was cut; back it does."""
        self._ways[source, destination] += 1

    def mend_way(self, source: str, destination: str) -> None:
        self._ways[source, destination] -= 1

    def send(self, source: Address, destination: Address, data: bytes) -> None:
        """A datagram. Whoever sends it hears nothing of what becomes of it."""
        weather, chance = self.weather, self._chance
        self.carried += 1
        lost = chance.random() < weather.loss or not self.reaches(source[0], destination[0])
        self._tell(source, destination, data, "lost: " if lost else "")
        if lost:
            return
        for _ in range(2 if chance.random() < weather.doubling else 1):
            delay = chance.uniform(weather.quick_s, weather.slow_s)
            if chance.random() < weather.stray:
                delay += chance.uniform(0.0, weather.detour_s)
            self._clock.later(delay, partial(self._arrive, source, destination, data))

    def _arrive(self, source: Address, destination: Address, data: bytes) -> None:
        receive = self._receivers.get(destination)
        if receive is None:
            self._tell(source, destination, data, "nobody there: ")
        elif self.reaches(source[0], destination[0]):
            receive(data, source)

    def _tell(self, source: Address, destination: Address, data: bytes, note: str) -> None:
        if self._ladder.kept:
            names = self.names
            self._ladder.tell(
                names.get(source[0], source[0]), names.get(destination[0], destination[0]), note + self._read(data)
            )
