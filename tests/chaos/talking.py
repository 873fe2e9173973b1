"""Both ends of joined calls that talk all the while, and how long each of them hears nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

from tests.support.pairs import Pair
from tests.support.phone import PACKET_S


class Gaps:
    """How long each end has heard nothing, at most, while both talk."""

    def __init__(self, pairs: list[Pair]) -> None:
        self._pairs = pairs
        self._heard = [(0, 0.0) for _ in self._ends()]
        self.longest = [0.0 for _ in self._heard]

    def _ends(self) -> Iterator[int]:
        """What each end has heard of the other one so far, by whatever port."""
        for pair in self._pairs:
            for leg in (pair.out, pair.into):
                yield sum(len(leg.phone.rtp.said[port]) for port in leg.heard_from)

    async def watch(self) -> None:
        while True:
            now = time.monotonic()
            for place, count in enumerate(self._ends()):
                before, since = self._heard[place]
                if count > before or not since:
                    self._heard[place] = (count, now)
                self.longest[place] = max(self.longest[place], now - self._heard[place][1])
            await asyncio.sleep(0.005)

    def part(self, share: float) -> float:
        """The longest silence, in seconds, that this share of all ends has not heard more than: 0.5, 0.95, 1.0."""
        return sorted(self.longest)[round(share * (len(self.longest) - 1))]

    def __str__(self) -> str:
        shown = ", ".join(f"{name} {1000 * self.part(share):.0f} ms" for name, share in _SHARES)
        return f"longest silence of {len(self.longest)} ends: {shown}"


_SHARES = (("p50", 0.5), ("p95", 0.95), ("worst", 1.0))


@contextlib.asynccontextmanager
async def talking(pairs: list[Pair]) -> AsyncIterator[Gaps]:
    """Both ends of each talk all the while, to wherever they have been told: a packet every 20 ms."""

    async def talk() -> None:
        begun, number = time.monotonic(), 0
        while True:
            number += 1
            await asyncio.sleep(max(0.0, begun + number * PACKET_S - time.monotonic()))
            for pair in pairs:
                for leg in (pair.out, pair.into):
                    leg.phone.rtp.speak(leg.media_port)

    tasks = [asyncio.create_task(talk())]
    gaps = Gaps(pairs)
    await asyncio.sleep(0.3)  # until the first packets have come through
    tasks.append(asyncio.create_task(gaps.watch()))
    try:
        yield gaps
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
