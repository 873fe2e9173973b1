"""A planned stop: every call goes to another node while this one still plays (survival §4, drain).

One conversation after the other is let go of here, written over to its next node in the store, and taken up there; who
speaks to us of it in between is heard there. What is not at rest is asked again until it is, or until the time is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from bridge.calls.facts import ConversationId
from bridge.engine.commit import HandOver
from bridge.engine.effects import Yielded
from bridge.engine.inputs import Yield
from bridge.errors import PeerGone, StoreUnavailable
from bridge.membership import heir_of
from bridge.pump import Pump
from bridge.store import Store
from bridge.switchboard import Neighbour, Switchboard

AT_ONCE = 8  # conversations under way: each wants two ports and a re-INVITE there
AGAIN_S = 0.2  # until what was busy is asked again
WRITE_AGAIN_S = 0.2
TELL_AGAIN_S = 0.5

log = structlog.get_logger("bridge.draining")


class Draining:
    """Empties this node. `run` returns once nothing is left, or nobody is there to take it, or the time is over."""

    def __init__(self, *, owner: str, pump: Pump, store: Store, switchboard: Switchboard) -> None:
        self._owner = owner
        self._pump = pump
        self._store = store
        self._switchboard = switchboard
        self._moved = 0

    async def run(self, limit_s: float) -> int:
        """How many conversations have moved."""
        try:
            async with asyncio.timeout(limit_s):
                await self._empty()
        except TimeoutError:
            log.warning("drain_out_of_time", left=self._pump.node.live)
        return self._moved

    async def _empty(self) -> None:
        while True:
            names = [each.id for each in self._pump.node.conversations()]
            ready = self._switchboard.ready()
            if not names or not ready:
                return
            moved = self._moved
            for start in range(0, len(names), AT_ONCE):
                await asyncio.gather(*(self._move(name, ready) for name in names[start : start + AT_ONCE]))
            if self._moved == moved:
                await asyncio.sleep(AGAIN_S)

    async def _tell(self, heir: Neighbour, conversation: ConversationId) -> None:
        """Until it knows, or is no more: then it has heirs of its own. One that has not heard of us yet refuses at first."""
        while self._switchboard.is_leased(heir.owner):
            try:
                await self._switchboard.hand(heir, conversation)
                return
            except PeerGone as error:
                log.warning("heir_not_reached", conversation=conversation, node=heir.owner, problem=str(error))
                await asyncio.sleep(TELL_AGAIN_S)

    async def _move(self, conversation: ConversationId, ready: Sequence[Neighbour]) -> None:
        name = heir_of(conversation, [each.owner for each in ready])
        heir = next(each for each in ready if each.owner == name)
        said = await self._pump.ask(Yield(self._pump.new_request(), conversation))
        if not isinstance(said, Yielded):
            return
        self._switchboard.hold(said.calls)
        try:
            while True:
                try:
                    given = await self._store.hand_over(
                        HandOver(conversation, self._owner, said.epoch, said.version, heir.owner, heir.nonce)
                    )
                    break
                except StoreUnavailable:
                    await asyncio.sleep(WRITE_AGAIN_S)
            if given:
                self._moved += 1
                await self._tell(heir, conversation)
        finally:
            self._switchboard.let_through(said.calls)
