"""One conversation on its way to another node that lives: let go of here, written over in the store, taken up there
(survival §3, §4).

Who speaks to us of it in between is heard there. Refuses to know why it goes, and which node is the right one: a planned stop
empties this node so, and a join brings two calls together so.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Container
from contextlib import suppress
from typing import Literal, TypeAlias

import structlog

from bridge.calls.facts import ConversationId
from bridge.engine.commit import HandOver
from bridge.engine.effects import Yielded
from bridge.engine.inputs import Former, Yield
from bridge.errors import BridgeError, PeerGone, StoreUnavailable
from bridge.membership import Membership
from bridge.pump import Pump
from bridge.store import Store
from bridge.switchboard import Neighbour, Switchboard

AGAIN_S = 0.2  # until a store or an heir that did not answer is asked again
TOLD_MOST = 5  # times that an heir is told; each may take as long as its answer is waited for

# What has become of it: another node's; not here; still ours, because something about it is under way, or a call of it rings.
Given: TypeAlias = Literal["given", "gone", "busy", "ringing"]
# Whom it goes to as the nodes are now, who reads that version of its snapshot, but for those that the store has refused; None:
# nobody.
Choice: TypeAlias = Callable[[int, Container[str]], Neighbour | None]

log = structlog.get_logger("bridge.handing")


class HandingOver:
    """Gives conversations away."""

    def __init__(self, *, pump: Pump, store: Store, switchboard: Switchboard, membership: Membership) -> None:
        self.given_at = -math.inf  # when the last one was, by our loop's clock
        self._owner = membership.owner
        self._membership = membership
        self._pump = pump
        self._store = store
        self._switchboard = switchboard

    async def give(
        self, conversation: ConversationId, heir: Choice, *, wanted_by: ConversationId | None = None
    ) -> Given:
        """Hand it over, where that can be now. `wanted_by`: of the call that shall be joined with one of it."""
        try:
            said = await self._pump.ask(Yield(self._pump.new_request(), conversation, wanted_by))
        except BridgeError:
            return "busy"  # a fault that the pump has told of: this one stays
        if not isinstance(said, Yielded):
            return said.why
        self._switchboard.hold(said.calls)
        try:
            taker = await self._write_over(said, heir)
            if taker is None:
                await self._take_back(said)
                return "busy"
            await self._tell(taker, conversation)
            return "given"
        finally:
            self._switchboard.let_through(said.calls)

    async def _write_over(self, said: Yielded, heir: Choice) -> Neighbour | None:
        """Whose it is now. The store refuses one that has been started anew meanwhile: then another one gets it."""
        refused: set[str] = set()
        while (taker := heir(said.snapshot, refused)) is not None:
            if await self._written(said, taker.owner, taker.nonce):
                self.given_at = asyncio.get_running_loop().time()
                return taker
            refused.add(taker.owner)
        log.warning("not_handed_over", conversation=said.conversation, refused_by=sorted(refused))
        return None

    async def _written(self, said: Yielded, owner: str, nonce: str) -> bool:
        given = HandOver(said.conversation, self._owner, said.epoch, said.version, owner, nonce)
        while True:
            try:
                return await self._store.hand_over(given)
            except StoreUnavailable:
                await asyncio.sleep(AGAIN_S)  # the same heir: the store may have done it

    async def _take_back(self, said: Yielded) -> None:
        """Nobody is there to take what has been let go of: it is ours again, as if another node had handed it over."""
        membership = self._membership
        if await self._written(said, self._owner, membership.nonce):
            with suppress(StoreUnavailable):  # it is asked for again with the next lease
                await membership.take(said.conversation, Former(membership.node_id, membership.clock.now()))

    async def _tell(self, heir: Neighbour, conversation: ConversationId) -> None:
        """Have it taken up. It bears being said again; a node that dies has heirs of its own, who see to it."""
        for _ in range(TOLD_MOST):
            try:
                await self._switchboard.hand(heir, conversation)
                return
            except PeerGone as error:
                why = str(error)
            if not self._switchboard.is_leased(heir.owner):
                break
            await asyncio.sleep(AGAIN_S)
        log.warning("heir_gone", conversation=conversation, node=heir.owner, why=why)
