"""Where a party's URI leads: asks the DNS what `bridge.sip.locating` wants to know, until it can tell (RFC 3263 §4).

Each look-up is bounded in time; one that fails is an answer without a way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import SystemRandom
from typing import Final

import structlog

from bridge.engine.effects import Resolve
from bridge.engine.inputs import Resolved
from bridge.net.dns import Dns
from bridge.sip.locating import Hop, Missing, Question, Record, locate

PATIENCE_S: Final = 6.0  # for all questions about one URI: NAPTR, SRV and addresses, one after the other

_chance: Final = SystemRandom()
log = structlog.get_logger("bridge.net")


class Resolver:
    """Look-ups for one node. `give` is called on the loop with each result."""

    def __init__(
        self,
        give: Callable[[Resolved], None],
        *,
        dns: Dns | None = None,
        chance: Callable[[], float] = _chance.random,
    ) -> None:
        self._give = give
        self._dns = dns or Dns()
        self._chance = chance
        self._tasks: set[asyncio.Task[None]] = set()

    def resolve(self, wanted: Resolve) -> None:
        """`Resolved` comes back, whatever happens."""
        task = asyncio.create_task(self._look_up(wanted), name=f"resolve {wanted.wanted.host}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Break off what is under way. Nothing is given any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._dns.close()

    async def _look_up(self, wanted: Resolve) -> None:
        hops: tuple[Hop, ...] = ()
        host = wanted.wanted.host
        try:
            async with asyncio.timeout(PATIENCE_S):
                hops = await self._hops(wanted)
            if not hops:
                log.info("host_not_resolved", host=host, detail="no records")
        except TimeoutError:
            log.warning("host_not_resolved", host=host, detail=f"no answer in {PATIENCE_S:g} s")
        self._give(Resolved(wanted.reader, hops))

    async def _hops(self, wanted: Resolve) -> tuple[Hop, ...]:
        answers: dict[Question, tuple[Record, ...]] = {}
        while isinstance(found := locate(wanted.wanted, answers, spoken=wanted.spoken, chance=self._chance), Missing):
            questions = found.questions
            answers |= zip(questions, await asyncio.gather(*map(self._dns.answer, questions)), strict=True)
        return found
